from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.routing.bodies import CHUNKED, UNTIL_CLOSE, BadFraming, body_of


def feed_all(length: int, pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """What passed, what was held back or lies behind, and whether the body is complete."""
    body, passed, kept, done = body_of(length), b"", b"", False
    for piece in pieces:
        kept += piece
        if not done:
            end, done = body.feed(kept)
            passed, kept = passed + kept[:end], kept[end:]
    return passed, kept, done


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


cuts = st.lists(st.integers(0, 10**6), max_size=12)
chunk_lists = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@given(
    chunk_lists, cuts, st.sampled_from([b"", b";name=value", b' ; q="x y"']), st.sampled_from([b"", b"X-Sum: 1\r\n"])
)
def test_a_chunked_body_ends_where_it_ends_however_it_is_cut(chunks, places, extension, trailer):
    body = (
        b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    )
    assert feed_all(CHUNKED, cut(body + b"GET /next", places)) == (body, b"GET /next", True)


@given(st.binary(max_size=60), cuts)
def test_what_passes_as_chunked_is_chunked_for_another_parser_too(data, places):
    try:
        passed, _, done = feed_all(CHUNKED, cut(data, places))
    except BadFraming:
        return
    if done:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + passed)
        events = []
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(type(event))
        assert events[-1] is h11.EndOfMessage
        assert parser.trailing_data[0] == b""


@given(st.integers(0, 50), st.binary(max_size=80), cuts)
def test_a_counted_body_ends_after_its_length(length, data, places):
    passed, kept, done = feed_all(length, cut(data, places))
    assert (passed, kept) == (data[:length], data[length:])
    assert done == (len(data) >= length)


def test_a_body_until_close_never_ends():
    assert feed_all(UNTIL_CLOSE, [b"abc", b"def"]) == (b"abcdef", b"", False)


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n", b"-1\r\n", b"+1\r\na\r\n", b"0x1\r\na\r\n", b" 1\r\na\r\n", b"1 \r\na\r\n", b"1_0\r\n", b"\r\n",
        b"1\na\n0\n\n", b"1\r\nab\r\n", b"1\r\na\n", b"1\r\naX", b"1;a\0b\r\n", b"1;\n\r\n", b"F" * 16 + b"\r\n", b"1" * 5000,
        b"1;" + b"a" * 5000 + b"\r\n", b"0\r\n folded\r\n\r\n", b"0\r\nHost: x\r\n\r\n", b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", b"0\r\nCookie: a=b\r\n\r\n", b"0\r\nno colon\r\n\r\n",
        b"0\r\n" + b"X-Long: 1\r\n" * 2000 + b"\r\n",
    ],
)  # fmt: skip
def test_bad_framing_is_refused_also_byte_by_byte(data):
    with pytest.raises(BadFraming):
        feed_all(CHUNKED, [data])
    with pytest.raises(BadFraming):
        feed_all(CHUNKED, [data[at : at + 1] for at in range(len(data))])
