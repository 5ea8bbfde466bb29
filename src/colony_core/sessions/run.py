"""One run of an agent as its session sees it: takes what happens, keeps it, watches over time and money, asks people."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from colony_core import clock
from colony_core.backends import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    LimitReached,
    Run,
    Started,
    Text,
    TextDelta,
    Usage,
)
from colony_core.errors import NotFound

from . import records
from .budget import Spent
from .purses import Allowance
from .records import Approval
from .settings import Resolved
from .state import State, goes_without_asking
from .telling import MOST_CONTENT, Line, bounded, line_of, tool_summary, usage_line

if TYPE_CHECKING:
    from .session import Session

LOOK_SECONDS = 1.0
"""How often time and budget are looked at."""


@attrs.frozen(kw_only=True)
class Stop:
    """Why we ended a run: the code of the failure, empty where a person asked, and the words."""

    code: str
    words: str


class Watch:
    """Follows one run to its end."""

    def __init__(self, session: "Session", run: Run, allowance: Allowance, resolved: Resolved) -> None:
        self.limit: LimitReached | None = None
        self.stop: Stop | None = None
        self._session = session
        self._run = run
        self._allowance = allowance
        self._resolved = resolved
        self._tools: dict[str, str] = {}
        self._open: dict[str, Approval] = {}
        self._worked = 0.0
        self._looked = trio.current_time()
        self._warned = False
        self._pieces = False
        self._usage = Usage()

    async def follow(self) -> Ended:
        """Takes what happens until the run has ended; gives its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_for_ever)
            ended = await self._read()
            nursery.cancel_scope.cancel()
        await self._use()
        used = self._allowance.used
        if used.usd or used.tokens:
            await self._session.feed.add(self._session.whose, usage_line(used.usd, used.turns, used.tokens))
        await self._session.void(self._open)
        self._open.clear()
        return ended

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
        await self._run.answer(approval.vendor_id, allow=allow, message=message)
        if not self._open:
            await self._session.enter(State.WORKING, "")

    async def _read(self) -> Ended:
        stream = self._run.happenings()
        try:
            async for happening in stream:
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
                await session.feed.piece(session.whose, text)
                return
            case ApprovalAsked():
                await self._asked(happening)
            case ApprovalVoided(id=vendor_id):
                await self._voided(vendor_id)
            case Usage():
                self._usage = happening
                await self._use()
            case LimitReached():
                self.limit = happening
            case Ended():
                return  # its line comes from the session, which knows what it means
        line = line_of(happening, self._tools)
        if line is not None:
            told_as = "text" if isinstance(happening, Text) and self._pieces else None
            self._pieces = False
            await session.feed.add(session.whose, line, told_as=told_as)

    async def _asked(self, asked: ApprovalAsked) -> None:
        session = self._session
        self._tools.setdefault(asked.tool_use, asked.tool)
        summary = tool_summary(asked.tool, asked.input) if asked.input else (asked.title or asked.tool)
        approval = Approval(
            id=secrets.token_hex(4),
            colony_id=session.colony.id,
            vendor_id=asked.id,
            tool=asked.tool,
            kind=asked.kind,
            summary=summary,
            input=bounded(asked.input, MOST_CONTENT),
            asked_at=clock.unix_now(),
        )
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
        self._count_time()
        await session.write(partial(records.ask, approval=approval))
        self._open[approval.id] = approval
        question = {"id": approval.id, "tool": asked.tool, "input": dict(approval.input), "tool_kind": asked.kind}
        await session.feed.add(session.whose, Line(kind="approval", content=summary, data=question))
        await session.enter(State.WAITING, f"wants to use {summary}")

    async def _voided(self, vendor_id: str) -> None:
        gone = {key: each for key, each in self._open.items() if each.vendor_id == vendor_id}
        for key in gone:
            del self._open[key]
        await self._session.void(gone)
        if gone and not self._open:
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
            await self._judge()
            await trio.sleep(min(LOOK_SECONDS, timeout - self._worked) if self._worked < timeout else LOOK_SECONDS)

    async def _use(self) -> None:
        usage = self._usage
        self._count_time()
        used = Spent(
            usd=usage.cost_usd or 0.0,
            tokens=usage.input_tokens + usage.output_tokens + usage.cache_write_tokens,
            turns=usage.turns or 0,
            minutes=self._worked / 60,
        )
        before = self._allowance.used
        if used != before:
            await self._session.write(self._allowance.use(used))
            if (used.usd, used.tokens, used.turns) != (before.usd, before.tokens, before.turns):
                await self._session.feed.tell(self._session.whose, usage_line(used.usd, used.turns, used.tokens))
        await self._judge()

    async def _judge(self) -> None:
        self._allowance.used = attrs.evolve(self._allowance.used, minutes=self._worked / 60)
        stands = self._allowance.standing()
        if stands.over:
            await self.end(Stop(code="budget-exhausted", words=f"the budget is used up: {stands.words}"))
        elif stands.warned and not self._warned:
            self._warned = True
            content = f"{stands.part:.0%} of the budget is used: {stands.words}"
            await self._session.feed.add(
                self._session.whose, Line(kind="notice", content=content, data={"code": "budget-warning"})
            )
