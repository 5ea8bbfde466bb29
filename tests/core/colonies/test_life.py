"""The life of a colony over real walls: states with their reasons, order, restarts, stops."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from colony_core.errors import AlreadyExists, Broken, Invalid, LimitReached, NotFound, WrongState
from colony_core.events import ColonyCreated, ColonyRemoved, Numbered, ServiceStateChanged
from colony_core.views import ColonyView, ExecRequest, NewColony

from .homes import Home, alive, all_ready, kill, listen, of, open_home, service, together

pytestmark = pytest.mark.kernel

DEAF = "trap '' TERM; echo deaf; while :; do sleep 1000; done"


async def test_every_state_of_a_start_and_a_stop_is_told_with_its_reason(tmp_path: Path) -> None:
    manifest = '[setup]\ncommands = ["true", "echo two"]\n' + service("web", listen("127.0.0.1", 4001), port="4001")
    async with open_home(tmp_path) as home:
        view = await home.up("app", manifest)
        assert view.address is not None
        assert view.start_seconds is not None
        assert view.start_seconds > 0
        assert [step.name for step in view.steps] == ["namespace", "veth"]
        assert home.states("app") == [
            ("spawning", ""),
            ("provisioning", ""),
            ("building", "1 of 2: true"),
            ("building", "2 of 2: echo two"),
            ("running", "starting"),
            ("running", "starting web"),
            ("running", ""),
        ]
        assert home.states("app", "web") == [("starting", ""), ("starting", "waiting for port 4001"), ("ready", "")]
        assert await home.line("app", "setup") == "two"
        home.told.clear()
        await home.house.stop("app")
        view = await home.until_state("app", "stopped")
        assert (view.address, view.services[0].pid) == (None, None)
        assert home.states("app") == [("stopping", "asked to stop"), ("stopped", "")]
        assert home.states("app", "web") == [
            ("stopping", "SIGTERM sent, 2 s of grace"),
            ("stopped", "stopped on request"),
        ]


async def test_services_start_in_the_order_of_their_needs_and_stop_in_reverse(tmp_path: Path) -> None:
    manifest = (
        service("web", listen("0.0.0.0", 4001), port="4001", depends_on='["api", "cache"]')
        + service("api", listen("127.0.0.1", 4002), port="4002", depends_on='["db"]')
        + service("cache", depends_on='["db"]')
        + service("db", listen("127.0.0.1", 4003), port="4003")
    )
    async with open_home(tmp_path) as home:
        await home.up("app", manifest)
        ready = [e.service for e in home.told if getattr(e, "state", "") == "ready"]
        assert (ready[0], ready[-1]) == ("db", "web")
        assert ("waiting", "waits for db") in home.states("app", "api")
        home.told.clear()
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        stopped = [e.service for e in home.told if getattr(e, "service", "") and e.state == "stopped"]
        assert (stopped[0], stopped[-1]) == ("web", "db")


@pytest.mark.parametrize(
    ("policy", "code", "end"),
    [
        ("always", 0, "restarted"),
        ("always", 3, "restarted"),
        ("on-failure", 0, "finished"),
        ("on-failure", 3, "restarted"),
        ("never", 0, "finished"),
        ("never", 3, "failed"),
    ],
)
async def test_a_restart_policy_decides_what_an_exit_means(tmp_path: Path, policy: str, code: int, end: str) -> None:
    command = f"test -e again && exec sleep 1000; touch again; exit {code}"
    async with open_home(tmp_path) as home:
        await home.spawn("app", service("one", command, restart=f'"{policy}"') + service("other"))
        if end == "restarted":
            view = of(await home.until("app", lambda v: all_ready(v) and of(v, "one").restarts == 1), "one")
            assert ("restarting", f"exit {code}") in home.states("app", "one")
        else:
            view = await home.until_service("app", "one", end)
            assert (view.reason, view.pid, view.restarts) == (f"exit {code}", None, 0)
        assert view.last_exit == f"exit {code}"
        assert (await home.until("app", lambda v: of(v, "other").state == "ready")).state == "running"


async def test_a_service_that_has_ended_for_good_is_started_again_on_request(tmp_path: Path) -> None:
    once = "echo ran; test -e good && exit 0; exit 1"
    async with open_home(tmp_path) as home:
        await home.spawn("app", service("once", once, restart='"never"'))
        await home.until_service("app", "once", "failed")
        (tmp_path / "app-app" / "good").touch()
        await home.house.service("app", "once", "start")
        await home.until_service("app", "once", "finished")
        home.told.clear()
        await home.house.service("app", "once", "start")
        await home.until("app", lambda _: ("finished", "exit 0") in home.states("app", "once"))
        page = await home.house.log_page("app")
        assert [line.text for line in page.lines if line.stream == "out"] == ["ran"] * 3


async def test_start_on_a_running_colony_brings_back_what_failed_or_was_stopped_and_nothing_else(
    tmp_path: Path,
) -> None:
    manifest = (
        service("bad", "test -e good && exec sleep 1000; exit 1", restart='"never"')
        + service("paused")
        + service("once", "true", restart='"never"')
        + service("manual", autostart="false")
    )
    async with open_home(tmp_path) as home:
        await home.spawn("app", manifest)
        await home.until_service("app", "bad", "failed")
        await home.until_service("app", "once", "finished")
        await home.until_service("app", "paused", "ready")
        await home.house.service("app", "paused", "stop")
        await home.until_service("app", "paused", "stopped")
        assert home.house.colony("app").reason == "bad failed"
        (tmp_path / "app-app" / "good").touch()
        home.told.clear()
        await home.house.start("app")
        view = await home.until("app", lambda v: of(v, "bad").state == of(v, "paused").state == "ready")
        assert (view.state, view.reason) == ("running", "")
        assert of(view, "manual").state == "stopped"
        assert of(view, "manual").reason == "not started"
        assert home.states("app", "once") == []


async def test_stop_and_restart_of_one_service_leave_the_others_alone(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", service("one") + service("two"))
        one, two = of(view, "one"), of(view, "two")
        await home.house.service("app", "one", "restart")
        again = await home.until("app", lambda v: all_ready(v) and of(v, "one").pid != one.pid)
        assert of(again, "two").pid == two.pid
        assert of(again, "one").restarts == 0
        await home.house.service("app", "one", "stop")
        await home.until_service("app", "one", "stopped")
        assert of(home.house.colony("app"), "two").pid == two.pid
        with pytest.raises(NotFound, match="did you mean one"):
            await home.house.service("app", "onee", "stop")
        await home.house.stop("app")
        with pytest.raises(WrongState, match="stopping"):
            await home.house.service("app", "one", "start")
        await home.until_state("app", "stopped")


async def test_a_dependent_follows_restarts_of_any_kind_where_it_says_so(tmp_path: Path) -> None:
    manifest = (
        service("db")
        + service("api", depends_on='[{ name = "db", restart = true }]')
        + service("web", depends_on='[{ name = "api", restart = true }]')
        + service("other", depends_on='["db"]')
    )
    async with open_home(tmp_path) as home:
        first = await home.up("app", manifest)
        kill(of(first, "db").pid)

        def moved(before: ColonyView, view: ColonyView) -> bool:
            names = ("db", "api", "web")
            return all_ready(view) and all(of(view, name).pid != of(before, name).pid for name in names)

        second = await home.until("app", lambda view: moved(first, view))
        await home.house.service("app", "db", "restart")
        third = await home.until("app", lambda view: moved(second, view))
        assert of(third, "other").pid == of(first, "other").pid


async def test_a_service_waits_for_one_that_is_down_and_says_so(tmp_path: Path) -> None:
    manifest = service("api", "exit 1", restart='"never"', ready='{ log = "up" }') + service(
        "web", depends_on='["api"]'
    )
    async with open_home(tmp_path) as home:
        await home.spawn("app", manifest)
        await home.until("app", lambda v: of(v, "web").reason == "waits for api, which is failed")
        await home.house.service("app", "web", "stop")
        await home.until_service("app", "web", "stopped")


async def test_restart_gives_every_service_a_new_process_in_new_walls(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        before = await home.up("app", service("one"))
        cell = home.colony("app").cell
        home.told.clear()
        await home.house.restart("app")
        again = await home.until("app", lambda v: all_ready(v) and v.services[0].pid != before.services[0].pid)
        assert home.states("app")[0] == ("stopping", "asked to restart")
        assert ("stopped", "") in home.states("app")
        assert home.colony("app").cell not in (cell, None)
        assert again.id == before.id


async def test_a_stubborn_service_with_daemonised_children_is_gone_to_the_last_process(tmp_path: Path) -> None:
    double_fork = (
        "import os, time, signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.setsid(); print('child', os.getpid(), flush=True)\n"
        "        time.sleep(1000)\n"
        "    os._exit(0)\n"
        "os.wait(); print('main', os.getpid(), flush=True)\n"
        "while True: time.sleep(1000)\n"
    )
    async with open_home(tmp_path) as home:
        manifest = service("deaf", '["python3", "-S", "deaf.py"]', grace='"200ms"', ready='{ log = "main" }')
        await home.up("app", manifest, **{"deaf.py": double_fork})
        pids = [int((await home.line("app", "deaf", what)).split()[1]) for what in ("main", "child")]
        assert all(map(alive, pids))
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        assert not any(map(alive, pids))
        assert ("stopping", "SIGTERM sent, 0.2 s of grace") in home.states("app", "deaf")


async def test_a_grace_that_is_asked_for_replaces_the_manifests(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", service("deaf", DEAF, grace='"1h"', ready='{ log = "deaf" }'))
        await home.house.stop("app", grace=0.1)
        await home.until_state("app", "stopped")
        assert ("stopping", "SIGTERM sent, 0.1 s of grace") in home.states("app", "deaf")
        await home.gone(view.services[0].pid or 0)
        await home.house.start("app")
        await home.until("app", all_ready)
        await home.house.service("app", "deaf", "restart", grace=0)
        await home.until("app", lambda _: ("stopping", "SIGTERM sent, 0 s of grace") in home.states("app", "deaf"))
        await home.until("app", all_ready)
        await home.house.stop("app", grace=0)
        await home.until_state("app", "stopped")


async def test_a_second_stop_with_less_grace_hurries_the_first(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("deaf", DEAF, grace='"1h"', ready='{ log = "deaf" }'))
        await home.house.stop("app")
        await home.until("app", lambda v: v.services[0].state == "stopping")
        await home.house.stop("app", grace=0)
        await home.until_state("app", "stopped")


async def test_a_stop_while_setup_runs_ends_it_with_its_tree(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", '[setup]\ncommands = ["echo $$; sleep 1000 & wait"]\n' + service("one"))
        await home.until_state("app", "building")
        pid = int(await home.line("app", "setup"))
        await home.house.stop("app")
        view = await home.until_state("app", "stopped")
        assert not alive(pid)
        assert view.services[0].reason == "not started"
        assert [state for state, _ in home.states("app")][-2:] == ["stopping", "stopped"]


async def test_a_stop_while_services_start_leaves_none_of_them(tmp_path: Path) -> None:
    manifest = service("slow", port="4001") + service("next", depends_on='["slow"]')
    async with open_home(tmp_path) as home:
        await home.spawn("app", manifest)
        view = await home.until("app", lambda v: of(v, "slow").pid is not None and of(v, "next").state == "waiting")
        await home.house.stop("app")
        stopped = await home.until_state("app", "stopped")
        assert {s.state for s in stopped.services} == {"stopped"}
        assert not alive(of(view, "slow").pid or 0)


@pytest.mark.parametrize("steps", range(8))
async def test_a_stop_at_any_step_of_a_start_is_the_last_word(
    tmp_path: Path, nursery: trio.Nursery, caplog: Any, steps: int
) -> None:
    last = ("two", "starting")
    async with open_home(tmp_path, fake=True) as home:

        async def stop() -> None:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            home.colony("app").ask_stop(None)

        def hear(numbered: Numbered) -> None:
            if isinstance(event := numbered.event, ServiceStateChanged) and (event.service, event.state) == last:
                nursery.start_soon(stop)

        home.house.bus.on_publish(hear)
        await home.spawn("app", service("one") + service("two"))
        stopped = await home.until_state("app", "stopped")
    assert {s.state for s in stopped.services} == {"stopped"}
    assert home.states("app")[-2:] == [("stopping", "asked to stop"), ("stopped", "")]
    assert not caplog.records


async def test_a_stop_at_once_after_spawn_is_the_last_word(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", service("one"))
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert home.house.colony("app").state == "stopped"
        await home.house.start("app")
        await home.until("app", all_ready)


async def test_a_removed_colony_leaves_neither_walls_nor_log_nor_name(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", service("one", "echo hello; exec sleep 1000"))
        log = tmp_path / "house" / "state" / "logs" / view.id
        assert log.exists()
        await home.house.remove("app")
        assert not log.exists()
        assert not alive(view.services[0].pid or 0)
        with pytest.raises(NotFound):
            home.house.colony(view.id)
        assert isinstance(home.told[-1], ColonyRemoved)
        assert home.states("app")[-2:] == [("stopping", "being removed"), ("stopped", "removed")]
        again = await home.up("app", service("one"))
        assert again.id != view.id


async def test_a_removal_that_is_cut_short_leaves_no_log_without_a_record(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        view = await home.up("app", service("one", "echo hello; exec sleep 1000"))
        colony = home.colony("app")
        real = colony.means.store.write

        async def no_room(change: Any) -> Any:
            if colony.state.value == "stopping" and not colony.services["one"].process and colony.cell is None:
                raise LimitReached("store-full", "no room left")
            return await real(change)

        colony.means.store.write = no_room  # type: ignore[method-assign,assignment]
        with pytest.raises(Broken, match="no room left"):
            await home.house.remove("app")
        assert home.house.colony("app").state == "failed"
        assert not (tmp_path / "house" / "state" / "logs" / view.id).exists()
        colony.means.store.write = real  # type: ignore[method-assign]
        await home.house.remove("app")
        assert home.house.colonies() == ()


async def test_a_removal_goes_on_when_its_caller_is_cancelled(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", '[setup]\ncommands = ["sleep 1000"]\n' + service("one"))
        await home.until_state("app", "building")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(home.house.remove, "app")
            await home.until_state("app", "stopping")
            nursery.cancel_scope.cancel()
        with pytest.raises(NotFound):
            await home.until("app", lambda _: False)


async def test_everybody_who_removes_a_colony_waits_for_the_one_removal(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", service("one"))
        await together(*[lambda: home.house.remove(view.id)] * 5)
        assert [type(e) for e in home.told].count(ColonyRemoved) == 1


async def test_verbs_on_a_colony_that_is_being_removed_are_refused(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("deaf", DEAF, grace='"1s"', ready='{ log = "deaf" }'))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(home.house.remove, "app")
            await home.until_state("app", "stopping")
            for verb in (home.house.start, home.house.stop, home.house.restart, home.house.apply):
                with pytest.raises(WrongState, match="being removed"):
                    await verb("app")
            with pytest.raises(AlreadyExists):
                await home.spawn("app", service("one"))


async def test_only_whoever_has_a_name_is_told_to_remove_what_has_it(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.spawn("app", service("one"), start=False)
        request = NewColony(name="app", path=str(tmp_path))
        for owner, hint in (("test", "take another name, or: colony rm app"), ("ann", "take another name")):
            with pytest.raises(AlreadyExists) as caught:
                await home.house.spawn(request, owner=owner)
            assert (caught.value.code, caught.value.hint) == ("name-taken", hint)


async def test_a_name_is_given_once_however_many_ask_at_once(tmp_path: Path) -> None:
    taken = []
    async with open_home(tmp_path) as home:

        async def ask() -> None:
            try:
                await home.spawn("app", service("one"))
            except AlreadyExists as error:
                taken.append(error.code)

        await together(*[ask] * 5)
        assert taken == ["name-taken"] * 4
        assert len(home.house.colonies()) == 1
        assert [type(e) for e in home.told].count(ColonyCreated) == 1
        await home.until("app", all_ready)


async def test_twenty_spawned_at_once_serve_on_the_same_port_with_addresses_of_their_own(tmp_path: Path) -> None:
    command = "exec python3 -S -c 'import socket,time; s=socket.create_server((\"0.0.0.0\",4001)); time.sleep(1000)'"
    names = [f"app{number}" for number in range(20)]
    async with open_home(tmp_path) as home:
        await together(*[lambda name=name: home.up(name, service("web", command, port="4001")) for name in names])
        assert len({view.address for view in home.house.colonies()}) == 20


async def test_a_leaked_connection_to_a_stopped_colony_does_not_keep_it_from_coming_back(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("web", listen("0.0.0.0", 4001), port="4001"))
        cell = home.colony("app").cell
        assert cell is not None
        async with await cell.connect(4001) as leaked:
            await leaked.send_all(b"GET / HTTP/1.1\r\n")
            await home.house.stop("app")
            await home.until_state("app", "stopped")
            await home.house.start("app")
            await home.until("app", all_ready)
            again = home.colony("app").cell
            assert again is not None
            async with await again.connect(4001) as fresh:
                await fresh.send_all(b"GET / HTTP/1.0\r\n\r\n")
                assert (await fresh.receive_some(100)).startswith(b"HTTP/1.0 200")


async def test_spawn_without_start_waits_for_a_start_and_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.spawn("app", service("one"), start=False)
        assert (view.state, view.reason) == ("stopped", "not started")
        source = home.write("dry", service("one"))
        dry = await home.house.spawn(NewColony(name="dry", path=str(source), dry_run=True), owner="test")
        assert [s.name for s in dry.services] == ["one"]
        assert [v.name for v in home.house.colonies()] == ["app"]
        await home.house.start(view.id)
        await home.until("app", all_ready)


async def test_a_view_tells_what_is_not_enforced_and_in_whose_name_services_run(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", '[limits]\nmemory = "512M"\n' + service("one"))
        assert "limits are not enforced yet" in view.notes
        assert view.limits == {"memory": "512M"}
        assert ("services run as root, without capabilities" in view.notes) == (view.user == "root")


async def test_a_colony_whose_folder_is_gone_says_so_and_can_be_removed(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        (tmp_path / "app-app").rename(tmp_path / "elsewhere")
        await home.house.start("app")
        view = await home.until_state("app", "failed")
        assert "app-app" in view.reason
        await home.house.remove("app")
    async with open_home(tmp_path) as home:
        assert home.house.colonies() == ()


async def test_the_next_house_finds_a_stopped_colony_stopped_even_without_its_folder(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        await home.house.stop("app")
        await home.until_state("app", "stopped")
    (tmp_path / "app-app").rename(tmp_path / "elsewhere")
    async with open_home(tmp_path) as home:
        view = home.house.colony("app")
        assert view.state == "stopped"
        await home.house.remove("app")


async def test_the_next_house_starts_what_was_wanted_running_with_its_setup(tmp_path: Path) -> None:
    manifest = (
        '[setup]\ncommands = ["echo set up >> ../setups"]\n' + service("one") + service("by-hand", autostart="false")
    )
    async with open_home(tmp_path) as home:
        await home.spawn("app", manifest)
        await home.until_service("app", "one", "ready")
        await home.house.service("app", "one", "stop")
        await home.until_service("app", "one", "stopped")
    async with open_home(tmp_path) as home:
        await home.until_service("app", "one", "ready")
        assert of(home.house.colony("app"), "by-hand").state == "stopped"
    assert (tmp_path / "setups").read_text().count("set up") == 2


async def test_names_of_the_tree_are_free_for_services(tmp_path: Path) -> None:
    names = ("owner", "cell", "names", "exec")
    async with open_home(tmp_path) as home:
        await home.up("app", "".join(service(name) for name in names))
        async with home.house.exec("app", ExecRequest(command=("sleep", "1000"))):
            kill(of(home.house.colony("app"), "exec").pid)
            await home.until("app", lambda v: all_ready(v) and of(v, "exec").restarts == 1)
        for line in ("(owner)", "(cell)", *names):
            assert line in home.house.tree_text()
        assert of(home.house.colony("app"), "exec").state == "ready"
        await home.house.stop("app")
        await home.until_state("app", "stopped")


async def test_a_malformed_manifest_leaves_nothing_half_made(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        for manifest in ("not toml [", service("web", port="70000"), service("a", depends_on='["b"]')):
            with pytest.raises(Invalid):
                await home.spawn("app", manifest)
        with pytest.raises(NotFound):
            await home.house.spawn(NewColony(name="app", path=str(tmp_path / "nowhere")), owner="test")
        with pytest.raises(Invalid):
            await home.house.spawn(NewColony(name="app", path="relative"), owner="test")
        twice = service("web", port="4001") + service("api", port="4001")
        with pytest.raises(Invalid, match="port 4001 is taken by web"):
            await home.spawn("app", twice)
        assert home.house.colonies() == ()
        assert home.told == []
        await home.up("app", service("one"))


async def test_a_house_that_ends_takes_no_more_wishes(tmp_path: Path) -> None:
    said = []

    async def ask(home: Home) -> None:
        await home.until_state("app", "stopping")
        for verb in (home.house.start, home.house.stop, home.house.restart, home.house.remove, home.house.apply):
            with pytest.raises(WrongState) as refused:
                await verb("app")
            said.append(refused.value.code)
        with pytest.raises(WrongState):
            await home.spawn("late", service("one"))

    async with trio.open_nursery() as nursery, open_home(tmp_path) as home:
        await home.up("app", service("deaf", DEAF, grace='"1s"', ready='{ log = "deaf" }'))
        nursery.start_soon(ask, home)
    assert said == ["house-ending"] * 5
    assert home.states("app")[-2:] == [("stopping", "the house shuts down"), ("stopped", "the house was shut down")]


async def test_a_removal_that_cannot_be_written_down_is_told_and_can_be_tried_again(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        colony = home.colony("app")
        real = colony.means.isolation.clear

        async def refuse(name: str) -> None:
            raise Broken("cell-failed", "the kernel said no")

        colony.means.isolation.clear = refuse  # type: ignore[method-assign]
        with pytest.raises(Broken, match="could not be removed: the kernel said no"):
            await home.house.remove("app")
        assert home.house.colony("app").state == "failed"
        colony.means.isolation.clear = real  # type: ignore[method-assign]
        await home.house.remove("app")
        assert home.house.colonies() == ()
