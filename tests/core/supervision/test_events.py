"""What is told, to whom, in which order, and how it reads."""

# ruff: noqa: PT012 - it is the whole block that ends with the error

import logging

import pytest
import trio

from colony_core.supervision import (
    ChildOverdue,
    ChildStarted,
    ChildTerminated,
    Exit,
    ExitKind,
    Limit,
    LimitReached,
    Restart,
    RestartLimit,
    StartFailed,
    StopFailed,
    describe,
    open_supervisor,
)  # fmt: skip

FAILED = Exit(ExitKind.FAILED, ValueError("x"), 1.0, 1)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ChildStarted(("a",), 1.0, 2), "started (incarnation 2)"),
        (ChildTerminated(("a",), 1.0, FAILED), "ended: failed: ValueError('x')"),
        (StartFailed(("a",), 1.0, FAILED), "failed to start: failed: ValueError('x')"),
        (StopFailed(("a",), 1.0, FAILED, 3), "did not stop cleanly: failed: ValueError('x') (3 times)"),
        (ChildOverdue(("a",), 3.0, 1.0), "was cut 2 s ago and still runs"),
        (LimitReached(("a",), 1.0, Limit(3, 5), FAILED), "gives up: more than 3 restarts in 5 s"),
    ],
)
def test_events_read_as_sentences(event, words):
    assert describe(event) == words


async def test_the_whole_story_of_a_failing_child_is_told_in_order(autojump_clock, stage):
    spec = stage.spec("a", None, KeyError("again"), None)
    with pytest.raises(RestartLimit):
        async with open_supervisor([spec], name="root", limit=Limit(2, 5), on_event=stage.on_event):
            await trio.sleep(1)
            first, last = ValueError("first"), ValueError("last")
            await stage.tell("a", first)
            await stage.tell("a", last)
            await trio.sleep_forever()
    assert [(type(event), event.path, event.at) for event in stage.events] == [
        (ChildStarted, ("root", "a"), 0), (ChildTerminated, ("root", "a"), 1), (StartFailed, ("root", "a"), 1),
        (ChildStarted, ("root", "a"), 1), (ChildTerminated, ("root", "a"), 1), (LimitReached, ("root",), 1),
    ]  # fmt: skip
    assert [event.incarnation for event in stage.events if isinstance(event, ChildStarted)] == [1, 3]
    assert stage.events[1].exit.error is first
    assert stage.events[-1].last.error is last


async def test_by_default_events_are_logged(autojump_clock, stage, caplog):
    caplog.set_level(logging.INFO, logger="colony.supervision")
    async with open_supervisor([stage.spec("a", restart=Restart.TEMPORARY)], name="root"):
        await stage.tell("a", ValueError("x"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "root/a started (incarnation 1)"),
        ("ERROR", "root/a ended: failed: ValueError('x')"),
    ]
    assert caplog.records[1].exc_info[1].args == ("x",)


async def test_a_hook_that_fails_is_logged_and_harms_nobody(autojump_clock, stage, caplog):
    def hook(event):
        raise KeyError("hook")

    async with open_supervisor([stage.spec("a")], on_event=hook) as supervisor:
        await stage.tell("a", ValueError())
        assert supervisor.child("a").incarnation == 2
    assert all("the event hook failed" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 3


async def test_a_hook_may_stop_the_supervisor(autojump_clock, stage):
    box = []

    def hook(event):
        if isinstance(event, ChildTerminated):
            box[0].stop()

    async with open_supervisor([stage.spec("a"), stage.spec("b")], on_event=hook) as supervisor:
        box.append(supervisor)
        stage.order("a", ValueError())
        await trio.sleep_forever()
    assert stage.starts == {"a": 1, "b": 1}


def test_events_are_values():
    assert ChildStarted(("a",), 1.0, 2) == ChildStarted(("a",), 1.0, 2)
    with pytest.raises(AttributeError):
        ChildStarted(("a",), 1.0, 2).at = 3
