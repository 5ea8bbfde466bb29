"""The line format: whatever bytes a service writes, in whatever portions, come out again as its lines."""

from hypothesis import example, given
from hypothesis import strategies as st

from colony_core.processes.keeper.records import LINE_BYTES, OUT, Splitter, decode, encode, is_label

texts = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b""))


def joined(groups: list[tuple[bytes, list[bytes]]]) -> list[bytes]:
    """The lines behind records: continued ones put together again."""
    lines, part = [], b""
    for kind, pieces in groups:
        for piece in pieces:
            part += piece
            if kind == OUT:
                lines.append(part)
                part = b""
    return [*lines, part] if part else lines


@given(st.lists(texts), st.lists(st.integers(1, 50), min_size=1))
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], sizes: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter, groups, turn = Splitter(OUT), [], 0
    while data:
        size = sizes[turn % len(sizes)]
        groups += splitter.feed(data[:size])
        data, turn = data[size:], turn + 1
    assert joined(groups) == lines
    assert splitter.end() == []


@given(st.lists(texts), texts.filter(bool))
def test_an_unfinished_last_line_comes_at_the_end(lines: list[bytes], last: bytes) -> None:
    splitter = Splitter(OUT)
    groups = splitter.feed(b"".join(line + b"\n" for line in lines) + last) + splitter.end()
    assert joined(groups) == [*lines, last]
    assert splitter.end() == []


@example(b"\xc3", 3 * LINE_BYTES, "ü")  # a head that is the beginning of the letter
@given(st.binary(max_size=8), st.integers(LINE_BYTES - 5, 3 * LINE_BYTES), st.sampled_from(["x", "ü", "€", "🐙"]))
def test_long_lines_are_cut_into_pieces_that_are_whole_characters(head: bytes, length: int, letter: str) -> None:
    head = head.replace(b"\n", b"")
    line = head + letter.encode() * (length // len(letter.encode()))
    splitter = Splitter(OUT)
    groups = []
    for start in range(0, len(line), LINE_BYTES):
        groups += splitter.feed(line[start : start + LINE_BYTES])
    groups += splitter.feed(b"\nnext\n")
    assert joined(groups) == [line, b"next"]
    for _, pieces in groups:
        for piece in pieces:
            assert len(piece) <= LINE_BYTES
    cuts = [piece for kind, pieces in groups if kind != OUT for piece in pieces]
    for number, cut in enumerate(cuts):
        (cut.removeprefix(head) if number == 0 else cut).decode()


def test_a_line_without_end_or_letters_is_cut_all_the_same() -> None:
    splitter = Splitter(OUT)
    groups = splitter.feed(b"\x80" * (2 * LINE_BYTES + 10))
    assert [(kind, [len(piece) for piece in pieces]) for kind, pieces in groups] == [(b"O", [LINE_BYTES, LINE_BYTES])]
    assert splitter.end() == [(b"o", [b"\x80" * 10])]


def test_a_prompt_is_shown_as_a_line_that_goes_on() -> None:
    splitter = Splitter(OUT)
    assert splitter.feed(b"Password: ") == []
    assert splitter.pause() == [(b"O", [b"Password: "])]
    assert splitter.pause() == []
    assert joined([(b"O", [b"Password: "]), *splitter.feed(b"ok\n")]) == [b"Password: ok"]


@given(st.integers(1, 10**15), st.integers(0, 10**14), st.lists(texts, max_size=5), st.lists(texts, max_size=5))
def test_records_are_read_as_they_were_written(first: int, at: int, out: list[bytes], err: list[bytes]) -> None:
    data = encode(first, at, b"web", [(b"o", out), (b"e", err)])
    records = [decode(line) for line in data.split(b"\n")[:-1]]
    expected = [(first + n, at, b"web", kind, text) for n, (kind, text) in enumerate(_all(out, err))]
    assert records == expected


def _all(out: list[bytes], err: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"o", text) for text in out] + [(b"e", text) for text in err]


@given(st.binary(max_size=60))
def test_foreign_bytes_are_no_record_or_one_that_can_be_told(line: bytes) -> None:
    record = decode(line.replace(b"\n", b""))
    assert record is None or (record.seq >= 0 and len(record[3]) == 1)


def test_torn_records_are_none() -> None:
    for torn in (b"", b"1", b"1 2 web", b"1 2 web o", b"x 2 web o text", b"1 2 web oo text", b"\0" * 30):
        assert decode(torn) is None


def test_labels_are_one_word() -> None:
    assert is_label("web-1.example@x")
    assert not any(map(is_label, ("", "a b", "a\n", "ü", "-a", "a" * 65, "a/b")))
