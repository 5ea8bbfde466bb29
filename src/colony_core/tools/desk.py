"""Carries out what an agent asks for, for one colony: its own. Every change, and every attempt at somebody else's, is written down."""

import json
import logging
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import attrs
import trio

from colony_core import clock
from colony_core.access import AuditRecord, Role, redacted
from colony_core.backends import Kind
from colony_core.colonies import Colony, MayApply, ServiceState, Verb, is_at_rest, is_settled
from colony_core.errors import (
    AlreadyExists,
    ColonyError,
    Invalid,
    LimitReached,
    NotAllowed,
    NotFound,
    WrongState,
    did_you_mean,
)
from colony_core.views import ApplyView, ColonyView, Decision, LogPageView, ServiceView

from .catalogue import OTHERS, TOOLS, Tool, without_others
from .telling import Answer, cut, listed, service_of, sibling_of, within, words_of

logger = logging.getLogger("colony.tools")

SETTLE_SECONDS = 60.0
"""How long a call waits for a service to come up or go down; what it is at then is the answer."""
CALLS_PER_MINUTE = 60
FAILED_LINES = 20
TAIL_LINES = 50
_STATUS: Mapping[type[ColonyError], int] = {
    NotAllowed: 403,
    NotFound: 404,
    Invalid: 422,
    LimitReached: 429,
    WrongState: 409,
    AlreadyExists: 409,
}
"""As the same refusals have it in the API, for the audit log."""
_VERBS: Mapping[str, Verb] = {"start_service": "start", "stop_service": "stop", "restart_service": "restart"}
APPLIED_BY_AGENTS = frozenset({"description", "requirements", "environment", "services", "setup", "text"})
"""Of a manifest. What else stands there (walls, limits, permissions, budgets, checks) binds the agent itself."""


class Sessions(Protocol):
    """The agents at work."""

    async def ask(self, ref: str, tool: str, *, kind: Kind, summary: str, given: Mapping[str, Any]) -> Decision: ...
    async def report(self, ref: str, text: str, *, status: str) -> None: ...


class Audit(Protocol):
    """What was written down of writes."""

    async def record(self, entry: AuditRecord) -> None: ...


