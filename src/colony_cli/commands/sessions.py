"""The agents at work in colonies: instruct, interrupt, approve, deny, feed, why.

The file is long because the commands by which people speak with an agent stand in it, each with its help.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import colony_core
from colony_cli.agents import answers_in_lines, how_to_answer
from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, Duration, Nearest, colony_argument, command
from colony_cli.output import Output
from colony_cli.views import since, used
from colony_cli.words import clean, duration, plural
from colony_core.errors import Broken, Invalid, WrongState

AT_REST = ("idle", "done", "failed")
PERMISSIONS = ("ask", "edits", "all")
MOST_TAIL = 1000
REST_SECONDS = 0.05
_RECEIPTS = {"verified": ("✓", "green"), "with-gaps": ("~", "amber"), "not-verified": ("✗", "red")}
_KINDS = {
    "instruction": ("»", "blue"),
    "text": (" ", ""),
    "thinking": ("·", "grey"),
    "tool_use": ("▸", "blue"),
    "tool_result": (" ", "grey"),
    "approval": ("?", "amber"),
    "decision": ("!", "amber"),
    "report": ("»", "green"),
    "usage": ("$", "grey"),
    "notice": ("·", "grey"),
    "status": ("■", "green"),
}


def agent_options(function: Any) -> Any:
    """The settings of an agent that are given with an instruction."""
    options = (
        click.option("--backend", metavar="B", help="auto, claude, acp, hld, script"),
        click.option("--model", metavar="M", help="such as sonnet, opus"),
        click.option("--max-turns", type=click.IntRange(0), metavar="N", help="rounds with the model; 0: any number"),
        click.option(
            "--allowed-tool",
            "allowed_tools",
            multiple=True,
            metavar="T",
            help="only this tool; several times: only these",
        ),
        click.option(
            "--disallowed-tool",
            "disallowed_tools",
            multiple=True,
            metavar="T",
            help="not this tool; may come several times",
        ),
        click.option("--system-prompt", metavar="TEXT", help="instead of the agent's own"),
        click.option("--append-system-prompt", metavar="TEXT", help="behind the agent's own"),
        click.option("--permissions", type=Nearest(PERMISSIONS), metavar="P", help="without asking: ask, edits, all"),
        click.option("--budget-usd", type=click.FloatRange(0), metavar="USD", help="what this agent may cost in all"),
        click.option("--budget-tokens", type=click.IntRange(0), metavar="N", help="tokens that it may use in all"),
        click.option("--budget-turns", type=click.IntRange(0), metavar="N", help="rounds with the model in all"),
        click.option(
            "--budget-minutes", type=click.FloatRange(0), metavar="MIN", help="minutes that it may work in all"
        ),
        click.option("--agent-timeout", type=Duration(), metavar="T", help="time for one instruction, such as 30m"),
    )
    for option in reversed(options):
        function = option(function)
    return function


def agent_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the API takes them, of options that were given."""
    named = {("timeout" if key == "agent_timeout" else key): value for key, value in given.items()}
    return {key: value for key, value in named.items() if value not in (None, ())}


def instruction_text(text: str) -> str:
    """An instruction; `-` is what stands on the standard input."""
    return sys.stdin.read() if text == "-" else text


@command(
    "instruct",
    takes=ASKS | RESULT,
    examples=(
        "colony instruct hello 'Add JWT auth with refresh tokens'",
        "colony instruct hello --new - <task.md",
        "colony instruct hello 'Now the tests' -f",
    ),
    see=("colony feed", "colony interrupt", "colony why"),
)
@click.argument("name")
@click.argument("text", metavar="TEXT|-")
@click.option("--new", is_flag=True, help="begin a new conversation instead of going on with the present one")
@click.option("-f", "--follow", is_flag=True, help="print what the agent does until it rests; fails where it fails")
@agent_options
def instruct_command(run: Run, name: str, text: str, *, new: bool, follow: bool, **agent: Any) -> int:
    """Give a colony's agent an instruction. It goes on with the conversation there is, unless --new."""
    before = run.named(name, lambda ref: run.ask(run.calls.agent(ref)))
    follow_up = before["session"] is not None and not new
    asked = run.calls.instruct(
        before["colony_id"], instruction_text(text), follow_up=follow_up, agent=agent_settings(agent)
    )
    view = run.ask(asked)
    if not follow:
        hint = f"colony feed {view['colony']} -f"
        run.output.result(view, lambda: run.output.line(f"{_summary(view)}   {hint}"), name="colony")
        return 0
    _follow_until_rest(run, view, after=before["last"])
    return _judged(run, view["colony_id"])


