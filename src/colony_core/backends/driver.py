"""Runs an agent that is a program speaking lines: reads, writes, waits, insists. What the lines mean is its `Dialogue`'s to decide.

A dialogue is pure: it hears a line and gives deeds. The driver carries them out, in the order in which they were given.
"""

import contextlib
import math
import signal
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar

import trio
from trio.abc import ReceiveStream

from colony_core.errors import ColonyError

from .backend import Program, Run
from .deeds import Death, Deed, Dialogue, Graces, Hush, Say, Signal
from .happenings import Ended, Happening
from .lines import Lines, Skipped, Tail
from .telling import Telling, carrying_out

REPEAT_SECONDS = 2.0
ERROR_LINE_BYTES = 64 * 1024

Line = TypeVar("Line")


@contextlib.asynccontextmanager
async def open_run(
    program: Program,
    dialogue: Dialogue[Line],
    lines: Callable[[ReceiveStream], AsyncIterable[Line]],
    graces: Graces,
) -> AsyncIterator[Run]:
    """Carries on a dialogue with a program, whose output `lines` frames. When the block ends, also when cancelled, so has the program."""
    run = _DrivenRun(program, dialogue, lines, graces)
    async with carrying_out(run):
        yield run


class _DrivenRun(Generic[Line]):
    def __init__(
        self,
        program: Program,
        dialogue: Dialogue[Line],
        lines: Callable[[ReceiveStream], AsyncIterable[Line]],
        graces: Graces,
    ) -> None:
        self._program = program
        self._dialogue = dialogue
        self._graces = graces
        self._lines = lines(program.stdout)
        self._tail = Tail()
        self._telling = Telling()
        self._words, self._unsaid = trio.open_memory_channel[Say | Hush](math.inf)
        self._stop_asked = trio.Event()
        self._over = trio.Event()
        self._exited = trio.Event()
        self._errors_read = trio.Event()
        self._code: int | None = None
        self._trouble = ""

    def happenings(self) -> AsyncIterator[Happening]:
        return self._telling

    async def interrupt(self) -> None:
        self._stop_asked.set()
        await trio.lowlevel.checkpoint()

    async def answer(self, approval: str, *, allow: bool, message: str = "") -> None:
        await trio.lowlevel.checkpoint()
        await self._do(self._dialogue.answer(approval, allow=allow, message=message))

    async def carry_out(self) -> None:
        """As `Carried.carry_out`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait)
            nursery.start_soon(self._write)
            nursery.start_soon(self._read_errors)
            nursery.start_soon(self._insist)
            nursery.start_soon(self._read)
            await self._do(self._dialogue.open())
            await self._over.wait()
            await self._see_off()
            nursery.cancel_scope.cancel()

    async def leave(self) -> None:
        """As `Carried.leave`."""
        self._telling.leave()
        self._stop_asked.set()
        await trio.lowlevel.checkpoint()

    async def _read(self) -> None:
        """To the end of the dialogue; the rest of the output is read so that nothing stalls, and means nothing."""
        async for line in self._lines:
            if not self._over.is_set():
                await self._do(self._dialogue.hear(line))
        if not self._over.is_set():
            with trio.move_on_after(self._graces.leave):
                await self._exited.wait()
            await self._force()
            await self._errors_read.wait()
            await self._do(self._dialogue.lose(Death(self._code, self._tail.text, self._trouble)))

    async def _do(self, deeds: Sequence[Deed]) -> None:
        for deed in deeds:
            if isinstance(deed, Say | Hush):
                self._words.send_nowait(deed)
            elif isinstance(deed, Signal):
                await self._signal(deed.number)
            elif isinstance(deed, Ended):
                self._telling.end(deed)
                self._over.set()
            else:
                await self._telling.tell(deed)

    async def _write(self) -> None:
        async for deed in self._unsaid:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # its output tells of its end
                if isinstance(deed, Say):
                    await self._program.stdin.send_all(deed.data)
                else:
                    await self._program.stdin.aclose()

    async def _read_errors(self) -> None:
        async for line in Lines(self._program.stderr, limit=ERROR_LINE_BYTES):
            text = line.start if isinstance(line, Skipped) else line.decode(errors="replace")
            self._tail.feed(text.encode() + b"\n")
            await self._do(self._dialogue.overhear(text))
        self._errors_read.set()

    async def _wait(self) -> None:
        try:
            self._code = await self._program.wait()
        except ColonyError as error:
            self._trouble = str(error)
        self._exited.set()
        self._let_output_end()

    async def _insist(self) -> None:
        await self._stop_asked.wait()
        with trio.move_on_after(self._graces.interrupt):
            while not self._over.is_set():
                await self._do(self._dialogue.interrupt())
                with trio.move_on_after(REPEAT_SECONDS):
                    await self._over.wait()
        if not self._over.is_set():
            await self._force()

    async def _see_off(self) -> None:
        self._words.send_nowait(Hush())
        with trio.move_on_after(self._graces.leave):
            await self._exited.wait()
        await self._force()

    async def _force(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._exited.is_set():
                await self._signal(number)
                with trio.move_on_after(self._graces.terminate):
                    await self._exited.wait()
        self._let_output_end()

    def _let_output_end(self) -> None:
        self._program.stdout.end_soon()
        self._program.stderr.end_soon()

    async def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ColonyError):
            await self._program.signal(number)
