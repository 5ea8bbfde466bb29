"""Starts agents on this machine, without a cell, as a colony would: with pipes, and with everything of theirs gone at the end."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import trio

from colony_core.backends import Command, Program


class HostProgram:
    """A process in a session of its own."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdin: trio.abc.SendStream = process.stdin
        self.stdout: trio.abc.ReceiveStream = process.stdout
        self.stderr: trio.abc.ReceiveStream = process.stderr

    async def wait(self) -> int:
        return await self.process.wait()

    async def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


def host_starter(
    workdir: Path, environment: Mapping[str, str], started: list[HostProgram] | None = None
) -> Callable[[Command], AbstractAsyncContextManager[Program]]:
    """A starter; what it starts is also put into `started`."""

    @asynccontextmanager
    async def start(command: Command) -> AsyncIterator[Program]:
        process = await trio.lowlevel.open_process(
            command.argv,
            cwd=workdir,
            env={**environment, **command.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        program = HostProgram(process)
        if started is not None:
            started.append(program)
        try:
            yield program
        finally:
            for pid in descendants(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in (program.stdin, program.stdout, program.stderr):
                    await stream.aclose()

    return start


def descendants(pid: int) -> list[int]:
    """The living children of a process, and theirs."""
    children: list[int] = []
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children += [int(child) for child in task.read_text().split()]
    return [found for child in children for found in (child, *descendants(child))]
