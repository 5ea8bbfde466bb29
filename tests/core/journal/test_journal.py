"""Every event is kept under its number, told when it is kept, and found again behind any cursor."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from colony_core.errors import LimitReached, WrongState
from colony_core.events import ColonyCreated, Event, HouseEvent, ProjectStateChanged, ServiceStateChanged
from colony_core.journal import EVERYTHING, Entry, Journal, Selection, journal, open_journal
from colony_core.journal.ceiling import Ceiling
from colony_core.store import Store, open_store
from colony_core.supervision import ChildSpec, open_supervisor


def said(what: str) -> HouseEvent:
    return HouseEvent(what=what, message="")


def made(colony: str, *, owner: str = "ann") -> ColonyCreated:
    return ColonyCreated(colony=colony, colony_id=f"col_{colony}", owner=owner)


def served(colony: str, service: str) -> ServiceStateChanged:
    return ServiceStateChanged(
        colony=colony, colony_id=f"col_{colony}", owner="ann", service=service, before="starting", state="ready",
        reason="", pid=1, restarts=0,
    )  # fmt: skip


class Moody:
    """A store that can be told to take no writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.full = False

    async def write(self, fn: Any) -> Any:
        if self.full:
            raise LimitReached("store-full", "no room left")
        return await self._store.write(fn)

    async def read(self, fn: Any) -> Any:
        return await self._store.read(fn)


@asynccontextmanager
async def kept_in(folder: Path, *, keep: int = 1000, running: bool = True) -> AsyncIterator[tuple[Journal, Moody]]:
    """A journal on the folder's store, with its task."""
    async with open_store(folder / "s.db") as store:
        moody = Moody(store)
        async with (
            open_journal(moody, folder / "events.ceiling", keep=keep) as log,
            open_supervisor([ChildSpec(id="journal", run=log.run)] if running else [], name="t"),
        ):
            yield log, moody


async def told(log: Journal, upto: int) -> None:
    """Returns when number `upto` was told."""
    with trio.fail_after(120):
        async with aclosing(log.listen(log.last)) as batches:  # type: ignore[type-var]
            while log.last < upto:
                await anext(batches)


async def pages(log: Journal, after: int, *, limit: int = 7, selection: Selection = EVERYTHING) -> list[Entry]:
    """Everything that is told behind `after`, page by page."""
    found: list[Entry] = []
    while after < log.last:
        page, after = await log.page(after, limit=limit, selection=selection)
        assert len(page) <= limit
        found += page
    return found


def spans(entries: list[Entry]) -> list[int]:
    """The numbers that entries tell of, holes included."""
    return [number for entry in entries for number in range(entry.first, entry.seq + 1)]


async def test_an_event_is_told_when_it_is_kept_and_not_before(tmp_path: Path) -> None:
    async with kept_in(tmp_path, running=False) as (log, _):
        log.bus.publish(said("early"))
        await trio.testing.wait_all_tasks_blocked()
        assert (log.last, await log.page(0), await log.newest(5)) == (0, ((), 0), ())
        await log.flush()
        assert log.last == 1
        [entry] = await log.newest(5)
        assert '"what":"early"' in entry.text