class House(Protocol):
    """The verbs of a Mycelium that agents reach."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def audit(self) -> Audit: ...
    def colonies(self) -> tuple[ColonyView, ...]: ...
    def services(self, ref: str) -> tuple[ServiceView, ...]: ...
    async def service(self, ref: str, service: str, verb: Verb, *, grace: float | None = None) -> ServiceView: ...
    async def apply(self, ref: str, *, dry_run: bool = False, may: MayApply | None = None) -> ApplyView: ...
    async def log_page(self, ref: str, **choice: Any) -> LogPageView: ...


@attrs.frozen(kw_only=True)
class Caller:
    """A process of the colony's, by the kernel's word at the moment when it connected."""

    pid: int
    uid: int


class Desk:
    """The tools of one colony's agent."""

    def __init__(self, house: House, colony: Colony) -> None:
        self.colony = colony
        self._house = house
        self._calls: deque[float] = deque()

    async def call(self, name: str, given: Mapping[str, Any], caller: Caller) -> Answer:
        """Carries a call out; never raises for what an agent did wrong. Cancelled, a question is void; what was begun goes on."""
        status, code, named = 200, "", ""
        try:
            answer = await self._carry_out(_tool(name), given)
        except ColonyError as error:
            status, code, named = _status(error), error.code, str(error.details.get("named", ""))
            answer = Answer(text=words_of(error), ok=False)
        except Exception:  # a mistake of ours fails this call; the agent goes on and is told, and so is the log
            logger.exception("%s: the tool %r failed", self.colony.name, name)
            status, code, answer = (
                500,
                "internal",
                Answer(text="internal: the daemon failed; its log says why", ok=False),
            )
        if code == "not-your-colony" or (code != "too-many-calls" and name in TOOLS and TOOLS[name].changes):
            await self._note(name, given, caller, status=status, code=code, target=named or self.colony.name)
        return answer

    async def refused(self, caller: Caller) -> None:
        """Notes that somebody was sent away who is not the colony's user."""
        with suppress(LimitReached):
            self._pace()
            await self._note("connect", {}, caller, status=403, code="socket-of-another-user", target=self.colony.name)

    async def _carry_out(self, tool: Tool, given: Mapping[str, Any]) -> Answer:
        colony = self.colony
        if tool.paced or any(name in given for name in OTHERS):
            self._pace()
        arguments = tool.checked(without_others(given, own=(colony.name, colony.id)))
        match tool.name:
            case "services":
                return listed([service_of(view) for view in self._house.services(colony.id)])
            case "logs":
                return Answer(text=await self._lines(**arguments))
            case "start_service" | "stop_service" | "restart_service":
                return await self._service(_VERBS[tool.name], arguments["service"])
            case "apply":
                return await self._apply()
            case "siblings":
                return listed([sibling_of(view) for view in self._house.colonies() if self._is_sibling(view)])
            case "report":
                await self._house.sessions.report(
                    colony.id, arguments["text"], status=arguments.get("status", "progress")
                )
                return Answer(text="told")
            case "ask":
                decision = await self._asked("ask", "question", arguments["question"], arguments)
                return Answer(text=decision.message or ("yes" if decision.allow else "no"))
            case _:
                what = f"{arguments['action']} ({arguments['why']})"
                decision = await self._asked("request_approval", "other", what, arguments)
                word = "approved" if decision.allow else "denied"
                return Answer(text=f"{word}: {decision.message}" if decision.message else word)

    async def _asked(self, tool: str, kind: Kind, summary: str, given: Mapping[str, Any]) -> Decision:
        return await self._house.sessions.ask(self.colony.id, tool, kind=kind, summary=summary, given=given)

    async def _lines(self, service: str | None = None, tail: int = TAIL_LINES, after: int | None = None) -> str:
        services = None if service is None else frozenset({self.colony.service(service).name})
        choice = {"tail": tail} if after is None else {"after": after, "limit": tail}
        page = await self._house.log_page(self.colony.id, services=services, **choice)
        lines = [f"{line.seq} {line.service} {line.stream}: {line.text}" for line in page.lines]
        return within("\n".join(lines)) or "no lines"

    async def _service(self, verb: Verb, name: str) -> Answer:
        service = self.colony.service(name)
        since, rested = service.since, is_at_rest(service.state)
        await self._house.service(self.colony.id, name, verb)
        if not (rested and verb == "stop") and not (not rested and verb == "start"):
            with trio.move_on_after(SETTLE_SECONDS):
                while service.since == since or not _arrived(verb, service.state):
                    await self.colony.any_service_change()
        view = service.view()
        told = json.dumps(service_of(view), ensure_ascii=False)
        if view.state != "failed":
            return Answer(text=told)
        return Answer(text=f"{told}\n{await self._lines(name, FAILED_LINES)}", ok=False)

    async def _apply(self) -> Answer:
        colony = self.colony
        applied = await self._house.apply(colony.id, may=_may_apply)
        with trio.move_on_after(SETTLE_SECONDS):  # so that the next call finds what this one brought
            while [service.spec for service in colony.services.values()] != list(colony.manifest.services):
                await colony.any_service_change()
        return listed(list(applied.changes)) if applied.changes else Answer(text="nothing changed")

    def _is_sibling(self, view: ColonyView) -> bool:
        return view.owner == self.colony.record.owner and view.id != self.colony.id

    def _pace(self) -> None:
        now = trio.current_time()
        while self._calls and self._calls[0] <= now - 60.0:
            self._calls.popleft()
        if len(self._calls) >= CALLS_PER_MINUTE:
            what = f"more than {CALLS_PER_MINUTE} such calls in a minute"
            raise LimitReached("too-many-calls", what, "wait a minute, and ask once rather than again and again")
        self._calls.append(now)

    async def _note(
        self, tool: str, given: Mapping[str, Any], caller: Caller, *, status: int, code: str, target: str
    ) -> None:
        colony = self.colony
        service = given.get("service")
        await self._house.audit.record(
            AuditRecord(
                at=clock.unix_now(),
                who=f"colony:{colony.id}",
                name=colony.name,
                role=Role.AGENT.value,
                person=colony.record.owner,
                source=f"tools, uid {caller.uid}, pid {caller.pid}",
                method="TOOL",
                path=f"/tools/{tool}",
                target=redacted(target),
                status=status,
                code=code,
                request_id=secrets.token_hex(8),
                command=redacted(cut(f"{tool} {service}" if isinstance(service, str) else tool)),
            )
        )


def _tool(name: str) -> Tool:
    if name not in TOOLS:
        nearest = did_you_mean(name, tuple(TOOLS))
        raise NotFound("unknown-tool", f"there is no tool {name[:40]!r}", f"did you mean {nearest}?" if nearest else "")
    return TOOLS[name]


def _may_apply(changed: frozenset[str]) -> None:
    """Raises NotAllowed (`needs-a-person`) where an edited manifest touches what binds the agent itself."""
    binding = sorted(changed - APPLIED_BY_AGENTS)
    if binding:
        what = f"colony.toml changes {', '.join(binding)}, which a person has to take over; nothing was applied"
        raise NotAllowed("needs-a-person", what, "take that back, or `ask` a person to run: colony apply")


def _arrived(verb: Verb, state: ServiceState) -> bool:
    if verb == "stop":
        return is_at_rest(state)
    return is_settled(state) and state is not ServiceState.STOPPED


def _status(error: ColonyError) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
