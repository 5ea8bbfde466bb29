"""JSON-RPC 2.0 in both directions over a pair of streams, one message a line.

Each side numbers its own requests: a message with a `method` is theirs, whatever its id; one without is an answer to ours.
"""

import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from colony_core import wire
from colony_core.errors import Broken

from .lines import LINE_BYTES, JsonLines, Skipped
from .loose import as_dict

METHOD_NOT_FOUND = -32601
OUTBOX_LINES = 64
LAST_WORDS_SECONDS = 30.0
"""For what a side said before it was gone, where its end is held open by others, and for heeding it."""
NOISE_KEPT = 3

Told = Callable[[str, dict[str, Any]], Awaitable[None]]


class RpcError(Exception):
    """What the other side answered instead of a result."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.data = data


class LineLost(Broken):
    """The other side hung up, or spoke so that nobody can go on listening."""

    def __init__(self, message: str) -> None:
        super().__init__("line-lost", message)


@attrs.frozen(kw_only=True)
class Request:
    """What the other side asks; `id` is theirs and any JSON value."""

    id: Any
    method: str
    params: dict[str, Any]


@attrs.define
class _Pending:
    done: trio.Event = attrs.field(factory=trio.Event)
    answer: dict[str, Any] | None = None


class Peer:
    """One conversation. `run` holds it; `call`, `notify` and `answer` may be used from any task meanwhile.

    `asked` hears requests and says whether it answers them, now or later; those it does not are refused as unknown. `told` hears
    notifications. Both are called in order, and the other side is not listened to for as long as they take.
    """

    def __init__(
        self,
        receive: trio.abc.ReceiveStream,
        send: trio.abc.SendStream,
        *,
        asked: Callable[[Request], Awaitable[bool]],
        told: Told,
        limit: int = LINE_BYTES,
    ) -> None:
        self.noise: deque[str] = deque(maxlen=NOISE_KEPT)
        """How the last lines began that were no messages."""
        self._lines = JsonLines(receive, limit=limit)
        self._send_stream = send
        self._asked = asked
        self._told = told
        self._numbers = itertools.count()
        self._pending: dict[int, _Pending] = {}
        self._outbox, self._to_write = trio.open_memory_channel[bytes](OUTBOX_LINES)
        self._reading = trio.CancelScope()
        self._lost = ""

    async def run(self) -> None:
        """Reads and writes until the other side hangs up; then, or when cancelled, every open call fails with LineLost."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                with self._reading:
                    self._lost = await self._listen()
                self._lost = self._lost or "it is gone"
                nursery.cancel_scope.cancel()
        finally:
            self._lost = self._lost or "the conversation is over"
            self._to_write.close()
            for pending in self._pending.values():
                pending.done.set()

    def end_soon(self) -> None:
        """The other side is known to be gone: what it said is still read, for a while that does not depend on who holds its end open."""
        self._reading.deadline = min(self._reading.deadline, trio.current_time() + LAST_WORDS_SECONDS)

    async def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request, `{}` where it is none to speak of. Raises RpcError or LineLost; cancelled, a late answer is dropped."""
        number = next(self._numbers)
        pending = self._pending[number] = _Pending()
        try:
            await self._say({"id": number, "method": method, "params": params})
            await pending.done.wait()
        finally:
            del self._pending[number]
        if pending.answer is None:
            raise LineLost(self._lost)
        return result_of(pending.answer)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tells something that has no answer. Raises LineLost."""
        await self._say({"method": method, "params": params})

    def answer(self, request: Request, result: dict[str, Any]) -> None:
        """Answers what was asked, without waiting, so that whoever listens may do it. Raises LineLost where nobody reads our answers."""
        self._put({"id": request.id, "result": result})

    async def _say(self, message: dict[str, Any]) -> None:
        if self._lost:
            raise LineLost(self._lost)
        try:
            await self._outbox.send(line_of(message))
        except trio.BrokenResourceError:
            raise LineLost(self._lost) from None

    async def _write(self) -> None:
        """The one writer, so that no line is cut by another or by whoever gave it up. What was said before a death is still read."""
        try:
            async for line in self._to_write:
                await self._send_stream.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end_soon()

    async def _listen(self) -> str:
        try:
            return await self._read()
        except LineLost as error:
            return error.message

    async def _read(self) -> str:
        async for item in self._lines:
            if isinstance(item, Skipped):
                if item.reason == "too-long":
                    return f"it said a line that is longer than we read: {item.start}…"
                self.noise.append(item.start)
                continue
            method, number = item.get("method"), item.get("id")
            if isinstance(method, str):
                params = item.get("params")
                given = params if isinstance(params, dict) else {}
                if number is None:
                    await self._told(method, given)
                elif not await self._asked(Request(id=number, method=method, params=given)):
                    self._put({"id": number, "error": {"code": METHOD_NOT_FOUND, "message": "Method not found"}})
            elif type(number) is int and number in self._pending:
                pending = self._pending[number]
                pending.answer = item
                pending.done.set()
        return "it hung up"

    def _put(self, message: dict[str, Any]) -> None:
        try:
            self._outbox.send_nowait(line_of(message))
        except trio.BrokenResourceError:
            raise LineLost(self._lost) from None
        except trio.WouldBlock:
            raise LineLost("it asks without reading our answers") from None


def line_of(message: dict[str, Any]) -> bytes:
    """A message as the line to send."""
    return wire.dump_json({"jsonrpc": "2.0", **message}) + b"\n"


def result_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The result of an answer; raises RpcError for an error, whatever its shape."""
    error = answer.get("error")
    if error is None:
        return as_dict(answer.get("result"))
    if not isinstance(error, dict):
        raise RpcError(0, str(error))
    code, message = error.get("code"), error.get("message")
    raise RpcError(code if isinstance(code, int) else 0, str(message or "no reason given"), error.get("data"))
