"""Server-sent events as a body for Quart: produced by a task of its own, joined per write, kept alive by comments."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import msgspec
import trio
from quart.wrappers.response import ResponseBody

HEARTBEAT_SECONDS = 15.0
WAITING_FRAMES = 256
WRITE_BYTES = 64 * 1024

Produce = Callable[[trio.MemorySendChannel[bytes]], Awaitable[None]]


def frame(event: str, data: Any, *, seq: int | None = None) -> bytes:
    """One server-sent event; `data` becomes one line of JSON."""
    head = f"id: {seq}\n" if seq is not None else ""
    return b"%sevent: %s\ndata: %s\n\n" % (head.encode(), event.encode(), msgspec.json.encode(data))


class EventStream(ResponseBody):
    """Runs `produce` while the client listens; a client that reads slowly holds up its own producer and nobody else."""

    def __init__(self, produce: Produce) -> None:
        self._produce = produce
        self._send, self._receive = trio.open_memory_channel[bytes](WAITING_FRAMES)
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
