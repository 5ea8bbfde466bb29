"""Traces of a running daemon, as a collector receives them."""

import json
from pathlib import Path

import pytest

from colony_core.remote import calls

from .api import Api
from .collector import facts, running_collector
from .driver import PATIENCE_SECONDS, Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MANIFEST = """
[setup]
commands = [["sh", "-c", "echo $TRACEPARENT > traceparent"]]
[services.web]
command = ["python3", "-m", "http.server", "4001", "--bind", "127.0.0.1"]
port = 4001
"""


def test_a_spawn_is_one_trace_from_the_caller_to_the_readiness_of_its_services(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    with running_collector() as collector:
        daemon.environment["COLONY_TELEMETRY__OTLP"] = collector.url
        with daemon.running():
            folder = tmp_path / "app"
            folder.mkdir()
            (folder / "colony.toml").write_text(MANIFEST)
            api = Api(daemon)
            status, _, said = api.ask(
                "/api/colonies", api.bearer, "Content-Type: application/json", f"traceparent: 00-{TRACE}-{PARENT}-01",
                "X-Request-Id: spawn-of-app", method="POST", body=json.dumps({"name": "app", "path": str(folder)}).encode(),
            )  # fmt: skip
            assert status == 201, said
            daemon.until_ready("app")
            names = ("POST /api/colonies", "colony.start", "colony.cell", "colony.setup", "colony.service")
            daemon.until(lambda: all(collector.named(name) for name in names), "every span")
            asked, start, cell, setup, service = (collector.named(name) for name in names)
            assert {span.trace_id.hex() for span in (asked, start, cell, setup, service)} == {TRACE}
            assert asked.parent_span_id.hex() == PARENT
            assert start.parent_span_id == asked.span_id
            assert {span.parent_span_id for span in (cell, setup, service)} == {start.span_id}
            assert facts(asked) == {
                "http.request.method": "POST", "http.route": "/api/colonies", "http.response.status_code": 201,
                "http.response.body.size": facts(asked)["http.response.body.size"], "colony.request_id": "spawn-of-app",
                "colony.target": "app",
            }  # fmt: skip
            assert facts(service)["colony.service"] == "web"
            assert (folder / "traceparent").read_text() == f"00-{TRACE}-{setup.span_id.hex()}-01\n"
            assert (collector.resource["service.name"], setup.status.code) == ("colony", 0)


def test_a_failure_is_one_in_its_trace_and_every_other_request_begins_a_trace_of_its_own(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    with running_collector() as collector:
        daemon.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        with daemon.running():
            daemon.spawn("bad", '[setup]\ncommands = [["sh", "-c", "exit 3"]]\n[services.x]\ncommand = ["true"]\n')
            daemon.until(lambda: collector.named("colony.start") and collector.named("colony.setup"), "the start")
            start, setup = collector.named("colony.start"), collector.named("colony.setup")
            assert (start.status.code, facts(start)["error.type"]) == (2, "setup-failed")
            assert (setup.status.code, setup.parent_span_id) == (2, start.span_id)
            daemon.send(calls.system())
            daemon.send(calls.system())
            daemon.until(lambda: [span.name for span in collector.spans].count("GET /api/system") >= 2, "both")
            spans = [span for span in collector.spans if span.name == "GET /api/system"]
            assert {span.parent_span_id for span in spans} == {b""}
            assert len({span.trace_id for span in spans}) == len(spans)
            daemon.environment["TRACEPARENT"] = f"00-{TRACE}-{PARENT}-01"
            daemon.cli("ls")
            listed = daemon.until(lambda: collector.named("GET /api/colonies"), "that of the command")
            assert (listed.trace_id.hex(), listed.parent_span_id.hex()) == (TRACE, PARENT)


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    with running_collector(silent=True) as collector:
        daemon.environment["COLONY_TELEMETRY__OTLP"] = collector.url
        with daemon.running():
            daemon.send(calls.system())
            daemon.until(collector.asked.is_set, "the collector is asked")
            for _ in range(20):
                daemon.send(calls.system())
            daemon.send(calls.shutdown(colonies=True))
            assert daemon.process is not None
            assert daemon.process.wait(PATIENCE_SECONDS) == 0
            assert not collector.released.is_set()
