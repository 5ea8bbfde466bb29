"""Projects: repositories that colonies work on."""

from pathlib import Path
from typing import Any

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, command
from colony_cli.tables import Cell, Column
from colony_cli.views import since
from colony_cli.words import clean
from colony_core.errors import Broken, TooSlow

WAIT_SECONDS = 3600.0
POLL_SECONDS = 5.0


@command(
    "add",
    takes=ASKS | RESULT,
    examples=("colony project add user/app", "colony project add git@example.org:team/app.git --name app"),
    see=("colony spawn", "colony project ls"),
)
@click.argument("repo", metavar="URL|PATH|USER/APP")
@click.option("--name", metavar="N", help="what to call it (default: of its address)")
@click.option("--no-wait", is_flag=True, help="do not wait until it is cloned")
def project_add_command(run: Run, repo: str, *, name: str | None, no_wait: bool) -> None:
    """Clone a repository, once for all colonies that work on it."""
    after = run.last_event()
    view = run.ask(run.calls.add_project(repository(repo), name=name))
    if not no_wait:
        view = _cloned(run, view, after)
    run.output.result(view, lambda: run.output.line(f"{clean(view['name'])} is {clean(view['state'])}"))


@command(
    "ls", takes=ASKS | TABLE, examples=("colony project ls", "colony project ls --json"), see=("colony project add",)
)
def project_ls_command(run: Run) -> None:
    """List the projects."""
    views = run.ask_all(run.calls.projects())

    def table() -> None:
        if not views:
            run.output.note("No projects yet. Each is cloned once, and every colony gets a workspace of it.\n"
                            "  colony spawn NAME --repo user/app")  # fmt: skip
            return
        columns = [Column("NAME", whole=True), Column("STATE", whole=True), Column("COLONIES"), Column("FROM"),
                   Column("AGE", right=True, whole=True)]  # fmt: skip
        rows = [
            [
                Cell(clean(view["name"])),
                Cell(clean(view["state"] + (f": {view['reason']}" if view["reason"] else ""))),
                Cell(clean(", ".join(view["colonies"]) or "-")),
                Cell(clean(view["url"])),
                Cell(since(view["created_at"])),
            ]
            for view in views
        ]
        run.output.table(columns, rows)

    run.output.results(views, table)


@command(
    "rm", takes=ASKS | RESULT, examples=("colony project rm user-app", "colony project rm old --discard old"),
    see=("colony project ls",),
)  # fmt: skip
@click.argument("name")
@click.option("--discard", metavar="NAME", help="the project's name again, where work that was never pushed may go")
def project_rm_command(run: Run, name: str, *, discard: str | None) -> None:
    """Remove a project and its repository; refused while colonies work on it, or where work would be lost."""
    run.ask(run.calls.remove_project(name, discard=discard), patience=None)
    view = {"name": name, "removed": True}
    run.output.result(view, lambda: run.output.line(f"{clean(name)} is gone"))


def repository(text: str) -> str:
    """A folder of this machine from its root, where one is meant; everything else as it was typed."""
    path = Path(text).expanduser()
    here = text.startswith((".", "~", "/")) or any((path / each).exists() for each in (".git", ".jj", "HEAD"))
    return str(path.resolve()) if here and not text.startswith("-") else text


def _cloned(run: Run, view: dict[str, Any], after: int) -> dict[str, Any]:
    """The project once it is cloned. Raises Broken with the reason, TooSlow at the run's deadline."""
    import time

    name, ends = view["name"], time.monotonic() + (run.timeout or WAIT_SECONDS)
    while view["state"] == "cloning":
        left = min(POLL_SECONDS, ends - time.monotonic())
        if left <= 0:
            raise TooSlow("still-cloning", f"{name} is still being cloned", "colony project ls")
        events = run.ask(run.calls.events(after=after, wait_seconds=left, limit=1000), patience=left + POLL_SECONDS)
        after = events[-1]["seq"] if events else after
        told = [event for event in events if event["type"] == "project_state" and event["project"] == name]
        if told and run.tells_steps:
            run.output.transient(f"{clean(name)}: {clean(told[-1]['reason'] or told[-1]['state'])}")
        view = run.ask(run.calls.project(name))
    run.output.transient("")
    if view["state"] == "failed":
        raise Broken("clone-failed", f"{name} was not cloned: {view['reason']}", f"colony project rm {name}")
    return view
