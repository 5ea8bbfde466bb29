"""Server-sent events are the same however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.errors import LimitReached
from colony_core.remote import SseEvent
from colony_core.remote.sse import MAX_EVENT_BYTES, SseParser

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30)
EVENTS = st.lists(
    st.tuples(st.text("0123456789", max_size=4), st.sampled_from(["line", "missed"]), st.lists(LINE, min_size=1)),
    max_size=6,
)


@given(EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 400)))
def test_events_survive_any_cut(events: list[tuple[str, str, list[str]]], end: str, cuts: list[int]) -> None:
    text = ""
    for number, kind, lines in events:
        text += "".join(f"{field}{end}" for field in [f"id: {number}", f"event: {kind}", ": a comment"])
        text += "".join(f"data: {line}{end}" for line in lines) + end
    data = (text + ":" + end).encode()
    parser = SseParser()
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    got = [event for a, b in pairwise(edges) for event in parser.feed(data[a:b])]
    got += list(parser.feed(b"\n"))
    assert got == [SseEvent(id=number, event=kind, data="\n".join(lines)) for number, kind, lines in events]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_read_without_an_error(data: bytes, size: int) -> None:
    whole = list(SseParser().feed(data))
    parser = SseParser()
    assert [event for i in range(0, len(data), size) for event in parser.feed(data[i : i + size])] == whole


def test_a_mark_at_the_front_and_missing_spaces_are_understood() -> None:
    parser = SseParser()
    assert list(parser.feed("\ufeffdata:x\nretry:1500\nretry: soon\nid:a\0b\nunknown\n\nevent: e\n\n".encode())) == [
        SseEvent(data="x")
    ]
    assert parser.retry_seconds == 1.5


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 70_000, b"data: " + b"x" * 70_000 + b"\n"])
def test_an_event_without_end_is_refused(piece: bytes) -> None:
    parser = SseParser()
    fits = MAX_EVENT_BYTES // len(piece)
    assert [list(parser.feed(piece)) for _ in range(fits)] == [[]] * fits
    with pytest.raises(LimitReached):
        list(parser.feed(piece))
