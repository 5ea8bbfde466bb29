"""Terminals that stay: attach to one, list them, end them."""

from typing import TYPE_CHECKING, Any

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, colony_argument, command
from colony_cli.tables import Cell, Column
from colony_cli.terminal import DetachKeys, Left, lend, own_kind, own_language, own_size, require_terminal
from colony_cli.views import since
from colony_cli.words import age, clean
from colony_core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from colony_cli.terminal import Screen
    from colony_core.remote.streaming import TerminalSession
    from colony_core.views import TerminalEnd, TerminalPlace, TerminalSize

DETACH_KEYS = "ctrl-q"
SILENT_SECONDS = 1.0
"""A connection that is away for less is not spoken of."""
NUDGE_SECONDS = 0.1


@command(
    "attach",
    takes=frozenset({"server"}),
    examples=(
        "colony attach hello",
        "colony attach hello 4f0c",
        "colony attach hello --new --detach-keys ctrl-p,ctrl-q",
    ),
    see=("colony terminal ls", "colony exec -it"),
)
@colony_argument
@click.argument("terminal", required=False)
@click.option("--new", is_flag=True, help="open another one, although there are some")
@click.option("--read-only", is_flag=True, help="only look: keys and the size of this screen count for nothing")
@click.option(
    "--detach-keys",
    default=DETACH_KEYS,
    show_default=True,
    metavar="KEYS",
    help="leave it with these; none for no keys",
)
def attach_command(
    run: Run, name: str | None, terminal: str | None, *, new: bool, read_only: bool, detach_keys: str
) -> int:
    """Show a terminal of a colony here. It stays when you leave, when the connection breaks, when the daemon restarts.

    Without TERMINAL it is the one that was used last; where there is none, a new one with what colony.toml says or your shell.
    """
    keys = DetachKeys(detach_keys)
    if new and (terminal or read_only):
        raise Invalid(
            "wrong-use", "--new opens a terminal of your own to work in", "leave TERMINAL and --read-only away"
        )
    require_terminal("attach")
    colony = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))
    view = None if new else _meant(run.ask_all(run.calls.terminals(colony["id"])), terminal, colony["name"])
    if view is None and read_only:
        raise NotFound("terminal-not-found", f"“{colony['name']}” has no terminals", f"colony attach {colony['name']}")
    if view is None:
        size = own_size()
        asked = {"env": own_language(), "rows": size.rows, "columns": size.columns, "term": own_kind()}
        view = run.ask(run.calls.open_terminal(colony["id"], **asked))
    import trio

    shown = trio.run(_attach, run, view, keys, read_only)
    return _tell(run, view, *shown)


@command("ls", takes=ASKS | TABLE, examples=("colony terminal ls hello",), see=("colony attach",))
@colony_argument
def terminal_ls_command(run: Run, name: str | None) -> None:
    """List the terminals of a colony, the oldest first."""
    views = run.named(name, lambda ref: run.ask_all(run.calls.terminals(ref)))

    def table() -> None:
        if not views:
            run.output.note(f"No terminals.\n  colony attach {name or ''}".rstrip())
            return
        columns = [
            Column("ID", whole=True),
            Column("COMMAND"),
            Column("BY"),
            Column("SIZE", whole=True),
            Column("VIEWERS", right=True, whole=True),
            Column("IDLE", right=True, whole=True),
            Column("AGE", right=True, whole=True),
        ]
        run.output.table(columns, [_row(view) for view in views])

    run.output.results(views, table, name="id")


@command("rm", takes=ASKS | RESULT, examples=("colony terminal rm hello 4f0cKq81",), see=("colony terminal ls",))
@click.argument("name")
@click.argument("terminals", metavar="TERMINAL...", nargs=-1, required=True)
def terminal_rm_command(run: Run, name: str, terminals: tuple[str, ...]) -> None:
    """End terminals of a colony, each with its program and whatever that has started."""
    known = run.named(name, lambda ref: run.ask_all(run.calls.terminals(ref)))
    meant = [_meant(known, terminal, name) for terminal in terminals]
    gone = []
    for view in filter(None, meant):
        run.ask(run.calls.close_terminal(view["colony_id"], view["id"]))
        gone.append({"id": view["id"], "removed": True})
    run.output.results(gone, lambda: run.output.lines(f"{clean(view['id'])} is gone" for view in gone), name="id")