@command(
    "interrupt",
    takes=ASKS | RESULT,
    examples=("colony interrupt hello",),
    see=("colony instruct", "colony stop"),
)
@colony_argument
def interrupt_command(run: Run, name: str | None) -> None:
    """Ask a colony's agent to stop; what it has done stays, and it can be instructed again."""
    view = run.named(name, lambda ref: run.ask(run.calls.interrupt(ref)))
    run.output.result(view, lambda: run.output.line(_summary(view)), name="colony")


@command(
    "approve",
    takes=ASKS | RESULT,
    examples=("colony approve hello", "colony approve hello 3f9a1c02"),
    see=("colony deny", "colony why"),
)
@click.argument("name")
@click.argument("approval", metavar="[ID]", required=False)
@click.option("-m", "--message", default="", metavar="WHY", help="a word for the agent")
def approve_command(run: Run, name: str, approval: str | None, *, message: str) -> None:
    """Allow what a colony's agent asks; ID is needed only where it asks several things."""
    _decide(run, name, approval, allow=True, message=message)


@command(
    "deny",
    takes=ASKS | RESULT,
    examples=("colony deny hello -m 'keep the build folder'",),
    see=("colony approve", "colony interrupt"),
)
@click.argument("name")
@click.argument("approval", metavar="[ID]", required=False)
@click.option("-m", "--message", default="", metavar="WHY", help="why not; the agent is told")
def deny_command(run: Run, name: str, approval: str | None, *, message: str) -> None:
    """Deny what a colony's agent asks; it goes on without."""
    _decide(run, name, approval, allow=False, message=message)


@command(
    "answer",
    takes=ASKS | RESULT,
    examples=(
        "colony answer hello 'PostgreSQL, as in the other service'",
        "colony answer hello yes 3f9a1c02",
        "colony answer hello --to 1=blue --to Why='it is calm'",
    ),
    see=("colony why", "colony approve"),
)
@click.argument("name")
@click.argument("words", metavar="[TEXT] [ID]", nargs=-1)
@click.option("--to", multiple=True, metavar="Q=TEXT", help="of several questions asked at once: its number or header")
def answer_command(run: Run, name: str, words: tuple[str, ...], to: tuple[str, ...]) -> None:
    """Answer a question of a colony's agent; ID is needed only where it waits for several answers.

    Where it asks several questions at once, TEXT answers them all, and --to each by itself.
    """
    text, *ids = ("", *words) if to else (words or ("",))
    if len(ids) > 1 or not (to or words):
        raise click.UsageError(
            "say one answer: TEXT, or --to Q=TEXT for each question" if not ids else "too many words"
        )
    _decide(run, name, ids[0] if ids else None, allow=True, message=text, kind="question", answers=to)


@command(
    "mcp",
    takes=frozenset(),
    examples=("colony mcp", "claude mcp add colony -- colony mcp   # in a terminal of the colony: colony attach hello"),
    see=("colony attach", "colony instruct"),
)
def mcp_command(run: Run) -> None:
    """Speak MCP on the standard streams, for an agent that you start yourself inside of a colony; others have it by themselves."""
    bridge = Path(colony_core.__file__).with_name("tools") / "bridge.py"
    run.output.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(bridge)])  # noqa: S606 - our own program, in place of this one


