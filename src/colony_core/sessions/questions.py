"""What one run of an agent asks people: who waits for which answer, from the question to the answer or to the end of the run."""

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from colony_core import clock
from colony_core.backends import Kind, Run
from colony_core.errors import LimitReached, NotFound, WrongState
from colony_core.views import ApprovalView, Decision

from . import records
from .feed import Whose
from .records import Approval
from .state import State
from .telling import MOST_CONTENT, Line, bounded

if TYPE_CHECKING:
    from .session import Session

MOST_OPEN = 50
"""Questions of one agent that may wait at once: nobody reads more, and each is kept in memory and on disk."""
VOID_SECONDS = 5.0
"""For writing down, when a run is cut off, that nobody waits for answers any more."""


@attrs.define
class _Asker:
    """Who waits for the answer to a question that did not come from the run."""

    done: trio.Event = attrs.field(factory=trio.Event)
    decision: Decision | None = None


class Questions:
    """The open questions of one run. `before_change` is called before their number changes."""

    def __init__(self, session: "Session", run: Run, before_change: Callable[[], None]) -> None:
        self.changing = trio.Lock()
        """Held while a question is opened or closed, so that none is opened behind the end of the run."""
        self._session = session
        self._run = run
        self._before_change = before_change
        self._open: dict[str, Approval] = {}
        self._askers: dict[str, _Asker] = {}
        self._over = False

    @property
    def waiting(self) -> tuple[Approval, ...]:
        """Those that wait for a person."""
        return tuple(self._open.values())

    async def put(self, vendor_id: str, tool: str, *, kind: Kind, summary: str, given: Mapping[str, Any]) -> None:
        """Puts a question of the run's to people. Raises LimitReached (`too-many-questions`)."""
        async with self.changing:
            await self._put(_approval(self._session, vendor_id, tool, kind, summary, given), f"wants to use {summary}")

    async def ask(self, tool: str, *, kind: Kind, summary: str, given: Mapping[str, Any]) -> Decision:
        """Asks a person something beside what the run itself asks, and gives the answer.

        Raises WrongState (`run-over`) where the run ends first, LimitReached (`too-many-questions`). Cancelled, the question is void.
        """
        approval = _approval(self._session, "", tool, kind, summary, given)
        asker = self._askers[approval.id] = _Asker()
        try:
            async with self.changing:
                if not self._over:
                    await self._put(approval, f"asks: {summary}")
            await asker.done.wait()
        finally:
            del self._askers[approval.id]
            if asker.decision is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + VOID_SECONDS):
                    async with self.changing:
                        await self._drop({approval.id: approval})
        if asker.decision is None:
            raise WrongState("run-over", "the run has ended, and nobody answers any more", "")
        return asker.decision

    async def answer(self, approval_id: str, *, allow: bool, message: str) -> None:
        """Passes a person's answer on; raises NotFound where nobody waits for it."""
        if approval_id not in self._open:
            raise NotFound(
                "approval-not-open", f"nobody waits for an answer to {approval_id[:40]!r}", "colony show NAME"
            )
        self._before_change()
        approval = self._open.pop(approval_id)
        if (asker := self._askers.get(approval_id)) is not None:
            asker.decision = Decision(allow=allow, message=message)
            asker.done.set()
        else:
            await self._run.answer(approval.vendor_id, allow=allow, message=message)
        async with self.changing:
            await self._go_on()

    async def take_back(self, vendor_id: str) -> None:
        """The run does not wait for that answer any more."""
        async with self.changing:
            await self._drop({key: each for key, each in self._open.items() if each.vendor_id == vendor_id})

    async def close(self) -> None:
        """The run is over: nobody waits for answers any more."""
        self._over = True
        for asker in self._askers.values():
            asker.done.set()
        async with self.changing:
            await self._session.void(self._open)
            self._open.clear()

    async def _put(self, approval: Approval, reason: str) -> None:
        """Opens a question: written down, told, and the agent waits."""
        session = self._session
        if len(self._open) >= MOST_OPEN:
            what = f"{MOST_OPEN} questions of yours wait for an answer already"
            raise LimitReached("too-many-questions", what, "wait until some are answered")
        self._before_change()
        await session.write(partial(records.ask, approval=approval))
        self._open[approval.id] = approval
        question = {"id": approval.id, "tool": approval.tool, "input": dict(approval.input), "tool_kind": approval.kind}
        await session.feed.add(session.whose, Line(kind="approval", content=approval.summary, data=question))
        await session.enter(State.WAITING, reason)

    async def _drop(self, gone: Mapping[str, Approval]) -> None:
        """Nobody needs to answer these any more."""
        self._before_change()
        were_open = [key for key in gone if self._open.pop(key, None) is not None]
        await self._session.void(gone)
        if were_open:
            await self._go_on()

    async def _go_on(self) -> None:
        """The agent works again, unless it asks something else or has ended."""
        if not self._open and not self._over:
            await self._session.enter(State.WORKING, "")


def approval_view(whose: Whose, approval: Approval) -> ApprovalView:
    """A question of an agent's, as the outside sees it."""
    return ApprovalView(
        id=approval.id,
        colony=whose.colony,
        colony_id=whose.colony_id,
        tool=approval.tool,
        kind=approval.kind,
        summary=approval.summary,
        input=dict(approval.input),
        asked_at=clock.rfc3339(approval.asked_at),
        decision=approval.decision,
        decided_at=None if approval.decided_at is None else clock.rfc3339(approval.decided_at),
        decided_by=approval.decided_by,
        message=approval.message,
    )


def _approval(
    session: "Session", vendor_id: str, tool: str, kind: Kind, summary: str, given: Mapping[str, Any]
) -> Approval:
    return Approval(
        id=secrets.token_hex(4),
        colony_id=session.colony.id,
        vendor_id=vendor_id,
        tool=tool,
        kind=kind,
        summary=summary,
        input=bounded(dict(given), MOST_CONTENT),
        asked_at=clock.unix_now(),
    )
