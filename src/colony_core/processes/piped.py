"""Programs that speak over descriptors of ours instead of into a log: over pipes, or over a terminal that we hold."""

import os

import attrs
import trio

from .client import Keeper, Process
from .launch import KeeperLost, Launch

Ends = tuple[int, int, int]
"""Descriptors: what a program reads, what it writes, where its errors go."""
Streams = tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream, trio.lowlevel.FdStream]


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
