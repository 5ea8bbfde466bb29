"""HumanLayer's daemon of paper, with all its quirks. A session does what its query says: a list of steps, as JSON.

A step is one of {"say": text} {"think": text} {"tool": name, "input": {…}, "id": id} {"result": text, "id": id} {"ask": name, "input": {…}}
{"hang": true} {"in_tool": true} {"sleep": seconds} {"error": text} {"fail": true} {"die": text} {"quiet": true}; behind the last one the
session completes. `in_tool` hangs as a tool does: an interrupt then makes the session fail. `quiet` publishes nothing from there on.
"""

import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import attrs
import trio
import trio.testing

Json = dict[str, Any]
HEARTBEAT_SECONDS = 30.0
LINE_BYTES = 10 * 2**20
KEPT_EVENTS = 100
ACTIVE = ("starting", "running", "waiting_input", "interrupting")


class Refused(Exception):
    """An error of the daemon: the message is all that tells one from another."""


@attrs.define(eq=False)
class Session:
    state: Json
    settings: Json
    result: Json | None = None
    parent: "Session | None" = None
    in_tool: bool = False
    quiet: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def id(self) -> str:
        return str(self.state["id"])


@attrs.define(eq=False)
class FakeHld:
    """One daemon. `connect` is for `HldLine`; `asked` are the requests that it got."""

    nursery: trio.Nursery
    running: bool = True
    acknowledges: bool = True
    deaf: bool = False
    asked: list[Json] = attrs.field(factory=list)
    sessions: dict[str, Session] = attrs.field(factory=dict)
    rows: list[Json] = attrs.field(factory=list)
    approvals: dict[str, Json] = attrs.field(factory=dict)
    subscribers: list[trio.MemorySendChannel[Json]] = attrs.field(factory=list)
    connections: set[trio.abc.Stream] = attrs.field(factory=set)
    dropped: int = 0
    answers: dict[str, bytes] = attrs.field(factory=dict)
    """Lines to answer with instead, by method; an empty one hangs up."""
    decided: dict[str, trio.Event] = attrs.field(factory=dict)
    _numbers: Any = attrs.field(factory=lambda: itertools.count(1))

    def methods(self) -> list[str]:
        return [request["method"] for request in self.asked]

    def params(self, method: str) -> list[Json]:
        return [request["params"] for request in self.asked if request["method"] == method]

    # ---- connections

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self.running:
            raise FileNotFoundError
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.serve, ours)
        return theirs

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, strictly in order."""
        self.connections.add(stream)
        try:
            buffer = b""
            while data := await stream.receive_some():
                buffer += data
                while b"\n" in buffer:
                    line, _, buffer = buffer.partition(b"\n")
                    if len(line) > LINE_BYTES or not await self._heard(stream, line):
                        return
                if len(buffer) > LINE_BYTES:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self.connections.discard(stream)
            await trio.aclose_forcefully(stream)

    async def _heard(self, stream: trio.abc.Stream, line: bytes) -> bool:
        if not line.strip() or self.deaf:
            return True
        try:
            request = json.loads(line)
            assert isinstance(request, dict)
        except (ValueError, AssertionError):
            await self._say(stream, {"error": {"code": -32700, "message": "Parse error"}, "id": None})
            return True
        self.asked.append(request)
        method = request.get("method")
        if method == "Subscribe":
            await self._subscription(stream)
            return False
        if method in self.answers:
            await stream.send_all(self.answers[method])
            return bool(self.answers[method])
        answer: Json = {"id": request.get("id")}
        handler: Callable[..., Any] | None = getattr(self, f"on_{method}", None)
        if request.get("jsonrpc") != "2.0":
            answer["error"] = {"code": -32600, "message": "Invalid Request"}
        elif handler is None:
            answer["error"] = {"code": -32601, "message": f"Method not found: {method}"}
        else:
            try:
                answer["result"] = await handler(request.get("params") or {})
            except Refused as refusal:
                answer["error"] = {"code": -32603, "message": str(refusal)}
        await self._say(stream, answer)
        return True

    async def _say(self, stream: trio.abc.Stream, message: Json) -> None:
        await stream.send_all(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def _subscription(self, stream: trio.abc.Stream) -> None:
        """From here on the daemon only writes; the end of what it reads is the end."""
        if not self.acknowledges:
            return
        send, receive = trio.open_memory_channel[Json](KEPT_EVENTS)
        self.subscribers.append(send)

        async def until_hung_up() -> None:
            with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_hung_up)
            await self._say(
                stream, {"result": {"subscription_id": "1-a", "message": "Subscription established"}, "id": None}
            )
            while True:
                result: Json = {"message": "Connection alive", "type": "heartbeat"}
                with trio.move_on_after(HEARTBEAT_SECONDS):
                    result = {"event": await receive.receive()}
                with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                    await self._say(stream, {"result": result, "id": None})
        self.subscribers.remove(send)

    def publish(self, kind: str, **data: Any) -> None:
        for subscriber in self.subscribers:
            try:
                subscriber.send_nowait({"type": kind, "timestamp": "2026-01-02T03:04:05.678901+01:00", "data": data})
            except trio.WouldBlock:
                self.dropped += 1

    async def stop(self) -> None:
        """What is active is cut off; whoever is connected sees the end."""
        self.running = False
        for stream in list(self.connections):
            await trio.aclose_forcefully(stream)
        for session in self.sessions.values():
            session.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    def start(self) -> None:
        """Started again, it calls what was active failed, but for what was being interrupted: that stays so for ever."""
        self.running = True
        for session in self.sessions.values():
            if session.state["status"] in ("starting", "running", "waiting_input"):
                session.state |= {"status": "failed", "error_message": "daemon restarted while session was active"}

    # ---- methods

    async def on_health(self, params: Json) -> Json:
        return {"status": "ok", "version": "0.1.0"}

    async def on_launchSession(self, params: Json) -> Json:  # noqa: N802
        if not params.get("query"):
            raise Refused("query is required")
        if params.get("working_dir") == "/no/such":
            raise Refused("working directory does not exist: /no/such")
        session = self._launch(params, None)
        # Published before it is answered.
        self.publish("session_status_changed", session_id=session.id, old_status="starting", new_status="running")
        return {"session_id": session.id, "run_id": f"run-{session.id}"}

    async def on_continueSession(self, params: Json) -> Json:  # noqa: N802
        assert isinstance(params.get("mcp_config", ""), str)
        parent = self.sessions.get(params["session_id"])
        if parent is None:
            raise Refused(f"failed to get parent session: session not found: {params['session_id']}")
        if parent.state["status"] == "running":
            self._signal(parent)
            await parent.done.wait()
        if parent.state["status"] not in ("completed", "interrupted", "failed"):
            status = parent.state["status"]
            raise Refused(
                f"cannot continue session with status {status} (must be completed, interrupted, running, or failed)"
            )
        session = self._launch({**params, "model": parent.state.get("model", "")}, parent)
        return {"session_id": session.id, "run_id": "r", "claude_session_id": "", "parent_session_id": parent.id}

    async def on_interruptSession(self, params: Json) -> Json:  # noqa: N802
        session = self._session(params)
        if session.state["status"] != "running":
            raise Refused(f"cannot interrupt session with status {session.state['status']} (must be running)")
        self._signal(session)
        return {"success": True, "session_id": session.id, "status": "interrupting"}

    async def on_getSessionState(self, params: Json) -> Json:  # noqa: N802
        return {
            "session": {key: value for key, value in self._session(params).state.items() if value not in ("", None)}
        }

    async def on_listSessions(self, params: Json) -> Json:  # noqa: N802
        return {
            "sessions": [
                {"id": s.id, "status": s.state["status"], **({"result": s.result} if s.result else {})}
                for s in self.sessions.values()
            ]
        }

    async def on_getConversation(self, params: Json) -> Json:  # noqa: N802
        family: list[str] = []
        session: Session | None = self._session(params)
        while session is not None:
            family.insert(0, session.id)
            session = session.parent
        return {"events": [row for member in family for row in self.rows if row["session_id"] == member]}

    async def on_fetchApprovals(self, params: Json) -> Json:  # noqa: N802
        pending = [
            a for a in self.approvals.values() if a["status"] == "pending" and a["session_id"] == params["session_id"]
        ]
        return {"approvals": pending or None}

    async def on_sendDecision(self, params: Json) -> Json:  # noqa: N802
        if params["decision"] == "deny" and not params.get("comment"):
            raise Refused("comment is required when denying")
        approval = self.approvals.get(params["approval_id"])
        if approval is None or approval["status"] != "pending":
            return {"success": False, "error": "approval not found or already decided"}
        approval |= {
            "status": "approved" if params["decision"] == "approve" else "denied",
            "comment": params.get("comment", ""),
        }
        session = self.sessions[approval["session_id"]]
        session.state["status"] = "running"  # whatever it was before
        self.publish("approval_resolved", approval_id=approval["id"], session_id=session.id, approved=True)
        self.decided[approval["id"]].set()
        return {"success": True}

    # ---- sessions

    def _session(self, params: Json) -> Session:
        session = self.sessions.get(params["session_id"])
        if session is None:
            raise Refused(f"failed to get session: session not found: {params['session_id']}")
        return session

    def _launch(self, settings: Json, parent: Session | None) -> Session:
        number = f"session-{len(self.sessions) + 1}"
        model = settings.get("model")
        state: Json = {"id": number, "run_id": f"run-{number}", "status": "running"}
        state["model"] = (
            model if model in ("opus", "sonnet", "haiku") else ""
        )  # anything else is dropped without a word
        session = self.sessions[number] = Session(state, settings, parent=parent)
        self._row(session, event_type="message", role="user", content=settings["query"], tells=False)
        self.nursery.start_soon(self._work, session)
        return session

    def _signal(self, session: Session) -> None:
        session.state["status"] = "interrupting"
        session.scope.cancel()

    async def _work(self, session: Session) -> None:
        try:
            with session.scope:
                query = session.settings["query"]
                for step in json.loads(query) if query.startswith("[") else [{"say": f"echo: {query}"}]:
                    await self._step(session, step)
                    if session.state["status"] == "failed":
                        return
                text = next((row["content"] for row in reversed(self.rows) if row.get("role") == "assistant"), "")
                session.state |= {"status": "completed", "cost_usd": 0.25}
                session.result = {"result": text, "num_turns": 2, "total_cost_usd": 0.25}
                await trio.sleep(0.2)  # the process is still there
                self._tell(session, "session_status_changed", old_status="running", new_status="completed")
                return
            if self.running:
                # A tool that is cut off makes an error of the end, of which nobody is told.
                session.state["status"] = "failed" if session.in_tool else "interrupted"
                if not session.in_tool:
                    self._tell(session, "session_status_changed", old_status="interrupting", new_status="interrupted")
        finally:
            session.done.set()

    async def _step(self, session: Session, step: Json) -> None:
        await trio.lowlevel.checkpoint()
        session.quiet = session.quiet or "quiet" in step
        if "say" in step:
            self._row(
                session,
                event_type="message",
                role="assistant",
                content=step["say"],
                parent_tool_use_id=step.get("parent", ""),
            )
        elif "think" in step:
            self._row(session, event_type="thinking", role="assistant", content=step["think"])
        elif "tool" in step:
            given = json.dumps(step.get("input", {}))
            self._row(
                session,
                event_type="tool_call",
                tool_id=step.get("id", "t1"),
                tool_name=step["tool"],
                tool_input_json=given,
            )
        elif "result" in step:
            self._row(
                session,
                event_type="tool_result",
                tool_result_for_id=step.get("id", "t1"),
                tool_result_content=step["result"],
            )
        elif "row" in step:
            self.rows.append(step["row"])
        elif "ask" in step:
            await self._ask(session, step)
        elif "sleep" in step:
            await trio.sleep(step["sleep"])
        elif "hang" in step or "in_tool" in step:
            session.in_tool = "in_tool" in step
            await trio.sleep_forever()
        elif "fail" in step:
            session.state |= {"status": "failed", "cost_usd": 0.125}  # without a word, and without a reason
        elif "die" in step:
            session.state |= {"status": "failed", "error_message": f"claude process failed: {step['die']}"}
        elif "interrupted" in step:
            session.state["status"] = "interrupted"
            await trio.sleep_forever()

    async def _ask(self, session: Session, step: Json) -> None:
        approval = f"local-{next(self._numbers)}"
        self.decided[approval] = trio.Event()
        self.approvals[approval] = {
            "id": approval, "session_id": session.id, "status": "pending", "tool_name": step["ask"],
            "tool_input": step.get("input", {}), "tool_use_id": step.get("id", "t1"),
        }  # fmt: skip
        session.state["status"] = "waiting_input"  # of which nobody is told
        self._tell(session, "new_approval", approval_id=approval, tool_name=step["ask"])
        await self.decided[approval].wait()
        if self.approvals[approval]["status"] == "denied":
            self._row(
                session, event_type="tool_result", tool_result_for_id=step.get("id", "t1"), tool_result_content="denied"
            )

    def _row(self, session: Session, *, tells: bool = True, **fields: Any) -> None:
        """Kept first, then told."""
        self.rows.append({"id": next(self._numbers), "session_id": session.id, "sequence": 1, **fields})
        if tells:
            self._tell(session, "conversation_updated", event_type=fields["event_type"])

    def _tell(self, session: Session, kind: str, **data: Any) -> None:
        if not session.quiet:
            self.publish(kind, session_id=session.id, **data)
