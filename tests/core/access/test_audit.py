"""Writes are written down, within bounds, and strangers push nobody out."""

from typing import Any

import attrs
import pytest
import trio

from colony_core.access import Audit, AuditRecord
from colony_core.access import audit as module
from colony_core.errors import LimitReached
from colony_core.store import Store


def entry(path: str, *, who: str | None = "uid:0", person: str = "ann") -> AuditRecord:
    return AuditRecord(
        at=1.0, who=who, name=who or "", role="ape", person=person, source="socket", method="POST", path=path,
        target="hello", status=202, code="", request_id="req_1",
    )  # fmt: skip


async def paths(audit: Audit, **choice: Any) -> list[str]:
    return [each.path for each in await audit.page(**{"after": 0, "limit": 1000, **choice})]


async def test_entries_are_kept_in_order_and_found_behind_a_number(store: Store) -> None:
    audit = Audit(store, keep=100)
    for number in range(5):
        await audit.record(entry(f"/{number}", person="ann" if number % 2 else "bob"))
    again = Audit(store, keep=100)
    assert await paths(again) == ["/0", "/1", "/2", "/3", "/4"]
    assert await paths(again, after=2, limit=2) == ["/2", "/3"]
    assert await paths(again, after=None, limit=2) == ["/3", "/4"]
    assert await paths(again, person="ann") == ["/1", "/3"]
    first = (await again.page(after=None, limit=1000))[0]
    assert first == attrs.evolve(entry("/0", person="bob"), seq=1)


async def test_the_oldest_go_and_strangers_push_nobody_out(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PRUNED_EVERY", 10)
    monkeypatch.setattr(module, "STRANGERS_KEPT", 3)
    monkeypatch.setattr(module, "STRANGERS_PER_MINUTE", 1000)
    audit = Audit(store, keep=4)
    for number in range(10):
        await audit.record(entry(f"/known{number}"))
    for number in range(50):
        await audit.record(entry(f"/strange{number}", who=None))
    found = await paths(audit)
    assert found == [*(f"/known{number}" for number in range(6, 10)), "/strange47", "/strange48", "/strange49"]


async def test_a_flood_of_strangers_is_counted_and_not_written(store: Store, autojump_clock: Any) -> None:
    audit = Audit(store, keep=100)
    for number in range(100):
        await audit.record(entry(f"/{number}", who=None))
    assert len(await paths(audit)) == module.STRANGERS_PER_MINUTE
    await trio.sleep(61)
    await audit.record(entry("/later", who=None))
    [last] = await audit.page(after=None, limit=1)
    assert (last.path, last.skipped) == ("/later", 100 - module.STRANGERS_PER_MINUTE)


async def test_whoever_waits_hears_of_the_next_entry(store: Store) -> None:
    audit = Audit(store, keep=100)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                [found] = await audit.next_page(after=0, limit=5)
                assert found.path == "/new"

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await audit.record(entry("/new"))


async def test_a_full_disk_stops_nobodys_work_and_the_entry_is_said(
    store: Store, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(fn: object) -> None:
        raise LimitReached("store-full", "no room left")

    monkeypatch.setattr(store, "write", full)
    await Audit(store, keep=100).record(entry("/lost"))
    assert "/lost" in caplog.text
