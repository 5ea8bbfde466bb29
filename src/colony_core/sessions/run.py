"""One run of an agent as its session sees it: takes what happens, keeps it, watches over time and money, asks people."""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from colony_core import clock
from colony_core.backends import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    Kind,
    LimitReached,
    Run,
    Started,
    Text,
    TextDelta,
    Usage,
    kind_to_ask,
    look,
    paths_of,
)
from colony_core.errors import NotFound, WrongState
from colony_core.views import Decision

from . import records
from .budget import NOTHING, Spent
from .purses import Allowance
from .records import Approval
from .settings import Resolved
from .state import State, goes_without_asking
from .telling import MOST_CONTENT, Line, bounded, line_of, tool_summary, usage_line
from .veil import Veil

if TYPE_CHECKING:
    from .session import Session

LOOK_SECONDS = 1.0
"""How often time and budget are looked at."""
VOID_SECONDS = 5.0
"""For writing down, when a run is cut off, that nobody waits for answers any more."""


@attrs.frozen(kw_only=True)
class Stop:
    """Why we ended a run: the code of the failure, empty where a person asked, and the words."""

    code: str
    words: str


@attrs.define
class _Asker:
    """Who waits for the answer to a question that did not come from the run."""

    done: trio.Event = attrs.field(factory=trio.Event)
    decision: Decision | None = None


