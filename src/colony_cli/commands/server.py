"""The daemon: run it, end it."""

import time
from collections.abc import Mapping
from typing import Any

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, Nearest, command
from colony_cli.words import clean, duration
from colony_core import __version__
from colony_core.errors import ColonyError, Invalid, TooSlow, Unreachable

MODES = ("auto", "root", "ambient", "rootless")
FORMATS = ("auto", "text", "json")
LEVELS = ("debug", "info", "warning", "error")
VERBOSE = {1: "info", 2: "debug"}
SHUTDOWN_SECONDS = 60.0
LOOK_SECONDS = 0.05


@command(
    "serve",
    takes=frozenset({"quiet", "json"}),
    examples=(
        "colony serve",
        "colony serve --demo",
        "colony serve --port 0 --preview-port 8090",
        "sudo colony serve --mode root -v",
    ),
    see=("colony doctor", "colony shutdown"),
)
@click.option("--bind", metavar="ADDRESS", help="address of the API (default: 127.0.0.1)")
@click.option("--port", metavar="N", help="port of the API (default: 8000; 0: any free one)")
@click.option("--preview-port", metavar="N", help="port of the previews (default: 8088; 0: any free one)")
@click.option("--mode", type=Nearest(MODES), metavar="M", help=f"how to get the rights: {', '.join(MODES)}")
@click.option(
    "--log-format",
    type=Nearest(FORMATS),
    metavar="F",
    help="of its own log: text, json (default: json unless at a terminal)",
)
@click.option(
    "--log-level", type=Nearest(LEVELS), metavar="L", help=f"of its own log: {', '.join(LEVELS)} (-v: info, -vv: debug)"
)
@click.option("--demo", is_flag=True, help="only show what it looks like: no rights, no key, nothing kept")
def serve_command(
    run: Run, *, bind: str | None, port: str | None, preview_port: str | None, mode: str | None,
    log_format: str | None, log_level: str | None, demo: bool,
) -> None:  # fmt: skip
    """Run the daemon in the foreground. Ctrl-C stops the colonies too; SIGTERM leaves them running for the next one."""
    began = time.monotonic()
    if demo and mode is not None:
        raise Invalid("wrong-use", "--mode has no effect with --demo, whose walls are of cardboard", "give one of them")
    from colony_core.config import load_config

    given = {"server.bind": bind, "server.port": port, "routing.port": preview_port, "isolation.mode": mode}
    given |= {"log.format": log_format, "log.level": log_level or VERBOSE.get(min(run.output.verbose, 2))}
    overrides = {key: value for key, value in given.items() if value is not None}
    from colony_web.daemon import run as run_daemon

    def announce(view: Any) -> None:
        _announce(run, view, address=view.api_url, took=time.monotonic() - began)
        if demo:
            run.output.note(f"! a demonstration: nothing of it is kept.  colony --server unix:{clean(view.socket)} ls")

    run_daemon(lambda: load_config(run.environ, overrides=overrides), announce=announce, demo=demo)


@command("reload", takes=ASKS | RESULT, examples=("colony reload",), see=("colony status", "colony serve"))
def reload_command(run: Run) -> None:
    """Have the daemon read its settings again; those that are wrong are refused, and the old ones stay."""
    view = run.ask(run.calls.reload())
    run.output.result(view, lambda: tell_reloaded(run, view), name="changed")


def tell_reloaded(run: Run, view: Mapping[str, Any]) -> None:
    """Says which settings are in force now, and which wait."""
    run.output.line(f"in force: {', '.join(view['changed'])}" if view["changed"] else "nothing changed")
    if view["waiting"]:
        run.output.note(f"! at the next start of the daemon: {', '.join(view['waiting'])}", "amber")


@command(
    "shutdown",
    takes=ASKS | RESULT,
    examples=("colony shutdown", "colony shutdown --colonies"),
    see=("colony serve", "colony stop"),
)
@click.option("--colonies", is_flag=True, help="stop every colony first")
@click.option("--no-wait", is_flag=True, help="return at once")
def shutdown_command(run: Run, *, colonies: bool, no_wait: bool) -> None:
    """End the daemon. Its colonies go on and the next daemon finds them, unless --colonies."""
    pid = run.ask(run.calls.system())["pid"]
    run.ask(run.calls.shutdown(colonies=colonies))
    if not no_wait:
        _wait_until_gone(run, pid)
    words = "every colony is stopped" if colonies else "colonies go on; colony serve finds them again"
    told = "the daemon is ending" if no_wait else "the daemon has ended"
    run.output.result(
        {"pid": pid, "ended": not no_wait, "colonies": colonies},
        lambda: run.output.line(f"{told}; {words}"),
        name="pid",
    )


def _announce(run: Run, view: Any, *, address: str, took: float) -> None:
    output = run.output
    if output.json:
        from colony_core.wire import dump

        output.item(dump(view))
    elif not output.quiet:
        previews = (view.preview_url or "off").rstrip("/")
        output.lines(
            [
                f"Colony {__version__}, pid {view.pid}, {clean(view.mode)} mode, egress {clean(view.egress)}",
                f"  API       {address}  unix:{clean(view.socket)}",
                f"  previews  {clean(previews)}",
                f"  state     {clean(view.state_folder)}",
            ]
        )
        for note in view.notes:
            output.note(f"! {clean(note)}", "amber")
        found = f", {view.colonies} colonies found" if view.colonies else ""
        output.line(f"ready in {duration(took)}{found}")
    output.flush()


def _wait_until_gone(run: Run, pid: int) -> None:
    patience = SHUTDOWN_SECONDS if run.timeout is None else run.timeout
    deadline = time.monotonic() + patience
    while _answers(run) or (run.target.socket and _lives(pid)):
        if time.monotonic() > deadline:
            raise TooSlow(
                "shutdown-too-long",
                f"the daemon (pid {pid}) still runs after {duration(patience)}; it goes on ending",
                "colony status",
            )
        time.sleep(LOOK_SECONDS)


def _answers(run: Run) -> bool:
    try:
        run.client(patience=1.0).send_raw(run.calls.system())
    except Unreachable:
        return False
    except ColonyError:
        return True
    return True


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
