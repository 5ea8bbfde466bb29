"""A small daemon in Colony's words: the routes and views of the API on a Unix socket, from a dictionary, by the standard library only.

It plays what the tests tell it: colonies pass through the states of `script` when they are started, and every change is an event.
"""

import base64
import hashlib
import json
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

AT = "2026-01-31T08:15:00.250Z"


def service(name: str, colony: str, **fields: Any) -> dict[str, Any]:
    """A ServiceView."""
    view: dict[str, Any] = {
        "name": name, "colony": colony, "colony_id": f"col_{colony}", "state": "ready", "reason": "", "since": AT,
        "command": "python3 server.py", "port": 4001, "url": f"http://{name}.{colony}.colony.localhost:8088", "pid": 71,
        "restarts": 0, "last_exit": None, "depends_on": [], "restart": "permanent",
    }  # fmt: skip
    return view | fields


def colony(name: str, **fields: Any) -> dict[str, Any]:
    """A ColonyView of a running colony with the services web and api."""
    view: dict[str, Any] = {
        "id": f"col_{name}", "name": name, "garden": "local", "owner": "root", "state": "running", "reason": "", "since": AT,
        "created_at": AT, "description": "", "template": None, "source": f"/home/ape/{name}", "user": "ape",
        "namespace": f"ns-{name}", "address": "10.200.0.3", "url": f"http://{name}.colony.localhost:8088",
        "start_seconds": 0.21,
        "steps": [
            {"name": "namespace", "detail": f"ns-{name}", "seconds": 0.0004},
            {"name": "veth", "detail": f"veth-{name}-host 10.200.0.3", "seconds": 0.0021},
        ],
        "services": [service("web", name), service("api", name, port=4002)],
        "notes": [], "limits": {}, "environment": {}, "terminal": None,
    }  # fmt: skip
    return view | fields


def backend(name: str, detail: str, *, hint: str = "", version: str = "", why: str = "") -> dict[str, Any]:
    """A kind of coding agent; one with `why` is ready and chosen."""
    found = {"name": name, "detail": detail, "hint": hint, "version": version, "why": why}
    return {**found, "ready": bool(why), "chosen": bool(why)}


