"""Supervisors under supervisors: escalation, events, limits of their own."""

# ruff: noqa: PT012 - it is the whole block that ends with the error

import pytest
import trio

from colony_core.supervision import (
    ChildTerminated,
    ExitKind,
    Limit,
    LimitReached,
    Restart,
    RestartLimit,
    State,
    dynamic_supervisor_spec,
    open_supervisor,
    supervisor_spec,
)  # fmt: skip


@pytest.mark.parametrize("restart", [Restart.PERMANENT, Restart.TRANSIENT])
async def test_a_limit_below_is_one_failure_above_also_for_a_transient_subtree(autojump_clock, stage, restart):
    inner = supervisor_spec("inner", [stage.spec("a")], limit=Limit(1, 5), restart=restart)
    async with open_supervisor([inner], limit=Limit(1, 5), on_event=stage.on_event) as supervisor:
        await stage.tell("a", ValueError("1"))
        await stage.tell("a", ValueError("2"))
        child = supervisor.child("inner")
        assert (child.state, child.restarts, child.last_exit.kind) == (State.UP, 1, ExitKind.FAILED)
        assert isinstance(child.last_exit.error, RestartLimit)
        assert child.value.child("a").incarnation == 1


async def test_the_worst_case_of_starts_multiplies_per_level(autojump_clock, stage):
    inner = supervisor_spec("inner", [stage.spec("a")], limit=Limit(2, 5))
    with pytest.raises(RestartLimit) as caught:
        async with open_supervisor([inner], limit=Limit(1, 5), on_event=stage.on_event, name="root"):
            for _ in range(6):
                await stage.tell("a", ValueError())
            await trio.sleep_forever()
    assert stage.starts["a"] == 6
    assert [len(each.exceptions) for each in caught.value.exceptions] == [3, 3]
    assert [event.path for event in stage.events if isinstance(event, LimitReached)] == [("root", "inner")] * 2 + [
        ("root",)
    ]


async def test_a_temporary_subtree_ends_alone(autojump_clock, stage):
    inner = supervisor_spec("inner", [stage.spec("a")], limit=Limit(0, 5), restart=Restart.TEMPORARY)
    async with open_supervisor([stage.spec("x"), inner], limit=Limit(0, 5), on_event=stage.on_event) as supervisor:
        stage.forget()
        await stage.tell("a", ValueError())
        assert [child.id for child in supervisor.children()] == ["x"]
        assert stage.told == [
            ("ChildTerminated", ("inner", "a")),
            ("LimitReached", ("inner",)),
            ("ChildTerminated", ("inner",)),
        ]
        await trio.sleep(1)
        assert supervisor.child("x").incarnation == 1


async def test_a_restarted_subtree_has_its_static_children_only(autojump_clock, stage):
    inner = supervisor_spec("inner", [stage.spec("a")], limit=Limit(0, 5))
    async with open_supervisor([inner], on_event=stage.on_event) as supervisor:
        child = supervisor.child("inner")
        await child.value.start_child(stage.spec("guest"))
        before = child.value
        await stage.tell("a", ValueError())
        assert [each.id for each in child.value.children()] == ["a"]
        assert before is not child.value
        with pytest.raises(RestartLimit):
            await before.wait()


async def test_events_reach_the_roots_hook_with_the_path_of_ids(autojump_clock, stage):
    deep = supervisor_spec("deep", [stage.spec("a"), dynamic_supervisor_spec("many", stage.spec("w"))])
    async with open_supervisor([supervisor_spec("mid", [deep])], name="root", on_event=stage.on_event) as supervisor:
        assert stage.told == [
            ("ChildStarted", ("root", "mid", "deep", "a")), ("ChildStarted", ("root", "mid", "deep", "many")),
            ("ChildStarted", ("root", "mid", "deep")), ("ChildStarted", ("root", "mid")),
        ]  # fmt: skip
        many = supervisor.child("mid").value.child("deep").value.child("many").value
        await many.spawn()
        await stage.tell("w", ValueError())
        assert stage.told == [("ChildTerminated", ("root", "mid", "deep", "many", 1))]


async def test_a_subtree_may_have_a_hook_of_its_own(autojump_clock, stage):
    own = []
    inner = supervisor_spec("inner", [stage.spec("a")], on_event=own.append)
    async with open_supervisor([inner], on_event=stage.on_event):
        assert [event.path for event in own] == [("inner", "a")]
        assert stage.told == [("ChildStarted", ("inner",))]


async def test_a_child_has_its_own_limit_by_a_supervisor_of_its_own(autojump_clock, stage):
    def own(name):
        return supervisor_spec(name, [stage.spec(f"{name}-run")], limit=Limit(1, 5), restart=Restart.TEMPORARY)

    async with open_supervisor([own("a"), own("b")], limit=Limit(0, 5), on_event=stage.on_event) as supervisor:
        await stage.tell("a-run", ValueError())
        await stage.tell("b-run", ValueError())
        await stage.tell("a-run", ValueError())
        assert [child.id for child in supervisor.children()] == ["b"]


async def test_an_interrupt_deep_down_stops_the_whole_tree_in_order(autojump_clock, stage):
    inner = supervisor_spec("inner", [stage.spec("b"), stage.spec("c")])
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([stage.spec("a"), inner, stage.spec("d")], on_event=stage.on_event):
            stage.forget()
            await stage.tell("b", KeyboardInterrupt())
            await trio.sleep_forever()
    assert stage.trace == ["b end", "c end", "d end", "a end"]
    assert [event.path for event in stage.events if isinstance(event, ChildTerminated)] == [("inner", "b"), ("inner",)]


async def test_stop_on_a_permanent_subtree_is_answered_by_a_restart(autojump_clock, stage):
    async with open_supervisor([supervisor_spec("inner", [stage.spec("a")])], on_event=stage.on_event) as supervisor:
        child = supervisor.child("inner")
        child.value.stop()
        await child.wait_exit()
        assert (child.last_exit.kind, await child.wait_up()) == (ExitKind.SHUTDOWN, child.value)
        assert child.incarnation == 2


async def test_a_tree_may_be_stopped_and_restarted_by_hand(autojump_clock, stage):
    async with open_supervisor(
        [supervisor_spec("inner", [stage.spec("a"), stage.spec("b")])], on_event=stage.on_event
    ) as supervisor:
        stage.forget()
        await supervisor.stop_child("inner")
        await supervisor.restart_child("inner")
        assert stage.trace == ["b end", "a end", "a start", "a up", "b start", "b up"]
        assert [name for name, _ in stage.told] == ["ChildStarted"] * 3


async def test_hundreds_of_small_subtrees_live_and_stop_together(autojump_clock, stage):
    specs = [supervisor_spec(n, [stage.spec(f"run-{n}")], restart=Restart.TEMPORARY) for n in range(300)]
    async with open_supervisor(specs, on_event=lambda event: None) as supervisor:
        await stage.tell("run-7", ValueError())
        assert supervisor.child(7).value.child("run-7").incarnation == 2
        assert supervisor.counts().supervisors == 300
    assert len(stage.times("end")) == 301


async def test_a_block_that_waits_for_the_end_raises_it_once(autojump_clock, stage):
    inner = supervisor_spec("s", [stage.spec("a")], limit=Limit(0, 1))
    with pytest.raises(RestartLimit) as caught:
        async with open_supervisor([inner], limit=Limit(0, 1), on_event=stage.on_event) as supervisor:
            stage.order("a", ValueError("x"))
            await supervisor.wait()
    assert caught.value is supervisor.failure
    assert [str(error) for error in caught.value.exceptions[0].exceptions] == ["x"]
