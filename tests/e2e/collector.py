"""A small OpenTelemetry collector: it takes traces over HTTP and keeps them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """What came in. With `silent` it reads and never answers, until it ends."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.resource: dict[str, Any] = {}
        self.spans: list[Any] = []
        self.asked = threading.Event()
        self.released = threading.Event()

    def named(self, name: str) -> Any | None:
        """The newest span of that name."""
        return next((span for span in reversed(self.spans) if span.name == name), None)

    def take(self, body: bytes) -> None:
        """Keeps what an exporter sent."""
        sent = ExportTraceServiceRequest.FromString(body)
        for group in sent.resource_spans:
            self.resource |= facts(group.resource)
            self.spans += [span for scope in group.scope_spans for span in scope.spans]


def facts(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


@contextmanager
def running_collector(*, silent: bool = False) -> Iterator[Collector]:
    """A collector on a free port, for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked.set()
            if silent:
                collector.released.wait()
            elif self.path == "/v1/traces":
                collector.take(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