async def test_publishing_takes_no_step_though_it_is_kept(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as (log, _):
        with trio.testing.assert_no_checkpoints():
            assert log.bus.publish(said("now")).seq == 1
        await told(log, 1)


async def test_a_reader_behind_any_number_gets_each_later_event_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(journal, "RECENT_ENTRIES", 10)
    async with kept_in(tmp_path) as (log, _):
        for number in range(60):
            log.bus.publish(said(str(number)))
            if number % 20 == 0:
                await told(log, number + 1)
        await told(log, 60)
        for after in range(61):
            assert spans(await pages(log, after)) == list(range(after + 1, 61))
        assert [entry.seq for entry in await log.newest(25)] == list(range(36, 61))


async def test_numbers_and_texts_stay_across_a_restart(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as (log, _):
        for number in range(5):
            log.bus.publish(said(str(number)))
        await told(log, 5)
        before = await pages(log, 0)
        log.bus.publish(said("last"))
    async with kept_in(tmp_path) as (log, _):
        after = await pages(log, 0)
        assert after[:5] == before
        assert log.bus.publish(said("next")).seq == 7


async def test_what_is_more_than_wanted_goes_and_is_told_as_missed(tmp_path: Path) -> None:
    async with kept_in(tmp_path, keep=10) as (log, _):
        for number in range(30):
            log.bus.publish(said(str(number)))
        await told(log, 30)
    async with kept_in(tmp_path, keep=10) as (log, _):
        found = await pages(log, 4)
        assert [(entry.kind, entry.first, entry.seq) for entry in found][:2] == [("missed", 5, 20), ("house", 21, 21)]
        assert spans(found) == list(range(5, 31))


async def test_old_events_go_but_never_the_newest(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as (log, _):
        for number in range(5):
            log.bus.publish(said(str(number)))
        await told(log, 5)
        [_, _, third, *_] = await pages(log, 0)
        await log.forget(third.at)
    async with kept_in(tmp_path) as (log, _):
        assert {3, 4, 5} <= {entry.seq for entry in await pages(log, 0) if entry.kind == "house"}
        await log.forget(third.at + 1e6)
    async with kept_in(tmp_path) as (log, _):
        assert [(entry.kind, entry.seq) for entry in await pages(log, 0)] == [("missed", 4), ("house", 5)]
        assert log.bus.publish(said("next")).seq == 6


EVENTS: tuple[Event, ...] = (
    said("one"),
    made("a"),
    made("b", owner="bob"),
    served("a", "web"),
    served("b", "web"),
    served("a", "api"),
    ProjectStateChanged(project="shop", state="ready", reason="", owner="ann"),
    ProjectStateChanged(project="bank", state="ready", reason="", owner="bob"),
)


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (EVERYTHING, [1, 2, 3, 4, 5, 6, 7, 8]),
        (Selection(colonies=frozenset({"a"})), [2, 4, 6]),
        (Selection(colonies=frozenset({"col_b", "nobody"})), [3, 5]),
        (Selection(services=frozenset({"web"})), [4, 5]),
        (Selection(kinds=frozenset({"house", "colony_created"})), [1, 2, 3]),
        (Selection(colonies=frozenset({"a"}), services=frozenset({"web"})), [4]),
        (Selection(within="col_b"), [3, 5]),
        (Selection(owner="bob"), [1, 3, 8]),
    ],
)
async def test_a_choice_is_the_same_from_memory_and_from_the_store(
    tmp_path: Path, selection: Selection, numbers: list[int]
) -> None:
    async with kept_in(tmp_path) as (log, _):
        for event in EVENTS:
            log.bus.publish(event)
        await told(log, len(EVENTS))
        fresh = await pages(log, 0, limit=2, selection=selection)
        assert [entry.seq for entry in fresh] == numbers
        assert [entry.seq for entry in await log.newest(2, selection=selection)] == numbers[-2:]
    async with kept_in(tmp_path) as (log, _):
        assert await pages(log, 0, limit=2, selection=selection) == fresh
        assert [entry.seq for entry in await log.newest(2, selection=selection)] == numbers[-2:]


async def test_a_cursor_that_nobody_was_told_is_refused(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as (log, _):
        with pytest.raises(WrongState, match="never told") as refused:
            log.cursor(1)
        assert refused.value.code == "cursor-ahead"
        log.bus.publish(said("one"))
        await told(log, 1)
        assert (log.cursor(1), log.cursor(None), log.cursor(0)) == (1, 1, 0)


async def test_a_listener_hears_from_its_number_on_and_then_what_comes(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as (log, _):
        for number in range(3):
            log.bus.publish(said(str(number)))
        await told(log, 3)
        heard: list[int] = []
        async with aclosing(log.listen(1)) as batches:  # type: ignore[type-var]
            heard += [entry.seq for entry in await anext(batches)]
            log.bus.publish(said("more"))
            heard += [entry.seq for entry in await anext(batches)]
        assert heard == [2, 3, 4]


# ---- a store that refuses


async def test_while_the_store_refuses_events_are_told_and_then_kept_after_all(tmp_path: Path) -> None:
    async with kept_in(tmp_path) as (log, store):
        log.bus.publish(said("kept"))
        await told(log, 1)
        store.full = True
        for number in range(5):
            log.bus.publish(said(str(number)))
        await told(log, 6)
        live = await pages(log, 0)
        store.full = False
        log.bus.publish(said("again"))
        await told(log, 7)
        await until_settled(tmp_path)
    async with kept_in(tmp_path) as (log, _):
        assert (await pages(log, 0))[:6] == live
        assert log.bus.publish(said("next")).seq == 8


async def until_settled(folder: Path) -> None:
    """Returns when no numbers are set aside any more."""
    with trio.fail_after(120):
        while int((folder / "events.ceiling").read_bytes()):
            await trio.sleep(0.01)


async def test_what_memory_no_longer_held_is_noted_as_a_hole_and_clipped_for_who_saw_some(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(journal, "RECENT_ENTRIES", 10)
    monkeypatch.setattr(journal, "Bus", partial(journal.Bus, kept=10))
    async with kept_in(tmp_path) as (log, store):
        log.bus.publish(said("kept"))
        await told(log, 1)
        store.full = True
        for number in range(2, 41):
            log.bus.publish(said(str(number)))
            await told(log, number)
        for after in range(41):
            assert spans(await pages(log, after)) == list(range(after + 1, 41))
        store.full = False
        await until_settled(tmp_path)
    async with kept_in(tmp_path) as (log, _):
        for after in range(41):
            assert spans(await pages(log, after)) == list(range(after + 1, 41))
        assert [(entry.first, entry.seq) for entry in await pages(log, 20)][:2] == [(21, 30), (31, 31)]


async def test_a_daemon_killed_while_the_store_refused_gives_no_number_twice(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as real:
        store = Moody(real)
        log = Journal(store, Ceiling(tmp_path / "events.ceiling"), last=0, keep=1000)
        async with open_supervisor([ChildSpec(id="journal", run=log.run)], name="t"):
            store.full = True
            for number in range(1, 6):
                log.bus.publish(said(str(number)))
            await told(log, 5)
    async with kept_in(tmp_path) as (log, _):
        first = log.bus.publish(said("after")).seq
        assert first > 5
        await told(log, first)
        assert spans(await pages(log, 3)) == list(range(4, first + 1))
        assert [entry.kind for entry in await pages(log, 3)] == ["missed", "house"]


async def test_where_no_number_can_be_set_aside_nothing_is_told_until_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "events.ceiling").mkdir()
    async with kept_in(tmp_path) as (log, store):
        store.full = True
        log.bus.publish(said("held back"))
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert log.last == 0
        store.full = False
        await told(log, 1)
