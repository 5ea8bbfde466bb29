"""Commands that people run in a colony's cell, with pipes or a terminal of their own."""

import os
import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from colony_core.errors import Invalid, WrongState
from colony_core.processes import (
    Ends,
    Output,
    Process,
    User,
    open_pipes,
    open_terminal,
    resize_terminal,
    see_off,
    start_piped,
)
from colony_core.views import ExecRequest, Screen, TerminalSize

from .colony import Colony
from .environment import overlaid, setup_environment
from .launching import inherited_environment, launch, way_out

EXEC_GRACE_SECONDS = 2.0


@attrs.frozen
class Running:
    """A command at work. Close `stdin` to tell it that nothing more comes. At a terminal all output is `stdout`.

    Once `wait` has told its end, both outputs end soon, with all that it had printed.
    """

    stdin: trio.abc.SendStream
    stdout: Output
    stderr: Output
    process: Process
    terminal: int | None = None

    def resize(self, size: TerminalSize) -> None:
        """Another size for its terminal; raises WrongState where it has none, Invalid for what is no size."""
        if self.terminal is None:
            raise WrongState("no-terminal", "this command runs without a terminal", "ask for it with a screen")
        resize_terminal(self.terminal, size)

    async def wait(self) -> int:
        """The exit code; negative for a signal."""
        exited = await self.process.wait()
        self.stdout.end_soon()
        self.stderr.end_soon()
        return exited.code


def command_environment(colony: Colony) -> dict[str, str]:
    """What a command that is run in the colony finds in its environment."""
    base = inherited_environment(colony)
    return setup_environment(base=base, manifest=colony.manifest, colony=colony.name, way_out=way_out(colony))


@asynccontextmanager
async def run_command(colony: Colony, request: ExecRequest, *, label: str = "exec") -> AsyncIterator[Running]:
    """Runs a command in the colony's cell, folder and environment, as its user; gone with its whole tree when the block ends.

    Raises WrongState where the colony has no cell, Invalid for a command that cannot be started.
    """
    if colony.cell is None:
        raise WrongState(
            "colony-not-running", f"colony “{colony.name}” is {colony.state.value}", f"colony start {colony.name}"
        )
    if not request.command or any("\0" in word for word in request.command):
        raise Invalid("invalid-command", f"not a command: {shlex.join(request.command)!r}", "give at least one word")
    screened = {} if request.screen is None else {"TERM": request.screen.term}
    environment = overlaid(command_environment(colony), screened, request.env)
    order = launch(
        colony,
        label=label,
        argv=request.command,
        environment=environment,
        cwd=request.cwd,
        key=f"_{label}.{secrets.token_hex(4)}",
    )
    keeper = await colony.means.keeper.get()
    screen = request.screen
    theirs, ours = open_pipes() if screen is None else _terminal(screen, order.user)
    process, streams = await start_piped(keeper, attrs.evolve(order, tty=screen is not None), theirs, ours)
    try:
        stdin, stdout, stderr = streams
        yield Running(stdin, Output(stdout), Output(stderr), process, None if screen is None else ours[0])
    finally:
        for stream in streams:
            stream.close()
        await see_off(keeper, process, grace=EXEC_GRACE_SECONDS)


def _terminal(screen: Screen, user: User | None) -> tuple[Ends, Ends]:
    """As `open_pipes`, with both directions of a terminal; nothing ever comes as errors."""
    master, slave = open_terminal(TerminalSize(screen.rows, screen.columns), user)
    silence, nobody = os.pipe()
    os.close(nobody)
    return (slave, os.dup(slave), os.dup(slave)), (master, os.dup(master), silence)
