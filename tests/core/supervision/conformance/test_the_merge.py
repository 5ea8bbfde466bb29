"""Values and mechanics that no story shows (1.1, 2.1.1, 2.1.3, 2.1.7, 2.1.11, 2.1.13, 2.1.14)."""

import contextvars
from math import inf

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from colony_core.supervision import (
    AutoShutdown,
    ChildSpec,
    Event,
    Kind,
    Limit,
    LimitReached,
    Restart,
    StartFailed,
    Strategy,
    dynamic_supervisor_spec,
    open_dynamic_supervisor,
    open_supervisor,
    supervisor_spec,
)


async def idle(*, status):
    status.started()
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": []}, "ChildSpec.id must be hashable, not []"),
        ({"run": 3}, "ChildSpec.run must be callable, not 3"),
        ({"restart": "permanent"}, "ChildSpec.restart must be a Restart, not 'permanent'"),
        ({"grace": -1}, "ChildSpec.grace must be >= 0, not -1"),
        ({"grace": float("nan")}, "ChildSpec.grace must be >= 0, not nan"),
        ({"grace": "5"}, "ChildSpec.grace must be a number, not '5'"),
        ({"significant": 1}, "ChildSpec.significant must be a bool, not 1"),
        ({"significant": True}, "ChildSpec.significant must be False for a permanent child"),
        ({"backoff": 2}, "ChildSpec.backoff must be a Backoff, not 2"),
        ({"shutdown": 5}, "unexpected keyword argument 'shutdown'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_1_1_wrong_values_and_unknown_keys_are_refused_when_the_spec_is_made(fields, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        ChildSpec(**{"id": "a", "run": idle, **fields})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "one_for_one"}, "strategy must be a Strategy, not 'one_for_one'"),
        ({"limit": 3}, "limit must be a Limit, not 3"),
        ({"auto_shutdown": True}, "auto_shutdown must be a AutoShutdown, not True"),
        ({"on_event": "log"}, "on_event must be callable, not 'log'"),
        ({"intensity": 3}, "unexpected keyword argument 'intensity'"),
        ({"most": "many"}, "most must be a number, not 'many'"),
        ({"most": -1}, "most must be >= 0, not -1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_1_1_wrong_options_are_refused_when_a_supervisor_is_described(options, words):
    openers = [
        open_supervisor,
        open_dynamic_supervisor,
        lambda **given: supervisor_spec("s", [], **given),
        lambda **given: dynamic_supervisor_spec("s", **given),
    ]
    of_one_kind = {"strategy": openers[::2], "most": openers[1::2]}
    for opener in of_one_kind.get(next(iter(options)), openers):
        with pytest.raises((TypeError, ValueError)) as caught:
            opener(**options)
        assert words in str(caught.value)


def test_1_1_defaults_are_otps_but_for_the_limit():
    spec = ChildSpec(id=("any", "term"), run=idle)
    assert (spec.restart, spec.grace, spec.significant, spec.backoff) == (Restart.PERMANENT, 5.0, False, None)
    assert supervisor_spec("s", []).grace == inf
    assert Limit() == Limit(count=3, period=5.0)


def test_1_1_what_does_not_fit_together_is_refused_before_anything_starts():
    significant = ChildSpec(id="a", run=idle, restart=Restart.TRANSIENT, significant=True)
    with pytest.raises(ValueError, match="auto_shutdown NEVER"):
        open_supervisor([significant])
    with pytest.raises(ValueError, match="unique"):
        open_supervisor([ChildSpec(id="a", run=idle), ChildSpec(id="a", run=idle)])
    with pytest.raises(ValueError, match="auto_shutdown NEVER"):
        supervisor_spec("s", [significant])
    open_supervisor([significant], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)


def test_1_1_a_wrong_child_by_request_is_refused_before_anything_starts(always):
    async def scene(log):
        async with open_supervisor() as supervisor:
            with pytest.raises(ValueError, match="auto_shutdown NEVER"):
                await supervisor.start_child(ChildSpec(id="a", run=idle, restart=Restart.TRANSIENT, significant=True))
            log(str(supervisor.children()))

    always(scene, "0: ()")


def test_2_1_1_one_task_for_each_incarnation_and_one_for_each_supervisor(always):
    async def scene(log):
        async with open_supervisor([supervisor_spec("s", [])]) as supervisor:
            inner = supervisor.child("s").value
            before = trio.lowlevel.current_statistics().tasks_living
            for number in range(5):
                await inner.start_child(ChildSpec(id=number, run=idle))
            log(f"{trio.lowlevel.current_statistics().tasks_living - before} tasks more")
            await supervisor.start_child(supervisor_spec("t", []))
            log(f"{trio.lowlevel.current_statistics().tasks_living - before} tasks more")

    always(scene, "0: 5 tasks more\n0: 6 tasks more")


def test_2_1_3_no_incarnation_sees_the_variables_of_the_one_before(always):
    where = contextvars.ContextVar("where", default="nowhere")

    async def scene(log):
        async def run(*, status):
            log(where.get())
            where.set("in the dead incarnation")
            status.started()
            await again.wait()
            raise ValueError

        where.set("at the supervisor")
        again = trio.Event()
        async with open_supervisor([ChildSpec(id="a", run=run)], limit=Limit(2, 5), on_event=lambda event: None) as sup:
            where.set("in the block")
            again.set()
            again = trio.Event()
            await wait_all_tasks_blocked()
            await sup.stop_child("a")
            await sup.restart_child("a")

    always(scene, "0: at the supervisor\n0: at the supervisor\n0: at the supervisor")


def test_2_1_7_the_groups_message_and_errors_survive_a_split(always):
    async def scene(log):
        async def run(*, status):
            status.started()
            raise errors.pop(0)

        errors = [ValueError("one"), KeyError("two"), ValueError("three")]
        try:
            async with open_supervisor(
                [ChildSpec(id="a", run=run)], limit=Limit(2, 5), name="root", on_event=lambda event: None
            ):
                await trio.sleep_forever()
        except* ValueError as group:
            log(f"{type(group).__name__} {[str(error) for error in group.exceptions]}")
        except* KeyError as group:
            log(f"{type(group).__name__} {[str(error) for error in group.exceptions]}")

    always(scene, "0: RestartLimit ['one', 'three']\n0: RestartLimit [\"'two'\"]")


def test_2_1_13_between_events_no_scheduler_step_is_taken(always):
    class Steps(trio.abc.Instrument):
        def before_task_step(self, task):
            steps.append(task.name)

    steps = []

    async def scene(log):
        inner = supervisor_spec("s", [ChildSpec(id="b", run=idle)], strategy=Strategy.ONE_FOR_ALL)
        async with open_supervisor([ChildSpec(id="a", run=idle), inner]):
            await wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(instrument := Steps())
            await trio.sleep(3600)
            trio.lowlevel.remove_instrument(instrument)
            log(f"{len(steps)} step, our own")
            steps.clear()

    always(scene, "3600: 1 step, our own")


def test_2_1_14_events_are_frozen_values_told_in_the_act(always):
    async def scene(log):
        async def run(*, status):
            log("before")
            status.started()
            log("after")
            await trio.sleep_forever()

        def told(event):
            log(f"{type(event).__name__} {event.path} {event.at:g}")
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                event.at = 1

        async with open_supervisor([ChildSpec(id="a", run=run)], name="root", on_event=told):
            pass

    always(scene, "0: before\n0: ChildStarted ('root', 'a') 0\n0: after")
    assert all(issubclass(kind, Event) for kind in (StartFailed, LimitReached))


def test_2_1_11_handles_know_their_state_and_their_last_end(always):
    async def scene(log):
        async def run(*, status):
            status.started(status.child.incarnation)
            await trio.sleep(2)
            raise ValueError("two seconds")

        async with open_supervisor([ChildSpec(id="a", run=run)], on_event=lambda event: None) as supervisor:
            child = supervisor.child("a")
            log(f"{child.state.name} {child.incarnation} {child.value} {child.last_exit}")
            await child.wait_exit()
            await child.wait_up()
            log(f"{child.state.name} {child.incarnation} {child.value} {child.last_exit} at {child.last_exit.at:g}")
            assert child.spec.kind is Kind.WORKER

    always(scene, "0: UP 1 1 None\n2: UP 2 2 failed: ValueError('two seconds') at 2")
