"""The kinds of coding agents, and whether they can work here."""

from collections.abc import Mapping
from typing import Any

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, command
from colony_cli.tables import Cell, Column
from colony_cli.words import clean
from colony_core.errors import Missing, NotFound, did_you_mean

PATIENCE_SECONDS = 60.0
"""Each is asked, and some are slow to start."""
_COLUMNS = (Column("BACKEND", whole=True), Column("READY"), Column("VERSION"), Column("DETAIL"))


@command(
    "ls",
    takes=ASKS | TABLE,
    examples=("colony backend ls", "colony backend ls --json"),
    see=("colony backend check", "colony backend hld start"),
)
def backend_ls_command(run: Run) -> None:
    """List the kinds of coding agents; * is the one that works where nobody names one."""
    views = run.ask(run.calls.backends(), patience=PATIENCE_SECONDS)

    def show() -> None:
        run.output.table(_COLUMNS, [_row(run, view) for view in views])
        for view in views:
            if view["chosen"]:
                run.output.note(f"* {clean(view['why'])}")

    run.output.results(views, show)


@command(
    "check",
    takes=ASKS | RESULT,
    examples=("colony backend check", "colony backend check hld"),
    see=("colony backend ls", "colony doctor"),
)
@click.argument("name", metavar="[BACKEND]", required=False)
def backend_check_command(run: Run, *, name: str | None) -> int:
    """Say whether a coding agent can work here: BACKEND, or the one that works where nobody names one."""
    views = run.ask(run.calls.backends(), patience=PATIENCE_SECONDS)
    known = [view["name"] for view in views]
    found = next((view for view in views if (view["chosen"] if name is None else view["name"] == name)), None)
    if found is None and name is not None:
        nearest = did_you_mean(name, known)
        raise NotFound(
            "unknown-backend",
            f"there is no backend {name!r}",
            f"did you mean {nearest}?" if nearest else ", ".join(known),
        )
    if found is None:
        lacks = "; ".join(f"{clean(view['name'])}: {clean(view['detail'])}" for view in views if not view["ready"])
        raise Missing("no-backend", f"no coding agent is ready: {lacks}", "colony backend ls")
    run.output.result(found, lambda: run.output.line(_sentence(found)))
    if found["ready"]:
        return 0
    return run.failed_softly(
        Missing(f"{found['name']}-not-ready", f"{clean(found['name'])}: {clean(found['detail'])}", clean(found["hint"]))
    )


def _row(run: Run, view: Mapping[str, Any]) -> tuple[Cell, ...]:
    ready = "yes" if view["ready"] else "no"
    return (
        Cell(clean(view["name"]) + (" *" if view["chosen"] else "")),
        Cell(ready, lambda text: run.output.paint(text, "green" if view["ready"] else "grey")),
        Cell(clean(view["version"]) or "-"),
        Cell(clean(view["detail"])),
    )


def _sentence(view: Mapping[str, Any]) -> str:
    version = f" {clean(view['version'])}" if view["version"] else ""
    state = "ready" if view["ready"] else "not ready"
    return f"{clean(view['name'])}{version} is {state}: {clean(view['why'] or view['detail'])}"
