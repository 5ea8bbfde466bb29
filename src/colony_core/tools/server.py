"""The MCP server of one colony: JSON-RPC lines over a Unix socket whose name exists in the colony's network alone.

Names of abstract sockets belong to a network namespace (unix(7)): who reaches this one lives in the colony, whoever it says it is. There is
no file, so nothing is left behind by a killed daemon, and nothing depends on who may open which folder.

Each connection stands for itself and nothing is remembered of it, so that a bridge may come back at any moment.
"""

import json
import logging
import os
import socket
import struct
from typing import Any

import trio

import colony_core
from colony_core.backends import LineLost, McpServer, Peer, Request
from colony_core.colonies import Colony, user_of
from colony_core.isolation import Cell
from colony_core.supervision import Status

from .catalogue import ABOUT, TOOLS
from .desk import Caller, Desk, House
from .starting import bridge_command
from .telling import Answer

logger = logging.getLogger("colony.tools")

NAME = "colony"
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Of MCP, the newest first: what we say is the same in all of them."""
LINE_BYTES = 2**20
BACKLOG = 16
MOST_CONNECTIONS = 32
MOST_CALLS = 32
"""At once, of one connection."""
RETRY_SECONDS = 5.0


def mcp_servers(colony: Colony) -> tuple[McpServer, ...]:
    """What a colony's agent shall start to reach its tools; nothing where there are no walls, and so no name of its own."""
    if colony.cell is None or not _is_apart(colony.cell):
        return ()
    return (McpServer(name=NAME, command=bridge_command(own=_uid_of(colony) == os.getuid())),)


async def serve_tools(house: House, colony: Colony, *, status: Status) -> None:
    """Serves inside the colony's cell until cancelled. Where somebody in there has taken the name, tries again every five seconds."""
    status.started()
    desk, cell = Desk(house, colony), colony.cell
    if cell is None or not _is_apart(cell):
        await trio.sleep_forever()
    assert cell is not None
    room = trio.CapacityLimiter(MOST_CONNECTIONS)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            if room.available_tokens < 1:
                return
            async with room:
                await _admitted(desk, stream)

    while True:
        try:
            async with await _listener(cell) as listener:
                await trio.serve_listeners(serve, [listener])
        except OSError as error:
            logger.warning("the agent of %s has no tools: %s", colony.name, error)
            await trio.sleep(RETRY_SECONDS)


async def _listener(cell: Cell) -> trio.SocketListener:
    bare = await cell.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bare.bind(f"\0{NAME}")
        bare.listen(BACKLOG)
        bare.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(bare))
    except BaseException:
        bare.close()
        raise


async def _admitted(desk: Desk, stream: trio.SocketStream) -> None:
    pid, uid, _ = struct.unpack("3i", stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    caller = Caller(pid=pid, uid=uid)
    try:
        if uid != _uid_of(desk.colony):
            await desk.refused(caller)
            return
        await converse(desk, stream, caller)
    except Exception:  # such as: its folder is gone, and with it who its user would be; the others go on
        logger.exception("%s: a conversation about its tools broke off", desk.colony.name)


async def converse(desk: Desk, stream: trio.abc.Stream, caller: Caller) -> None:
    """Speaks MCP until the other side hangs up; calls that are under way are given up then."""
    async with trio.open_nursery() as nursery:
        await _Conversation(desk, stream, caller, nursery).peer.run()
        nursery.cancel_scope.cancel()


class _Conversation:
    def __init__(self, desk: Desk, stream: trio.abc.Stream, caller: Caller, nursery: trio.Nursery) -> None:
        self.peer = Peer(stream, stream, asked=self._asked, told=self._told, limit=LINE_BYTES)
        self._desk = desk
        self._caller = caller
        self._nursery = nursery
        self._calls: dict[str, trio.CancelScope] = {}

    async def _asked(self, request: Request) -> bool:
        match request.method:
            case "initialize":
                self.peer.answer(request, _introduction(request.params))
            case "ping":
                self.peer.answer(request, {})
            case "tools/list":
                self.peer.answer(request, {"tools": [tool.described() for tool in TOOLS.values()]})
            case "tools/call" if len(self._calls) >= MOST_CALLS:
                self.peer.answer(request, _result(Answer(text="too-many-calls: wait for those under way", ok=False)))
            case "tools/call":
                scope = self._calls[_key(request.id)] = trio.CancelScope()
                self._nursery.start_soon(self._call, request, scope)
            case _:
                return False
        return True

    async def _told(self, method: str, params: dict[str, Any]) -> None:
        if method == "notifications/cancelled":
            scope = self._calls.get(_key(params.get("requestId")))
            if scope is not None:
                scope.cancel()

    async def _call(self, request: Request, scope: trio.CancelScope) -> None:
        name, given = request.params.get("name"), request.params.get("arguments")
        arguments = given if isinstance(given, dict) else {}
        try:
            with scope:
                answer = await self._desk.call(name if isinstance(name, str) else "", arguments, self._caller)
                self.peer.answer(request, _result(answer))
        except LineLost:
            pass  # nobody is there any more who could read it
        finally:
            if self._calls.get(_key(request.id)) is scope:
                del self._calls[_key(request.id)]


def _introduction(params: dict[str, Any]) -> dict[str, Any]:
    wanted = params.get("protocolVersion")
    return {
        "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": NAME, "version": colony_core.__version__},
        "instructions": ABOUT,
    }


def _result(answer: Answer) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": answer.text}], "isError": not answer.ok}


def _key(request_id: Any) -> str:
    return json.dumps(request_id)


def _uid_of(colony: Colony) -> int:
    user = user_of(colony.source)
    return os.getuid() if user is None else user.uid


def _is_apart(cell: Cell) -> bool:
    """Whether the cell's network is not the daemon's own; there, everybody could reach the name."""
    return cell.inode != os.stat("/proc/thread-self/ns/net").st_ino