@command(
    "feed",
    takes=frozenset({"server", "json"}),
    examples=("colony feed hello", "colony feed hello -f", "colony feed hello --after 1200 --json"),
    see=("colony logs", "colony events"),
)
@colony_argument
@click.option("-f", "--follow", is_flag=True, help="go on as the agent works")
@click.option(
    "-n", "--tail", type=click.IntRange(1, MOST_TAIL), metavar="N", help="only the last N lines (default 200)"
)
@click.option("--after", type=click.IntRange(0), metavar="SEQ", help="lines behind this number")
def feed_command(run: Run, name: str | None, *, follow: bool, tail: int | None, after: int | None) -> None:
    """Print what a colony's agent said and did. Escape sequences are made visible."""
    if tail is not None and after is not None:
        raise Invalid("wrong-use", "--tail and --after are two ways to begin", "give one of them")
    view = run.named(name, lambda ref: run.ask(run.calls.agent(ref)))
    last = 0 if after is None else after
    for line in _kept(run, view["colony_id"], after=after, tail=tail):
        show_line(run.output, line)
        last = line["seq"]
    run.output.flush()
    if follow:
        call = run.calls.follow_feed(view["colony_id"], after=last or view["last"])
        for event in run.client(patience=None).stream_lines(call, reconnect=True, last_id=str(last or view["last"])):
            if event.event == "line":
                show_line(run.output, json.loads(event.data))
                run.output.flush()


@command("why", takes=ASKS | RESULT, examples=("colony why hello",), see=("colony show", "colony feed"))
@colony_argument
def why_command(run: Run, name: str | None) -> None:
    """Say what a colony's agent is at, and what shows it: its last words, its questions, its budget."""
    view = run.named(name, lambda ref: run.ask(run.calls.agent(ref)))
    if (view.get("receipt") or {}).get("tree"):
        view["receipt"] = run.ask(run.calls.receipt(view["colony_id"]))
    run.output.result(view, lambda: show_agent(run.output, view), name="colony")


def show_agent(output: Output, view: Mapping[str, Any]) -> None:
    """An agent's state with its evidence."""
    output.line(_summary(view))
    rows = [
        ("instruction", view["instruction"]),
        ("backend", " ".join(each for each in (view["backend"], view["model"], view["session"]) if each)),
        ("result", view["result"]),
        ("code", view["code"]),
        *(("shown by", each) for each in view["evidence"]),
        ("receipt", _receipt(view.get("receipt"))),
        ("paused", f"until {view['paused_until']}" if view["paused_until"] else ""),
        ("used", f"{used(view)}, {view['turns']} turns, {view['tokens']:,} tokens, {view['minutes']:.1f} minutes"),
        ("budget", view["budget"]),
    ]
    for label, text in rows:
        if text:
            output.line(f"  {label:<12} {clean(_first_line(text))}")
    for check in (view.get("receipt") or {}).get("checks", ()):
        required = "" if check["required"] else " (not required)"
        took = duration(check["seconds"])
        output.line(f"  {'check':<12} {clean(check['name'])}: {clean(check['outcome'])}{required}, {took}")
        if check["outcome"] != "passed":
            output.lines(f"  {'':<12} {clean(text)}" for text in check["tail"].splitlines()[-10:])
    for question in view["approvals"]:
        output.line(f"  {'asks':<12} {question['id']}  {clean(question['summary'])}")
    asked = view["approvals"]
    for hint in sorted({how_to_answer(view["colony"], each["kind"], each["input"]) for each in asked}):
        output.note(hint)


