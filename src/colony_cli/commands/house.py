"""The house itself: status, tree, events, doctor, version, and the shell's tab key."""

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from colony_cli.complete import script
from colony_cli.context import EVENTS_AT_ONCE, Run
from colony_cli.forms import ASKS, RESULT, Nearest, command
from colony_cli.tree import SHELLS
from colony_cli.views import show_system
from colony_cli.words import clean
from colony_core import __version__
from colony_core.errors import ColonyError

JSON_ONLY = frozenset({"json"})
DOCTOR_EXIT = 1


@command(
    "status",
    takes=ASKS | RESULT,
    examples=("colony status", "colony status --json"),
    see=("colony tree", "colony doctor"),
)
def status_command(run: Run) -> None:
    """Show the daemon: version, addresses, mode, how many colonies in which state."""
    view = run.ask(run.calls.system())
    states = Counter(colony["state"] for colony in run.ask_all(run.calls.colonies()))

    def show() -> None:
        show_system(run.output, view)
        if states:
            run.output.line(", ".join(f"{count} {clean(state)}" for state, count in sorted(states.items())))

    run.output.result({**view, "states": dict(states), "server": str(run.target)}, show, name="pid")


@command("tree", takes=ASKS | JSON_ONLY, examples=("colony tree", "colony tree --json"), see=("colony status",))
def tree_command(run: Run) -> None:
    """Show who supervises whom, since when, and how often it was restarted."""
    told = run.ask(run.calls.tree())
    if run.output.json:
        run.output.value(told["tree"])
    else:
        lines = told["text"].splitlines()
        if run.output.ascii:
            lines = [line.replace("├─", "|-").replace("└─", "`-").replace("│", "|") for line in lines]
        run.output.lines(clean(line) for line in lines)


@command(
    "events",
    takes=ASKS | JSON_ONLY,
    examples=("colony events --after 100", "colony events -f --json", "colony events --colony hello --kind service"),
    see=("colony logs",),
)
@click.option("-f", "--follow", is_flag=True, help="go on as things happen")
@click.option(
    "--after",
    type=click.IntRange(min=0),
    metavar="N",
    help="events behind number N (default: all kept; with -f: from now)",
)
@click.option("--colony", "colonies", multiple=True, metavar="C", help="only of this colony, by name or id; repeatable")
@click.option("--service", "services", multiple=True, metavar="S", help="only of this service; repeatable")
@click.option("--kind", "kinds", multiple=True, metavar="K", help="only of this kind, or noun (service); repeatable")
def events_command(
    run: Run,
    *,
    follow: bool,
    after: int | None,
    colonies: tuple[str, ...],
    services: tuple[str, ...],
    kinds: tuple[str, ...],
) -> None:
    """Print what happened, and with -f what happens."""
    chosen = {"colonies": colonies, "services": services, "kinds": kinds}
    everything = after is None and not follow
    if after is None:
        after = run.last_event() if follow else 0
    if follow:
        for batch in run.batches(after, **chosen):
            _tell(run, batch)
        return
    for events in run.pages(run.calls.events(after=after, limit=EVENTS_AT_ONCE, **chosen)):
        # Who asks for all that is kept asks for nothing that is not.
        _tell(run, events[1:] if everything and events and events[0]["type"] == "missed" else events)
        everything = False


@command(
    "doctor",
    takes=JSON_ONLY,
    examples=("colony doctor", "colony doctor --json", "colony doctor --fix"),
    see=("colony status",),
)
@click.option("--fix", is_flag=True, help="remove what a killed daemon left and nobody uses; shown first")
def doctor_command(run: Run, *, fix: bool) -> int:
    """Check this machine: what is there, what is missing, and what to type."""
    from colony_core.config import load_config
    from colony_core.doctor import clear_leftovers, examine

    config = load_config(run.environ)
    if fix:
        clear_leftovers(
            config, tell=lambda leftover: run.output.note(f"removing {clean(leftover.what)}  {clean(leftover.where)}")
        )
    findings = examine(config)
    broken = sum(finding.state == "broken" for finding in findings)
    if run.output.json:
        keys = ("check", "state", "found", "mend")
        run.output.value([{key: getattr(finding, key) for key in keys} for finding in findings])
        return DOCTOR_EXIT if broken else 0
    size = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        cell = run.output.state(finding.state)
        mark = (cell.paint(run.output.mark(finding.state)) if cell.paint else None) or finding.state
        run.output.line(f"  {mark} {clean(finding.check):<{size}}  {clean(finding.found)}")
        if finding.mend:
            run.output.line(f"    {'':<{size}}  mend: {clean(finding.mend)}")
    warnings = sum(finding.state == "warn" for finding in findings)
    run.output.line(f"{broken} broken, {warnings} could be better" if broken or warnings else "all is well")
    return DOCTOR_EXIT if broken else 0


@command(
    "version", takes=ASKS | JSON_ONLY, examples=("colony version", "colony version --json"), see=("colony status",)
)
def version_command(run: Run) -> None:
    """Print the version of the command and that of the daemon, if one answers."""
    daemon: Mapping[str, Any] | None
    try:
        daemon = run.ask(run.calls.system())
    except ColonyError as error:
        daemon, why = None, error.message
    python = ".".join(map(str, sys.version_info[:3]))
    if run.output.json:
        run.output.value({"version": __version__, "python": python, "daemon": daemon["version"] if daemon else None})
        return
    run.output.line(f"colony {__version__}, Python {python}")
    run.output.line(f"daemon {clean(daemon['version'])}, pid {daemon['pid']}" if daemon else clean(why))


@command(
    "completion",
    takes=frozenset(),
    examples=(
        'eval "$(colony completion bash)"   # in ~/.bashrc; zsh alike in ~/.zshrc',
        "colony completion fish | source",
    ),
    see=("colony help environment",),
)
@click.argument("shell", type=Nearest(SHELLS))
def completion_command(run: Run, shell: str) -> None:
    """Print the script that completes commands, flags and names of living colonies."""
    run.output.line(script(shell))


def _tell(run: Run, events: list[dict[str, Any]]) -> None:
    for event in events:
        if run.output.json:
            run.output.item(event)
        elif event["type"] == "missed":
            # Not how many: a daemon that begins anew leaves numbers out that no event ever had.
            run.output.note(f"{run.output.ellipsis} events up to number {event['last']} are no longer kept", "grey")
        else:
            run.output.line(_sentence(run, event))
    run.output.flush()


def _sentence(run: Run, event: Mapping[str, Any]) -> str:
    what = clean(event.get("what") or event["type"]).replace("_", " ")
    if "state" in event:
        mark = run.output.state(event["state"])
        shown = mark.paint(mark.text) if mark.paint else mark.text
        arrow = "->" if run.output.ascii else "→"
        what = shown if event["before"] == event["state"] else f"{clean(event['before'])} {arrow} {shown}"
    who = "/".join(clean(event[key]) for key in ("colony", "service") if event.get(key))
    why = event.get("reason") or event.get("message") or "; ".join(event.get("changes", ()))
    at = run.output.paint(clean(event["at"]), "grey")
    return f"{at}  {event['seq']:>6}  {who or 'house'}  {what}{'  ' + clean(why) if why else ''}"
