"""The face over a real house with real walls: what is told is what happens."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

from colony_core.testing.houses import open_test_house
from colony_web.serve import serve

from .wire import Answer, Served, read_all, read_until

pytestmark = pytest.mark.kernel

MANIFEST = """
[colony]
name = "hello"

[services.web]
command = ["python3", "-u", "-m", "http.server", "4001", "--bind", "127.0.0.1"]
port = 4001
"""

ASK_FROM_INSIDE = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect({path!r})
s.sendall(b"GET /api/colonies HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
print(s.makefile("rb").read().decode())
"""


@asynccontextmanager
async def serving_colony(folder: Path) -> AsyncIterator[Served]:
    """A house that serves, with the colony hello running in it."""
    source = folder / "source"
    source.mkdir()
    (source / "colony.toml").write_text(MANIFEST)
    async with trio.open_nursery() as nursery, open_test_house(folder) as house:
        unix, tcp = await nursery.start(partial(serve, house))
        served = Served(unix.removeprefix("unix:"), int(tcp.rpartition(":")[2]))
        answer = await post(served, "/api/colonies", {"name": "hello", "path": str(source)}, idempotency_key="k")
        assert answer.status == 201
        with trio.fail_after(120):
            while (await served.ask("/api/colonies/hello/services")).json[0]["state"] != "ready" or not await log_of(
                served
            ):
                await trio.sleep(0.02)
        yield served
        house.shutdown_requested.set()


async def log_of(served: Served) -> list[str]:
    """The lines of the log so far. Its first may come later than the readiness of its service, whose port was open before."""
    return [line["text"] for line in (await served.ask("/api/colonies/hello/logs?service=web")).json["lines"]]


async def post(served: Served, path: str, body: dict[str, Any] | None = None, **headers: str) -> Answer:
    data = json.dumps(body).encode() if body is not None else b""
    kind = {"content_type": "application/json"} if data else {}
    return await served.ask(path, method="POST", body=data, **kind, **headers)


async def run(served: Served, *command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of a command in the cell."""
    said = {1: b"", 2: b""}
    async with await served.unix() as stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", "/api/colonies/hello/exec")
        await connection.send_message(json.dumps({"command": command}))
        if stdin:
            await connection.send_message(stdin)
        await connection.send_message('{"eof": true}')
        while isinstance(message := await connection.get_message(), bytes):
            said[message[0]] += message[1:]
        with pytest.raises(ConnectionClosed):
            await connection.get_message()
    return json.loads(message)["exit"], said[1], said[2]


async def test_a_colony_is_spawned_shown_commanded_and_removed(tmp_path: Path) -> None:
    async with serving_colony(tmp_path) as served:
        again = await post(
            served, "/api/colonies", {"name": "hello", "path": str(tmp_path / "source")}, idempotency_key="k"
        )
        assert (again.status, again.headers["idempotency-replayed"]) == (201, "true")
        assert await run(served, "cat", stdin=b"to and fro") == (0, b"to and fro", b"")
        assert (await run(served, "sh", "-c", "echo no >&2; exit 3")) == (3, b"", b"no\n")
        assert any("Serving HTTP" in line for line in await log_of(served))
        assert (await post(served, "/api/colonies/hello/services/web/restart")).status == 202
        assert "hello" in (await served.ask("/api/system/tree")).json["text"]
        assert (await served.ask("/api/colonies/hello", method="DELETE")).status == 204
        assert (await served.ask("/api/colonies/hello")).status == 404


async def test_whoever_is_inside_a_cell_is_refused_by_the_socket(tmp_path: Path) -> None:
    async with serving_colony(tmp_path) as served:
        code, output, errors = await run(served, sys.executable, "-c", ASK_FROM_INSIDE.format(path=served.socket))
    assert code == 0, errors
    assert output.startswith(b"HTTP/1.1 403")
    assert b"socket-from-a-cell" in output


async def test_a_token_opens_the_port_until_it_is_revoked(tmp_path: Path) -> None:
    async with serving_colony(tmp_path) as served:
        made = (await post(served, "/api/tokens", {"name": "ci", "role": "viewer"})).json
        assert (await served.ask("/api/colonies", token=made["token"])).status == 200
        stop = await served.ask("/api/colonies/hello/stop", method="POST", token=made["token"])
        assert (stop.status, stop.json["code"]) == (403, "role-may-not")
        assert (await served.ask(f"/api/tokens/{made['id']}", method="DELETE")).status == 204
        assert (await served.ask("/api/colonies", token=made["token"])).status == 401


async def test_a_stream_of_the_log_goes_on_where_it_was(tmp_path: Path) -> None:
    async with serving_colony(tmp_path) as served, await served.unix() as stream:
        last = (await served.ask("/api/colonies/hello/logs")).json["last"]
        head = f"GET /api/colonies/hello/logs/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last - 1}\r\n\r\n"
        await stream.send_all(head.encode())
        said = b""
        with trio.fail_after(120):
            while b"event: line" not in said:
                said += await stream.receive_some(65536)
    assert f"id: {last}\n".encode() in said


@pytest.mark.parametrize(("what", "reason"), [("logs", b"log-ended"), ("feed", b"feed-ended")])
async def test_who_follows_a_colony_that_is_removed_is_told_the_end(tmp_path: Path, what: str, reason: bytes) -> None:
    async with serving_colony(tmp_path) as served, await served.unix() as stream, trio.open_nursery() as nursery:
        await stream.send_all(
            f"GET /api/colonies/hello/{what}/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        head = await read_until(stream, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        nursery.start_soon(partial(served.ask, "/api/colonies/hello", method="DELETE"))
        with trio.fail_after(120):
            assert (head + await read_all(stream)).rstrip().endswith(b'data: {"reason":"%b"}\n\n\r\n0' % reason)
