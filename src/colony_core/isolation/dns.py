"""As much of DNS as it takes to answer for a colony's own names (RFC 1035): one question, and IPv4 addresses. Pure."""

import socket
import struct
from collections.abc import Iterable

import attrs

HEADER_BYTES = 12
LONGEST_NAME_BYTES = 255
LONGEST_LABEL_BYTES = 63
TTL_SECONDS = 1
"""A colony that is started again may have another address."""
KIND_A, KIND_ANY, CLASS_IN = 1, 255, 1
FOUND, NO_SUCH_NAME, REFUSED = 0, 3, 5
_ANSWER, _AUTHORITATIVE, _RECURSION_WANTED, _RECURSION_OFFERED = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE = 0x7800
_TO_THE_QUESTION = 0xC00C
"""In place of a name: the one that stands behind the header."""


@attrs.frozen
class Question:
    """What was asked: a name in lower case without the last dot, the kind of record, and where the question ends in its packet."""

    name: str
    kind: int
    end: int


def read_question(packet: bytes) -> Question | None:
    """The question of an ordinary query; None for whatever else a packet may be."""
    if len(packet) < HEADER_BYTES:
        return None
    _, flags, questions = struct.unpack_from(">HHH", packet)
    if flags & (_ANSWER | _OPCODE) or questions != 1:
        return None
    labels, at = [], HEADER_BYTES
    while at < len(packet) and (size := packet[at]):
        label = packet[at + 1 : at + 1 + size]
        at += 1 + size
        if size > LONGEST_LABEL_BYTES or len(label) != size or b"." in label or not label.isascii():
            return None
        labels.append(label.decode().lower())
    if len(packet) < at + 5 or at - HEADER_BYTES >= LONGEST_NAME_BYTES:
        return None
    kind, of_class = struct.unpack_from(">HH", packet, at + 1)
    return Question(".".join(labels), kind, at + 5) if of_class == CLASS_IN else None


def answer(packet: bytes, question: Question, addresses: Iterable[str]) -> bytes:
    """Says where a name leads: to `addresses`, of which there are none for kinds other than A."""
    records = [
        struct.pack(">HHHIH", _TO_THE_QUESTION, KIND_A, CLASS_IN, TTL_SECONDS, 4) + socket.inet_aton(address)
        for address in addresses
        if question.kind in (KIND_A, KIND_ANY)
    ]
    return _head(packet, question, FOUND, len(records)) + b"".join(records)


def decline(packet: bytes, question: Question, code: int) -> bytes:
    """Says that there is no such name (NO_SUCH_NAME), or that it is not told here (REFUSED)."""
    return _head(packet, question, code, 0)


def _head(packet: bytes, question: Question, code: int, records: int) -> bytes:
    number, flags = struct.unpack_from(">HH", packet)
    said = _ANSWER | _AUTHORITATIVE | _RECURSION_OFFERED | flags & _RECURSION_WANTED | code
    return struct.pack(">HHHHHH", number, said, 1, records, 0, 0) + packet[HEADER_BYTES : question.end]
