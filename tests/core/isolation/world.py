"""A world outside of a host of one's own: another network, with servers in it, at the end of a cable. A program as well, which they are."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import trio

HOST, WORLD = "203.0.113.1", "203.0.113.80"
ECHO, WEB, TALKER, SINK = 7, 80, 19, 9
MEGABYTE = 2**20


@contextmanager
def open_world(*, more: tuple[str, ...] = ()) -> Iterator[None]:
    """The world, and the host's cable to it; `more` are addresses that it has as well. For root on a host of its own."""
    server = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server, ExitStack() as stack:
        stack.callback(server.kill)
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "here\n"
        _run("ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", str(server.pid))
        _run("ip", "address", "add", f"{HOST}/24", "dev", "out")
        _run("ip", "link", "set", "out", "up")
        inside = ("nsenter", "--net", "--target", str(server.pid), "ip")
        _run(*inside, "link", "set", "lo", "up")
        for address in (f"{WORLD}/24", *more):
            _run(*inside, "address", "add", address, "dev", "in")
        _run(*inside, "link", "set", "in", "up")
        for address in more:
            _run("ip", "route", "add", address, "dev", "out")
        server.stdin.write("go\n")
        server.stdin.flush()
        assert server.stdout.readline() == "serving\n"
        yield


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


async def _echo(stream: trio.SocketStream) -> None:
    """Says again what it heard once it has heard all of it: only half a close gets it to speak."""
    async with stream:
        heard = b"".join([part async for part in stream])
        await stream.send_all(b"heard " + heard)


async def _web(stream: trio.SocketStream) -> None:
    """Answers with the request as it came."""
    async with stream:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + heard)


async def _talker(stream: trio.SocketStream) -> None:
    async with stream:
        with suppress(trio.BrokenResourceError):  # nobody has to hear it to the end
            for _ in range(8):
                await stream.send_all(b"x" * MEGABYTE)


async def _sink(stream: trio.SocketStream) -> None:
    """Counts, and says how much it was."""
    async with stream:
        count = 0
        async for part in stream:
            count += len(part)
        await stream.send_all(str(count).encode())


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        for port, handler in ((ECHO, _echo), (WEB, _web), (TALKER, _talker), (SINK, _sink)):
            sock = trio.socket.socket(socket.AF_INET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await sock.bind(("0.0.0.0", port))
            sock.listen(512)
            nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(sock)])
        print("serving", flush=True)


if __name__ == "__main__":
    print("here", flush=True)
    sys.stdin.readline()
    trio.run(_serve)
    os._exit(0)
