"""Errors to exit codes: one table, printed by `colony help exit-codes`."""

from typing import NamedTuple

from colony_core.errors import (
    AlreadyExists,
    Broken,
    ColonyError,
    Invalid,
    LimitReached,
    Missing,
    NotAllowed,
    NotFound,
    TooSlow,
    Unreachable,
    WrongState,
)

DONE = 0
FAILED = 1
WRONG_USE = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
WRONG_STATE = 5
UNREACHABLE = 6
TOO_LONG = 7
LIMIT = 8
INTERRUPTED = 130


class Exit(NamedTuple):
    """An exit code, the word for it, and when it is used."""

    code: int
    word: str
    meaning: str


TABLE = (
    Exit(DONE, "done", "what was asked for is so"),
    Exit(FAILED, "failed", "it was tried and did not work"),
    Exit(WRONG_USE, "wrong use", "a bad option, name, file or setting, or a question that could not be asked"),
    Exit(NOT_FOUND, "not found", "no such colony, service, token or file"),
    Exit(NOT_ALLOWED, "not allowed", "a right or a token is lacking"),
    Exit(WRONG_STATE, "wrong state", "not possible in this state, or already there"),
    Exit(UNREACHABLE, "unreachable", "no daemon answers"),
    Exit(TOO_LONG, "too long", "a deadline passed"),
    Exit(LIMIT, "limit reached", "a guardrail holds"),
    Exit(INTERRUPTED, "interrupted", "Ctrl-C"),
)

EXCEPTIONS = (
    "exec passes the program's own code on.",
    "doctor ends with 1 where something is broken.",
    "wait ends with 0 where the state was reached, 5 where the colony failed instead, 7 where it took too long.",
)

_BY_KIND: dict[type[ColonyError], int] = {
    NotFound: NOT_FOUND,
    AlreadyExists: WRONG_STATE,
    WrongState: WRONG_STATE,
    Invalid: WRONG_USE,
    NotAllowed: NOT_ALLOWED,
    LimitReached: LIMIT,
    Missing: FAILED,
    Unreachable: UNREACHABLE,
    TooSlow: TOO_LONG,
    Broken: FAILED,
}


def exit_code(error: ColonyError) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _BY_KIND.items() if isinstance(error, kind)), FAILED)
