"""Output over pipes of ours: all that a program printed, and no waiting for those who hold on to its pipe."""

import os
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from colony_core.processes import Output
from colony_core.processes.piped import LAST_WORDS_BYTES

LATE_SECONDS = 3600.0


@pytest.fixture
async def pipe() -> AsyncIterator[tuple[Output, int]]:
    """The output of a program, and the end that it writes to."""
    ours, theirs = os.pipe()
    async with trio.lowlevel.FdStream(ours) as stream:
        yield Output(stream), theirs
    os.close(theirs)


async def test_what_was_printed_is_read_even_when_the_time_to_wait_for_it_is_over(
    pipe: tuple[Output, int], autojump_clock: MockClock
) -> None:
    output, theirs = pipe
    output.end_soon()
    assert await output.receive_some() == b""
    said = os.urandom(20_000)
    os.write(theirs, said)
    heard = b""
    while part := await output.receive_some(1000):
        heard += part
    assert heard == said


async def test_silence_before_the_end_takes_nothing_from_the_time_for_last_words(
    pipe: tuple[Output, int], mock_clock: MockClock
) -> None:
    output, theirs = pipe
    heard: list[bytes] = []

    async def read() -> None:
        async for part in output:
            heard.append(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(LATE_SECONDS)
        output.end_soon()
        await trio.testing.wait_all_tasks_blocked()
        os.write(theirs, b"last")
        while not heard:
            await trio.lowlevel.checkpoint()
        os.write(theirs, b" words")
        while len(heard) < 2:
            await trio.lowlevel.checkpoint()
        mock_clock.autojump_threshold = 0
    assert heard == [b"last", b" words"]


async def test_a_pipe_that_others_hold_open_ends_soon_after_the_program(
    pipe: tuple[Output, int], autojump_clock: MockClock
) -> None:
    output, _ = pipe
    began = trio.current_time()
    output.end_soon()
    assert await output.receive_some() == b""
    output.end_soon()
    assert await output.receive_some() == b""
    assert trio.current_time() - began == pytest.approx(1.0)


async def test_who_writes_for_ever_is_not_read_for_ever(autojump_clock: MockClock) -> None:
    theirs, ours = trio.testing.memory_stream_one_way_pair()
    output = Output(ours)
    heard = 0

    async def flood() -> None:
        while True:
            await theirs.send_all(bytes(65536))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        output.end_soon()
        while part := await output.receive_some(65536):
            heard += len(part)
        nursery.cancel_scope.cancel()
    assert LAST_WORDS_BYTES <= heard <= LAST_WORDS_BYTES + 65536
