"""Everybody hears what happened; who is too slow is told what they missed."""

from contextlib import aclosing

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from colony_core.bus import Bus
from colony_core.events import HouseEvent, Missed, Numbered


def event(what: str) -> HouseEvent:
    return HouseEvent(what=what, message="")


async def test_a_listener_hears_what_is_published_while_it_listens() -> None:
    bus, heard = Bus(), []

    async def listen() -> None:
        async with aclosing(bus.listen()) as events:
            async for item in events:
                assert isinstance(item, Numbered)
                heard.append((item.seq, item.event))

    bus.publish(event("before"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        bus.publish(event("one"))
        bus.publish(event("two"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert heard == [(2, event("one")), (3, event("two"))]


async def test_a_listener_who_comes_back_with_a_cursor_misses_nothing_that_is_kept() -> None:
    bus = Bus(first_seq=100)
    for what in "abc":
        bus.publish(event(what))
    async with aclosing(bus.listen(100)) as events:
        assert (await anext(events)).seq == 101  # type: ignore[union-attr]
        assert (await anext(events)).seq == 102  # type: ignore[union-attr]


async def test_a_slow_listener_is_told_the_hole_and_goes_on_behind_it() -> None:
    bus = Bus(kept=3)
    for number in range(10):
        bus.publish(event(str(number)))
    async with aclosing(bus.listen(2)) as events:
        assert await anext(events) == Missed(first=3, last=7)
        assert [(await anext(events)).seq for _ in range(3)] == [8, 9, 10]  # type: ignore[union-attr]


async def test_a_cursor_from_the_future_waits_and_hears_what_comes() -> None:
    bus = Bus(first_seq=50)
    with trio.move_on_after(0) as scope:
        async with aclosing(bus.listen(10_000)) as events:
            await anext(events)
    assert scope.cancelled_caught


async def test_publishing_takes_no_scheduler_step() -> None:
    bus = Bus()
    with trio.testing.assert_no_checkpoints():
        bus.publish(event("now"))
    with pytest.raises(AssertionError), trio.testing.assert_checkpoints():
        bus.publish(event("now"))


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 70))
def test_after_gives_each_event_once_or_names_it_as_missed(kept: int, published: int, cursor: int) -> None:
    bus = Bus(kept=kept)
    for number in range(published):
        bus.publish(event(str(number)))
    missed, events = bus.after(cursor)
    told = list(range(missed.first, missed.last + 1)) if missed else []
    assert told + [item.seq for item in events] == list(range(cursor + 1, published + 1))
