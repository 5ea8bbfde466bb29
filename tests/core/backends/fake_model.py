"""A scriptable stand-in for the API that Claude Code talks to, on loopback, so that the real program runs with no network and no key.

The prompt itself decides what the model says, so the server keeps no sessions. A directive anywhere in the newest user text,

    FAKE:[{"tool": "Bash", "input": {"command": "echo hi"}}, {"text": "done"}]

gives the answers to the model calls that follow it, one step each; behind the last the answer is "(script exhausted)". Without a
directive it is "echo: …". The keys of a step, all optional:

    text, thinking          one block of that kind
    tool, input             one use of a tool; `tools: [[name, input], …]` several at once
    delay                   seconds before the answer begins
    chunk, chunk_delay      characters per delta (24), seconds between deltas
    usage, stop_reason      instead of the computed ones
    status, message         an HTTP error instead, with `headers` and `error_type`; `times`: only so often, then the rest of the step
    sse_error, cut          an error event, or a dropped connection, after the stream has begun
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
MARK = "FAKE:"
ADDED_BY_THE_CLI = re.compile(
    r"<(system-reminder|local-command-[a-z]+|command-[a-z]+)>.*?</\1>|\[Request interrupted by user[^\]\n]*\]",
    re.DOTALL,
)
DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}

Step = dict[str, Any]


class FakeModel(ThreadingHTTPServer):
    """The server; `requests` tells the shape of each call it got, never its key."""

    daemon_threads = True

    def __init__(self, port: int = 0, *, log: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._log = log
        self.requests: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._failures: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def new_id(self, kind: str) -> str:
        with self._lock:
            return f"{kind}_fake_{next(self._ids):04d}"

    def note(self) -> None:
        """Writes down when it was asked, where that is wanted: for those who cannot look into this process."""
        if self._log:
            with open(self._log, "a") as log:
                log.write(f"{time.time()}\n")

    def failed_so_far(self, directive: str, index: int) -> int:
        """How often this step has been refused, before this time."""
        with self._lock:
            key = f"{hashlib.sha256(directive.encode()).hexdigest()}/{index}"
            self._failures[key] += 1
            return self._failures[key] - 1


@contextlib.contextmanager
def open_fake_model() -> Iterator[FakeModel]:
    """A model on a free port of loopback."""
    with FakeModel() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def find_step(messages: list[dict[str, Any]]) -> tuple[Step, str, int]:
    """The step for a call, the directive that it comes from, and its index there."""
    for at in range(len(messages) - 1, -1, -1):
        text = _text_of(messages[at]) if messages[at].get("role") == "user" else ""
        if not text:
            continue  # results of tools only
        steps = _directive(text)
        if steps is None:
            return {"text": "echo: " + text[:200]}, "", 0
        index = sum(message.get("role") == "assistant" for message in messages[at + 1 :])
        step = steps[index] if index < len(steps) else {"text": "(script exhausted)"}
        return step, json.dumps(steps), index
    return {"text": "echo:"}, "", 0


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(content, str):
        content = "\n".join(block.get("text", "") for block in content or [] if block.get("type") == "text")
    return ADDED_BY_THE_CLI.sub("", content).strip()


def _directive(text: str) -> list[Step] | None:
    """The last one that is JSON."""
    for found in reversed(list(re.finditer(MARK, text))):
        with contextlib.suppress(ValueError):
            steps, _ = json.JSONDecoder().raw_decode(text[found.end() :].lstrip())
            return steps if isinstance(steps, list) else [steps]
    return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeModel

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self._send_error(404, "no such path")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        if path == "/v1/messages/count_tokens":
            self._send_json(200, {"input_tokens": max(1, len(raw) // 4)})
        elif path == "/v1/messages":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._answer(json.loads(raw), len(raw))
        else:
            self._send_error(404, "no such path")

    def _answer(self, body: dict[str, Any], size: int) -> None:
        self.server.note()
        step, directive, index = find_step(body.get("messages") or [])
        self.server.requests.append(
            {
                "model": body.get("model"),
                "tools": [tool.get("name") for tool in body.get("tools") or []],
                "roles": [message.get("role") for message in body.get("messages") or []],
                "system": json.dumps(body.get("system")),
                "messages": json.dumps(body.get("messages")),
                "step": step,
            }
        )
        time.sleep(step.get("delay", 0))
        if "status" in step and self.server.failed_so_far(directive, index) < step.get("times", 10**9):
            self._send_error(step["status"], step.get("message", f"fake {step['status']}"), step)
            return
        blocks = self._blocks(step)
        stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        usage = {
            "input_tokens": max(1, size // 4),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": max(1, len(json.dumps(blocks)) // 4),
            **step.get("usage", {}),
        }
        message = {
            "id": self.server.new_id("msg"),
            "type": "message",
            "role": "assistant",
            "model": body.get("model", "fake"),
            "content": blocks,
            "stop_reason": step.get("stop_reason", stop),
            "stop_sequence": None,
            "usage": usage,
        }
        if body.get("stream"):
            self._stream(message, step)
        else:
            self._send_json(200, message)

    def _blocks(self, step: Step) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if step.get("thinking"):
            blocks.append({"type": "thinking", "thinking": step["thinking"], "signature": "ZmFrZQ=="})
        if "text" in step:
            blocks.append({"type": "text", "text": step["text"]})
        calls = [*step.get("tools", []), *([[step["tool"], step.get("input", {})]] if "tool" in step else [])]
        for name, given in calls:
            blocks.append({"type": "tool_use", "id": self.server.new_id("toolu"), "name": name, "input": given})
        return blocks or [{"type": "text", "text": ""}]

    def _stream(self, message: dict[str, Any], step: Step) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.send_header("request-id", self.server.new_id("req"))
        self.end_headers()
        self.close_connection = True
        begun = {**message["usage"], "output_tokens": 1}
        self._event(
            {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": begun}}
        )
        if step.get("sse_error"):
            self._event({"type": "error", "error": {"type": step["sse_error"], "message": "fake stream error"}})
            return
        for index, block in enumerate(message["content"]):
            if not self._stream_block(index, block, step):
                return
        delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        self._event({"type": "message_delta", "delta": delta, "usage": message["usage"]})
        self._event({"type": "message_stop"})

    def _stream_block(self, index: int, block: dict[str, Any], step: Step) -> bool:
        """False when the connection was dropped, as the step says."""
        field = {"text": "text", "thinking": "thinking"}.get(block["type"], "partial_json")
        payload = json.dumps(block["input"]) if field == "partial_json" else block[field]
        empty = {**block, **({"input": {}} if field == "partial_json" else {field: ""})}
        self._event({"type": "content_block_start", "index": index, "content_block": empty})
        width = int(step.get("chunk", 24))
        for at in range(0, len(payload), width):
            delta = {"type": DELTAS[field], field: payload[at : at + width]}
            self._event({"type": "content_block_delta", "index": index, "delta": delta})
            if step.get("cut"):
                self.connection.close()
                return False
            time.sleep(step.get("chunk_delay", 0))
        if field == "thinking":
            delta = {"type": "signature_delta", "signature": block["signature"]}
            self._event({"type": "content_block_delta", "index": index, "delta": delta})
        self._event({"type": "content_block_stop", "index": index})
        return True

    def _event(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def _send_error(self, status: int, message: str, step: Step | None = None) -> None:
        step = step or {}
        kind = step.get("error_type") or ERROR_TYPES.get(status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": self.server.new_id("req")}
        self._send_json(status, body, step.get("headers", {}))

    def _send_json(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """For trying things out by hand: prints its port and serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", default="", help="a file for when it was asked, a line each time")
    given = parser.parse_args()
    with FakeModel(given.port, log=given.log) as server:
        print(f"PORT={server.server_address[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
