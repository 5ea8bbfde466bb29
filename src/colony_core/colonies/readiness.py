"""When is a service ready: its port is open, its page answers, or its log says so."""

import re
from contextlib import aclosing

import trio

from colony_core.errors import TooSlow
from colony_core.isolation import Cell
from colony_core.processes import LogBook, LogLine

from .manifest import Ready, Service

FIRST_POLL_SECONDS = 0.005
LONGEST_POLL_SECONDS = 0.1
HTTP_TRY_SECONDS = 5.0


async def wait_ready(spec: Service, cell: Cell, log: LogBook, *, after: int) -> None:
    """Returns when `spec` is ready by its own rule; a service without one is ready at once.

    `after` is the number of the log line before the service's first. Raises TooSlow (`not-ready`) when the rule's time is over.
    """
    ready = spec.ready
    if ready is None:
        return
    with trio.move_on_after(ready.timeout) as scope:
        if ready.kind == "log":
            await _log_says(ready, spec.name, log, after=after)
        else:
            assert spec.port is not None  # the manifest refuses such rules without a port
            await _port_open(cell, spec.port)
            if ready.kind == "http":
                await _page_answers(cell, spec.port, ready.target)
    if scope.cancelled_caught:
        what = {"port": f"port {spec.port} did not open", "log": f"no log line matched {ready.target!r}"}
        said = what.get(ready.kind, f"GET {ready.target} on port {spec.port} gave no good answer")
        raise TooSlow("not-ready", f"{said} within {ready.timeout:g} s", f"colony logs {cell.name} {spec.name}")


async def _port_open(cell: Cell, port: int) -> None:
    pause = FIRST_POLL_SECONDS
    while not any(listener.port == port for listener in await cell.listeners()):
        await trio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_POLL_SECONDS)


async def _page_answers(cell: Cell, port: int, path: str) -> None:
    pause = FIRST_POLL_SECONDS
    while not await _good_answer(cell, port, path):
        await trio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_POLL_SECONDS)


async def _good_answer(cell: Cell, port: int, path: str) -> bool:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: colony\r\nConnection: close\r\n\r\n"
    head = b""
    with trio.move_on_after(HTTP_TRY_SECONDS):
        try:
            async with await cell.connect(port) as stream:
                await stream.send_all(request.encode("ascii"))
                while len(head) < 12:
                    data = await stream.receive_some(4096)
                    if not data:
                        break
                    head += data
        except (OSError, trio.BrokenResourceError):
            return False
    return re.match(rb"HTTP/1\.[01] [23]\d\d", head) is not None


async def _log_says(ready: Ready, service: str, log: LogBook, *, after: int) -> None:
    async with aclosing(log.follow(after)) as lines:
        async for line in lines:
            if isinstance(line, LogLine) and line.service == service and line_says(line.text, ready.target):
                return


def line_says(line: str, pattern: str) -> bool:
    """Whether a line holds `pattern`, in which `*` stands for anything.

    No regular expression: a manifest may come from an agent, and some expressions take for ever, in the one thread that must not wait.
    """
    at = 0
    for part in pattern.split("*"):
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
