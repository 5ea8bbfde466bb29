"""The agents of all colonies on this machine: instructions taken, work supervised, and gone on with after the daemon was gone."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from colony_core import clock
from colony_core.backends import Backend, Choice, Health, Kind, McpServer, candidates, choose_backend
from colony_core.colonies import Colonies, Colony, Means
from colony_core.errors import Invalid, Missing, NotFound, did_you_mean
from colony_core.supervision import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Limit,
    Restart,
    Supervisor,
    dynamic_supervisor_spec,
    supervisor_spec,
)
from colony_core.views import (
    AgentGlance,
    AgentView,
    ApprovalView,
    BackendView,
    Decision,
    FeedLineView,
    NewInstruction,
    ReceiptView,
)

from . import records
from .feed import Feed
from .pauses import Pauses
from .purses import Purses
from .questions import approval_view
from .records import FeedLine, SessionRecord
from .session import Session, check_instruction
from .settings import machine_budget
from .state import BUSY

GRACE_SECONDS = 15.0
MOST_LINES = 1000
CHECKED_SECONDS = 60.0
NOT_KEPT = frozenset({"hld"})
"""A daemon that answered may be gone at any moment; asking it costs a millisecond."""


async def _no_fingerprint(colony: Colony) -> str | None:
    """For houses that know no version control."""
    await trio.lowlevel.checkpoint()
    return None


class Sessions:
    """Every colony's agent. Reading is answered from memory but for feeds; what changes is in the store before it is acknowledged."""

    def __init__(
        self,
        means: Means,
        colonies: Colonies,
        *,
        backends: Mapping[str, Backend],
        environment: Mapping[str, str],
        mcp_servers: Callable[[Colony], tuple[McpServer, ...]] = lambda colony: (),
        fingerprint: Callable[[Colony], Awaitable[str | None]] = _no_fingerprint,
    ) -> None:
        self.environment = environment
        self.mcp_servers = mcp_servers
        self.fingerprint = fingerprint
        self.purses = Purses(means.store, lambda: machine_budget(means.config.agent))
        self.pauses = Pauses(means.store)
        self.feed: Feed
        self._means = means
        self._colonies = colonies
        self._backends = dict(backends)
        self._by_colony: dict[str, Session] = {}
        self._healths: dict[tuple[str, str], tuple[Health | None, float]] = {}
        self._runs: DynamicSupervisor

    async def load(self) -> None:
        """Takes over what earlier daemons have written down."""
        store, config = self._means.store, self._means
        last = await store.read(records.last_line)
        self.feed = Feed(store, self._means.bus, last=last, keep=lambda: config.config.agent.feed_keep)
        await self.purses.load()
        await self.pauses.load()

    def tree_spec(self) -> ChildSpec:
        """The agents as a child of the house."""
        specs = [
            ChildSpec(id="feed", run=self.feed.run, grace=5.0, backoff=Backoff(first=0.1)),
            dynamic_supervisor_spec("runs", None),
        ]
        return supervisor_spec("agents", specs, limit=Limit(10, 60.0))

    async def restore(self, agents: Supervisor) -> None:
        """Goes on with what was under way, and forgets what belonged to colonies that are gone."""
        self._runs = next(child for child in agents.children() if child.id == "runs").value
        gone: list[str] = []
        for record in await self._means.store.read(records.all_sessions):
            colony = self._colonies.with_id(record.colony_id)
            if colony is None:
                gone.append(record.colony_id)
                continue
            session = self._by_colony[colony.id] = Session(self, colony, record)
            if session.state in BUSY:
                now = clock.unix_now()
                await self._means.store.write(partial(records.void_questions, colony_id=colony.id, at=now))
                await session.resume()
        if gone:
            await self._means.store.write(partial(records.forget, colony_ids=gone))

    # ---- the verbs; `ref` is a colony's name or id

    def view(self, ref: str) -> AgentView:
        """A colony's agent; raises NotFound."""
        return self._session(self._colonies.find(ref)).view()

    def views(self) -> tuple[AgentView, ...]:
        """Every colony's agent, by the colony's name."""
        return tuple(self._session(colony).view() for colony in self._colonies)

    def check(self, request: NewInstruction) -> None:
        """Raises Invalid for what no agent could carry out."""
        check_instruction(request)
        if request.agent is not None and request.agent.backend is not None:
            self.known_backend(request.agent.backend)

    def glance(self, colony: Colony) -> AgentGlance | None:
        """A colony's agent in few words; None where it was never instructed."""
        session = self._by_colony.get(colony.id)
        return session.glance() if session is not None and session.record.instruction else None

    async def instruct(self, ref: str, request: NewInstruction, *, follow_up: bool, by: str) -> AgentView:
        """Takes an instruction, durably, and begins to carry it out. Raises WrongState, Invalid, LimitReached."""
        session = self._session(self._colonies.find(ref))
        await session.instruct(request, follow_up=follow_up, by=by)
        return session.view()

    async def interrupt(self, ref: str, *, by: str) -> AgentView:
        """Asks a colony's agent to stop; returns at once."""
        session = self._session(self._colonies.find(ref))
        await session.interrupt(by=by)
        return session.view()

    async def decide(self, ref: str, approval: str | None, decision: Decision, *, by: str) -> ApprovalView:
        """Answers a question of a colony's agent; None: its only open one."""
        return await self._session(self._colonies.find(ref)).decide(approval, decision, by=by)

    async def receipt(self, ref: str) -> ReceiptView:
        """The receipt of a colony's last finished work, and whether the workspace is still as it was then. Raises NotFound."""
        session = self._session(self._colonies.find(ref))
        found = session.record.receipt
        if found is None:
            name = session.colony.name
            raise NotFound("no-receipt", f"the agent of “{name}” has finished nothing", f"colony why {name}")
        if found.tree is None:
            return found
        return attrs.evolve(found, current=await self.fingerprint(session.colony) == found.tree)

    async def approvals(
        self, ref: str, *, after: str | None = None, decision: str | None = None, limit: int = 100
    ) -> tuple[ApprovalView, ...]:
        """The newest questions of a colony's agent, the newest first; those behind the question `after`.

        `decision` is open, allowed, denied or void; without it all.
        """
        session = self._session(self._colonies.find(ref))
        chosen = partial(records.approvals_of, colony_id=session.colony.id, after=after, decision=decision, limit=limit)
        found = await self._means.store.read(chosen)
        return tuple(approval_view(session.whose, each) for each in found)

    async def ask(self, ref: str, tool: str, *, kind: Kind, summary: str, given: Mapping[str, Any]) -> Decision:
        """Asks a person something for a colony's agent at work, with a tool of ours, and gives the answer.

        Raises WrongState where no agent is at work, or its run ends first. Cancelled, the question is void.
        """
        return await self._session(self._colonies.find(ref)).ask(tool, kind=kind, summary=summary, given=given)

    async def report(self, ref: str, text: str, *, status: str) -> None:
        """Takes what a colony's agent reports into its feed."""
        await self._session(self._colonies.find(ref)).report(text, status)

    async def page(self, ref: str, *, after: int | None = None, limit: int = 200) -> tuple[FeedLineView, ...]:
        """Lines of a colony's feed behind `after`, or its newest."""
        if not 1 <= limit <= MOST_LINES:
            raise Invalid(
                "invalid-limit", f"limit: expected 1 to {MOST_LINES}, got {limit}", "ask again behind the last"
            )
        colony = self._colonies.find(ref)
        return tuple(_line_view(colony, line) for line in await self.feed.page(colony.id, after=after, limit=limit))

    @asynccontextmanager
    async def follow(self, ref: str, *, after: int | None = None) -> AsyncIterator[AsyncIterator[FeedLineView]]:
        """The lines of a colony's feed behind `after` (default: from now on), as they are kept, for ever."""
        colony = self._colonies.find(ref)
        async with aclosing(self.feed.follow(colony.id, after=self.feed.last if after is None else after)) as lines:
            views = (_line_view(colony, line) async for line in lines)
            async with aclosing(views):
                yield views

    async def forget(self, colony_id: str) -> None:
        """Drops what a removed colony's agent said and was asked. What it used stays in the books."""
        self._by_colony.pop(colony_id, None)
        await self._means.store.write(partial(records.forget, colony_ids=[colony_id]))

    # ---- backends

    async def backends(self, environment: Mapping[str, str]) -> tuple[BackendView, ...]:
        """Which backends can work on this machine, all asked at once, and which one is taken where nobody names one."""
        healths: dict[str, Health] = {}

        async def check(name: str) -> None:
            healths[name] = await self._backends[name].check(environment)

        async with trio.open_nursery() as nursery:
            for name in self._backends:
                nursery.start_soon(check, name)
        wanted = self._means.config.agent.backend
        chosen: Choice | None = None
        with suppress(Missing):  # then each says what it lacks
            chosen = choose_backend(wanted, healths)
        return tuple(
            BackendView(
                name=name,
                ready=health.ready,
                detail=health.detail,
                hint=health.hint,
                version=health.version,
                chosen=chosen is not None and chosen.name == name,
                why=f"{wanted}: {chosen.why}" if chosen is not None and chosen.name == name else "",
            )
            for name, health in ((name, healths[name]) for name in self._backends)
        )

    def known_backend(self, name: str) -> None:
        """Raises Invalid for a backend that there is not."""
        if name != "auto" and name not in self._backends:
            nearest = did_you_mean(name, tuple(self._backends))
            hint = f"did you mean {nearest}?" if nearest else f"known: auto, {', '.join(self._backends)}"
            raise Invalid("unknown-backend", f"there is no backend {name[:40]!r}", hint)

    async def choose(self, wanted: str, environment: Mapping[str, str]) -> tuple[Backend, str]:
        """The backend to work with, and why it. Raises Missing where it is not ready, saying what to do."""
        self.known_backend(wanted)
        healths: dict[str, Health] = {}
        for name in candidates(wanted):
            if name in self._backends:
                healths[name] = await self._checked(name, environment)
                if healths[name].ready:
                    break
        choice = choose_backend(wanted, healths)
        return self._backends[choice.name], choice.why

    async def _checked(self, name: str, environment: Mapping[str, str]) -> Health:
        """How a backend is; a program that was there a moment ago is not asked again."""
        key = (name, environment.get("PATH", ""))
        kept, at = self._healths.get(key, (None, 0.0))
        if kept is not None and trio.current_time() - at < CHECKED_SECONDS:
            return kept
        health = await self._backends[name].check(environment)
        if health.ready and name not in NOT_KEPT:
            self._healths[key] = health, trio.current_time()
        return health

    # ---- the work

    async def start(self, session: Session) -> None:
        """Lets a session carry out its instruction, under supervision."""
        spec = ChildSpec(id=session.colony.name, run=session.work, restart=Restart.TEMPORARY, grace=GRACE_SECONDS)
        await self._runs.start_child(spec)

    def _session(self, colony: Colony) -> Session:
        if colony.id not in self._by_colony:
            self._by_colony[colony.id] = Session(self, colony, SessionRecord(colony_id=colony.id))
        return self._by_colony[colony.id]


def _line_view(colony: Colony, line: FeedLine) -> FeedLineView:
    return FeedLineView(
        seq=line.seq,
        at=clock.rfc3339(line.at),
        colony=colony.name,
        colony_id=colony.id,
        kind=line.kind,
        content=line.content,
        data=dict(line.data),
    )
