"""The house and its colonies in Prometheus' text format, made of what is known at the moment of the question.

Names and units follow prometheus.io/docs/practices/naming. Nothing is kept between two questions but the requests' own counters, which
belong to one app.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import trio
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from colony_core.views import ColonyView, UsageView

from .house import House

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Requests:
    """How many requests were answered, how, and in what time; by method, route and status, so that names of colonies are no labels."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "colony_http_request_duration_seconds",
            "Time from a request's head to the head of its answer.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self._registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answered request."""
        self._seconds.labels(method, route, str(status)).observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)


class _House(Collector):
    """The daemon's own, which tells of what everybody does."""

    def __init__(self, house: House) -> None:
        self._house = house

    def collect(self) -> Iterator[Metric]:
        system = self._house.system()
        last = CounterMetricFamily("colony_events", "Events that were published.")
        last.add_metric([], system.last_event)
        yield last
        tasks = GaugeMetricFamily("colony_tasks", "Tasks of the daemon's loop that live.")
        tasks.add_metric([], trio.lowlevel.current_statistics().tasks_living)
        yield tasks


class _Colonies(Collector):
    """What runs, and these colonies."""

    def __init__(self, house: House, views: Sequence[ColonyView], usage: Iterable[UsageView]) -> None:
        self._house = house
        self._views = views
        ids = {view.id for view in views}
        self._usage = [view for view in usage if view.colony_id in ids]

    def collect(self) -> Iterator[Metric]:
        system = self._house.system()
        yield InfoMetricFamily("colony_build", "What runs.", value={"version": system.version, "mode": system.mode})
        yield from self._states()
        yield from self._used()

    def _states(self) -> Iterator[Metric]:
        views = self._views
        colonies = GaugeMetricFamily("colony_colonies", "Colonies by state.", labels=["state"])
        for state, number in sorted(Counter(view.state for view in views).items()):
            colonies.add_metric([state], number)
        yield colonies
        ready = GaugeMetricFamily("colony_service_ready", "1 while a service is ready.", labels=["colony", "service"])
        restarts = CounterMetricFamily(
            "colony_service_restarts", "Restarts since its last start.", labels=["colony", "service"]
        )
        for service in (service for view in views for service in view.services):
            ready.add_metric([service.colony, service.name], service.state == "ready")
            restarts.add_metric([service.colony, service.name], service.restarts)
        yield ready
        yield restarts

    def _used(self) -> Iterator[Metric]:
        for name, text, field in (
            ("cpu_seconds", "Processor time of a colony's living processes.", "cpu_seconds"),
            ("network_received_bytes", "Bytes that came over a colony's cable.", "received_bytes"),
            ("network_sent_bytes", "Bytes that left over a colony's cable.", "sent_bytes"),
            ("log_lines", "Lines of a colony's log.", "log_lines"),
        ):
            counter = CounterMetricFamily(f"colony_{name}", text, labels=["colony"])
            for view in self._usage:
                counter.add_metric([view.colony], getattr(view, field))
            yield counter
        for name, text, field in (
            ("memory_bytes", "Resident memory of a colony's processes.", "memory_bytes"),
            ("processes", "Living processes of a colony.", "processes"),
        ):
            gauge = GaugeMetricFamily(f"colony_{name}", text, labels=["colony"])
            for view in self._usage:
                gauge.add_metric([view.colony], getattr(view, field))
            yield gauge


def text(
    house: House, views: Sequence[ColonyView], usage: Iterable[UsageView], requests: Requests, *, whole: bool
) -> bytes:
    """These colonies, as Prometheus reads it, and where it is the `whole` the daemon itself and what was asked of it."""
    registry = CollectorRegistry()
    registry.register(_Colonies(house, views, usage))
    if whole:
        registry.register(_House(house))
        ProcessCollector(registry=registry)
    return generate_latest(registry) + (requests.text() if whole else b"")
