"""How programs are driven: cut anywhere, deaf, silent, loud, holding on to their output. One end each, in bounded time, on a mock clock."""

import json
import signal
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends import Ended, Graces, Happening, Notice, Text
from colony_core.backends.claude_lines import ClaudeDialogue
from colony_core.backends.driver import open_run
from colony_core.backends.lines import JsonLines
from colony_core.backends.telling import MOST_WAITING
from colony_core.errors import Broken
from colony_core.processes import Output

from . import claude_script as claude
from .contract import follow

INIT = {"type": "system", "subtype": "init", "session_id": "s1"}
GRACES = Graces(interrupt=10, leave=5, terminate=3)


def as_bytes(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


CONVERSATION = as_bytes(
    INIT,
    claude.text("I look."),
    claude.tool("Bash", {"command": "ls"}),
    claude.text("Done. 😀"),
    claude.result("Done."),
)


class MemoryProgram:
    """A program without a process. `heeds` are the signals that end it, `holds` whether others keep its output open."""

    def __init__(self, *, heeds: tuple[int, ...] = (signal.SIGTERM, signal.SIGKILL), holds: bool = False) -> None:
        self.stdin, self.heard = trio.testing.memory_stream_one_way_pair()
        self.tells, output = trio.testing.memory_stream_one_way_pair()
        self.errs, errors = trio.testing.memory_stream_one_way_pair()
        self.stdout, self.stderr = Output(output), Output(errors)
        self.signals: list[tuple[float, signal.Signals]] = []
        self._heeds = heeds
        self._holds = holds
        self._code: int | None = None
        self._ended = trio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self._code is not None
        return self._code

    async def signal(self, number: signal.Signals) -> None:
        await trio.lowlevel.checkpoint()
        self.signals.append((trio.current_time(), number))
        if number in self._heeds:
            self.end(-number)

    def end(self, code: int) -> None:
        self._code = code
        self._ended.set()
        if not self._holds:
            self.tells.close()
            self.errs.close()


def run(program: MemoryProgram, graces: Graces = GRACES) -> Any:
    return open_run(program, ClaudeDialogue("do it", may=lambda tool: None), JsonLines, graces)


def ended(happenings: list[Happening]) -> Ended:
    assert sum(isinstance(happening, Ended) for happening in happenings) == 1
    end = happenings[-1]
    assert isinstance(end, Ended)
    return end


async def leave(program: MemoryProgram) -> None:
    """As an agent that is well-behaved: until nobody talks to it."""
    while await program.heard.receive_some():
        pass
    program.end(0)


async def tell_in_pieces(program: MemoryProgram, pieces: list[bytes], code: int) -> None:
    for piece in pieces:
        await program.tells.send_all(piece)
    program.end(code)


@given(
    st.integers(0, len(CONVERSATION)),
    st.sets(st.integers(0, len(CONVERSATION)), max_size=8),
    st.sampled_from([0, 1, -9]),
)
def test_a_conversation_may_be_split_and_end_anywhere(length: int, cuts: set[int], code: int) -> None:
    async def main() -> None:
        told = CONVERSATION[:length]
        bounds = [0, *sorted(cut for cut in cuts if cut < length), length]
        program = MemoryProgram()
        async with trio.open_nursery() as nursery:
            pieces = [told[start:end] for start, end in pairwise(bounds)]
            nursery.start_soon(tell_in_pieces, program, pieces, code)
            async with run(program) as it:
                end = ended(await follow(it))
        whole = length >= len(CONVERSATION) - 1  # the last line may lack its end
        assert (end.outcome, end.code) == (("done", "") if whole else ("failed", "agent-died"))
        assert whole or any("told no result" in line for line in end.evidence)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@given(st.lists(st.binary(max_size=40), max_size=10), st.lists(st.binary(max_size=40), max_size=5))
def test_garbage_is_one_clear_failure(told: list[bytes], said: list[bytes]) -> None:
    async def main() -> None:
        program = MemoryProgram()
        async with trio.open_nursery() as nursery:
            await program.errs.send_all(b"".join(said))
            nursery.start_soon(tell_in_pieces, program, told, 1)
            async with run(program) as it:
                end = ended(await follow(it))
        assert (end.outcome, end.code) == ("failed", "agent-died")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@attrs.frozen
class Bad:
    """How an agent misbehaves, and by which signals it is ended in the end, when."""

    heeds: tuple[int, ...]
    signals: list[tuple[float, signal.Signals]]


@pytest.mark.parametrize(
    "bad",
    [
        Bad((signal.SIGTERM,), [(10.0, signal.SIGTERM)]),
        Bad((signal.SIGKILL,), [(10.0, signal.SIGTERM), (13.0, signal.SIGKILL)]),
        Bad((), [(10.0, signal.SIGTERM), (13.0, signal.SIGKILL)]),
    ],
)
async def test_an_agent_that_is_deaf_is_ended_by_force(autojump_clock: trio.testing.MockClock, bad: Bad) -> None:
    program = MemoryProgram(heeds=bad.heeds)
    began = trio.current_time()
    async with run(program) as it:
        await program.tells.send_all(as_bytes(INIT))
        await it.interrupt()
        assert ended(await follow(it)).outcome == "stopped"
        assert [(at - began, number) for at, number in program.signals][: len(bad.signals)] == bad.signals
    assert trio.current_time() - began < 60


async def test_a_block_that_is_left_early_gives_the_agent_its_graces(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram(heeds=(signal.SIGKILL,))
    with trio.CancelScope() as scope:
        async with run(program) as it:
            await program.tells.send_all(as_bytes(INIT))
            await anext(it.happenings())
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [number for _, number in program.signals] == [signal.SIGTERM, signal.SIGKILL]


async def test_an_agent_that_does_not_leave_after_its_end_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram()
    began = trio.current_time()
    async with run(program) as it:
        await program.tells.send_all(CONVERSATION)
        assert ended(await follow(it)).outcome == "done"
        assert trio.current_time() == began
    assert program.signals == [(began + GRACES.leave, signal.SIGTERM)]


async def test_output_that_others_hold_open_does_not_keep_a_run_alive(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram(holds=True)
    async with run(program) as it:
        await program.tells.send_all(as_bytes(INIT, claude.text("bye")))
        program.end(-9)
        happenings = await follow(it)
        assert [happening.text for happening in happenings if isinstance(happening, Text)] == ["bye"]
        assert ended(happenings).code == "agent-died"


async def test_output_that_others_write_for_ever_does_not_keep_a_run_alive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    program = MemoryProgram(holds=True)
    flood = as_bytes({"type": "noise", "text": "x" * 100_000})

    async def write_for_ever() -> None:
        while True:
            await program.tells.send_all(flood)
            await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_for_ever)
        async with run(program) as it:
            program.end(0)
            assert ended(await follow(it)).code == "agent-died"
        nursery.cancel_scope.cancel()


async def test_closed_output_of_an_agent_that_goes_on_is_its_end(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram()
    async with run(program) as it:
        program.tells.close()
        end = ended(await follow(it))
    assert (end.outcome, end.code) == ("failed", "agent-died")
    assert [number for _, number in program.signals] == [signal.SIGTERM]


async def test_a_reader_that_does_not_read_stalls_the_agent_but_not_the_leaving(
    autojump_clock: trio.testing.MockClock,
) -> None:
    program = MemoryProgram()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave, program)
        async with run(program):
            await program.tells.send_all(
                as_bytes(INIT, *(claude.text(str(number)) for number in range(2 * MOST_WAITING)))
            )
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(program.tells.send_all, as_bytes(claude.result("Done.")))
    assert program.signals == []


async def test_a_slow_reader_gets_everything_in_order(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram()
    texts = [str(number) for number in range(2 * MOST_WAITING)]
    found = []
    async with run(program) as it:
        await program.tells.send_all(as_bytes(INIT, *map(claude.text, texts), claude.result("Done.")))
        program.end(0)
        async for happening in it.happenings():
            await trio.sleep(0.1)
            found.append(happening)
    assert [happening.text for happening in found if isinstance(happening, Text)] == texts
    assert ended(found).outcome == "done"


async def test_a_reader_that_is_cancelled_can_read_on(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram()
    async with run(program) as it:
        await program.tells.send_all(as_bytes(INIT))
        with trio.move_on_after(1):
            await follow(it)
        await program.tells.send_all(as_bytes(claude.text("later"), claude.result("Done.")))
        program.end(0)
        later, *_ = await follow(it)
        assert later == Text(text="later")


async def test_an_agent_that_reads_nothing_can_be_interrupted(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram()
    program.stdin.send_all_hook = trio.sleep_forever
    async with run(program) as it:
        await it.interrupt()
        assert ended(await follow(it)).outcome == "stopped"


async def test_a_program_that_is_lost_is_a_failure_that_says_why(autojump_clock: trio.testing.MockClock) -> None:
    class Lost(MemoryProgram):
        async def wait(self) -> int:
            await trio.lowlevel.checkpoint()
            raise Broken("keeper-lost", "the keeper is lost")

        async def signal(self, number: signal.Signals) -> None:
            await trio.lowlevel.checkpoint()
            raise Broken("keeper-lost", "the keeper is lost")

    async with run(Lost()) as it:
        end = ended(await follow(it))
    assert end.code == "agent-died"
    assert "the keeper is lost" in end.evidence


async def test_a_fault_of_the_dialogue_leaves_and_hangs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    class Faulty(ClaudeDialogue):
        def hear(self, line: Any) -> Any:
            raise ZeroDivisionError

    program = MemoryProgram()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
        async with open_run(program, Faulty("x", may=lambda tool: None), JsonLines, GRACES) as it:
            await program.tells.send_all(as_bytes(INIT))
            await follow(it)
            await trio.sleep_forever()


async def test_a_line_that_is_too_long_is_told_and_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    program = MemoryProgram()
    dialogue = ClaudeDialogue("do it", may=lambda tool: None)
    async with trio.open_nursery() as nursery:
        told = as_bytes(INIT, claude.text("x" * 5000), claude.result("Done."))
        nursery.start_soon(tell_in_pieces, program, [told], 0)
        async with open_run(program, dialogue, lambda stream: JsonLines(stream, limit=1000), GRACES) as it:
            happenings = await follow(it)
    assert [happening.code for happening in happenings if isinstance(happening, Notice)] == ["too-long"]
    assert ended(happenings).outcome == "done"
