"""The tracer: when there is one, and that nobody waits for it."""

import sys
import threading
from typing import Any

import pytest
import trio
import trio.testing

from colony_core.config import Telemetry
from colony_core.errors import Missing
from colony_core.tracing import NoTracer
from colony_web import telemetry
from colony_web.telemetry import open_tracer

ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize("environ", [{}, ASKED | {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SERVICE_NAME": "x"}])
async def test_unless_it_is_asked_for_nothing_is_kept(environ: dict[str, str]) -> None:
    async with open_tracer(Telemetry(), environ) as tracer:
        assert isinstance(tracer, NoTracer)
        with tracer.span("x", {}, within=None) as span:
            span.note({"a": 1}, name="y", failed="z")
            assert span.traceparent == ""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra."""
    for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"):
        monkeypatch.setitem(sys.modules, name, None)


async def test_without_the_extra_a_setting_is_refused_with_what_to_install(bare: None) -> None:
    with pytest.raises(Missing) as caught:
        async with open_tracer(Telemetry(otlp="http://127.0.0.1:4318"), {}):
            raise AssertionError("it opened")
    assert (caught.value.code, caught.value.hint) == ("otel-missing", "pip install 'colony[otel]'")


async def test_without_the_extra_a_variable_that_may_be_somebody_elses_is_told_of(bare: None, caplog: Any) -> None:
    async with open_tracer(Telemetry(), ASKED) as tracer:
        assert isinstance(tracer, NoTracer)
    assert "pip install 'colony[otel]'" in caplog.text


async def test_the_end_waits_for_a_collector_no_longer_than_its_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    released, began = threading.Event(), threading.Event()

    class Stuck:
        def get_tracer(self, *words: str) -> None:
            return None

        def shutdown(self) -> None:
            began.set()
            released.wait()

    monkeypatch.setattr(telemetry, "_provider", lambda otlp: Stuck())
    with trio.CancelScope() as scope:
        async with open_tracer(Telemetry(otlp="http://127.0.0.1:4318"), {}):
            scope.cancel()  # also then what is left is sent
            before = trio.current_time()
            await trio.lowlevel.checkpoint()
    assert trio.current_time() - before == telemetry.FLUSH_SECONDS
    assert began.wait(60)
    released.set()
