"""/metrics as Prometheus reads it, and the counters behind `colony top`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from colony_core.testing import open_test_house, spawn_ready
from colony_core.views import ColonyView, UsageView
from colony_web import create_app

from .house import MOMENT, CardboardHouse

Start = Callable[..., Any]


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def used(view: ColonyView) -> UsageView:
    """What a colony uses."""
    return UsageView(
        colony=view.name,
        colony_id=view.id,
        state="running",
        at=MOMENT,
        services=2,
        processes=3,
        cpu_seconds=1.5,
        memory_bytes=1024,
        received_bytes=10,
        sent_bytes=20,
        log_lines=7,
    )


async def test_the_house_its_colonies_and_the_requests_are_told(client: Any, house: CardboardHouse) -> None:
    house.used = (used(house.colony("hello")),)
    await client.get("/api/colonies/hello")
    await client.get("/api/colonies/nobody")
    await client.get("/no/such/route")
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples((await answer.get_data()).decode())
    assert found[of("colony_colonies", state="running")] == 1
    assert found[of("colony_service_ready", colony="hello", service="web")] == 1
    assert found[of("colony_cpu_seconds_total", colony="hello")] == 1.5
    assert found[of("colony_memory_bytes", colony="hello")] == 1024
    assert found[of("colony_log_lines_total", colony="hello")] == 7
    assert found[of("process_resident_memory_bytes")] > 10_000_000
    before = found[of("colony_tasks")]
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(trio.sleep_forever)
        answer = await client.get("/metrics")
        nursery.cancel_scope.cancel()
    assert samples((await answer.get_data()).decode())[of("colony_tasks")] == before + 7
    count = "colony_http_request_duration_seconds_count"
    route = "/api/colonies/<ref>"
    assert found[of(count, method="GET", route=route, status="200")] == 1
    assert found[of(count, method="GET", route=route, status="404")] == 1
    assert found[of(count, method="GET", route="other", status="404")] == 1
    assert (await (await client.get("/api/usage")).get_json())[0]["processes"] == 3


async def test_requests_and_websockets_are_counted_by_the_pattern_of_their_route(serving: Start) -> None:
    served = await serving()
    sockets = "/api/colonies/nobody/exec", "/api/colonies/nobody/terminals/one", "/no/such/route"
    for path in ("/docs", "/login?code=x", *sockets):
        await served.ask(path)
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    for path in sockets:
        await served.ask(path, sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA==", **upgrade)
    found = samples((await served.ask("/metrics")).body.decode())
    counted = [dict(labels) for name, labels in found if name == "colony_http_request_duration_seconds_count"]
    run, show = "/api/colonies/<ref>/exec", "/api/colonies/<ref>/terminals/<terminal>"
    assert {(labels["method"], labels["route"], labels["status"]) for labels in counted} == {
        ("GET", "/docs", "200"), ("GET", "/login", "401"), ("GET", run, "426"), ("GET", show, "426"), ("GET", "other", "404"),
        ("WEBSOCKET", run, "404"), ("WEBSOCKET", show, "404"), ("WEBSOCKET", "other", "404"),
    }  # fmt: skip


@pytest.mark.kernel
async def test_a_real_house_counts_what_its_colonies_use(tmp_path: Path) -> None:
    source = tmp_path / "app"
    source.mkdir()
    (source / "colony.toml").write_text(
        '[services.one]\ncommand = "echo up; exec sleep 1000"\nready = { log = "up" }\n'
    )
    async with open_test_house(tmp_path / "house") as house:
        await spawn_ready(house, "app", source, timeout=120)
        token = (await house.keys.mint("prometheus", "viewer", owner="test")).token
        client = create_app(house).test_client()
        headers = {"Host": "localhost", "Authorization": f"Bearer {token}"}
        found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        with trio.fail_after(120):
            while not found.get(of("colony_log_lines_total", colony="app")):  # the keeper tells of new lines in batches
                answer = await client.get("/metrics", headers=headers)
                found = samples((await answer.get_data()).decode())
    assert found[of("colony_processes", colony="app")] == 1
    assert found[of("colony_memory_bytes", colony="app")] > 0
