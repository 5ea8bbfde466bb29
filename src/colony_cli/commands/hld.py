"""HumanLayer's daemon, as an instance of Colony's own."""

import os
from typing import TYPE_CHECKING, Any

import click

from colony_cli.context import Run
from colony_cli.forms import RESULT, command
from colony_cli.words import clean
from colony_core.errors import Unreachable

if TYPE_CHECKING:
    from colony_core.backends import Health


@command(
    "start",
    takes=RESULT,
    examples=(
        "colony backend hld start",
        "ANTHROPIC_API_KEY=… colony backend hld start",
        "colony backend hld start --foreground",
    ),
    see=("colony backend hld status", "colony backend check"),
)
@click.option("--foreground", is_flag=True, help="become the daemon, for service managers")
def backend_hld_start_command(run: Run, *, foreground: bool) -> None:
    """Start HumanLayer's daemon for colonies: an instance of its own, whose agents run inside their colonies.

    It goes on when this command has ended. Agents find their keys in the environment that it is started with.
    """
    from colony_cli import hld_daemon
    from colony_core.backends import hld_place

    place = hld_place(run.environ)
    if not foreground and _health(run).ready:
        _tell(run, _view(run, started=False))
        return
    program = hld_daemon.hld_program(run.environ)
    hld_daemon.prepare(place)
    if foreground:
        os.chdir(place.folder)
        # It takes our place, so that a service manager watches over it and no shell between.
        os.execve(program, [program], hld_daemon.environment(place, run.environ))  # noqa: S606
    hld_daemon.start(program, place, run.environ, answers=lambda: _health(run).ready)
    _tell(run, _view(run, started=True))


@command(
    "status",
    takes=RESULT,
    examples=("colony backend hld status", "colony backend hld status --json"),
    see=("colony backend hld start",),
)
def backend_hld_status_command(run: Run) -> None:
    """Show whether HumanLayer's daemon answers, where it lives, and whether it has found Claude Code."""
    health = _health(run)
    if not health.ready:
        raise Unreachable("hld-not-running", health.detail, health.hint)
    _tell(run, _view(run, started=False))


def _health(run: Run) -> "Health":
    import trio

    from colony_core.backends import HldBackend, HldLine, hld_place

    backend = HldBackend(HldLine(hld_place(run.environ).socket))
    return trio.run(backend.check, run.environ)


def _view(run: Run, *, started: bool) -> dict[str, Any]:
    from colony_cli import hld_daemon
    from colony_core.backends import hld_place

    place = hld_place(run.environ)
    health = _health(run)
    told = hld_daemon.http_health(place) or {}
    dependencies = told.get("dependencies")
    claude = dependencies.get("claude") if isinstance(dependencies, dict) else None
    claude = claude if isinstance(claude, dict) else {}
    return {
        "started": started,
        "version": health.version,
        "socket": str(place.socket),
        "database": str(place.database),
        "http": f"http://127.0.0.1:{place.http_port}" if told else None,
        "log": str(hld_daemon.log_of(place)),
        "claude": claude.get("path"),
        "claude_version": claude.get("version"),
        "claude_trouble": None if claude.get("available") or not claude else claude.get("error") or "not found",
    }


def _tell(run: Run, view: dict[str, Any]) -> None:
    def show() -> None:
        run.output.line(f"hld {clean(view['version'])} answers at {clean(view['socket'])}")
        run.output.line(f"  database  {clean(view['database'])}")
        run.output.line(f"  HTTP      {clean(view['http'] or 'does not answer')}")
        claude = (
            f"{view['claude']} {view['claude_version'] or ''}"
            if view["claude"]
            else view["claude_trouble"] or "unknown"
        )
        run.output.line(f"  claude    {clean(claude)}")

    run.output.result(view, show, name="socket")
