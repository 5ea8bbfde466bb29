"""A supervisor that ends when its significant children have ended by themselves."""

import pytest
import trio

from colony_core.supervision import (
    AutoShutdown,
    ChildSpec,
    ExitKind,
    Restart,
    State,
    Strategy,
    open_supervisor,
    supervisor_spec,
)

ANY, EVERY = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
TRANSIENT = {"restart": Restart.TRANSIENT, "significant": True}
TEMPORARY = {"restart": Restart.TEMPORARY, "significant": True}


@pytest.mark.parametrize(
    ("fields", "end", "ends"),
    [
        (TRANSIENT, "return", True),
        (TEMPORARY, "return", True),
        (TEMPORARY, ValueError(), True),
        (TRANSIENT, ValueError(), False),
    ],
)
async def test_any_significant_end_that_is_not_restarted_ends_the_supervisor(autojump_clock, stage, fields, end, ends):
    specs = [stage.spec("a"), stage.spec("s", **fields), stage.spec("t", **fields), stage.spec("b")]
    async with open_supervisor(specs, auto_shutdown=ANY, on_event=stage.on_event) as supervisor:
        stage.forget()
        stage.order("s", end)
        with trio.move_on_after(5):
            await trio.sleep_forever()
        assert supervisor.stop_called is ends
    assert [line for line in stage.trace if line.endswith("end")] == [
        "s end",
        "b end",
        "t end",
        *(["s end"] * (not ends)),
        "a end",
    ]


async def test_all_significant_waits_for_the_last(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("s", **TRANSIENT), stage.spec("t", **TEMPORARY)]
    async with open_supervisor(specs, auto_shutdown=EVERY, on_event=stage.on_event) as supervisor:
        await stage.tell("t", ValueError())
        assert not supervisor.stop_called
        await stage.tell("s", ValueError())
        assert not supervisor.stop_called
        stage.forget()
        stage.order("s", "return")
        await trio.sleep_forever()
    assert stage.trace == ["s end", "a end"]


async def test_an_insignificant_end_changes_nothing(autojump_clock, stage):
    specs = [stage.spec("a", restart=Restart.TRANSIENT), stage.spec("s", **TRANSIENT)]
    async with open_supervisor(specs, auto_shutdown=ANY, on_event=stage.on_event) as supervisor:
        await stage.tell("a", "return")
        assert not supervisor.stop_called


async def test_requested_stops_never_trigger(autojump_clock, stage):
    specs = [stage.spec("s", **TRANSIENT), stage.spec("t", **TEMPORARY)]
    async with open_supervisor(specs, auto_shutdown=ANY, on_event=stage.on_event) as supervisor:
        await supervisor.stop_child("s")
        await supervisor.stop_child("t")
        await trio.sleep(1)
        assert not supervisor.stop_called


async def test_a_group_restart_never_triggers(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("s", **TEMPORARY)]
    async with open_supervisor(
        specs, strategy=Strategy.ONE_FOR_ALL, auto_shutdown=ANY, on_event=stage.on_event
    ) as supervisor:
        await stage.tell("a", ValueError())
        assert not supervisor.stop_called
        assert [child.id for child in supervisor.children()] == ["a"]


@pytest.mark.parametrize(("restart", "state"), [(Restart.PERMANENT, State.UP), (Restart.TRANSIENT, State.DOWN)])
async def test_for_its_parent_it_is_a_planned_end(autojump_clock, stage, restart, state):
    inner = supervisor_spec("inner", [stage.spec("s", **TRANSIENT)], auto_shutdown=ANY, restart=restart)
    async with open_supervisor([inner], on_event=stage.on_event) as supervisor:
        await stage.tell("s", "return")
        child = supervisor.child("inner")
        assert (child.last_exit.kind, child.state) == (ExitKind.SHUTDOWN, state)


async def test_a_significant_child_may_end_during_the_first_starts(autojump_clock, stage):
    async def brief(*, status):
        status.started()

    ran = []
    specs = [ChildSpec(id="s", run=brief, **TEMPORARY), stage.spec("slow", 5)]
    async with open_supervisor(specs, auto_shutdown=ANY, on_event=stage.on_event):
        ran.append("block")
        await trio.sleep_forever()
    assert (ran, trio.current_time()) == (["block"], 0)
