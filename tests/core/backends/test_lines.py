"""Lines as agents write them: split anywhere, mixed with what is no JSON, longer than anybody wants."""

import json
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends.lines import Framer, JsonLines, Skipped, Tail, parse_object


class Pieces(trio.abc.ReceiveStream):
    """A stream that gives exactly these pieces, then ends, or breaks."""

    def __init__(self, *pieces: bytes, breaks: bool = False) -> None:
        self.pieces = list(pieces)
        self.breaks = breaks

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.pieces:
            return self.pieces.pop(0)
        if self.breaks:
            raise trio.BrokenResourceError
        return b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def read(*pieces: bytes, limit: int = 1000, breaks: bool = False) -> list[Any]:
    return [item async for item in JsonLines(Pieces(*pieces, breaks=breaks), limit=limit)]


async def test_objects_come_one_a_line() -> None:
    assert await read(b'{"a":1}\n{"b":2}\r\n\n  \n{}\n') == [{"a": 1}, {"b": 2}, {}]


async def test_what_is_no_object_is_passed_over_and_told() -> None:
    assert await read(b'Welcome!\n[1]\n{"a"\n{"a":1}\n') == [
        Skipped("not-json", "Welcome!"),
        Skipped("not-json", "[1]"),
        Skipped("not-json", '{"a"'),
        {"a": 1},
    ]


async def test_the_last_line_may_lack_its_end_or_be_cut() -> None:
    assert await read(b'{"a":1}\n{"b":2}') == [{"a": 1}, {"b": 2}]
    assert await read(b'{"a":1}\n{"b":', b"2") == [{"a": 1}, Skipped("cut", '{"b":2')]


async def test_a_stream_that_breaks_has_ended() -> None:
    assert await read(b'{"a":1}\n{"b', breaks=True) == [{"a": 1}, Skipped("cut", '{"b')]


async def test_a_line_beyond_the_limit_is_passed_over_and_not_held() -> None:
    pieces = [b'{"a":1}\n{"b":"', *[b"x" * 100] * 50, b'"}\n{"c":3}\n']
    one, long, three = await read(*pieces)
    assert (one, three) == ({"a": 1}, {"c": 3})
    assert long == Skipped("too-long", '{"b":"')


def test_the_rest_of_a_long_line_is_thrown_away_as_it_comes() -> None:
    framer = Framer(limit=100)
    for _ in range(1000):
        assert framer.feed(b"y" * 60) == []
    assert sum(map(len, framer._parts)) <= 100
    assert framer.feed(b"\nok\n") == [Skipped("too-long", "y" * 60), b"ok"]


def test_a_line_of_64_mebibytes_is_read_and_one_byte_more_is_not() -> None:
    frame = 64 * 1024 * 1024
    for size, fits in ((frame, True), (frame + 1, False)):
        framer = Framer()
        piece = b"z" * 65536
        for _ in range(1023):
            assert framer.feed(piece) == []
        [line] = framer.feed(b"z" * (size - 1023 * 65536) + b"\n")
        assert (isinstance(line, bytes) and len(line) == size) is fits


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (rb'{"t":"\ud83d\ude00"}', "😀"),
        (rb'{"t":"cut \ud83d"}', "cut �"),
        (rb'{"t":"\ude00 tail"}', "� tail"),
        (rb'{"t":"\ud83dA"}', "�A"),
        (rb'{"t":"\\ud83d and \ud83d"}', r"\ud83d and �"),
        (b'{"t":"caf\xe9"}', "caf�"),
        ('{"t":"café"}'.encode(), "café"),
    ],
)
def test_text_that_is_not_sound_is_repaired(line: bytes, text: str) -> None:
    assert parse_object(line) == {"t": text}


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none())), st.data())
async def test_it_does_not_matter_where_a_stream_is_split(objects: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = b"".join(json.dumps(item, ensure_ascii=data.draw(st.booleans())).encode() + b"\n" for item in objects)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert await read(*filter(None, pieces), limit=10**6) == objects


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.booleans())
async def test_garbage_ends_and_never_raises(pieces: list[bytes], breaks: bool) -> None:
    for item in await read(*pieces, limit=30, breaks=breaks):
        assert isinstance(item, dict | Skipped)


async def test_a_cancelled_reader_loses_no_line() -> None:
    send, receive = trio.testing.memory_stream_one_way_pair()
    lines = JsonLines(receive)
    await send.send_all(b'{"a":1}\n{"b":')
    assert await anext(lines) == {"a": 1}
    with trio.move_on_after(0):
        await anext(lines)
    await send.send_all(b"2}\n")
    assert await anext(lines) == {"b": 2}


async def test_the_tail_keeps_what_was_said_last() -> None:
    tail = Tail(limit=10)
    await tail.drain(Pieces(b"begin ", b"middle ", b"the \xff end\n", breaks=True))
    assert tail.text == "the � end"
