"""The program that an agent starts as its MCP server: carries lines between its own standard streams and the colony's socket.

Run inside a colony, as a file of its own: it uses the standard library alone and is there in some ten milliseconds. It tells nobody who it
is, the kernel does: the socket's name exists in the colony's own network and nowhere else.

It outlives the daemon. What was asked of one that is killed is asked of the next, but for calls of tools, which may have been carried out:
those end with an error that says so.
"""

import contextlib
import json
import os
import select
import socket
import time
from typing import Any

PATIENCE_SECONDS = 30.0
"""How long what is asked waits for a daemon."""
RETRY_SECONDS = 0.2
READ_BYTES = 65536
NO_DAEMON = "nobody answers for this colony: its daemon is not running, or this is not inside of a colony"
CUT_OFF = "the daemon went away before it answered; look whether it was done before you ask again"


class Bridge:
    """The lines that wait for the socket, and those that wait for an answer."""

    def __init__(self, name: str, source: int, sink: int) -> None:
        self._name = name
        self._source = source
        self._sink = sink
        self._socket: socket.socket | None = None
        self._tried = -RETRY_SECONDS
        self._held: list[tuple[float, bytes]] = []
        """Lines that wait for a daemon, and since when."""
        self._asked: dict[str, tuple[float, bytes]] = {}
        """Requests that wait for an answer, by their id as JSON."""
        self._ended = False
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)
        self._poll.register(sink, 0)  # tells only when nobody reads any more
        self._from_agent = Lines()
        self._from_daemon = Lines()

    def run(self) -> None:
        """Until the agent has hung up and everything that it asked is answered."""
        while not self._ended or self._held or self._asked:
            if self._held and time.monotonic() >= self._tried + RETRY_SECONDS:
                self._connect()
            for fd, _ in self._poll.poll(RETRY_SECONDS * 1000 if self._held else None):
                if fd == self._sink:
                    return
                if fd == self._source:
                    self._hear_agent()
                elif self._socket is not None and fd == self._socket.fileno():
                    self._hear_daemon(self._socket)
            self._give_up()

    def _connect(self) -> None:
        self._tried = time.monotonic()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect("\0" + self._name)
        except OSError:
            connection.close()
            return
        self._socket = connection
        self._poll.register(connection, select.POLLIN)
        held, self._held = self._held, []
        for since, line in held:
            self._send(line, since)

    def _hear_agent(self) -> None:
        data = os.read(self._source, READ_BYTES)
        if not data:
            self._ended = True
            self._poll.unregister(self._source)
        for line in self._from_agent.feed(data):
            self._send(line, time.monotonic())

    def _send(self, line: bytes, since: float) -> None:
        if self._socket is None:
            self._held.append((since, line))
            return
        request = parsed(line)
        if request.get("id") is not None and "method" in request:
            self._asked[json.dumps(request["id"])] = since, line
        with contextlib.suppress(OSError):  # that it has hung up is heard
            self._socket.sendall(line + b"\n")

    def _hear_daemon(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._lose(connection)
        for line in self._from_daemon.feed(data):
            answer = parsed(line)
            if "method" not in answer:
                self._asked.pop(json.dumps(answer.get("id")), None)
            self._say(line)

    def _lose(self, connection: socket.socket) -> None:
        self._poll.unregister(connection)
        connection.close()
        self._socket, self._from_daemon = None, Lines()
        asked, self._asked = self._asked, {}
        for since, line in asked.values():
            if parsed(line).get("method") == "tools/call":
                self._refuse(line, CUT_OFF)
            else:
                self._held.append((since, line))

    def _give_up(self) -> None:
        border = time.monotonic() - PATIENCE_SECONDS
        late = [each for each in self._held if each[0] < border]
        self._held = [each for each in self._held if each[0] >= border]
        for _, line in late:
            self._refuse(line, NO_DAEMON)

    def _refuse(self, line: bytes, message: str) -> None:
        request = parsed(line)
        if request.get("id") is not None:
            error = {"code": -32000, "message": message}
            self._say(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())

    def _say(self, line: bytes) -> None:
        data = line + b"\n"
        while data:
            data = data[os.write(self._sink, data) :]


class Lines:
    """Bytes to whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line for line in lines if line.strip()]


def parsed(line: bytes) -> dict[str, Any]:
    """The object of a line; an empty one where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Bridge("colony", 0, 1).run()
