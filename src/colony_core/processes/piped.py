"""Programs that speak over descriptors of ours instead of into a log: over pipes, or over a terminal that we hold."""

import math
import os
import select

import attrs
import trio

from .client import Keeper, Process
from .launch import KeeperLost, Launch

Ends = tuple[int, int, int]
"""Descriptors: what a program reads, what it writes, where its errors go."""
Streams = tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream, trio.lowlevel.FdStream]

LAST_WORDS_SECONDS = 1.0
LAST_WORDS_BYTES = 4 * 2**20


class Output(trio.abc.ReceiveStream):
    """What a program prints; ends soon after the program, even if others hold on to its output or write to it for ever.

    Whatever the program itself had printed is read, however late: only what others may still say is not waited for.
    """

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._ended_at = math.inf
        self._seconds = math.inf
        self._bytes = math.inf
        self._reading = trio.CancelScope()

    def end_soon(self) -> None:
        """The program has ended: from now on a second is waited for more, and no more than 4 MiB are read."""
        if math.isinf(self._ended_at):
            self._ended_at = trio.current_time()
            self._seconds, self._bytes = LAST_WORDS_SECONDS, LAST_WORDS_BYTES
            self._reading.deadline = self._ended_at + self._seconds

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As of any stream. That its time is over only keeps it from waiting: what lies there is read all the same."""
        if self._bytes <= 0:
            return b""
        data, since = b"", trio.current_time()
        with trio.CancelScope(deadline=since + self._seconds) as self._reading:
            data = bytes(await self._stream.receive_some(max_bytes))
        self._seconds -= max(0.0, trio.current_time() - max(since, self._ended_at))
        if self._reading.cancelled_caught and _is_readable(self._stream):
            data = bytes(await self._stream.receive_some(max_bytes))
        self._bytes -= len(data)
        return data

    async def aclose(self) -> None:
        """Closes the stream beneath."""
        await self._stream.aclose()


def _is_readable(stream: trio.abc.ReceiveStream) -> bool:
    if not isinstance(stream, trio.lowlevel.FdStream):
        return False
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def open_pipes() -> tuple[Ends, Ends]:
    """Three pipes: the program's ends, and ours."""
    stdin_read, stdin_write = os.pipe()
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    return (stdin_read, stdout_write, stderr_write), (stdin_write, stdout_read, stderr_read)


async def start_piped(keeper: Keeper, launch: Launch, theirs: Ends, ours: Ends) -> tuple[Process, Streams]:
    """Starts a program on its ends, and gives ours as streams, which the caller closes. Where it fails, all ends are closed."""
    try:
        process = await keeper.start(attrs.evolve(launch, log=None, stdio=theirs))
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    stdin, stdout, stderr = (trio.lowlevel.FdStream(fd) for fd in ours)
    return process, (stdin, stdout, stderr)


async def see_off(keeper: Keeper, process: Process, *, grace: float) -> None:
    """Stops a program with its whole tree, if it still runs, and has it forgotten. Runs to its end also where it is cancelled."""
    with trio.CancelScope(shield=True):
        try:
            if process.running:
                await process.stop(grace=grace)
            await keeper.forget(process.key)
        except KeeperLost:
            pass  # its leftovers are killed before a new keeper takes over
