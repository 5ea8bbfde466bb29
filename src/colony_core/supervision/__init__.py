"""Keeps things alive: the restart rules of Erlang/OTP on Trio's nurseries. Knows nothing of Colony.

A supervisor is a nursery, and the tree of supervisors is the tree of nurseries. Each start of a child is a task of its own
(an *incarnation*), acknowledged with `status.started(value)`; a `Child` is the handle that stays the same across restarts.

    async with open_supervisor([ChildSpec(id="clock", run=clock)], strategy=Strategy.REST_FOR_ONE) as supervisor:
        ...                                 children run; errors stay inside, restarts happen
                                            on the way out, children stop in reverse order, each within its grace

Errors become restarts; too many of them become `RestartLimit`, which is one error for the supervisor above. Cancellation
becomes an orderly stop. Actors (`actor_spec`, `Ref`) are children with a mailbox; owners (`owner_spec`) do their slow work.
Whatever happens is told to one hook as frozen events; the default hook logs them.
"""

from .actor import Actor, Ask, Ref, Reply, actor_spec
from .child import Child
from .dynamic import DynamicSupervisor, dynamic_supervisor_spec, open_dynamic_supervisor
from .errors import (
    ActorDied,
    AlreadyPresent,
    AlreadyStarted,
    ChildRestarting,
    ChildRunning,
    ChildStartError,
    EndedUnasked,
    Ignore,
    MailboxFull,
    NoSuchChild,
    NotForDynamic,
    NotRunning,
    PlannedStop,
    RestartLimit,
    SelfCall,
    SupervisionError,
    TooManyChildren,
    TooSlow,
)
from .events import (
    ChildOverdue,
    ChildStarted,
    ChildTerminated,
    Event,
    Hook,
    LimitReached,
    StartFailed,
    StopFailed,
    describe,
    log_event,
)
from .owner import Done, Owner, owner_spec
from .report import Counts, LastExit, Report
from .spec import ID, AutoShutdown, Backoff, ChildSpec, Exit, ExitKind, Kind, Limit, Overflow, Restart, State, Strategy
from .status import Status
from .supervisor import Supervisor, open_supervisor, supervisor_spec

__all__ = [
    "ID",
    "Actor",
    "ActorDied",
    "AlreadyPresent",
    "AlreadyStarted",
    "Ask",
    "AutoShutdown",
    "Backoff",
    "Child",
    "ChildOverdue",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildStartError",
    "ChildStarted",
    "ChildTerminated",
    "Counts",
    "Done",
    "DynamicSupervisor",
    "EndedUnasked",
    "Event",
    "Exit",
    "ExitKind",
    "Hook",
    "Ignore",
    "Kind",
    "LastExit",
    "Limit",
    "LimitReached",
    "MailboxFull",
    "NoSuchChild",
    "NotForDynamic",
    "NotRunning",
    "Overflow",
    "Owner",
    "PlannedStop",
    "Ref",
    "Reply",
    "Report",
    "Restart",
    "RestartLimit",
    "SelfCall",
    "StartFailed",
    "State",
    "Status",
    "StopFailed",
    "Strategy",
    "SupervisionError",
    "Supervisor",
    "TooManyChildren",
    "TooSlow",
    "actor_spec",
    "describe",
    "dynamic_supervisor_spec",
    "log_event",
    "open_dynamic_supervisor",
    "open_supervisor",
    "owner_spec",
    "supervisor_spec",
]
