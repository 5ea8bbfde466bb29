"""Ten thousand crashes in fifty colonies: nobody else notices."""

import trio

from colony_core.supervision import (
    Actor,
    Ask,
    ChildSpec,
    ChildTerminated,
    Limit,
    LimitReached,
    Restart,
    actor_spec,
    dynamic_supervisor_spec,
    open_supervisor,
    supervisor_spec,
)

COLONIES = 50
CRASHES_EACH = 200


class Ping(Ask[int]):
    """How many pings there were."""


class Api(Actor):
    def __init__(self):
        self.pings = 0

    async def on_ping(self, _ping):
        self.pings += 1
        return self.pings


async def steady(*, status):
    status.started()
    await trio.sleep_forever()


async def crasher(*, status):
    status.started()
    await trio.sleep(0.01)
    raise ValueError("crash")


def colony(service, count):
    """As the house plants them: a supervisor of its own, whose service has one of its own; both temporary, so that neither counts above."""
    owned = supervisor_spec(
        "service", [ChildSpec(id="owner", run=service)], limit=Limit(count, 60.0), restart=Restart.TEMPORARY
    )
    return supervisor_spec("colony", [ChildSpec(id="cell", run=steady), owned], restart=Restart.TEMPORARY)


def handles(supervisor):
    """Every child of the tree."""
    for child in supervisor.children():
        yield child
        if hasattr(child.value, "children"):
            yield from handles(child.value)


async def test_ten_thousand_crashes_in_fifty_colonies_touch_nobody_else(autojump_clock):
    events = []
    specs = [actor_spec("api", Api), dynamic_supervisor_spec("colonies"), ChildSpec(id="janitor", run=steady)]
    async with open_supervisor(specs, name="house", limit=Limit(0, 60.0), on_event=events.append) as house:
        colonies, api = house.child("colonies").value, house.child("api").value
        calm = await colonies.start_child(colony(steady, 0))
        before = [*house.children(), calm, *handles(calm.value)]
        lives = [(child.state, child.incarnation, child.since) for child in before]
        loops = [await colonies.start_child(colony(crasher, CRASHES_EACH - 1)) for _ in range(COLONIES)]
        for second in range(1, 11):
            await trio.sleep(1)
            assert await api.call(Ping(), timeout=0.001) == second  # answered at once, whatever goes on
        crashed = [event for event in events if isinstance(event, ChildTerminated) and event.path[-1] == "owner"]
        assert len(crashed) == COLONIES * CRASHES_EACH
        assert sum(isinstance(event, LimitReached) for event in events) == COLONIES
        assert [(child.state, child.incarnation, child.since) for child in before] == lives
        assert [[child.id for child in loop.value.children()] for loop in loops] == [["cell"]] * COLONIES
        assert house.failure is None
