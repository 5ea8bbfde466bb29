"""A colony's work: look at it, name it, merge it, take it back, push it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, Nearest, colony_argument, command
from colony_cli.tables import Cell, Column
from colony_cli.views import since
from colony_cli.words import clean, clean_log, plural
from colony_core.errors import Invalid, WrongState

if TYPE_CHECKING:
    from colony_core.remote import Call

ID_LETTERS = 12
no_wait = click.option("--no-wait", is_flag=True, help="return at once; colony events tells how it ends")
FAST_FORWARD = ("auto", "only", "never")


@command(
    "diff",
    takes=ASKS | RESULT,
    examples=("colony diff scout", "colony diff scout --stat", "colony diff scout --json"),
    see=("colony history", "colony merge"),
)
@colony_argument
@click.option("--stat", is_flag=True, help="only the files, and how many lines")
def diff_command(run: Run, name: str | None, *, stat: bool) -> None:
    """Show what a colony changed, committed or not, since its work and its target parted."""
    view = run.named(name, lambda ref: run.ask(run.calls.diff(ref), patience=None))
    run.output.result(view, lambda: _diff(run, view, stat=stat), name="commit")


@command("history", takes=ASKS | TABLE, examples=("colony history scout",), see=("colony diff", "colony undo"))
@colony_argument
def history_command(run: Run, name: str | None) -> None:
    """List the commits of a colony's own, the newest first."""
    views = run.named(name, lambda ref: run.ask_all(run.calls.history(ref), patience=None))

    def table() -> None:
        if not views:
            run.output.note("No change yet.")
            return
        columns = [
            Column("COMMIT", whole=True),
            Column("AUTHOR"),
            Column("AGE", right=True, whole=True),
            Column("MESSAGE"),
        ]
        rows = [
            [
                Cell("uncommitted" if view["uncommitted"] else view["id"][:ID_LETTERS]),
                Cell(clean(view["author"])),
                Cell(since(view["at"])),
                Cell(clean(view["message"].partition("\n")[0])),
            ]
            for view in views
        ]
        run.output.table(columns, rows)

    run.output.results(views, table, name="id")


@command(
    "describe", takes=ASKS | RESULT, examples=("colony describe scout -m 'Add JWT auth'",), see=("colony history",)
)
@colony_argument
@click.option("-m", "--message", required=True, metavar="TEXT", help="what was changed, and why")
def describe_command(run: Run, name: str | None, *, message: str) -> None:
    """Give a colony's newest change a message; what was not committed is by that."""
    view = run.named(name, lambda ref: run.ask(run.calls.describe(ref, message), patience=None))
    shown = f"{view['id'][:ID_LETTERS]} {clean(view['message'].partition(chr(10))[0])}"
    run.output.result(view, lambda: run.output.line(shown), name="id")


@command(
    "merge",
    takes=ASKS | RESULT,
    examples=("colony merge scout", "colony merge scout --dry-run", "colony merge scout --into release --ff never"),
    see=("colony diff", "colony push"),
)
@colony_argument
@click.option("--into", "target", metavar="B", help="another branch than the one its work came from")
@click.option("-m", "--message", metavar="TEXT", help="for what was not committed, and for the merge")
@click.option("--ff", type=Nearest(FAST_FORWARD), default="auto", metavar="F", help="fast-forward: auto, only, never")
@click.option("--dry-run", is_flag=True, help="only try it")
@no_wait
def merge_command(
    run: Run, name: str | None, *, target: str | None, message: str | None, ff: str, dry_run: bool, no_wait: bool
) -> int:
    """Merge a colony's work; with conflicts nothing is moved, and they are shown."""

    if dry_run and no_wait:
        raise Invalid("wrong-use", "what a dry run finds is in its answer", "leave --dry-run or --no-wait away")

    def ask(ref: str) -> Any:
        call = run.calls.merge(ref, target=target, message=message, ff=ff, dry_run=dry_run)
        return _begun(run, call, ref) if no_wait else run.ask(call, patience=None)

    try:
        view = run.named(name, ask)
    except WrongState as error:
        if error.code == "merge-conflict" and run.tells_steps:
            _conflicts(run, error.details.get("conflicts", ()))
        raise
    if no_wait:
        return 0
    run.output.result(view, lambda: _merged(run, view), name="commit")
    return 1 if view["outcome"] == "conflicts" else 0


