"""What the tasks of one connection do to each other."""

import socket
from typing import Any

import trio
from hypercorn.trio.worker_context import WorkerContext

from colony_web.connection import Connection
from colony_web.protocol import Settings


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never asked."""


async def test_a_goodbye_amid_another_tasks_write_fails_neither() -> None:
    """The order of the two is the scheduler's, which is asked often enough for both."""
    for _ in range(20):
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(one)) for one in socket.socketpair())
        connection = Connection(nothing, Settings(), WorkerContext(None), ours, state={}, client=None, server=None)
        async with theirs:
            async with ours, trio.open_nursery() as nursery:
                nursery.start_soon(connection._write, b"last words")
                nursery.start_soon(connection._finish)
                nursery.start_soon(connection._write, b", and more")
            said = b"".join([part async for part in theirs])
        assert said in (b"", b"last words", b", and more", b"last words, and more", b", and morelast words")