class StandIn:
    """The state of the stand-in, and what was asked of it (`asked`: method and path with query, in order)."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.colonies: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.events: list[dict[str, Any]] = []
        self.audit: list[dict[str, Any]] = []
        self.tokens: list[dict[str, Any]] = []
        self.usage: list[list[dict[str, Any]]] = [[]]
        self.backends: list[dict[str, Any]] = [
            backend("hld", "hld daemon not running", hint="make hld-start, or colony backend hld start"),
            backend(
                "claude",
                "/usr/bin/claude",
                version="2.1.197",
                why="auto: /usr/bin/claude (hld: hld daemon not running)",
            ),
        ]
        self.work: set[str] = set()
        """Colonies with work that exists nowhere else."""
        self.page_lines = 10_000
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.problems: dict[str, tuple[int, dict[str, Any]]] = {}
        """By `METHOD path`: the status and problem to answer with."""
        self.meanwhile: dict[str, Callable[[], None]] = {}
        """By `METHOD path`: what happens before that is answered."""
        self.start_states: list[str] = ["provisioning", "running"]
        self.stalled = False
        """Whether starts stay in their first state."""
        self.patient = True
        """Whether questions for events wait for the first."""
        self.version = "0.1.0"
        self.shutdown: dict[str, Any] | None = None
        self.exec_requests: list[Any] = []
        self.stream_lines: list[dict[str, Any]] = []
        self.pid = 4_194_303
        self.closing = False
        self.slow_seconds = 0.0
        """How long every answer takes."""

    def add(self, name: str, **fields: Any) -> dict[str, Any]:
        """A colony that is there."""
        self.colonies[name] = colony(name, **fields)
        return self.colonies[name]

    def log(self, name: str, *texts: str, service: str = "web", stream: str = "out") -> None:
        """Lines in a colony's log."""
        with self.lock:
            lines = self.lines.setdefault(name, [])
            for text in texts:
                lines.append({"seq": len(lines) + 1, "at": AT, "service": service, "stream": stream, "text": text})
            self.lock.notify_all()

    def publish(self, **event: Any) -> None:
        """An event."""
        with self.lock:
            self.events.append({"seq": len(self.events) + 1, "at": AT, **event})
            self.lock.notify_all()

    def enter(self, view: dict[str, Any], state: str, reason: str = "") -> None:
        """A colony goes into a state."""
        with self.lock:  # nobody is answered with a half of it
            before, view["state"], view["reason"] = view["state"], state, reason
            self.publish(
                type="colony_state",
                colony=view["name"],
                colony_id=view["id"],
                before=before,
                state=state,
                reason=reason,
            )

    def play(self, view: dict[str, Any]) -> None:
        """Goes through the states of a start."""
        for state in self.start_states:
            time.sleep(0.01)
            self.enter(view, state, "command not found: nope" if state == "failed" else "")

    def restart(self, view: dict[str, Any], name: str) -> None:
        """A service is started anew."""
        event = {"type": "service_state", "colony": view["name"], "colony_id": view["id"], "service": name}
        for before, state in (("ready", "stopping"), ("stopping", "starting"), ("starting", "ready")):
            self.publish(**event, before=before, state=state, reason="", pid=72, restarts=0)

    def until(self, reached: Callable[[], bool]) -> None:
        """Waits until something is so; changes that were asked for come by other threads."""
        deadline = time.monotonic() + 120.0
        while not reached():
            assert time.monotonic() < deadline, self.asked
            time.sleep(0.005)

    def system(self) -> dict[str, Any]:
        """The SystemView."""
        return {
            "version": self.version, "api": 1, "pid": self.pid, "started_at": AT, "mode": "root", "egress": "nat",
            "garden": "local", "domain": "colony.localhost", "preview_port": 8088, "socket": "/run/colony/colony.sock",
            "state_folder": "/root/.local/state/colony", "colonies": len(self.colonies), "last_event": len(self.events),
            "keeper_pid": 12, "notes": [], "preview_url": "http://<service>.<colony>.colony.localhost:8088/",
        }  # fmt: skip


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    stand_in: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error."""


class _Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, hint: str = "", **more: Any) -> None:
        self.status = status
        self.body = {
            "type": f"/errors/{code}", "title": code, "status": status, "detail": detail, "code": code, "hint": hint, **more
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def house(self) -> StandIn:
        return self.server.stand_in

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        split = urlsplit(self.path)
        self.query = parse_qs(split.query)
        self.parts = [unquote(part) for part in split.path.strip("/").split("/")]
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.house.asked.append(f"{self.command} {self.path}")
        self.house.bodies.append(body)
        deadline = time.monotonic() + self.house.slow_seconds
        while time.monotonic() < deadline and not self.house.closing:
            time.sleep(0.02)
        self.house.meanwhile.get(f"{self.command} {split.path}", lambda: None)()
        try:
            planned = self.house.problems.get(f"{self.command} {split.path}")
            if planned:
                raise _Problem(planned[0], **planned[1])
            if self.parts[-1] == "exec":
                self._exec()
                return
            if self.parts[-2:] == ["logs", "stream"]:
                self._stream()
                return
            status, reply = self._route(body)
        except _Problem as problem:
            self._send(problem.status, problem.body, "application/problem+json")
        else:
            self._send(status, reply)
        if self.house.shutdown is not None:
            self.house.closing = True
            threading.Thread(target=_end, args=(self.server,), daemon=True).start()

    def _send(self, status: int, reply: Any, kind: str = "application/json") -> None:
        with self.house.lock:
            data = b"" if reply is None else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Colony-Version", self.house.version)
        self.end_headers()
        self.wfile.write(data)

    def _route(self, body: Any) -> tuple[int, Any]:
        house = self.house
        match [self.command, *self.parts[1:]]:
            case ["GET", "system"]:
                return 200, house.system()
            case ["GET", "system", "tree"]:
                return 200, {"text": "mycelium\n└─ colonies\n", "tree": {"name": "mycelium", "children": []}}
            case ["POST", "system", "reload"]:
                return 200, {"changed": ["processes.grace"], "waiting": ["server.port"]}
            case ["POST", "system", "shutdown"]:
                house.shutdown = body
                return 202, {}
            case ["GET", "colonies"]:
                return 200, [house.colonies[name] for name in sorted(house.colonies)]
            case ["POST", "colonies"]:
                return self._spawn(body)
            case ["GET", "events"]:
                return 200, self._events()
            case ["GET", "backends"]:
                return 200, house.backends
            case ["GET", "usage"]:
                return 200, house.usage.pop(0) if len(house.usage) > 1 else house.usage[0]
            case ["POST", "logins"]:
                return 201, {"url": "http://localhost:1/login?code=x", "path": "/login?code=x", "seconds": 60.0}
            case ["GET", "audit"]:
                after = int(self._one("after", "0"))
                return 200, [entry for entry in house.audit if entry["seq"] > after]
            case ["GET", "tokens"]:
                return 200, house.tokens
            case ["POST", "tokens"]:
                made = {"id": "tok_1", "created_at": AT, "token": None, **body}
                house.tokens.append(made)
                return 201, made | {"token": "colony_secret"}
            case ["DELETE", "tokens", key]:
                if all(token["id"] != key for token in house.tokens):
                    raise _Problem(404, "token-not-found", f"token “{key}” not found", "colony token ls")
                house.tokens = [token for token in house.tokens if token["id"] != key]
                return 204, None
            case [_, "colonies", ref, *rest]:
                return self._colony(self._find(ref), rest, body)
        raise _Problem(404, "not-found", f"no route {self.path}")

    def _find(self, ref: str) -> dict[str, Any]:
        for view in self.house.colonies.values():
            if ref in (view["name"], view["id"]):
                return view
        raise _Problem(404, "colony-not-found", f"colony “{ref}” not found", "colony ls")

    def _spawn(self, body: Any) -> tuple[int, Any]:
        house = self.house
        if body["name"] in house.colonies:
            raise _Problem(409, "colony-exists", f"there is already a colony “{body['name']}”", "take another name")
        view = colony(body["name"], state="spawning", source=body["path"])
        if body.get("dry_run"):
            return 200, view
        house.colonies[body["name"]] = view
        house.publish(type="colony_created", colony=view["name"], colony_id=view["id"])
        if not body.get("start", True):
            house.enter(view, "stopped")
        elif not house.stalled:
            threading.Thread(target=house.play, args=(view,), daemon=True).start()
        return 201, dict(view)

    def _colony(self, view: dict[str, Any], rest: list[str], body: Any) -> tuple[int, Any]:
        house = self.house
        match [self.command, *rest]:
            case ["GET"]:
                return 200, view
            case ["DELETE"]:
                if view["name"] in house.work and self.query.get("discard") != [view["name"]]:
                    lost = {"name": view["name"], "commits": ["0a1b2c3 Work"], "files": ["b.txt"]}
                    detail = f"{view['name']} holds work that exists nowhere else"
                    raise _Problem(409, "work-would-be-lost", detail, "colony merge", kind="WrongState", details=lost)
                del house.colonies[view["name"]]
                house.publish(type="colony_removed", colony=view["name"], colony_id=view["id"])
                return 204, None
            case ["POST", "start"] if view["state"] == "running":
                return 202, dict(view)
            case ["POST", "start" | "restart"]:
                house.enter(view, "spawning")
                if not house.stalled:
                    threading.Thread(target=house.play, args=(view,), daemon=True).start()
                return 202, dict(view)
            case ["POST", "stop"]:
                house.enter(view, "stopping")
                if not house.stalled:
                    threading.Thread(
                        target=lambda: (time.sleep(0.01), house.enter(view, "stopped")), daemon=True
                    ).start()
                return 202, dict(view)
            case ["POST", "apply"]:
                dry = bool((body or {}).get("dry_run"))
                if not dry and not house.stalled:
                    house.restart(view, "web")
                return 200, {"colony": view, "changes": ["web: port 4001 → 4003"], "restarted": ["web"], "dry_run": dry}
            case ["GET", "services"]:
                return 200, view["services"]
            case ["POST", "services", name, ("start" | "stop" | "restart") as verb]:
                found = next((s for s in view["services"] if s["name"] == name), None)
                if found is None:
                    raise _Problem(
                        404, "service-not-found", f"{view['name']} has no service “{name}”", "colony service ls"
                    )
                found["state"] = "stopped" if verb == "stop" else "ready"
                return 202, found
            case ["GET", "logs"]:
                return 200, self._page(view["name"])
        raise _Problem(404, "not-found", f"no route {self.path}")

    def _page(self, name: str) -> dict[str, Any]:
        lines = self.house.lines.get(name, [])
        after, limit = int(self._one("after", "0")), int(self._one("limit", "1000"))
        wanted = set(self.query.get("service", []))
        kept = [line for line in lines if line["seq"] > after and (not wanted or line["service"] in wanted)]
        since, until = self._one("since", ""), self._one("until", "~")
        kept = [line for line in kept if since <= line["at"] <= until]
        if "tail" in self.query:
            kept = kept[-int(self._one("tail", "0")) :] if int(self._one("tail", "0")) else []
        return {"lines": kept[: min(limit, self.house.page_lines)], "first": 1, "last": len(lines), "missed": 0}

    def _one(self, key: str, default: str) -> str:
        return self.query.get(key, [default])[0]

    def _events(self) -> list[dict[str, Any]]:
        after, deadline = int(self._one("after", "0")), time.monotonic() + float(self._one("wait_seconds", "0"))
        with self.house.lock:
            while (
                self.house.patient
                and not any(event["seq"] > after for event in self.house.events)
                and (left := deadline - time.monotonic()) > 0
            ):
                self.house.lock.wait(min(left, 0.2))
            newer = [event for event in self.house.events if event["seq"] > after]
            return newer[: int(self._one("limit", "1000"))]

    def _stream(self) -> None:
        name = self._find(self.parts[2])["name"]
        after = int(self.headers.get("Last-Event-ID") or self._one("after", "0"))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while not self.house.closing:
            with self.house.lock:
                lines = list(self.house.lines.get(name, []))[after:]
                if not lines:
                    self.house.lock.wait(0.1)
            for line in lines:
                after = line["seq"]
                self.wfile.write(f"id: {after}\nevent: line\ndata: {json.dumps(line)}\n\n".encode())
            if not lines:
                self.wfile.write(b": still here\n\n")

    # exec: a WebSocket by hand

    def _exec(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        found = any(self.parts[2] in (view["name"], view["id"]) for view in self.house.colonies.values())
        self.send_response(101)
        for header, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(header, value)
        self.end_headers()
        self.close_connection = True
        request = json.loads(self._frame()[1])
        self.house.exec_requests.append(request)
        if not found:
            problem = {
                "status": 404,
                "code": "colony-not-found",
                "detail": "colony “ghost” not found",
                "hint": "colony ls",
            }
            self._text({"error": problem})
        else:
            self._echo(request["command"])
        self._put(8, struct.pack("!H", 1000))

    def _echo(self, command: list[str]) -> None:
        if command[0] == "sleep":
            while self._frame()[0] not in (8, -1):
                pass
            return
        self._put(2, b"\x01" + " ".join(command).encode() + b"\n")
        self._put(2, b"\x02to stderr\n")
        if command[0] == "cat":
            while True:
                opcode, data = self._frame()
                if opcode != 2:
                    break
                self._put(2, b"\x01" + data)
        self._text({"exit": int(command[1]) if command[0] == "exit" else 0})

    def _text(self, value: Any) -> None:
        self._put(1, json.dumps(value).encode())

    def _put(self, opcode: int, data: bytes) -> None:
        longer = struct.pack("!BH", 126, len(data)) if len(data) < 2**16 else struct.pack("!BQ", 127, len(data))
        size = bytes([len(data)]) if len(data) < 126 else longer
        self.wfile.write(bytes([0x80 | opcode]) + size + data)

    def _frame(self) -> tuple[int, bytes]:
        head = self.rfile.read(2)
        if len(head) < 2:
            return -1, b""
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.rfile.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        return head[0] & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))


def _end(server: _Server) -> None:
    time.sleep(0.05)
    Path(str(server.server_address)).unlink(missing_ok=True)
    server.shutdown()
    server.server_close()


@contextmanager
def open_stand_in(path: Path) -> Iterator[StandIn]:
    """Serves a stand-in at a socket's path; gone when the block ends."""
    house = StandIn()
    with _Server(str(path), _Handler) as server:
        server.stand_in = house
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield house
        finally:
            house.closing = True
            server.shutdown()
            thread.join()
