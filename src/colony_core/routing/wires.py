"""Bytes in and out of a connection, with as little between the proxy and the kernel as possible.

A `SocketWire` reads and writes its socket directly and asks Trio only to wait: a request costs two waits instead of six checkpoints.
A `StreamWire` does the same for any other Trio stream.
"""

import os
import select
import socket
import struct
from typing import Protocol

import trio

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What reading and writing raise when the other side, or this one, is gone; a stuck write raises TimeoutError, which is among them."""

READ_BYTES = 65536
BULK_BYTES = 262144
STUCK_SECONDS = 30
"""A write during which nothing moves for so long is given up."""

_EAGER_READS = 16


class Wire(Protocol):
    """One connection. One task may read while another writes."""

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """Waits for bytes; empty at the end."""

    async def read_on(self) -> bytes:
        """As `read`, for the middle of a body: takes what is already there without waiting, in large pieces."""

    async def write(self, data: bytes) -> None:
        """Writes everything; returns without a checkpoint where the kernel takes it at once."""

    async def write_eof(self) -> None:
        """Says that nothing more will be written."""

    def is_stale(self) -> bool:
        """Whether the other side of an idle connection has closed it, or spoken without being asked."""

    def is_gone(self) -> bool:
        """Whether the other side will write no more, though nobody has read that far."""

    async def close(self) -> None:
        """Closes at once, also under cancellation."""

    async def abort(self) -> None:
        """Closes so that the other side sees a failure, not an end."""


def wire_of(stream: trio.abc.Stream) -> Wire:
    """The best wire for `stream`, which from now on belongs to it."""
    return SocketWire(stream) if isinstance(stream, trio.SocketStream) else StreamWire(stream)


class SocketWire:
    """A wire over a socket. The socket is Trio's and therefore does not block."""

    __slots__ = ("_eager", "_fd", "_socket")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        self._fd = stream.socket.fileno()
        self._eager = 0

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """See Wire."""
        while self._fd >= 0:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return os.read(self._fd, limit)
            except BlockingIOError:
                continue
        raise trio.ClosedResourceError

    async def read_on(self) -> bytes:
        """See Wire."""
        # without a wait now and then, a fast sender and a fast receiver would keep every other task of the daemon from running
        self._eager = (self._eager + 1) % _EAGER_READS
        if self._eager:
            try:
                return os.read(self._fd, BULK_BYTES)
            except BlockingIOError:
                pass
        return await self.read(BULK_BYTES)

    async def write(self, data: bytes) -> None:
        """See Wire."""
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            await self._write_rest(memoryview(data)[sent:])

    async def _write_rest(self, data: memoryview) -> None:
        while data:
            if self._fd < 0:
                raise trio.ClosedResourceError
            with trio.move_on_after(STUCK_SECONDS) as scope:
                await trio.lowlevel.wait_writable(self._fd)
            if scope.cancelled_caught:
                raise TimeoutError(f"nothing was read for {STUCK_SECONDS} s")
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                continue

    async def write_eof(self) -> None:
        """See Wire."""
        self._socket.shutdown(socket.SHUT_WR)

    def is_stale(self) -> bool:
        """See Wire."""
        return self._poll(select.POLLIN)

    def is_gone(self) -> bool:
        """See Wire."""
        return self._poll(select.POLLRDHUP)

    def _poll(self, events: int) -> bool:
        poller = select.poll()
        poller.register(self._fd, events)
        return bool(poller.poll(0))

    async def close(self) -> None:
        """See Wire."""
        self._fd = -1
        self._socket.close()

    async def abort(self) -> None:
        """See Wire."""
        if self._fd >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()


class StreamWire:
    """A wire over any Trio stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """See Wire."""
        return bytes(await self._stream.receive_some(limit))

    async def read_on(self) -> bytes:
        """See Wire."""
        return await self.read(BULK_BYTES)

    async def write(self, data: bytes) -> None:
        """See Wire."""
        with trio.move_on_after(STUCK_SECONDS) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise TimeoutError(f"not everything was read within {STUCK_SECONDS} s")

    async def write_eof(self) -> None:
        """See Wire."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    def is_stale(self) -> bool:
        """See Wire."""
        return False

    def is_gone(self) -> bool:
        """See Wire."""
        return False

    async def close(self) -> None:
        """See Wire."""
        await trio.aclose_forcefully(self._stream)

    async def abort(self) -> None:
        """See Wire."""
        await self.close()
