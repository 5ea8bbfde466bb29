"""The tree on paper."""

import json

import trio

from colony_core.supervision import Actor as PlainActor
from colony_core.supervision import (
    Backoff,
    Counts,
    State,
    actor_spec,
    dynamic_supervisor_spec,
    open_supervisor,
    supervisor_spec,
)


async def test_the_tree_reads_well(autojump_clock, stage):
    specs = [
        stage.spec("log"),
        supervisor_spec(
            "web", [stage.spec("server", backoff=Backoff(first=60, most=60, jitter=0)), actor_spec("clock", PlainActor)]
        ),
        dynamic_supervisor_spec("colonies", stage.spec("colony")),
    ]
    async with open_supervisor(specs, name="root", on_event=stage.on_event) as supervisor:
        await supervisor.child("colonies").value.spawn()
        await trio.sleep(2)
        await stage.tell("log", ValueError("x"))
        await stage.tell("server", KeyError("y"))
        await trio.sleep(1)
        assert supervisor.report().as_text() == "\n".join(
            [
                "root (supervisor): up for 3.0 s",
                "├─ log (worker): up for 1.0 s, restarted 1 time, last end failed: ValueError('x') 1.0 s ago",
                "├─ web (supervisor): up for 3.0 s",
                "│  ├─ server (worker): restarting for 1.0 s, last end failed: KeyError('y') 1.0 s ago",
                "│  └─ clock (actor): up for 3.0 s",
                "└─ colonies (supervisor): up for 3.0 s",
                "   └─ 1 (worker): up for 3.0 s",
            ]
        )


async def test_the_tree_as_plain_values(autojump_clock, stage):
    async with open_supervisor([stage.spec("a"), stage.spec(("b", 2))], on_event=stage.on_event) as supervisor:
        await trio.sleep(1)
        await stage.tell("a", ValueError("x"))
        plain = supervisor.report().as_dict()
        assert json.loads(json.dumps(plain)) == plain
        assert plain["children"][0] == {
            "id": "a", "kind": "worker", "state": "up", "since": 1, "age": 0, "incarnation": 2, "restarts": 1,
            "last_exit": {"kind": "failed", "error": "ValueError('x')", "age": 0, "incarnation": 1}, "children": [],
        }  # fmt: skip
        assert plain["children"][1]["id"] == "('b', 2)"


async def test_counts(autojump_clock, stage):
    specs = [stage.spec("a"), stage.spec("b"), supervisor_spec("s", [])]
    async with open_supervisor(specs, on_event=stage.on_event) as supervisor:
        await supervisor.stop_child("a")
        assert supervisor.counts() == Counts(specs=3, active=2, supervisors=1, workers=2)


async def test_the_top_has_a_state_too(autojump_clock, stage):
    async with open_supervisor([stage.spec("a", cleanup=2)], on_event=stage.on_event) as supervisor:
        assert supervisor.report().state is State.UP
        supervisor.stop()
        await trio.sleep(1)
        assert [supervisor.report().state, supervisor.report().children[0].state] == [State.STOPPING] * 2
        await supervisor.wait()
        assert supervisor.report().state is State.DOWN
