"""What can happen in a house, as frozen attrs classes; the bus numbers them, the faces show them.

On the wire an event is one flat JSON object: `seq`, `at`, `type`, and the fields of its class. Fields are only ever added.
"""

from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened; `type_name` is the `type` seen outside."""

    type_name = "event"


@attrs.frozen(kw_only=True)
class ColonyEvent(Event):
    """Something that happened to one colony; `owner` is the person whose it is."""

    colony: str
    colony_id: str
    owner: str = ""


@attrs.frozen(kw_only=True)
class ColonyCreated(ColonyEvent):
    """A colony was recorded; it is not running yet."""

    type_name = "colony_created"


@attrs.frozen(kw_only=True)
class ColonyRemoved(ColonyEvent):
    """A colony is gone: record, walls, logs and working files of ours."""

    type_name = "colony_removed"


@attrs.frozen(kw_only=True)
class ColonyApplied(ColonyEvent):
    """A changed manifest was taken over; `changes` are sentences."""

    type_name = "colony_applied"
    changes: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ColonyStateChanged(ColonyEvent):
    """A colony went from one state to another, and why."""

    type_name = "colony_state"
    before: str
    state: str
    reason: str


@attrs.frozen(kw_only=True)
class ServiceStateChanged(ColonyEvent):
    """A service went from one state to another, and why."""

    type_name = "service_state"
    service: str
    before: str
    state: str
    reason: str
    pid: int | None
    restarts: int


@attrs.frozen(kw_only=True)
class TerminalOpened(ColonyEvent):
    """A terminal was opened in a colony, by whom and with which command."""

    type_name = "terminal_opened"
    terminal: str
    command: str
    opened_by: str


@attrs.frozen(kw_only=True)
class TerminalClosed(ColonyEvent):
    """A terminal ended, its program with it; `code` is None where nobody knows it."""

    type_name = "terminal_closed"
    terminal: str
    code: int | None
    reason: str


@attrs.frozen(kw_only=True)
class CookieRefused(ColonyEvent):
    """A service, or a port, set a cookie that every preview would get; it was left out, and so are others like it, without a word."""

    type_name = "cookie_refused"
    service: str
    cookie: str
    message: str


@attrs.frozen(kw_only=True)
class AgentEvent(ColonyEvent):
    """Something that a colony's agent does. `event_type`: text_delta, tool_use, tool_result, status, approval, decision, report, thinking,
    usage, notice, instruction. `timestamp` is in milliseconds since 1970; `line` is the number of its line in the feed, 0 for a piece of
    a text that is still being written."""

    type_name = "agent_event"
    event_type: str
    content: str
    timestamp: int
    line: int = 0
    data: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class AgentStateChanged(ColonyEvent):
    """A colony's agent went from one state to another (idle, working, waiting, done, failed), and why."""

    type_name = "agent_state"
    before: str
    state: str
    reason: str


@attrs.frozen(kw_only=True)
class ProjectStateChanged(Event):
    """A project is being cloned (`reason` says how far it is), is ready, has failed, or was removed."""

    type_name = "project_state"
    project: str
    state: str
    reason: str
    owner: str = ""


@attrs.frozen(kw_only=True)
class WorkspaceChanged(ColonyEvent):
    """Something was done to a colony's work: `what` is made, described, merged, undone, pushed or removed; `detail` says what it was."""

    type_name = "workspace"
    what: str
    detail: str


@attrs.frozen(kw_only=True)
class WorkspaceFailed(ColonyEvent):
    """What was to be done to a colony's work while nobody waits for the answer has failed: `verb` is describe, merge, undo or push, the
    rest what a problem would have said."""

    type_name = "workspace_failed"
    verb: str
    code: str
    message: str
    hint: str


@attrs.frozen(kw_only=True)
class HouseEvent(Event):
    """Something that concerns the daemon itself: `started`, `keeper_lost`, `reloaded`, `caddy_serves`, `caddy_away`, …"""

    type_name = "house"
    what: str
    message: str


@attrs.frozen(kw_only=True)
class Numbered:
    """An event as it was published: its place in the sequence and its moment (seconds since 1970)."""

    seq: int
    at: float
    event: Event


@attrs.frozen(kw_only=True)
class Missed:
    """A hole: the reader asked for, or was too slow for, events `first` to `last`, which are no longer kept."""

    first: int
    last: int
