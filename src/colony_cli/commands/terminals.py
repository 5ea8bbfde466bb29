"""Running a command inside a colony, with our pipes as its own, or on a terminal that ours shows."""

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, command
from colony_cli.terminal import DetachKeys, lend, own_kind, own_language, own_size, require_terminal
from colony_core.errors import Invalid, TooSlow

if TYPE_CHECKING:
    import trio

    from colony_cli.terminal import Screen as OwnScreen
    from colony_core.remote.streaming import ExecSession
    from colony_core.views import ExecRequest

PIECE_BYTES = 65536


@command(
    "exec",
    takes=ASKS,
    examples=(
        "colony exec hello -- ps aux",
        "tar c . | colony exec hello -- tar x -C /tmp",
        "colony exec -e DEBUG=1 hello -- make test",
        "colony exec -it hello -- htop",
    ),
    see=("colony attach", "colony logs"),
    ends_with_command=True,
)
@click.option("-C", "--cwd", metavar="PATH", help="run it there, from the colony's folder")
@click.option(
    "-e", "--env", "pairs", metavar="KEY=VALUE", multiple=True, help="a variable over the colony's environment"
)
@click.option("-t", "--tty", is_flag=True, help="on a terminal of its own, which ours shows")
@click.option("-i", "--interactive", is_flag=True, help="as in -it; input passes through in any case")
@click.argument("name", metavar="[NAME]")
@click.argument("words", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(
    run: Run,
    name: str,
    words: tuple[str, ...],
    *,
    cwd: str | None,
    pairs: tuple[str, ...],
    tty: bool,
    interactive: bool,
) -> int:
    """Run a command in a colony's network and folder. Its output, input and exit code pass through; Ctrl-C ends it.

    With -it it has a terminal, so that full-screen programs work; it ends with this command. One that stays: colony attach.
    """
    if interactive and not tty:
        raise Invalid("wrong-use", "-i has no effect without -t: input passes through in any case", "colony exec -it")
    variables = _variables(pairs)
    program = words[1:] if words[0] == "--" else words
    if not program or (program is words and words[0].startswith("-")):
        raise Invalid("wrong-use", "no command: options go before NAME, the command behind --", "colony exec -h")
    view = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))
    from functools import partial

    import trio

    from colony_core.views import ExecRequest, Screen

    screen = None
    if tty:
        require_terminal("exec -t")
        size = own_size()
        screen = Screen(rows=size.rows, columns=size.columns, term=own_kind())
        variables = own_language() | variables
    request = ExecRequest(command=program, cwd=cwd, env=variables, screen=screen)
    code = trio.run(partial(run_in_colony, run, view["id"], request))
    return code if code >= 0 else 128 - code


def _variables(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair or pair.startswith("="):
            raise Invalid("wrong-use", f"--env {pair!r} is not KEY=VALUE", "colony exec -h")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


async def run_in_colony(run: Run, ref: str, request: "ExecRequest") -> int:
    """Runs a command in a colony with our streams as its own; gives its exit code."""
    import trio

    from colony_core.remote.streaming import open_exec

    with trio.move_on_after(run.timeout if run.timeout is not None else float("inf")):
        async with (
            open_exec(run.target, ref, request) as session,
            trio.open_nursery() as outputs,
            trio.open_nursery() as inputs,
        ):
            run.heard(session.server_version)
            if request.screen is not None:
                return await _on_our_terminal(session)
            inputs.start_soon(_feed, session.stdin)
            outputs.start_soon(_drain, session.stdout, 1)
            outputs.start_soon(_drain, session.stderr, 2)
            code = await session.wait()
            inputs.cancel_scope.cancel()
        return code
    raise TooSlow("exec-too-long", f"the command was ended after {run.timeout:g} s", "give it more with --timeout")


class _Command:
    """A command on a terminal, as our screen sees it."""

    def __init__(self, session: "ExecSession") -> None:
        self.resize = session.resize
        self._session = session

    async def show(self, screen: "OwnScreen") -> None:
        while data := await self._session.stdout.receive_some():
            await screen.write(bytes(data))

    async def type(self, data: bytes) -> bool:
        import trio

        with suppress(trio.BrokenResourceError):  # it has ended; its exit code comes
            await self._session.stdin.send_all(data)
        return True


async def _on_our_terminal(session: "ExecSession") -> int:
    left = await lend(_Command(session), DetachKeys("none"))
    return await session.wait() if left.how == "ended" else 128 + (left.signal or signal.SIGHUP)


async def _feed(stdin: "trio.abc.SendStream") -> None:
    """Our input becomes its input. A thread reads: a terminal shared with other programs must not be made non-blocking."""
    import trio

    try:
        while data := await trio.to_thread.run_sync(os.read, 0, PIECE_BYTES, abandon_on_cancel=True):
            await stdin.send_all(data)
    except (trio.BrokenResourceError, OSError):
        return  # it takes no more, or we have none
    await stdin.aclose()


async def _drain(stream: "trio.abc.ReceiveStream", descriptor: int) -> None:
    import trio

    while data := await stream.receive_some():
        await trio.to_thread.run_sync(_write, descriptor, data, abandon_on_cancel=True)


def _write(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
