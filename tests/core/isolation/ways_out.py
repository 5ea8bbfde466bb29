"""Scenes with a world outside: each is a program on a host of its own (see `apart`), from whose cells the proxy leads there."""

import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import trio

from colony_core import isolation
from colony_core.isolation import AddressPlan, Cell, Isolation, Mode, open_isolation, serve_way_out, way_out

from . import apart
from .inside import answering, hear
from .world import ECHO, HOST, MEGABYTE, SINK, TALKER, WEB, WORLD, open_world

BASE = "10.211.0.0/16"
SECRETS = "169.254.169.254"


@asynccontextmanager
async def proxied(cell: Cell) -> AsyncIterator[None]:
    """The cell with its proxy."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_way_out, cell, cells=(ipaddress.IPv4Network(BASE),)))
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_cell(*, mode: Mode = Mode.ROOT, private: bool = True) -> AsyncIterator[tuple[Isolation, Cell]]:
    """One cell with a proxy, of walls that are private or an ordinary user's."""
    plan = AddressPlan(BASE)
    async with open_isolation(run_dir=apart.FOLDER, mode=mode, plan=plan, private=private) as walls:
        assert walls.egress.proxied
        async with walls.open_cell("hello") as cell, proxied(cell):
            yield walls, cell


async def said(cell: Cell, data: bytes, *, more: bytes | None = None) -> bytes:
    """All that the proxy answers, to half a conversation."""
    with trio.fail_after(120):
        async with await cell.connect(way_out.PORT) as stream:
            await stream.send_all(data)
            if more is not None:
                assert b" 200 " in await stream.receive_some(4096)
                await stream.send_all(more)
            await stream.send_eof()
            return b"".join([part async for part in stream])


async def answer_to(cell: Cell, target: str) -> str:
    """The proxy's words on a wish for a tunnel, with the status in front."""
    answer = (await said(cell, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())).decode()
    return answer.split(" ", 1)[1].split("\r\n")[0] + answer.partition("\r\n\r\n")[2]


@asynccontextmanager
async def tunnel(cell: Cell, port: int) -> AsyncIterator[trio.SocketStream]:
    """A tunnel to the world."""
    async with await cell.connect(way_out.PORT) as stream:
        await stream.send_all(f"CONNECT {WORLD}:{port} HTTP/1.1\r\n\r\n".encode())
        told, expected = b"", b"HTTP/1.1 200 Connection established\r\n\r\n"
        while len(told) < len(expected) and (part := await stream.receive_some(len(expected) - len(told))):
            told += part  # and nothing of what the world says at once
        assert told == expected
        yield stream


async def out_and_back() -> None:
    with open_world():
        async with a_cell() as (_, cell):
            connect = f"CONNECT {WORLD}:{ECHO} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            assert await said(cell, connect, more=b"word") == b"heard word", "the end of what was said got there"
            assert (await said(cell, connect + b"eager")).endswith(b"\r\n\r\nheard eager")
            heard = await said(cell, f"GET http://{WORLD}/a?b HTTP/1.1\r\nProxy-Authorization: s\r\n\r\n".encode())
            assert heard.endswith(f"\r\n\r\nGET /a?b HTTP/1.1\r\nHost: {WORLD}\r\nConnection: close\r\n\r\n".encode())
            async with tunnel(cell, TALKER) as stream:
                assert sum([len(part) async for part in stream]) == 8 * MEGABYTE
            async with tunnel(cell, SINK) as stream:
                for _ in range(8):
                    await stream.send_all(bytes(MEGABYTE))
                await stream.send_eof()
                assert await stream.receive_some(100) == str(8 * MEGABYTE).encode()


async def a_request_is_over_when_it_is_answered() -> None:
    """Though the program keeps its own side open, as those do that use a connection again."""
    with open_world():
        async with a_cell() as (_, cell), await cell.connect(way_out.PORT) as stream:
            await stream.send_all(f"GET http://{WORLD}:{WEB}/ HTTP/1.1\r\n\r\n".encode())
            with trio.fail_after(60):
                assert (await hear(stream)).startswith("HTTP/1.1 200 OK")


async def nobody_is_let_in() -> None:
    """The world answers at the address of secrets and at one of a colony, so that only the refusal keeps them apart."""
    secrets = "10.211.200.1"
    with open_world(more=(f"{SECRETS}/32", f"{secrets}/32")), listening_everywhere():
        with socket.create_connection((SECRETS, ECHO), 60), socket.create_connection((secrets, ECHO), 60):
            pass
        async with a_cell() as (walls, cell), walls.open_cell("other") as other, answering(other, "0.0.0.0", ECHO):
            places = [HOST, "127.0.0.1", "127.9.9.9", "localhost", "0.0.0.0", "0", "2130706433", "127.1", "0x7f000001"]
            places += [SECRETS, secrets, other.address, cell.gateway, "[::1]", "[::]", f"[::ffff:{HOST}]"]
            places += ["[::ffff:127.0.0.1]", f"[::ffff:{SECRETS}]", "[64:ff9b::7f00:1]", "[fe80::1]", "[fd00::1]"]
            for place in places:
                told = await answer_to(cell, f"{place}:{ECHO}")
                assert told.startswith("403 Forbiddencolony: "), (place, told)
            assert "an address of this machine" in await answer_to(cell, f"{HOST}:{ECHO}")
            plain = await said(cell, f"GET http://{HOST}:{ECHO}/ HTTP/1.1\r\n\r\n".encode())
            assert plain.startswith(b"HTTP/1.1 403 ")
            assert (await answer_to(cell, f"{WORLD}:{ECHO}")) == "200 Connection establishedheard "