@command(
    "undo",
    takes=ASKS | RESULT,
    examples=("colony undo scout", "colony undo scout --all", "colony undo scout --to 8f3c2a91d0b4"),
    see=("colony history",),
)
@colony_argument
@click.option("--all", "everything", is_flag=True, help="everything since its work began")
@click.option("--to", metavar="C", help="go to a commit or ref instead, such as one that undo has told")
def undo_command(run: Run, name: str | None, *, everything: bool, to: str | None) -> None:
    """Take back what is not committed, else the last commit; the state before is kept and told."""
    view = run.named(name, lambda ref: run.ask(run.calls.undo(ref, all=everything, to=to), patience=None))

    def show() -> None:
        run.output.line(f"undone: {clean(view['undone'])}")
        run.output.note(f"back again: colony undo {clean(view['colony'])} --to {clean(view['kept'])}")

    run.output.result(view, show, name="kept")


@command(
    "push",
    takes=ASKS | RESULT,
    examples=("colony push scout", "colony push scout --branch feature/login", "colony push scout --merged"),
    see=("colony merge",),
)
@colony_argument
@click.option("--branch", metavar="B", help="where to (default: colony/NAME)")
@click.option("--merged", is_flag=True, help="the branch that it was merged into, as that is now")
@no_wait
def push_command(run: Run, name: str | None, *, branch: str | None, merged: bool, no_wait: bool) -> None:
    """Push a colony's work to its project's origin."""

    def ask(ref: str) -> Any:
        call = run.calls.push(ref, branch=branch, merged=merged)
        return _begun(run, call, ref) if no_wait else run.ask(call, patience=None)

    view = run.named(name, ask)
    if no_wait:
        return
    told = f"{view['commit'][:ID_LETTERS]} is at {clean(view['branch'])} of {clean(view['url'])}"
    run.output.result(view, lambda: run.output.line(told), name="commit")


def _begun(run: Run, call: "Call", ref: str) -> None:
    view = {**run.ask(call.without_waiting()), "colony": ref}
    told = f"under way; how it ends: colony events -f --colony {clean(ref)} --kind workspace"
    run.output.result(view, lambda: run.output.note(told), name="colony")


def _diff(run: Run, view: Mapping[str, Any], *, stat: bool) -> None:
    output = run.output
    if not view["files"]:
        output.note("No change.")
        return
    if not stat:
        output.lines(clean_log(line, colour=False) for line in view["patch"].splitlines())
        if view["cut"]:
            output.note("the rest of the patch is too long to be told: see the workspace")
        return
    columns = [
        Column("", whole=True),
        Column("FILE"),
        Column("+", right=True, whole=True),
        Column("-", right=True, whole=True),
    ]
    rows = [
        [Cell(file["status"]), Cell(clean(file["path"])), *(Cell(_lines(file[key])) for key in ("added", "removed"))]
        for file in view["files"]
    ]
    output.table(columns, rows)


def _lines(number: int | None) -> str:
    return "bin" if number is None else str(number)


def _merged(run: Run, view: Mapping[str, Any]) -> None:
    name, target, would = clean(view["colony"]), clean(view["target"]), "would be " if view["dry_run"] else "is "
    if view["outcome"] == "nothing":
        run.output.line(f"{target} has all of {name} already")
    elif view["outcome"] == "conflicts":
        _conflicts(run, view["conflicts"])
        run.output.line(f"{name} and {target} are in conflict in {plural(len(view['conflicts']), 'file', 'files')}")
    else:
        how = " by a fast-forward" if view["outcome"] == "fast-forward" else ""
        run.output.line(f"{name} {would}merged into {target}{how}, {view['commit'][:ID_LETTERS]}")


def _conflicts(run: Run, conflicts: Any) -> None:
    for conflict in conflicts:
        run.output.line(f"conflict in {clean(conflict['path'])}")
        run.output.lines(f"  {clean_log(line, colour=False)}" for line in conflict["text"].splitlines())
    run.output.flush()
