"""Spans to an OpenTelemetry collector, where one is named: the only door to OpenTelemetry, which is an extra.

A thread of the library's sends what has ended, now and then. It waits for nobody's good: where the collector is away or slow, spans are
dropped, and the daemon ends without it after `FLUSH_SECONDS`.
"""

import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import trio

import colony_core
from colony_core.access import redacted
from colony_core.config import Telemetry
from colony_core.errors import Missing
from colony_core.tracing import Facts, NoTracer, Span, Tracer

if TYPE_CHECKING:
    from opentelemetry import trace

FLUSH_SECONDS = 2.0
SEND_SECONDS = 5
STANDARD = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NEXT_STEP = "pip install 'colony[otel]'"

log = logging.getLogger("colony.telemetry")


@asynccontextmanager
async def open_tracer(telemetry: Telemetry, environ: Mapping[str, str] | None = None) -> AsyncIterator[Tracer]:
    """Keeps spans for the time of the block, and at its end sends what is left, for two seconds at most, also when cancelled.

    Raises Missing (`otel-missing`) where `telemetry.otlp` is set and OpenTelemetry is not installed. Its standard variables may be meant
    for other programs: where only they ask, a warning is all.
    """
    env = os.environ if environ is None else environ
    standard = any(env.get(name) for name in STANDARD) and env.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    if not telemetry.otlp and not standard:
        yield NoTracer()
        return
    try:
        provider = _provider(telemetry.otlp)
    except ImportError as error:
        missing = Missing("otel-missing", "traces are asked for, and OpenTelemetry is not installed", NEXT_STEP)
        if telemetry.otlp:
            raise missing from error
        log.warning("%s", missing)
        yield NoTracer()
        return
    try:
        yield OtelTracer(provider)
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(FLUSH_SECONDS):
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)


def _provider(otlp: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    facts: dict[str, str | int] = {"service.version": colony_core.__version__, "process.pid": os.getpid()}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        facts["service.name"] = "colony"
    provider = TracerProvider(resource=Resource.create(facts), shutdown_on_exit=False)
    endpoint = f"{otlp.rstrip('/')}/v1/traces" if otlp else None  # without one the library reads its own variables
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=SEND_SECONDS)))
    return provider


class OtelTracer:
    """Keeps spans with OpenTelemetry."""

    def __init__(self, provider: Any) -> None:
        self._tracer: trace.Tracer = provider.get_tracer("colony", colony_core.__version__)

    @contextmanager
    def span(self, name: str, facts: Facts, *, within: Span | str | None, served: bool = False) -> Iterator[Span]:
        """See Tracer."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if served else SpanKind.INTERNAL
        span = OtelSpan(self._tracer.start_span(name, context=_context(within), kind=kind, attributes=_told(facts)))
        try:
            yield span
        except Exception as error:
            span.note({"error.type": getattr(error, "code", type(error).__name__)}, failed=str(error))
            raise
        finally:
            span.inner.end()


class OtelSpan:
    """A span of OpenTelemetry's."""

    def __init__(self, inner: "trace.Span") -> None:
        self.inner = inner

    @property
    def traceparent(self) -> str:
        """See Span."""
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self.inner, _nothing()))
        return carrier.get("traceparent", "")

    def note(self, facts: Facts, *, name: str = "", failed: str = "") -> None:
        """See Span."""
        from opentelemetry.trace import Status, StatusCode

        self.inner.set_attributes(_told(facts))
        if name:
            self.inner.update_name(name)
        if failed:
            self.inner.set_status(Status(StatusCode.ERROR, redacted(failed)))


def _told(facts: Facts) -> dict[str, str | int | float | bool]:
    return {name: redacted(value) if isinstance(value, str) else value for name, value in facts.items()}


def _context(within: Span | str | None) -> Any:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if isinstance(within, OtelSpan):
        return trace.set_span_in_context(within.inner, _nothing())
    if isinstance(within, str):
        return TraceContextTextMapPropagator().extract({"traceparent": within}, _nothing())
    return _nothing()


def _nothing() -> Any:
    """An empty context: what a task inherited is not asked."""
    from opentelemetry.context import Context

    return Context()