def _row(view: dict[str, Any]) -> list[Cell]:
    size = f"{view['columns']}x{view['rows']}"
    texts = (view["id"], view["command"], view["opened_by"], size, str(view["viewers"]))
    return [*(Cell(clean(text)) for text in texts), Cell(age(view["idle_seconds"])), Cell(since(view["opened_at"]))]


def _meant(views: list[dict[str, Any]], terminal: str | None, colony: str) -> dict[str, Any] | None:
    """The terminal whose id begins so, or the one that was used last; None where there is none and none was named."""
    if terminal is None:
        return min(views, key=lambda view: view["idle_seconds"], default=None)
    found = [view for view in views if view["id"].startswith(terminal)]
    if len(found) > 1:
        raise NotFound(
            "ambiguous-name", f"{terminal!r} may be {', '.join(v['id'] for v in found)}", "write one in full"
        )
    if not found:
        raise NotFound("terminal-not-found", f"“{colony}” has no terminal {terminal!r}", f"colony terminal ls {colony}")
    return found[0]


class _Terminal:
    """A terminal of a colony, as our screen sees it."""

    def __init__(self, session: "TerminalSession") -> None:
        self.resize = session.resize
        self.end: TerminalEnd | None = None
        self._session = session
        self._begun = False
        self._told_away = False

    async def show(self, screen: "Screen") -> None:
        from colony_core.remote.streaming import Away
        from colony_core.views import TerminalEnd, TerminalPlace

        while self.end is None:
            match await self._session.receive():
                case bytes() as data:
                    await screen.write(data)
                case TerminalPlace() as place:
                    await self._go_on(screen, place)
                case Away(seconds) if seconds is not None and seconds >= SILENT_SECONDS and not self._told_away:
                    self._told_away = True
                    await screen.say("the daemon is away; the terminal goes on, and comes back with it")
                case TerminalEnd() as end:
                    self.end = end
                case _:
                    pass  # somebody else's screen decides the size now; the program draws for that one

    async def type(self, data: bytes) -> bool:
        return not self._session.read_only and await self._session.type(data)

    async def _go_on(self, screen: "Screen", place: "TerminalPlace") -> None:
        """From the beginning, behind a jump, or back again after the daemon was away."""
        if place.missed and self._begun:
            await screen.say(f"{place.missed} bytes were skipped")
        elif self._told_away and not screen.is_taken:
            await screen.say("back")
        await screen.write(place.restore.encode())
        if self._told_away and screen.is_taken:
            await self._draw_anew()
        self._begun, self._told_away = True, False

    async def _draw_anew(self) -> None:
        """Programs draw everything when their size changes: it does so for a moment."""
        import trio

        from colony_core.views import TerminalSize

        if (size := self._session.size) is not None:
            await self.resize(TerminalSize(size.rows, max(size.columns - 1, 1)))
            await trio.sleep(NUDGE_SECONDS)
            await self.resize(size)


async def _attach(
    run: Run, view: dict[str, Any], keys: DetachKeys, read_only: bool
) -> tuple[Left, "TerminalEnd | None"]:
    from colony_core.remote.streaming import open_terminal

    size: TerminalSize | None = None if read_only else own_size()
    async with open_terminal(run.target, view["colony_id"], view["id"], size=size, read_only=read_only) as session:
        run.heard(session.server_version)
        remote = _Terminal(session)
        left = await lend(remote, keys)
    return left, remote.end


def _tell(run: Run, view: dict[str, Any], left: Left, end: "TerminalEnd | None") -> int:
    where = f"{clean(view['colony'])} {clean(view['id'])}"
    if end is not None:
        how = "nobody used it" if end.why == "idle" else f"exit {end.code}" if end.code >= 0 else f"signal {-end.code}"
        run.output.note(f"terminal {where} ended: {how}")
        return 0
    run.output.note(f"detached; again: colony attach {where}")
    return 128 + left.signal if left.how == "signalled" else 0
