"""A command in a colony's cell over a WebSocket.

The client's first frame is text, an ExecRequest; then binary frames are the command's input and the text `{"eof": true}` ends it. On a
terminal (`screen`) the text `{"resize": {"rows": 24, "columns": 80}}` gives it another size.
The server's binary frames are output, their first byte 1 (stdout) or 2 (stderr); its last text is `{"exit": code}`, then it closes with
1000. An error before the command runs is the text `{"error": problem}` and a close with 4000 plus the problem's status. The pipes hold
both sides back: who does not read is not written to. When the socket goes, the command is killed with its tree.
"""

from contextlib import suppress
from typing import Any

import msgspec
import trio
from quart import websocket

from colony_core import wire
from colony_core.access import CHANGING
from colony_core.errors import ColonyError, Invalid, TooSlow
from colony_core.views import ExecRequest
from colony_web.context import current_identity, current_scope, note_command, note_target
from colony_web.house import House, Running
from colony_web.rights import colony_for, require_role
from colony_web.routes import read_query
from colony_web.scope import NOTED

from .sockets import closed_on_drain, discard_messages, tell_error, wanted_size

FIRST_FRAME_SECONDS = 10.0
STDOUT, STDERR = b"\x01", b"\x02"
CHUNK_BYTES = 64 * 1024


async def run_command(house: House, ref: str) -> None:
    """Runs one command for one socket."""
    require_role(current_identity(), CHANGING)
    read_query(websocket.args, None)
    colony = colony_for(house, current_identity(), ref, change=True)
    note_target(colony.name)
    noted = current_scope()[NOTED]
    noted.later()
    await websocket.accept()
    try:
        async with closed_on_drain(house):
            request = await _first_frame()
            note_command(request.command, {**house.variables(colony.id), **request.env})
            await noted.note(101)
            async with house.exec(colony.id, request) as running:
                code = await _attached(running)
            await websocket.send(msgspec.json.encode({"exit": code}).decode())
    except* ColonyError as group:
        await tell_error(group)


async def _first_frame() -> ExecRequest:
    with trio.move_on_after(FIRST_FRAME_SECONDS):
        first = await websocket.receive()
        if not isinstance(first, str):
            raise Invalid("exec-request-expected", "the first frame must be text", "send an ExecRequest as JSON")
        raw = wire.parse_json(first)
        if isinstance(raw, dict) and isinstance(raw.get("command"), str):
            raise Invalid("invalid-body", "command: expected a list of words, got text", 'send ["sh", "-c", "..."]')
        request = wire.load(raw, ExecRequest)
        if not request.command or not request.command[0]:
            raise Invalid("empty-command", "there is no command to run", 'send {"command": ["sh", "-c", "..."]}')
        return request
    raise TooSlow("exec-request-late", "no command was named in time", f"send it within {FIRST_FRAME_SECONDS:.0f} s")


async def _attached(running: Running) -> int:
    """Carries input and output until the command has ended and its output was read; returns its exit code."""

    async def output(stream: trio.abc.ReceiveStream, mark: bytes) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(CHUNK_BYTES):
                await websocket.send(mark + bytes(data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_input, running)
        async with trio.open_nursery() as outputs:
            outputs.start_soon(output, running.stdout, STDOUT)
            outputs.start_soon(output, running.stderr, STDERR)
            code = await running.wait()
        nursery.cancel_scope.cancel()
    return code


async def _input(running: Running) -> None:
    while True:
        message: Any = await websocket.receive()
        if isinstance(message, str):
            said = wire.parse_json(message)
            if said == {"eof": True}:
                break
            size = wanted_size(said)
            running.resize(size)
            continue
        try:
            await running.stdin.send_all(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            break
    await running.stdin.aclose()
    await discard_messages()
