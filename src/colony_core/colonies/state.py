"""Which state may follow which. Pure.

A colony: spawning (its cell is built), provisioning (what it requires is looked for), building (its setup commands run), running,
stopping, stopped, failed. A service: waiting (for what it depends on), starting (until it is ready), ready, restarting, stopping,
stopped (somebody asked), finished (it ended by itself and stays so), failed.
"""

import enum
from typing import Literal

Verb = Literal["start", "stop", "restart"]
"""What may be asked of one service."""


class ColonyState(enum.Enum):
    """The states of a colony, as the outside spells them."""

    SPAWNING = "spawning"
    PROVISIONING = "provisioning"
    BUILDING = "building"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class ServiceState(enum.Enum):
    """The states of a service, as the outside spells them."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


class Wanted(enum.Enum):
    """What people asked for; the house works until it is so, also after it was killed."""

    RUNNING = "running"
    STOPPED = "stopped"
    REMOVED = "removed"


_STARTING = frozenset({ColonyState.SPAWNING, ColonyState.PROVISIONING, ColonyState.BUILDING})
_FOLLOWERS: dict[ColonyState, frozenset[ColonyState]] = {
    ColonyState.SPAWNING: frozenset({ColonyState.PROVISIONING, ColonyState.STOPPING, ColonyState.FAILED}),
    ColonyState.PROVISIONING: frozenset(
        {ColonyState.BUILDING, ColonyState.RUNNING, ColonyState.STOPPING, ColonyState.FAILED}
    ),
    ColonyState.BUILDING: frozenset({ColonyState.RUNNING, ColonyState.STOPPING, ColonyState.FAILED}),
    ColonyState.RUNNING: frozenset({ColonyState.STOPPING, ColonyState.FAILED}),
    ColonyState.STOPPING: frozenset({ColonyState.STOPPED, ColonyState.FAILED}),
    ColonyState.STOPPED: frozenset({ColonyState.SPAWNING, ColonyState.STOPPING}),
    ColonyState.FAILED: frozenset({ColonyState.SPAWNING, ColonyState.STOPPING}),
}


def may_follow(before: ColonyState, after: ColonyState) -> bool:
    """Whether a colony may go from `before` to `after`; staying (with another reason) is always allowed."""
    return before is after or after in _FOLLOWERS[before]


def is_starting(state: ColonyState) -> bool:
    """Whether a colony is on its way to running."""
    return state in _STARTING


def is_at_rest(state: ServiceState) -> bool:
    """Whether nothing runs for a service, nor is about to."""
    return state in {ServiceState.STOPPED, ServiceState.FINISHED, ServiceState.FAILED}


def is_settled(state: ServiceState) -> bool:
    """Whether a service has come to where its start leads: nothing more is to be waited for."""
    return state is ServiceState.READY or is_at_rest(state)
