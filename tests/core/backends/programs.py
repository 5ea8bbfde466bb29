"""Starts agents as real programs, without a colony around them; the whole tree of one ends with its block."""

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import attrs
import trio

from colony_core.backends import Command
from colony_core.processes import Output

MARK = "COLONY_TESTS_AGENT"
LEFTOVER_GRACE_SECONDS = 60.0
"""What the rest of a tree gets, as from a keeper: an agent behind an adapter writes its session down when it is told to end."""


class RealProgram:
    """A process of ours, as a backend sees it."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdin, self.stdout, self.stderr = process.stdin, Output(process.stdout), Output(process.stderr)

    async def wait(self) -> int:
        return await self.process.wait()

    async def signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


@attrs.define
class Programs:
    """A `Starter`, and what became of what it started."""

    workdir: Path
    home: Path
    variables: Mapping[str, str] = attrs.field(factory=dict)
    marks: list[str] = attrs.field(factory=list)
    commands: list[Command] = attrs.field(factory=list)
    started: list[RealProgram] = attrs.field(factory=list)
    left_to_us: list[int] = attrs.field(factory=list)
    """Pids that the backend had not ended when its block was over."""

    @contextlib.asynccontextmanager
    async def start(self, command: Command) -> AsyncIterator[RealProgram]:
        self.commands.append(command)
        mark = uuid.uuid4().hex
        self.marks.append(mark)
        variables = {"HOME": str(self.home), "PATH": os.environ["PATH"], MARK: mark}
        process = await trio.lowlevel.open_process(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.workdir,
            env={**variables, **self.variables, **command.env},
            start_new_session=True,
        )
        program = RealProgram(process)
        self.started.append(program)
        try:
            yield program
        finally:
            with trio.CancelScope(shield=True):
                if process.poll() is None:
                    self.left_to_us.append(process.pid)
                    process.kill()
                await process.wait()
                for stream in (program.stdin, program.stdout, program.stderr):
                    await stream.aclose()
                await _sweep(mark)

    def living(self) -> list[int]:
        """Pids of what was started, whoever is its parent by now."""
        return _marked(*self.marks)


async def _sweep(mark: str) -> None:
    """Ends what is left of a tree: SIGTERM, a grace, then SIGKILL."""
    asked: set[int] = set()
    kill_at = trio.current_time() + LEFTOVER_GRACE_SECONDS
    while pids := _marked(mark):
        number = signal.SIGTERM if trio.current_time() < kill_at else signal.SIGKILL
        for pid in pids:
            if number == signal.SIGKILL or pid not in asked:
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        await trio.sleep(0.01)


def _marked(*marks: str) -> list[int]:
    wanted = {f"{MARK}={mark}".encode() for mark in marks}
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted.intersection((folder / "environ").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
    return found
