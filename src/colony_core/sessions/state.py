"""The states of a colony's agent, and what may go without asking a person. Pure."""

from enum import StrEnum

from colony_core.backends import Kind, Permissions


class State(StrEnum):
    """idle; working at an instruction; waiting for a person's answer; done with a result; failed with an error."""

    IDLE = "idle"
    WORKING = "working"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


BUSY = frozenset({State.WORKING, State.WAITING})


def goes_without_asking(permissions: Permissions, kind: Kind) -> bool:
    """Whether a tool of that kind may be used without asking a person. A question to a person is for a person in any case."""
    match permissions:
        case "all":
            return kind != "question"
        case "edits":
            return kind in ("read", "edit")
        case "ask":
            return kind == "read"