@contextmanager
def listening_everywhere() -> Iterator[None]:
    """A server of the host's own, at each of its addresses: whoever gets there is heard."""
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::", ECHO))
        sock.listen()
        sock.setblocking(False)
        yield
        try:
            sock.accept()
        except BlockingIOError:
            return
        raise AssertionError("somebody came to the host")


async def what_is_not_reached_is_told() -> None:
    with open_world():
        async with a_cell() as (_, cell):
            assert (await answer_to(cell, f"{WORLD}:1")).startswith("502 Bad Gatewaycolony: ")
            assert (await answer_to(cell, "192.0.2.1:1")).startswith("502 "), "no route leads there"
            assert "is not found" in await answer_to(cell, "nobody.invalid:443")
            assert (await said(cell, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
            assert (await said(cell, b"GET / HTTP/1.1\r\nA: " + b"x" * 2 * way_out.MOST_HEAD_BYTES)).startswith(
                b"HTTP/1.1 431 "
            )
            assert await said(cell, b"CONNECT half") == b""


async def there_are_only_so_many() -> None:
    way_out.MOST_CONNECTIONS = 3
    with open_world():
        async with a_cell() as (_, cell):
            async with (
                tunnel(cell, ECHO),
                tunnel(cell, ECHO),
                tunnel(cell, ECHO),
                await cell.connect(way_out.PORT) as late,
            ):
                assert (await hear(late)).startswith("HTTP/1.1 503 Service Unavailable\r\n")
            with trio.fail_after(60):
                while True:  # until the proxy has seen that they are gone
                    try:
                        async with tunnel(cell, ECHO):
                            return
                    except (AssertionError, trio.BrokenResourceError):
                        await trio.sleep(0.01)


async def one_that_says_nothing_is_let_go() -> None:
    patience, way_out.HEAD_SECONDS = way_out.HEAD_SECONDS, 0.05
    way_out.HALF_CLOSED_SECONDS = 0.05
    with open_world():
        async with a_cell() as (_, cell):
            async with await cell.connect(way_out.PORT) as stream:
                assert await stream.receive_some(100) == b""
            way_out.HEAD_SECONDS = patience
            async with tunnel(cell, TALKER) as stream:
                assert len(b"".join([part async for part in stream])) == 8 * MEGABYTE
                with trio.fail_after(60):  # we never say our last, and the other side has
                    try:
                        while True:
                            await stream.send_all(b"x")
                            await trio.sleep(0.01)
                    except trio.BrokenResourceError:
                        return


async def nothing_is_left_open() -> None:
    with open_world():
        plan = AddressPlan(BASE)
        async with (
            open_isolation(run_dir=apart.FOLDER, mode=Mode.ROOT, plan=plan, private=True) as walls,
            walls.open_cell("hello") as cell,
        ):
            before = len(os.listdir("/proc/self/fd"))
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve_way_out, cell, cells=(plan.network,)))
                async with tunnel(cell, ECHO), tunnel(cell, TALKER):
                    async with await cell.connect(way_out.PORT) as silent:
                        await silent.send_all(b"CONNECT ")
                    nursery.cancel_scope.cancel()
            assert len(os.listdir("/proc/self/fd")) == before
            async with proxied(cell):
                told = await said(cell, f"CONNECT {WORLD}:{ECHO} HTTP/1.1\r\n\r\n".encode())
                assert b"heard" in told, told


async def a_port_that_is_taken_is_waited_for() -> None:
    way_out.RETRY_SECONDS = 0.01
    with open_world():
        plan = AddressPlan(BASE)
        async with (
            open_isolation(run_dir=apart.FOLDER, mode=Mode.ROOT, plan=plan, private=True) as walls,
            walls.open_cell("hello") as cell,
            trio.open_nursery() as nursery,
        ):
            async with answering(cell, "0.0.0.0", way_out.PORT):
                await nursery.start(partial(serve_way_out, cell, cells=(plan.network,)))
                assert await hear(await cell.connect(way_out.PORT)) == "hello", "whoever has it keeps it"
            with trio.fail_after(60):
                while True:
                    try:
                        told = await said(cell, f"CONNECT {WORLD}:{ECHO} HTTP/1.1\r\n\r\n".encode())
                        break
                    except OSError:
                        await trio.sleep(0.01)
            assert b"heard" in told
            nursery.cancel_scope.cancel()


async def _as_a_user() -> None:
    async with a_cell(mode=Mode.ROOTLESS, private=False) as (_, cell):
        assert (await answer_to(cell, f"{WORLD}:{ECHO}")) == "200 Connection establishedheard "
        assert (await answer_to(cell, f"{HOST}:{ECHO}")).startswith("403 ")


def _be_a_user() -> None:
    apart.as_user()
    isolation.enter_rootless()
    trio.run(_as_a_user)


def an_ordinary_users_way_out() -> None:
    with open_world():
        assert apart.in_child(_be_a_user) == 0


SCENES: dict[str, Callable[[], object] | Callable[[], Awaitable[None]]] = {
    scene.__name__: scene
    for scene in (
        out_and_back,
        a_request_is_over_when_it_is_answered,
        nobody_is_let_in,
        what_is_not_reached_is_told,
        there_are_only_so_many,
        one_that_says_nothing_is_let_go,
        nothing_is_left_open,
        a_port_that_is_taken_is_waited_for,
        an_ordinary_users_way_out,
    )
}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="colony-out-", ignore_cleanup_errors=True) as folder:
        apart.FOLDER = Path(folder)
        apart.FOLDER.chmod(0o755)
        apart.main(sys.argv[1], SCENES)