class Watch:
    """Follows one run to its end."""

    def __init__(self, session: "Session", run: Run, allowance: Allowance, resolved: Resolved, veil: Veil) -> None:
        self.limit: LimitReached | None = None
        self.stop: Stop | None = None
        self._session = session
        self._run = run
        self._allowance = allowance
        self._resolved = resolved
        self._veil = veil
        self._tools: dict[str, str] = {}
        self._open: dict[str, Approval] = {}
        self._askers: dict[str, _Asker] = {}
        self._asking = trio.Lock()
        """Held while a question is opened or closed, so that none is opened behind the end of the run."""
        self._over = False
        self._worked = 0.0
        self._looked = trio.current_time()
        self._warned = False
        self._pieces = False
        self._usage = Usage()
        self._booked = NOTHING

    async def follow(self, backend: str) -> Ended:
        """Takes what happens until the run has ended; gives its end. `backend` is whose run it is."""
        session = self._session
        try:
            async with self._asking:
                await session.enter(State.WORKING, "", record=attrs.evolve(session.record, backend=backend))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_for_ever)
                ended = await self._read()
                nursery.cancel_scope.cancel()
            await self._book()
            used = self._allowance.used
            if used.usd or used.tokens:
                await session.feed.add(session.whose, usage_line(used.usd, used.turns, used.tokens))
            await self._close()
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + VOID_SECONDS):
                await self._close()
            raise
        return ended

    async def _close(self) -> None:
        """The run is over: nobody waits for answers any more."""
        self._over = True
        for asker in self._askers.values():
            asker.done.set()
        async with self._asking:
            await self._session.void(self._open)
            self._open.clear()

    async def end(self, stop: Stop) -> None:
        """Asks the run to stop, for a reason of ours; the first reason counts."""
        if self.stop is None:
            self.stop = stop
            await self._run.interrupt()

    async def answer(self, approval_id: str, *, allow: bool, message: str) -> None:
        """Passes a person's answer on; raises NotFound where nobody waits for it."""
        approval = self._open.pop(approval_id, None)
        if approval is None:
            raise NotFound(
                "approval-not-open", f"nobody waits for an answer to {approval_id[:40]!r}", "colony show NAME"
            )
        self._count_time()
        if (asker := self._askers.get(approval_id)) is not None:
            asker.decision = Decision(allow=allow, message=message)
            asker.done.set()
        else:
            await self._run.answer(approval.vendor_id, allow=allow, message=message)
        async with self._asking:
            await self._go_on()

    async def ask(self, tool: str, *, kind: Kind, summary: str, given: Mapping[str, Any]) -> Decision:
        """Asks a person something beside what the run itself asks, and gives the answer.

        Raises WrongState (`run-over`) where the run ends first. Cancelled, the question is void.
        """
        approval = self._approval("", tool, kind, summary, given)
        asker = self._askers[approval.id] = _Asker()
        try:
            async with self._asking:
                if not self._over:
                    await self._put(approval, f"asks: {summary}")
            await asker.done.wait()
        finally:
            del self._askers[approval.id]
            if asker.decision is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + VOID_SECONDS):
                    async with self._asking:
                        await self._drop({approval.id: approval})
        if asker.decision is None:
            raise WrongState("run-over", "the run has ended, and nobody answers any more", "")
        return asker.decision

    async def _read(self) -> Ended:
        stream = self._run.happenings()
        try:
            async for told in stream:
                if isinstance(told, ApprovalAsked):
                    told = await self._looked_at(told)  # before the veil, under which a path may be another
                happening = told if isinstance(told, TextDelta) else self._veil.over(told)
                await self._take(happening)
                if isinstance(happening, Ended):
                    return happening
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        return Ended(outcome="failed", code="agent-died", text="the agent ended without a word")

    async def _take(self, happening: Happening) -> None:
        session = self._session
        match happening:
            case Started():
                await session.started(happening)
            case TextDelta(text=text):
                self._pieces = True
                if piece := self._veil.piece(text):
                    await session.feed.piece(session.whose, piece)
                return
            case ApprovalAsked():
                await self._asked(happening)
            case ApprovalVoided(id=vendor_id):
                await self._voided(vendor_id)
            case Usage():
                self._usage = happening
                await self._judge()
            case LimitReached():
                self.limit = happening
            case Ended():
                return  # its line comes from the session, which knows what it means
        line = line_of(happening, self._tools)
        if line is not None:
            told_as = "text" if isinstance(happening, Text) and self._pieces else None
            self._pieces = False
            self._veil.whole()
            await session.feed.add(session.whose, line, told_as=told_as)

    async def _asked(self, asked: ApprovalAsked) -> None:
        session = self._session
        self._tools.setdefault(asked.tool_use, asked.tool)
        summary = tool_summary(asked.tool, asked.input) if asked.input else (asked.title or asked.tool)
        summary = f"{summary} ({asked.reason})" if asked.reason else summary
        approval = self._approval(asked.id, asked.tool, asked.kind, summary, asked.input)
        if goes_without_asking(self._resolved.config.permissions, asked.kind):
            data = {
                "id": "",
                "tool": asked.tool,
                "decision": "allowed",
                "by": f"permissions = {self._resolved.config.permissions}",
            }
            await session.feed.add(session.whose, Line(kind="decision", content=f"allowed {summary}", data=data))
            with suppress(NotFound):  # taken back meanwhile
                await self._run.answer(asked.id, allow=True)
            return
        async with self._asking:
            await self._put(approval, f"wants to use {summary}")

    async def _looked_at(self, asked: ApprovalAsked) -> ApprovalAsked:
        """The same; no mere look or edit where its paths lead out of the workspace, whatever the agent thinks of them."""
        paths = paths_of(asked.input)
        if asked.kind not in ("read", "edit") or not paths:
            return asked
        reach = await look(asked.kind, Path(self._session.colony.source), paths)
        return attrs.evolve(asked, kind=kind_to_ask(asked.kind, reach), reason=reach.beyond)

    def _approval(self, vendor_id: str, tool: str, kind: Kind, summary: str, given: Mapping[str, Any]) -> Approval:
        return Approval(
            id=secrets.token_hex(4),
            colony_id=self._session.colony.id,
            vendor_id=vendor_id,
            tool=tool,
            kind=kind,
            summary=summary,
            input=bounded(dict(given), MOST_CONTENT),
            asked_at=clock.unix_now(),
        )

    async def _put(self, approval: Approval, reason: str) -> None:
        """Opens a question: written down, told, and the agent waits."""
        session = self._session
        self._count_time()
        await session.write(partial(records.ask, approval=approval))
        self._open[approval.id] = approval
        question = {"id": approval.id, "tool": approval.tool, "input": dict(approval.input), "tool_kind": approval.kind}
        await session.feed.add(session.whose, Line(kind="approval", content=approval.summary, data=question))
        await session.enter(State.WAITING, reason)

    async def _voided(self, vendor_id: str) -> None:
        async with self._asking:
            await self._drop({key: each for key, each in self._open.items() if each.vendor_id == vendor_id})

    async def _drop(self, gone: Mapping[str, Approval]) -> None:
        """Nobody needs to answer these any more."""
        were_open = [key for key in gone if self._open.pop(key, None) is not None]
        await self._session.void(gone)
        if were_open:
            await self._go_on()

    async def _go_on(self) -> None:
        """The agent works again, unless it asks something else or has ended."""
        if not self._open and not self._over:
            await self._session.enter(State.WORKING, "")

    def approvals(self) -> tuple[Approval, ...]:
        """The questions that wait for a person."""
        return tuple(self._open.values())

    # ---- time and money

    def _count_time(self) -> None:
        """Time counts while the agent works, not while it waits for a person."""
        now = trio.current_time()
        if not self._open:
            self._worked += now - self._looked
        self._looked = now

    async def _look_for_ever(self) -> None:
        timeout = self._resolved.timeout
        while True:
            self._count_time()
            if timeout and self._worked >= timeout:
                words = (
                    f"Agent timed out ({timeout / 60:.0f}min)" if timeout >= 60 else f"Agent timed out ({timeout:g}s)"
                )
                await self.end(Stop(code="agent-timed-out", words=words))
            with trio.move_on_after(LOOK_SECONDS):  # a full disk keeps nobody from looking
                await self._book()
            await self._judge()
            await trio.sleep(min(LOOK_SECONDS, timeout - self._worked) if self._worked < timeout else LOOK_SECONDS)

    def _use(self) -> Spent:
        """Takes over what the run has used so far."""
        usage = self._usage
        self._count_time()
        self._allowance.used = Spent(
            usd=usage.cost_usd or 0.0,
            tokens=usage.input_tokens + usage.output_tokens + usage.cache_write_tokens,
            turns=usage.turns or 0,
            minutes=self._worked / 60,
        )
        return self._allowance.used

    async def _book(self) -> None:
        """Writes down what was used since the last time, and tells it: once a second and at the end, however often the agent tells it."""
        used, booked = self._use(), self._booked
        if used == booked:
            return
        self._booked = used
        await self._session.write(self._allowance.use(used))
        if (used.usd, used.tokens, used.turns) != (booked.usd, booked.tokens, booked.turns):
            await self._session.feed.tell(self._session.whose, usage_line(used.usd, used.turns, used.tokens))

    async def _judge(self) -> None:
        self._use()
        stands = self._allowance.standing()
        if stands.over:
            await self.end(Stop(code="budget-exhausted", words=f"the budget is used up: {stands.words}"))
        elif stands.warned and not self._warned:
            self._warned = True
            content = f"{stands.part:.0%} of the budget is used: {stands.words}"
            await self._session.feed.add(
                self._session.whose, Line(kind="notice", content=content, data={"code": "budget-warning"})
            )
