"""Questions and answers of DNS, as bytes."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.isolation import dns
from colony_core.isolation.dns import Question


def question(name: str, kind: int = 1, *, flags: int = 0x0100, of_class: int = 1, more: bytes = b"") -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    head = struct.pack(">HHHHHH", 0xBEEF, flags, 1, 0, 0, 1 if more else 0)
    return head + labels + b"\0" + struct.pack(">HH", kind, of_class) + more


def test_a_question_is_read_whatever_its_letters_and_whatever_follows_it() -> None:
    packet = question("Api.OTHER.colony.internal", more=b"\0\0\x29\x10\0\0\0\0\0\0\0")
    assert dns.read_question(packet) == Question("api.other.colony.internal", 1, len(packet) - 11)
    assert dns.read_question(question("")) == Question("", 1, 17), "the root has no labels"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        question("api")[:15],
        question("api")[:-1],
        question("api", flags=0x8180),
        question("api", flags=0x2900),
        question("api", of_class=3),
        question("api")[:4] + b"\0\2" + question("api")[6:],
        question("x")[:12] + b"\xc0\x0c\0\1\0\1",
        question("x")[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        question("x")[:12] + b"\x03a.b\0\0\1\0\1",
        question("x")[:12] + b"\x02\xff\xfe\0\0\1\0\1",
        question(".".join(["a" * 63] * 4)),
    ],
    ids=[
        "none",
        "cut",
        "classless",
        "answer",
        "notify",
        "chaos",
        "two",
        "pointer",
        "long",
        "dot",
        "letters",
        "longest",
    ],
)
def test_what_is_no_ordinary_question_is_none(packet: bytes) -> None:
    assert dns.read_question(packet) is None


@given(st.binary(max_size=600))
def test_no_bytes_break_the_reading_of_questions(packet: bytes) -> None:
    found = dns.read_question(packet)
    assert found is None or (found.end <= len(packet) and found.name == found.name.lower())


def test_an_answer_repeats_the_question_as_it_was_asked_and_tells_every_address() -> None:
    packet = question("aPi", more=b"\0\0\x29\x10\0\0\0\0\0\0\0")
    asked = dns.read_question(packet)
    assert asked is not None
    said = dns.answer(packet, asked, ["127.0.0.1", "10.0.0.3"])
    assert struct.unpack_from(">HHHHHH", said) == (0xBEEF, 0x8580, 1, 2, 0, 0)
    assert said[12 : asked.end] == packet[12 : asked.end]
    records = [said[asked.end :][at : at + 16] for at in (0, 16)]
    assert [struct.unpack(">HHHIH", record[:12]) for record in records] == [(0xC00C, 1, 1, 1, 4)] * 2
    assert [socket.inet_ntoa(record[12:]) for record in records] == ["127.0.0.1", "10.0.0.3"]


def test_a_name_that_has_addresses_has_nothing_of_other_kinds() -> None:
    packet = question("api", 28)
    asked = dns.read_question(packet)
    assert asked is not None
    said = dns.answer(packet, asked, ["127.0.0.1"])
    assert struct.unpack_from(">HHHHHH", said) == (0xBEEF, 0x8580, 1, 0, 0, 0), "no error, and no record"
    assert len(said) == len(packet)


@pytest.mark.parametrize("code", [dns.NO_SUCH_NAME, dns.REFUSED])
def test_a_refusal_says_why(code: int) -> None:
    packet = question("api", flags=0)
    asked = dns.read_question(packet)
    assert asked is not None
    said = dns.decline(packet, asked, code)
    assert struct.unpack_from(">HHHHHH", said) == (0xBEEF, 0x8480 | code, 1, 0, 0, 0)
