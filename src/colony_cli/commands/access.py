"""Who comes in by a browser, and who has changed what."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from colony_cli.context import EVENTS_AT_ONCE, Run
from colony_cli.forms import ASKS, RESULT, command
from colony_cli.words import clean


@command(
    "login",
    takes=ASKS | RESULT,
    examples=("colony login", "xdg-open $(colony login -q)"),
    see=("colony token create",),
)
def login_command(run: Run) -> None:
    """Print a link that logs a browser in: once, within a minute."""
    view = run.ask(run.calls.login())
    run.output.result(view, lambda: run.output.line(clean(view["url"])), name="url")
    if run.output.progress and run.tells_steps:
        run.output.note(f"it opens a session once, within {view['seconds']:.0f} s; whoever has it first is you")


@command(
    "audit",
    takes=ASKS | frozenset({"json"}),
    examples=(
        "colony audit",
        "colony audit -f",
        "colony audit --person ann --target hello",
        "colony audit --after 0 --json",
    ),
    see=("colony events", "colony token ls"),
)
@click.option("-f", "--follow", is_flag=True, help="go on as things are asked for")
@click.option("--after", type=click.IntRange(min=0), metavar="N", help="entries behind number N (default: the newest)")
@click.option("--person", metavar="P", help="only what this person did")
@click.option("--target", metavar="T", help="only what was about this colony, or 'key ID'")
def audit_command(run: Run, *, follow: bool, after: int | None, person: str | None, target: str | None) -> None:
    """Print who changed what, from where, and how it ended; refused writes too."""
    chosen = {"limit": EVENTS_AT_ONCE, "person": person, "target": target}
    for found in run.pages(run.calls.audit(after=after, **chosen)):
        _tell(run, found)
        after = found[-1]["seq"] if found else after or 0
    if follow:
        for found in run.growing(partial(run.calls.audit, **chosen), after or 0):
            _tell(run, found)


def _tell(run: Run, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        if run.output.json:
            run.output.item(entry)
            continue
        if entry["skipped"]:
            run.output.note(f"… {entry['skipped']} writes of strangers are not noted", "grey")
        run.output.line(_sentence(run, entry))
    run.output.flush()


def _sentence(run: Run, entry: Mapping[str, Any]) -> str:
    who = f"{clean(entry['name'])} ({clean(entry['role'])})" if entry["who"] else "a stranger"
    what = f"{clean(entry['method'])} {clean(entry['path'])}"
    end = f"{entry['status']}{' ' + clean(entry['code']) if entry['code'] else ''}"
    command = f"  {clean(entry['command'])}" if entry.get("command") else ""
    target = f"  {clean(entry['target'])}" if entry["target"] else ""
    at = run.output.paint(clean(entry["at"]), "grey")
    return f"{at}  {entry['seq']}  {who}  {clean(entry['source'])}  {what}{target}{command}  {end}"
