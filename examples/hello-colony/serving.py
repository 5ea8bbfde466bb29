"""What both services share: answers, one log line per request, and an end that lets running requests finish."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

COLONY = os.environ.get("COLONY_NAME", "no-colony")
FINISH_SECONDS = 2.0


class Server(ThreadingHTTPServer):
    """Serves on 127.0.0.1 until SIGTERM or Ctrl-C; `stopping` is set before its last requests are waited for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, handler: type["Handler"]) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.stopping = threading.Event()
        self.running = 0
        self.changed = threading.Condition()

    def serve(self) -> None:
        """Returns when the last request is answered, or after two seconds."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        print(f"listening on http://127.0.0.1:{self.server_port}, pid {os.getpid()}", flush=True)
        self.stopping.wait()
        self.shutdown()
        with self.changed:
            done = self.changed.wait_for(lambda: not self.running, FINISH_SECONDS)
        self.server_close()
        print("stopped" if done else f"stopped with {self.running} requests unanswered", flush=True)


class Handler(BaseHTTPRequestHandler):
    """Answers with `do_GET` and its like of a subclass."""

    protocol_version = "HTTP/1.1"
    server_version = "hello-colony"
    sys_version = ""
    timeout = 60
    began: float | None = None

    @property
    def owner(self) -> Server:
        """The server, with its own type."""
        return cast(Server, self.server)

    def parse_request(self) -> bool:
        """From here on there is a request, and not only an open connection."""
        self.began = time.perf_counter()
        with self.owner.changed:
            self.owner.running += 1
        return super().parse_request()

    def handle_one_request(self) -> None:
        """Serves one request; a client that went away is no error of ours."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            if self.began is not None:
                self.began = None
                with self.owner.changed:
                    self.owner.running -= 1
                    self.owner.changed.notify_all()

    def answer(self, status: int, body: bytes, kind: str) -> None:
        """Sends a whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.owner.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, status: int, value: Any) -> None:
        """Sends `value` as JSON."""
        self.answer(status, json.dumps(value).encode() + b"\n", "application/json")

    def health(self) -> None:
        """Says that this service is well, and who it is."""
        self.answer_json(200, {"ok": True, "colony": COLONY, "pid": os.getpid()})

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line per request."""
        milliseconds = (time.perf_counter() - (self.began or time.perf_counter())) * 1000
        print(f"{self.command} {self.path} {getattr(code, 'value', code)} {milliseconds:.1f} ms", flush=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """What else the base class wants to say."""
        print(format % args, flush=True)
