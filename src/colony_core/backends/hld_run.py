"""One run over HumanLayer's daemon: launch or go on, look whenever there may be something to see, and see it to its end."""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import trio

from colony_core import wire
from colony_core.errors import ColonyError, NotFound, TooSlow, Unreachable

from .backend import Job
from .claude_lines import kind_of
from .deeds import Graces
from .happenings import ApprovalAsked, ApprovalVoided, Ended, Happening, Notice, Started
from .hld_line import HldLine
from .hld_story import FINAL, Rows, approvals_of, ended_by, input_of, model_of, servers_of, settings_of, usage_of
from .jsonrpc import RpcError
from .loose import as_dict, as_dicts, as_text
from .permits import answer_for, kind_to_ask, paths_of
from .places import look
from .telling import Telling

POLL_SECONDS = 1.0
AWAY_SECONDS = 60.0
SETTLE_SECONDS = 30.0
GIVE_UP_SECONDS = 3.0
CONTINUE_SECONDS = 90.0
"""Going on with a session that still runs waits for the end of its process."""
INTERRUPTED = "interrupted"
FORBIDDEN = "the settings forbid this"


class HldRun:
    """One session of the daemon's; as `Run`, and `Carried`."""

    def __init__(self, line: HldLine, job: Job, graces: Graces, version: str) -> None:
        self._line = line
        self._job = job
        self._graces = graces
        self._version = version
        self._telling = Telling()
        self._session = ""
        self._rows = Rows("")
        self._open: set[str] = set()
        self._decided: set[str] = set()
        self._wake = trio.Event()
        self._stopping = False
        self._interrupted = False
        self._working = trio.CancelScope()
        self._over = False

    def happenings(self) -> AsyncIterator[Happening]:
        """As `Run.happenings`."""
        return self._telling

    async def interrupt(self) -> None:
        """As `Run.interrupt`. A session that does not heed it is given up; its process is the daemon's."""
        if not self._stopping and not self._over:
            self._stopping = True
            self._working.deadline = trio.current_time() + self._graces.interrupt + self._graces.leave
            self._wake.set()
        await trio.lowlevel.checkpoint()

    async def answer(self, approval: str, *, allow: bool, message: str = "") -> None:
        """As `Run.answer`. Raises Unreachable, TooSlow as well."""
        # A decision for a session that has ended would call it running again.
        if approval not in self._open or self._over or await self._status() in FINAL:
            raise NotFound(
                "approval-not-found", f"nobody waits for an answer to {approval}", "colony feed shows what is open"
            )
        self._open.discard(approval)
        if not await self._decide(
            approval, allow=allow, comment=message or ("" if allow else "the user does not want this")
        ):
            self._telling.tell_now(ApprovalVoided(id=approval))
            raise NotFound(
                "approval-not-found", f"{approval} was answered by somebody else", "colony feed shows what is open"
            )

    async def carry_out(self) -> None:
        """As `Carried.carry_out`."""
        async with trio.open_nursery() as nursery:
            ended: Ended | None = None
            with self._working:
                await nursery.start(self._listen)
                ended = await self._worked()
            self._over = True
            for approval in self._open:
                self._telling.tell_now(ApprovalVoided(id=approval))
            self._telling.end(ended or self._given_up())
            nursery.cancel_scope.cancel()

    async def leave(self) -> None:
        """As `Carried.leave`."""
        self._telling.leave()
        await self.interrupt()

    # ---- the way of a session

    async def _worked(self) -> Ended:
        try:
            if self._stopping:
                return Ended(outcome="stopped", evidence=("it was asked to stop before it began",))
            await self._begin()
            return await self._followed()
        except RpcError as error:
            code = "session-lost" if "session not found" in error.message else "agent-error"
            code = "agent-missing" if "claude not available" in error.message else code
            return Ended(outcome="failed", code=code, text=error.message, evidence=("hld refused it",))
        except ColonyError as error:
            # Nobody follows the session any more: it is not to work on unseen.
            with suppress(ColonyError, RpcError):
                await self._line.call("interruptSession", GIVE_UP_SECONDS, session_id=self._session)
            code = "agent-died" if isinstance(error, Unreachable) else error.code
            return Ended(outcome="failed", code=code, text=str(error), evidence=(error.message,))

    async def _begin(self) -> None:
        job = self._job
        model, mapped = model_of(job.config.model)
        servers = servers_of(job)
        if job.resume is None:
            answer = await self._line.call(
                "launchSession",
                title=job.colony,
                model=model,
                working_dir=str(job.workdir),
                mcp_config=servers,
                **settings_of(job),
            )
        else:
            parent = await self._settled(job.resume)
            if model and parent.get("model") not in (None, "", model):
                mapped = Notice(text=f"hld goes on with the session's model, {parent['model']}", code="setting-left")
            tools = None if servers is None else wire.dump_json(servers).decode()
            answer = await self._line.call(
                "continueSession", CONTINUE_SECONDS, session_id=job.resume, mcp_config=tools, **settings_of(job)
            )
        self._session = as_text(answer.get("session_id"))
        self._rows = Rows(self._session)
        await self._telling.tell(Started(session=self._session, model=model or "", version=self._version))
        if mapped is not None:
            await self._telling.tell(mapped)
        if job.environment:
            names = ", ".join(sorted(job.environment))
            await self._telling.tell(
                Notice(text=f"hld's agents see its own environment: not {names}", code="setting-left")
            )

    async def _settled(self, parent: str) -> dict[str, Any]:
        """A session of before, brought to where one can go on: what waits for an answer blocks everything, so it is denied.

        Raises RpcError where there is none, TooSlow (`session-stuck`) for one that stays as it is, as after a restart of the daemon.
        """
        with trio.move_on_after(SETTLE_SECONDS):
            while True:
                state = as_dict((await self._line.call("getSessionState", session_id=parent)).get("session"))
                if state.get("status") not in ("waiting_input", "interrupting", "starting"):
                    return state
                for approval in approvals_of(await self._line.call("fetchApprovals", session_id=parent)):
                    await self._decide(approval["id"], allow=False, comment=INTERRUPTED)
                await trio.sleep(POLL_SECONDS)
        raise TooSlow("session-stuck", f"hld's session {parent} stays {state.get('status')}", "begin a new one")

    async def _followed(self) -> Ended:
        """Tells what the daemon keeps, as it grows, until the session is at its end. Events only say when to look."""
        away_since: float | None = None
        while True:
            self._wake = trio.Event()
            try:
                ended = await self._looked()
                away_since = None
                if ended is not None:
                    return ended
            except (Unreachable, TooSlow):
                # It may be starting again: then it knows the session, and what became of it.
                away_since = trio.current_time() if away_since is None else away_since
                if trio.current_time() - away_since > AWAY_SECONDS:
                    raise
            with trio.move_on_after(POLL_SECONDS):
                await self._wake.wait()

    async def _looked(self) -> Ended | None:
        state = as_dict((await self._line.call("getSessionState", session_id=self._session)).get("session"))
        status = as_text(state.get("status"))
        # Asked for after the state: a session that is at its end has no rows but those.
        rows = await self._line.call("getConversation", session_id=self._session)
        await self._telling.tell(*self._rows.new(rows))
        if status in FINAL:
            return await self._final(state)
        await self._look_at_approvals()
        if self._stopping and status == "running" and not self._interrupted:
            await self._interrupt()
        return None

    async def _final(self, state: Mapping[str, Any]) -> Ended:
        listed = as_dicts((await self._line.call("listSessions")).get("sessions"))
        info = next((info for info in listed if info.get("id") == self._session), {})
        usage = usage_of(state, info)
        if usage is not None:
            await self._telling.tell(usage)
        limits, ended = ended_by(state, info, self._rows.last_text, stopping=self._stopping)
        await self._telling.tell(*limits)
        return ended

    async def _interrupt(self) -> None:
        try:
            await self._line.call("interruptSession", session_id=self._session)
            self._interrupted = True
        except RpcError:
            # It has ended or waits for an answer by now; the next look tells.
            return

    async def _look_at_approvals(self) -> None:
        pending = {
            each["id"]: each for each in approvals_of(await self._line.call("fetchApprovals", session_id=self._session))
        }
        for gone in self._open - pending.keys():
            self._open.discard(gone)
            self._telling.tell_now(ApprovalVoided(id=gone))
        for approval, asked in pending.items():
            if self._stopping:
                if approval in self._open:
                    self._open.discard(approval)
                    self._telling.tell_now(ApprovalVoided(id=approval))
                await self._decide(approval, allow=False, comment=INTERRUPTED)
            elif approval not in self._open and approval not in self._decided:
                await self._ask(approval, asked)

    async def _ask(self, approval: str, asked: Mapping[str, Any]) -> None:
        tool, given = as_text(asked.get("tool_name")), input_of(asked.get("tool_input"))
        kind = kind_of(tool)
        reach = await look(kind, self._job.workdir, paths_of(given))
        answer = answer_for(self._job, tool, kind, reach)
        if answer is not None:
            await self._decide(approval, allow=answer, comment="" if answer else FORBIDDEN)
            return
        self._open.add(approval)
        self._telling.tell_now(
            ApprovalAsked(
                id=approval,
                tool=tool,
                input=given,
                kind=kind_to_ask(kind, reach),
                reason=reach.beyond,
                tool_use=as_text(asked.get("tool_use_id")),
            )
        )

    async def _decide(self, approval: str, *, allow: bool, comment: str) -> bool:
        """Whether the decision counts: it may have been taken before."""
        self._decided.add(approval)
        decision = "approve" if allow else "deny"
        said = await self._line.call("sendDecision", approval_id=approval, decision=decision, comment=comment)
        return said.get("success") is True

    async def _status(self) -> str:
        state = (await self._line.call("getSessionState", session_id=self._session)).get("session")
        return as_text(as_dict(state).get("status"))

    # ---- events

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        """Wakes whoever looks when there is something to see. Listens before the session is launched; lost, it listens again."""
        begun = False
        while True:
            try:
                async with self._line.events() as events:
                    if not begun:
                        begun = True
                        task_status.started()
                    self._wake.set()
                    async for event in events:
                        if event["data"].get("session_id") == self._session:
                            self._wake.set()
            except (ColonyError, RpcError):
                # Looking goes on without being woken.
                if not begun:
                    begun = True
                    task_status.started()
            await trio.sleep(POLL_SECONDS)

    def _given_up(self) -> Ended:
        what = "and has not ended since: its process is hld's" if self._session else "before its session began"
        return Ended(outcome="stopped", text=self._rows.last_text, evidence=(f"it was asked to stop, {what}",))
