"""One colony's agent: takes instructions, works at one of them at a time, and goes on where a killed daemon left it.

What it is at is in the store before anybody is told. An instruction that was accepted is carried out: by this daemon, or by the next one,
which goes on with the vendor's session.

The file is long because the state of an agent changes from two sides, by what people ask and by how its run goes, to be read together.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio
from sqlalchemy import Connection

from colony_core import clock, wire
from colony_core.backends import Backend, Ended, Job, Kind, Outcome, Started
from colony_core.colonies import Colony, ColonyState, Wanted
from colony_core.errors import ColonyError, Invalid, NotFound, WrongState, first_of
from colony_core.events import AgentStateChanged
from colony_core.processes import Keeper, KeeperLost
from colony_core.supervision import Status
from colony_core.views import AgentGlance, AgentSettings, AgentView, ApprovalView, Decision, NewInstruction

from . import records
from .budget import check_counted, standing
from .feed import Whose
from .pauses import account_of
from .questions import approval_view
from .receipts import look_for_oneself
from .records import Approval, SessionRecord
from .run import Stop, Watch
from .settings import Resolved, resolve
from .state import BUSY, State
from .surroundings import asked_in, environment_of, starter
from .telling import Line, line_of
from .veil import Veil

if TYPE_CHECKING:
    from .sessions import Sessions

logger = logging.getLogger("colony.sessions")

GO_ON = (
    "The work was interrupted by a restart of the machine's daemon. "
    "Look at where things stand, and go on with what you were asked last:"
)
GO_ON_AFTER_LIMIT = (
    "A usage limit had stopped you; it is over. Look at where things stand, and go on with what you were asked last:"
)
ANEW = (
    "The conversation so far is lost, and with it what you were told and did in it. Look at where things stand. "
    "You are asked this:"
)
INTERRUPTING = "interrupting"
"""The code of an agent that is at work and was asked to stop: the next daemon does not go on with that."""
MOST_INSTRUCTION = 256 * 2**10
RETRY_SECONDS = 1.0
MAY_BE_A_LIMIT = frozenset({"limit", "api-error", "agent-error", "agent-died"})
"""How a run ends that a limit has ended. One that was told of a limit may have gone on, with another model say, and failed by itself."""
OF_A_LIMIT = "budget"
"""How a run ends that its own backend has kept within what we let it spend."""
OUTSIDE = frozenset({"hld"})
"""Whose agents do not run in the colony, where the tools are that Colony gives them."""


class Session:
    """A colony's agent, whether it works or not."""

    def __init__(self, sessions: "Sessions", colony: Colony, record: SessionRecord) -> None:
        self.colony = colony
        self.record = record
        self.store = colony.means.store
        self.feed = sessions.feed
        self.deciding = trio.Lock()
        """Held from looking at the state until what follows is written down."""
        self._sessions = sessions
        self._watch: Watch | None = None
        self._scope = trio.CancelScope()
        self._stop: Stop | None = None
        self._interrupted_by: str | None = None
        self._ending = False
        """The work has come to an end of its own, which is being written down."""
        self._account = ""
        self._keeper: Keeper | None = None

    def __repr__(self) -> str:
        return f"<Session of {self.colony.name}: {self.record.state}>"

    @property
    def state(self) -> State:
        return State(self.record.state)

    @property
    def whose(self) -> Whose:
        """Whose feed its lines stand in."""
        return Whose(colony=self.colony.name, colony_id=self.colony.id, owner=self.colony.record.owner)

    def view(self) -> AgentView:
        """What the outside sees."""
        record, colony = self.record, self.colony
        spent = self._sessions.purses.spent_with_running(colony.id)
        paused = self._sessions.pauses.until(self._account) if self.state in BUSY else None
        waiting = self._watch.questions.waiting if self._watch is not None else ()
        return AgentView(
            colony=colony.name,
            colony_id=colony.id,
            state=record.state,
            reason=record.reason,
            since=clock.rfc3339(record.since or colony.record.created_at),
            instruction=record.instruction,
            backend=record.backend,
            session=record.vendor_session,
            model=record.model,
            result=record.result,
            code=record.code,
            evidence=record.evidence,
            approvals=tuple(approval_view(self.whose, each) for each in waiting),
            paused_until=clock.rfc3339(paused) if paused is not None else None,
            cost_usd=spent.usd,
            tokens=spent.tokens,
            turns=spent.turns,
            minutes=spent.minutes,
            budget=standing(self._resolved().budget, spent).words,
            last=self.feed.last,
            receipt=record.receipt,
        )

    def glance(self) -> AgentGlance:
        """The same in few words."""
        record = self.record
        return AgentGlance(
            state=record.state,
            reason=record.reason,
            since=clock.rfc3339(record.since),
            instruction=_short(record.instruction),
            cost_usd=self._sessions.purses.spent_with_running(self.colony.id).usd,
            asks=len(self._watch.questions.waiting) if self._watch is not None else 0,
        )

    # ---- what people ask

    async def instruct(self, request: NewInstruction, *, follow_up: bool, by: str) -> None:
        """Takes an instruction, durably; the work begins when this returns. `follow_up` goes on with the conversation there is."""
        check_instruction(request)
        async with self.deciding:
            colony, name = self.colony, self.colony.name
            if colony.means.closing:
                raise WrongState("house-ending", "the daemon is shutting down", "start it again: colony serve")
            if self.state in BUSY:
                raise WrongState("agent-working", f"the agent of “{name}” is {self.state}", f"colony interrupt {name}")
            if colony.wanted is not Wanted.RUNNING or colony.state is ColonyState.FAILED:
                raise WrongState(
                    "colony-not-running", f"colony “{name}” is {colony.state.value}", f"colony start {name}"
                )
            if follow_up and self.record.vendor_session is None:
                raise WrongState(
                    "no-session",
                    f"the agent of “{name}” has no conversation to go on with",
                    f"colony instruct {name} --new TEXT",
                )
            wanted = request.agent.backend if request.agent is not None else None
            if follow_up and wanted not in (None, "auto", self.record.backend):
                self._sessions.known_backend(str(wanted))
                raise WrongState(
                    "other-backend",
                    f"the conversation of “{name}” is one of {self.record.backend}'s, which {wanted} cannot go on with",
                    f"colony instruct {name} --new --backend {wanted} TEXT",
                )
            settings = dict(self.record.settings)
            if request.agent is not None:
                settings |= {key: value for key, value in wire.dump(request.agent).items() if value is not None}
            resolved = self._resolved(settings)
            self._sessions.known_backend(resolved.backend)
            self._sessions.purses.check(colony.id, resolved.budget)
            kept = attrs.evolve(self.record, settings=settings, instruction=request.instruction, fresh=True)
            if not follow_up:
                kept = attrs.evolve(kept, vendor_session=None, backend="")
            data = {"by": by, "follow_up": follow_up}
            kept = attrs.evolve(kept, result="", code="", evidence=(), receipt=None, worked=0.0)
            self._stop = self._interrupted_by = None
            with trio.CancelScope(shield=True):  # written down and begun, or neither
                await self.store.write(partial(records.put, record=attrs.evolve(kept, state=State.WORKING.value)))
                await self.feed.add(self.whose, Line(kind="instruction", content=request.instruction, data=data))
                await self.enter(State.WORKING, "", record=kept)  # keeps that line too
                await self._sessions.start(self)

    async def interrupt(self, *, by: str) -> None:
        """Asks the agent to stop; it is idle when it has. Durable, where the store takes it. Raises WrongState where it does not work."""
        if self.state not in BUSY:
            raise WrongState("agent-not-working", f"the agent of “{self.colony.name}” is {self.state}", "colony ls")
        self._interrupted_by = by
        try:
            await self.store.write(partial(records.interrupt, colony_id=self.colony.id, code=INTERRUPTING, by=by))
        except ColonyError as error:
            logger.warning("that the agent of %s shall stop is not written down: %s", self.colony.name, error)
        if self._interrupted_by is not None and self.state in BUSY:  # else it came to rest meanwhile
            await self._end(Stop(code="", words=f"interrupted by {by}"))

    async def decide(self, approval_id: str | None, decision: Decision, *, by: str) -> ApprovalView:
        """Answers a question of the agent's, or the only open one. Raises NotFound, WrongState where there are several or none."""
        async with self.deciding:
            waiting = self._watch.questions.waiting if self._watch is not None else ()
            chosen = [each for each in waiting if approval_id is None or each.id == approval_id]
            if not chosen and approval_id is not None:
                raise NotFound(
                    "approval-not-open",
                    f"nobody waits for an answer to {approval_id[:40]!r}",
                    f"colony show {self.colony.name}",
                )
            if len(chosen) != 1 or self._watch is None:
                raise WrongState(
                    "which-approval" if chosen else "no-approval",
                    f"the agent of “{self.colony.name}” asks {len(chosen) or 'nothing'}",
                    f"name one: {', '.join(each.id for each in chosen)}" if chosen else "colony ls",
                )
            approval, word = chosen[0], "allowed" if decision.allow else "denied"
            now = clock.unix_now()
            answer = partial(
                records.decide, approval_id=approval.id, decision=word, at=now, by=by, message=decision.message
            )
            await self.store.write(answer)
            data = {"id": approval.id, "tool": approval.tool, "decision": word, "by": by, "message": decision.message}
            await self.feed.add(self.whose, Line(kind="decision", content=f"{word} {approval.summary}", data=data))
            await self._watch.questions.answer(approval.id, allow=decision.allow, message=decision.message)
        return approval_view(
            self.whose, attrs.evolve(approval, decision=word, decided_at=now, decided_by=by, message=decision.message)
        )

    # ---- what comes from inside the colony

    async def ask(self, tool: str, *, kind: Kind, summary: str, given: Mapping[str, Any]) -> Decision:
        """Asks a person for the agent at work. Raises WrongState (`agent-not-working`, `run-over`), LimitReached; cancelled, it is void."""
        watch = self._watch
        if watch is None:
            raise WrongState("agent-not-working", "no agent is at work here for which a person could answer", "")
        summary, given = watch.veil.within(summary), watch.veil.within(dict(given))
        return await watch.questions.ask(tool, kind=kind, summary=_short(summary), given=given)

    async def report(self, text: str, status: str) -> None:
        """A line of the feed by which the agent says how far it is."""
        veil = await self._veil()
        await self.feed.add(self.whose, Line(kind="report", content=veil.within(text), data={"status": status}))

    async def _veil(self) -> Veil:
        """That of the run; where there is none, of what an agent might find that a person starts by hand."""
        if self._watch is not None:
            return self._watch.veil
        return Veil(await environment_of(self.colony, self._sessions.environment))

    # ---- what the run tells

    async def enter(self, state: State, reason: str, *, record: SessionRecord | None = None) -> None:
        """Goes to a state: durable, then told, behind what the feed tells so far. While the store refuses, tries again every second."""
        before, reason_before = self.state, self.record.reason
        record = attrs.evolve(record or self.record, state=state.value, reason=reason, since=clock.unix_now())
        await _patiently(self.feed.flush)
        self.record = await self._put(record)
        if (before, reason_before) == (state, reason):
            return
        self.colony.means.bus.publish(
            AgentStateChanged(
                colony=self.colony.name,
                colony_id=self.colony.id,
                owner=self.colony.record.owner,
                before=before.value,
                state=state.value,
                reason=reason,
            )
        )

    async def started(self, started: Started) -> None:
        """The vendor's session is known: from now on a killed run goes on in it."""
        self.record = attrs.evolve(
            self.record, vendor_session=started.session, model=started.model or self.record.model, fresh=False
        )
        self.record = await self._put(self.record)

    async def _put(self, record: SessionRecord) -> SessionRecord:
        if self._interrupted_by is not None and State(record.state) in BUSY:
            record = attrs.evolve(record, code=INTERRUPTING, evidence=(self._interrupted_by,))
        await self.write(partial(records.put, record=record))
        return record

    async def book(self, spend: Callable[[Connection], None], *, worked: float) -> None:
        """Writes down what the instruction has used so far, and how many seconds it was worked at."""
        self.record = attrs.evolve(self.record, worked=worked)

        def unit(connection: Connection) -> None:
            spend(connection)
            records.work(connection, self.colony.id, worked)

        await self.write(unit)

    async def write(self, unit: Callable[[Connection], object]) -> None:
        """Writes down what the work has come to; while the store refuses, tries again every second."""
        await _patiently(partial(self.store.write, unit))

    async def void(self, approvals: Mapping[str, Approval]) -> None:
        """Nobody waits for the answers to these questions any more."""
        for approval in approvals.values():
            now = clock.unix_now()
            void = partial(records.decide, approval_id=approval.id, decision="void", at=now, by="colony", message="")
            await self.write(void)

    async def resume(self) -> None:
        """Goes on with an instruction that an earlier daemon was at; not where it was asked to stop."""
        if self.record.code == INTERRUPTING:
            self._stop = Stop(code="", words=f"interrupted by {' '.join(self.record.evidence)}")
            await self._ended(Ended(outcome="stopped", evidence=("the daemon was started anew meanwhile",)))
            return
        words = (
            "the daemon was started anew; the work begins"
            if self.record.fresh
            else "the daemon was started anew; the work goes on"
        )
        await self._notice(words, "resumed")
        await self._sessions.start(self)

    # ---- the work

    async def work(self, *, status: Status) -> None:
        """Carries the instruction out; the task of a run. Cancelled because the house ends, it leaves the rest to the next daemon."""
        status.started()
        self._ending = False
        try:
            with trio.CancelScope() as scope:
                self._scope = scope
                if self._stop is not None:
                    scope.cancel()  # asked to stop before it had begun
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_with_colony)
                    await self._carry_out()
                    nursery.cancel_scope.cancel()
        except* ColonyError as group:
            await self._fail(first_of(group))
        except* Exception as group:
            logger.exception("the agent of %s", self.colony.name)
            await self._fail(first_of(group))
        if scope.cancelled_caught and self._stop is not None:
            now = clock.unix_now()
            await self.write(partial(records.void_questions, colony_id=self.colony.id, at=now))
            await self._ended(Ended(outcome="stopped"))

    async def _end_with_colony(self) -> None:
        """Ends the run when the colony goes down; not where the whole house does, since the next daemon goes on."""
        await self._colony_is_up()
        await self.colony.other_state(ColonyState.RUNNING)
        if not self.colony.means.closing:
            await self._end(Stop(code="", words="the colony was stopped"), by_force=True)

    async def _end(self, stop: Stop, *, by_force: bool = False) -> None:
        if self._watch is not None and not by_force:
            await self._watch.end(stop)
        elif not self._ending:
            self._stop = stop
            self._scope.cancel()

    async def _carry_out(self) -> None:
        await self._colony_is_up()
        again, lost = self._resumed_words(), False
        while True:
            ran = await self._run_or_lose(again, lost=lost)
            if ran is None:
                if self._stop is not None:
                    await self._ended(Ended(outcome="stopped", evidence=("the keeper was lost",)))
                    return
                await self._notice("the keeper was lost, and the agent with it; the work goes on", "resumed")
                again = GO_ON
                continue
            ended, watch = ran
            if watch.stop is None and watch.limit is not None and ended.code in MAY_BE_A_LIMIT:
                until = await self._sessions.pauses.begin(self._account, watch.limit.until, watch.limit.text)
                await self._notice(
                    f"the account has reached a limit; the work goes on at {clock.rfc3339(until)}", "paused"
                )
                again = GO_ON_AFTER_LIMIT
            elif watch.stop is None and ended.code == "agent-died" and self._keeper_was_lost():
                await self._notice("the keeper was lost, and the agent with it; the work goes on", "resumed")
                again = GO_ON
            elif watch.stop is None and self._was_lost(ended, watch):
                await self._notice(f"the conversation is lost, a new one begins: {ended.text}", ended.code)
                self.record = await self._put(attrs.evolve(self.record, vendor_session=None, fresh=True))
                lost = True
            else:
                if ended.outcome == "done":
                    self._sessions.pauses.works(self._account)
                self._stop = await self._stopped(ended, watch.stop)
                if ended.outcome == "done" and self._stop is None:
                    await self._check()
                await self._ended(ended)
                return

    async def _stopped(self, ended: Ended, stop: Stop | None) -> Stop | None:
        """What ended the work. Time or budget that ran out only where they did: what had ended by itself by then has its own end."""
        if stop is None or not stop.code or ended.outcome == "stopped" or ended.code == OF_A_LIMIT:
            return stop
        await self._notice(f"{stop.words}; the agent had ended by then", stop.code)
        return None

    def _was_lost(self, ended: Ended, watch: Watch) -> bool:
        """Whether the conversation is not there: it was deleted, or the agent was killed before it had written it down."""
        return ended.code == "session-lost" and not watch.began and self.record.vendor_session is not None

    async def _run_or_lose(self, again: str | None, *, lost: bool) -> tuple[Ended, Watch] | None:
        """One run of the backend; None where the keeper was lost under it."""
        ran = None
        try:
            ran = await self._run_once(again, lost=lost)
        except* KeeperLost:
            logger.warning("the keeper was lost under the agent of %s", self.colony.name)
        return ran

    async def _check(self) -> None:
        """Looks for itself whether the work is done."""
        checks = self.colony.manifest.checks
        if checks:
            await self.enter(State.WORKING, "its work is being checked")
        found = await look_for_oneself(self.colony, checks, self._sessions.fingerprint, self._notice)
        self.record = attrs.evolve(self.record, receipt=found)
        if checks:
            data = {"verdict": found.verdict, "tree": found.tree, "checks": [wire.dump(each) for each in found.checks]}
            content = f"{found.verdict}: {found.reason}"
            await self.feed.add(self.whose, Line(kind="receipt", content=content, data=data))

    async def _run_once(self, again: str | None, *, lost: bool) -> tuple[Ended, Watch]:
        """One run of the backend: of the instruction, or of words that let an interrupted one go on."""
        colony, sessions, record = self.colony, self._sessions, self.record
        resolved = self._resolved()
        environment = await environment_of(colony, sessions.environment)
        backend = await self._backend(resolved, asked_in(colony, sessions.environment))
        check_counted(backend.name, backend.uncounted, resolved.budget, sessions.purses.day_budget())
        self._account = account_of(backend.name, colony.user_name, environment)
        if sessions.pauses.until(self._account) is not None:
            await self.enter(State.WORKING, "waits until its account may work again")
            await sessions.pauses.over(self._account)
        self._keeper = await colony.means.keeper.get()
        resume = record.vendor_session
        before = ANEW if lost else ""
        if again and resume and backend.remembers and not record.fresh:
            before = again  # with the instruction, which a killed agent may not have written down
        text = f"{before}\n\n{record.instruction}" if before else record.instruction
        with sessions.purses.allow(colony.id, resolved.budget) as allowance:
            job = Job(
                colony=colony.name,
                instruction=text,
                workdir=Path(colony.source),
                config=resolved.config,
                start=starter(colony),
                environment=environment,
                resume=resume,
                mcp_servers=sessions.mcp_servers(colony) if backend.name not in OUTSIDE else (),
                cost_limit=allowance.left_usd(),
            )
            async with backend.run(job) as run:
                watch = self._watch = Watch(self, run, allowance, resolved, Veil(environment))
                try:
                    ended = await watch.follow(backend.name)
                finally:
                    self._watch = None
                    self._stop = self._stop or watch.stop
        return ended, watch

    async def _backend(self, resolved: Resolved, environment: Mapping[str, str]) -> Backend:
        """The backend that works: the one the conversation began with, else as configured."""
        backend, why = await self._sessions.choose(self.record.backend or resolved.backend, environment)
        if backend.name != self.record.backend:
            await self._notice(f"{backend.name}: {why}", "backend")
        return backend

    async def _colony_is_up(self) -> None:
        """Returns when the colony runs. Raises WrongState where it has failed."""
        colony = self.colony
        while colony.state is not ColonyState.RUNNING:
            if colony.state is ColonyState.FAILED or colony.wanted is not Wanted.RUNNING:
                raise WrongState(
                    "colony-not-running",
                    f"colony “{colony.name}” {colony.state.value}: {colony.reason}",
                    f"colony show {colony.name}",
                )
            await colony.other_state(colony.state)

    def _resumed_words(self) -> str | None:
        """What a run is told that goes on after a killed daemon; None for an instruction that nobody has begun."""
        return None if self.record.fresh else GO_ON

    def _keeper_was_lost(self) -> bool:
        return self._keeper is not None and self._keeper.lost.is_set()

    async def _ended(self, ended: Ended) -> None:
        self._ending = True
        stop = self._stop
        if stop is not None:
            outcome: Outcome = "failed" if stop.code else "stopped"
            ended = attrs.evolve(ended, outcome=outcome, code=stop.code, evidence=(stop.words, *ended.evidence))
            if stop.code and not ended.text:
                ended = attrs.evolve(ended, text=stop.words)
        line = line_of(ended, {})
        assert line is not None
        await self.feed.add(self.whose, line)
        state = {"done": State.DONE, "failed": State.FAILED, "stopped": State.IDLE}[ended.outcome]
        reason = stop.words if stop is not None else (ended.text if ended.outcome == "failed" else "")
        record = attrs.evolve(self.record, result=ended.text, code=ended.code, evidence=ended.evidence)
        await self.enter(state, _short(reason), record=record)

    async def _fail(self, error: Exception) -> None:
        code = error.code if isinstance(error, ColonyError) else "internal"
        words = str(error) if isinstance(error, ColonyError) else f"{type(error).__name__}: {error}"
        await self._ended(Ended(outcome="failed", code=code, text=words, evidence=(words,)))

    async def _notice(self, content: str, code: str) -> None:
        await self.feed.add(self.whose, Line(kind="notice", content=content, data={"code": code}))

    def _resolved(self, settings: Mapping[str, object] | None = None) -> Resolved:
        """How the agent works: the machine's settings, the manifest's over them, and what was said with the instructions."""
        said = wire.load(dict(self.record.settings if settings is None else settings), AgentSettings)
        return resolve(self.colony.means.config.agent, self.colony.manifest.agent, said)


def check_instruction(request: NewInstruction) -> None:
    """Raises Invalid for what no agent could take."""
    text = request.instruction
    if not text.strip() or "\0" in text or len(text) > MOST_INSTRUCTION:
        raise Invalid(
            "invalid-instruction", "an instruction is text of 1 to 262,144 characters", "colony instruct NAME TEXT"
        )


async def _patiently(write: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await write()
            return
        except ColonyError as error:
            logger.warning("what an agent has come to waits to be written down: %s", error)
        await trio.sleep(RETRY_SECONDS)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 500 else f"{line[:499]}…"
