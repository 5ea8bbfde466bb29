"""One run of an agent as its session sees it: takes what happens, keeps it, watches over time and money, has people asked."""

from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

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
    kind_to_ask,
    look,
    paths_of,
)
from colony_core.errors import LimitReached as Refused
from colony_core.errors import NotFound

from .budget import NOTHING, Spent
from .purses import Allowance
from .questions import VOID_SECONDS, Questions
from .settings import Resolved
from .state import State, goes_without_asking
from .telling import Line, line_of, tool_summary, usage_line
from .veil import Veil

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

    def __init__(self, session: "Session", run: Run, allowance: Allowance, resolved: Resolved, veil: Veil) -> None:
        self.limit: LimitReached | None = None
        self.stop: Stop | None = None
        self.began = False
        """The agent is there, in a conversation that it knows."""
        self.veil = veil
        self.questions = Questions(session, run, self._count_time)
        self._session = session
        self._run = run
        self._allowance = allowance
        self._resolved = resolved
        self._tools: dict[str, str] = {}
        self._worked = 0.0
        self._worked_before = session.record.worked
        """In runs that a restart, a limit or a lost keeper has ended: the instruction's time goes on."""
        self._looked = trio.current_time()
        self._warned = False
        self._pieces = False
        self._usage = Usage()
        self._booked = NOTHING

    async def follow(self, backend: str) -> Ended:
        """Takes what happens until the run has ended; gives its end. `backend` is whose run it is."""
        session = self._session
        try:
            async with self.questions.changing:
                await session.enter(State.WORKING, "", record=attrs.evolve(session.record, backend=backend))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_for_ever)
                ended = await self._read()
                nursery.cancel_scope.cancel()
            await self._book()
            used = self._allowance.used
            if used.usd or used.tokens:
                await session.feed.add(session.whose, usage_line(used.usd, used.turns, used.tokens))
            await self.questions.close()
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + VOID_SECONDS):
                await self.questions.close()
            raise
        return ended

    async def end(self, stop: Stop) -> None:
        """Asks the run to stop, for a reason of ours; the first reason counts."""
        if self.stop is None:
            self.stop = stop
            await self._run.interrupt()

    async def _read(self) -> Ended:
        stream = self._run.happenings()
        try:
            async for told in stream:
                if isinstance(told, ApprovalAsked):
                    told = await self._looked_at(told)  # before the veil, under which a path may be another
                happening = told if isinstance(told, TextDelta) else self.veil.over(told)
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
                self.began = True
                await session.started(happening)
            case TextDelta(text=text):
                self._pieces = True
                if piece := self.veil.piece(text):
                    await session.feed.piece(session.whose, piece)
                return
            case ApprovalAsked():
                await self._asked(happening)
            case ApprovalVoided(id=vendor_id):
                await self.questions.take_back(vendor_id)
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
            self.veil.whole()
            await session.feed.add(session.whose, line, told_as=told_as)

    async def _asked(self, asked: ApprovalAsked) -> None:
        self._tools.setdefault(asked.tool_use, asked.tool)
        summary = tool_summary(asked.tool, asked.input) if asked.input else (asked.title or asked.tool)
        summary = f"{summary} ({asked.reason})" if asked.reason else summary
        permissions = self._resolved.config.permissions
        if goes_without_asking(permissions, asked.kind):
            await self._settle(asked, summary, "allowed", by=f"permissions = {permissions}")
            return
        try:
            await self.questions.put(asked.id, asked.tool, kind=asked.kind, summary=summary, given=asked.input)
        except Refused as error:
            await self._settle(asked, summary, "denied", by="colony", message=error.message)

    async def _settle(self, asked: ApprovalAsked, summary: str, word: str, *, by: str, message: str = "") -> None:
        """Answers a question for a person, and says so."""
        data = {"id": "", "tool": asked.tool, "decision": word, "by": by}
        await self._session.feed.add(self._session.whose, Line(kind="decision", content=f"{word} {summary}", data=data))
        with suppress(NotFound):  # taken back meanwhile
            await self._run.answer(asked.id, allow=word == "allowed", message=message)

    async def _looked_at(self, asked: ApprovalAsked) -> ApprovalAsked:
        """The same; no mere look or edit where its paths lead out of the workspace, whatever the agent thinks of them."""
        paths = paths_of(asked.input)
        if asked.kind not in ("read", "edit") or not paths:
            return asked
        reach = await look(asked.kind, Path(self._session.colony.source), paths)
        return attrs.evolve(asked, kind=kind_to_ask(asked.kind, reach), reason=reach.beyond)

    # ---- time and money

    def _count_time(self) -> None:
        """Time counts while the agent works, not while it waits for a person."""
        now = trio.current_time()
        if not self.questions.waiting:
            self._worked += now - self._looked
        self._looked = now

    async def _look_for_ever(self) -> None:
        timeout = self._resolved.timeout
        while True:
            self._count_time()
            left = timeout - self._worked_before - self._worked
            if timeout and left <= 0:
                words = (
                    f"Agent timed out ({timeout / 60:.0f}min)" if timeout >= 60 else f"Agent timed out ({timeout:g}s)"
                )
                await self.end(Stop(code="agent-timed-out", words=words))
            with trio.move_on_after(LOOK_SECONDS):  # a full disk keeps nobody from looking
                await self._book()
            await self._judge()
            await trio.sleep(min(LOOK_SECONDS, left) if left > 0 else LOOK_SECONDS)

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
        await self._session.book(self._allowance.use(used), worked=self._worked_before + self._worked)
        self._booked = used
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
