"""Server-sent events as a body for Quart: produced by a task of its own, joined per write, kept alive by comments."""

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any

import msgspec
import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from colony_core.errors import ColonyError, first_of
from colony_web.context import current_request_id, current_scope
from colony_web.drain import drained
from colony_web.house import House
from colony_web.problems import problem_of

HEARTBEAT_SECONDS = 15.0
WAITING_PARTS = 2
"""Parts of about WRITE_BYTES that wait for a client: with what its connection holds, all that it costs."""
RETRY_MILLISECONDS = 2000
WRITE_BYTES = 64 * 1024

Produce = Callable[[trio.MemorySendChannel[bytes]], Awaitable[None]]


def frame(event: str, data: Any, *, seq: int | None = None) -> bytes:
    """One server-sent event; `data` becomes one line of JSON."""
    return text_frame(event, msgspec.json.encode(data).decode(), seq=seq)


def text_frame(event: str, line: str, *, seq: int | None = None) -> bytes:
    """One server-sent event whose data is one line of text already."""
    head = f"id: {seq}\n" if seq is not None else ""
    return f"{head}event: {event}\ndata: {line}\n\n".encode()


async def send_joined(frames: Iterable[bytes], send: trio.MemorySendChannel[bytes]) -> None:
    """Sends many frames as few parts."""
    parts: list[bytes] = []
    size = 0
    for each in frames:
        parts.append(each)
        size += len(each)
        if size >= WRITE_BYTES:
            await send.send(b"".join(parts))
            parts, size = [], 0
    if parts:
        await send.send(b"".join(parts))


def streamed(
    house: House, fill: Produce, *, ended: str, until: Callable[[], Awaitable[None]] = trio.sleep_forever
) -> Response:
    """An answer of server-sent events: what `fill` sends, then `end` with the reason: `ended`, `draining`, or `error` after an `error`.

    Where `until` returns, nothing more comes, and it has ended.
    """
    scope, request_id = current_scope(), current_request_id()

    async def produce(send: trio.MemorySendChannel[bytes]) -> None:
        reason = ended
        await send.send(b"retry: %d\n\n" % RETRY_MILLISECONDS)
        try:
            async with trio.open_nursery() as nursery:

                async def until_drained() -> None:
                    nonlocal reason
                    await drained(house, scope)
                    reason = "draining"
                    nursery.cancel_scope.cancel()

                async def until_over() -> None:
                    await until()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(until_drained)
                nursery.start_soon(until_over)
                await fill(send)
                nursery.cancel_scope.cancel()
        except* ColonyError as group:
            problem = problem_of(first_of(group), request_id=request_id)
            await send.send(frame("error", problem.document))
            reason = "error"
        await send.send(frame("end", {"reason": reason}))

    response = Response(b"", content_type="text/event-stream", headers={"Cache-Control": "no-store"})
    if request.method != "HEAD":
        response.response = EventStream(produce)
        response.headers.pop("Content-Length", None)
    response.timeout = None
    return response


class EventStream(ResponseBody):
    """Runs `produce` while the client listens; a client that reads slowly holds up its own producer and nobody else."""

    def __init__(self, produce: Produce) -> None:
        self._produce = produce
        self._send, self._receive = trio.open_memory_channel[bytes](WAITING_PARTS)
        self._nurseries = trio.open_nursery()

    async def __aenter__(self) -> "EventStream":
        self._nursery = await self._nurseries.__aenter__()
        self._nursery.start_soon(self._run)
        return self

    async def __aexit__(  # type: ignore[override]
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._nursery.cancel_scope.cancel()
        return await self._nurseries.__aexit__(kind, error, trace)

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(HEARTBEAT_SECONDS):
            try:
                return self._joined(await self._receive.receive())
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        return b": still here\n\n"

    def _joined(self, first: bytes) -> bytes:
        parts, size = [first], len(first)
        while size < WRITE_BYTES:
            try:
                part = self._receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    async def _run(self) -> None:
        async with self._send:
            await self._produce(self._send)