def show_line(output: Output, line: Mapping[str, Any]) -> None:
    """A line of a feed."""
    if output.json:
        output.item(line)
        return
    mark, colour = _KINDS.get(line["kind"], (" ", "grey"))
    if line["kind"] == "receipt":
        mark, colour = _RECEIPTS.get(line["data"].get("verdict"), (mark, colour))
    if line["kind"] == "status" and line["content"] != "completed":
        colour = "red" if line["content"] == "failed" else "amber"
    lines = str(line["content"]).split("\n")
    if line["kind"] == "tool_result" and len(lines) > 1:
        lines = [*lines[:3], *([f"… {plural(len(lines) - 3, 'line')} more"] if len(lines) > 3 else [])]
    for number, text in enumerate(lines):
        head = mark if number == 0 else " "
        shown = clean(text)
        output.line(f"{output.paint(head, colour)} {output.paint(shown, colour) if colour else shown}")


def _summary(view: Mapping[str, Any]) -> str:
    reason = f" ({clean(_first_line(view['reason']))})" if view["reason"] else ""
    return f"the agent of {clean(view['colony'])} is {clean(view['state'])}{reason}, since {since(view['since'])}"


def _receipt(receipt: Mapping[str, Any] | None) -> str:
    if receipt is None:
        return ""
    tree = f", tree {receipt['tree'][:12]}" if receipt["tree"] else ""
    moved = "; the workspace has changed since" if receipt.get("current") is False else ""
    return f"{receipt['verdict']}: {receipt['reason']}{tree}{moved}"


def _first_line(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:299]}…"


def _decide(
    run: Run,
    name: str,
    approval: str | None,
    *,
    allow: bool,
    message: str,
    kind: str | None = None,
    answers: Sequence[str] = (),
) -> None:
    view = run.named(name, lambda ref: run.ask(run.calls.agent(ref)))
    asked = [one for one in view["approvals"] if kind in (None, one["kind"])]
    waiting = [one for one in asked if approval is None or one["id"].startswith(approval)]
    if len(waiting) != 1 and (approval is None or waiting or kind is not None):
        what = f"the agent of “{view['colony']}” asks {plural(len(waiting), 'thing') if waiting else 'nothing'}"
        hint = "; ".join(f"{one['id']} {one['summary'][:60]}" for one in waiting)
        raise WrongState("which-approval" if waiting else "no-approval", what, hint or f"colony why {view['colony']}")
    chosen = waiting[0]["id"] if waiting else str(approval)
    if answers:
        message = answers_in_lines(waiting[0]["input"], answers)
    answered = run.ask(run.calls.decide(view["colony_id"], chosen, allow=allow, message=message))
    words = f"{answered['decision']} {clean(answered['summary'])}"
    run.output.result(answered, lambda: run.output.line(words), name="id")


def _kept(run: Run, ref: str, *, after: int | None, tail: int | None) -> Iterator[dict[str, Any]]:
    """Kept lines: the newest at once, or all behind a number page by page."""
    if after is None:
        yield from run.ask(run.calls.feed(ref, limit=tail))
        return
    while page := run.ask(run.calls.feed(ref, after=after, limit=MOST_TAIL)):
        yield from page
        after = page[-1]["seq"]


def _follow_until_rest(run: Run, view: Mapping[str, Any], *, after: int) -> None:
    call = run.calls.follow_feed(view["colony_id"], after=after)
    for event in run.client(patience=None).stream_lines(call, reconnect=True, last_id=str(after)):
        if event.event != "line":
            continue
        line = json.loads(event.data)
        show_line(run.output, line)
        run.output.flush()
        if line["kind"] == "status":
            return
        if line["kind"] == "approval":
            run.output.note(
                how_to_answer(view["colony"], line["data"].get("tool_kind"), line["data"].get("input") or {})
            )


def _judged(run: Run, ref: str) -> int:
    """The exit code of an agent that has come to rest."""
    view = run.ask(run.calls.agent(ref))
    while view["state"] not in AT_REST:  # its last line is told a moment before
        time.sleep(REST_SECONDS)
        view = run.ask(run.calls.agent(ref))
    if view["state"] != "failed":
        return 0
    what = f"the agent of “{view['colony']}” failed: {_first_line(view['reason'])}"
    return run.failed_softly(Broken(view["code"] or "agent-failed", what, f"colony why {view['colony']}"))
