"""What the tests do inside cells: listen, answer, start processes."""

import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from colony_core.isolation import Cell, Isolation, firewall
from colony_core.isolation.rootless import ambient_for_child

DEADLINE_SECONDS = 120.0


async def eventually(reached: Callable[[], bool], what: str) -> None:
    """Returns when the kernel has got there."""
    with trio.move_on_after(DEADLINE_SECONDS):
        while not reached():
            await trio.sleep(0.005)
        return
    raise AssertionError(f"not within {DEADLINE_SECONDS:g} s: {what}")


@asynccontextmanager
async def answering(cell: Cell, address: str, port: int) -> AsyncIterator[None]:
    """Something in the cell that says its name to whoever connects."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = trio.socket.from_stdlib_socket(await cell.socket(family, socket.SOCK_STREAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    await sock.bind((address, port))
    sock.listen(64)

    async def say(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(cell.name.encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, say, [trio.SocketListener(sock)])
        yield
        nursery.cancel_scope.cancel()


async def hear(stream: trio.SocketStream) -> str:
    """All that the other side says."""
    async with stream:
        return b"".join([part async for part in stream]).decode()


async def hub_socket(
    walls: Isolation, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
) -> trio.socket.SocketType:
    """A socket where the hosts' ends of the cables are."""
    return trio.socket.from_stdlib_socket(await walls.run_in_thread(socket.socket, family, kind))


def tool(*command: str, feed: str = "") -> str:
    """For the kernel thread: what a tool of the system says in its network; with the rights that this process has, also rootless."""
    with ambient_for_child():
        return subprocess.run(command, input=feed, stdout=subprocess.PIPE, text=True, check=True).stdout


def nft(*arguments: str, feed: str = "") -> str:
    """For the kernel thread: what nft(8) says."""
    return tool(firewall.find_nft(), *arguments, feed=feed)


def start_in(cell: Cell, walls: Isolation, *command: str) -> Callable[[], "subprocess.Popen[bytes]"]:
    """For the kernel thread: starts a command in the cell's network."""

    def start() -> "subprocess.Popen[bytes]":
        with cell._kernel.inside(cell.fd):
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    return start


def reap(process: "subprocess.Popen[bytes]") -> int:
    """The end of a process that something else killed."""
    with process:
        process.communicate()
    assert process.returncode != signal.SIGTERM
    return process.returncode
