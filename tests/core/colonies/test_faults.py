"""What goes wrong with services, setups, stores and keepers, and that nobody else notices."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from colony_core.errors import Broken, LimitReached, NotFound
from colony_core.events import HouseEvent, ServiceStateChanged
from colony_core.views import ColonyView

from .homes import alive, all_ready, appears, listen, of, open_home, service, together

pytestmark = pytest.mark.kernel

CRASHES_IN_ALL = 2000
LOOPS = 20


def limit(count: int, *, window: str = "1h", backoff: str = "1ms") -> str:
    """A restart policy that allows fast loops."""
    return f'{{ policy = "always", count = {count}, window = "{window}", backoff = "{backoff}", backoff_most = "{backoff}" }}'


async def test_a_service_that_reaches_its_limit_fails_alone_and_can_be_started_again(tmp_path: Path) -> None:
    crash = "test -e good && exec sleep 1000; exit 7"
    async with open_home(tmp_path) as home:
        neighbour = await home.up("neighbour", service("calm"))
        await home.spawn("app", service("bad", crash, restart=limit(3)) + service("sibling"))
        bad = await home.until_service("app", "bad", "failed")
        assert bad.reason == "restarted 3 times in 3600 s; last: exit 7"
        view = await home.until("app", lambda v: of(v, "sibling").state == "ready")
        assert (view.state, view.reason) == ("running", "bad failed")
        sibling = of(view, "sibling").pid
        (tmp_path / "app-app" / "good").touch()
        await home.house.service("app", "bad", "start")
        view = await home.until("app", all_ready)
        assert (view.reason, of(view, "sibling").pid) == ("", sibling)
        assert home.house.colony("neighbour").services[0].pid == neighbour.services[0].pid
        lasting = [e.state for e in home.told if isinstance(e, ServiceStateChanged) and e.service == "sibling"]
        assert lasting == ["starting", "ready"]


@pytest.mark.slow
async def test_two_thousand_crashes_in_twenty_colonies_leave_the_rest_of_the_house_alone(tmp_path: Path) -> None:
    count = CRASHES_IN_ALL // LOOPS - 1
    names = [f"loop{number}" for number in range(LOOPS)]
    async with open_home(tmp_path) as home:
        calm = await home.up("calm", service("web", listen("127.0.0.1", 4001), port="4001"))

        async def loop(name: str) -> None:
            await home.spawn(name, service("bad", '["false"]', restart=limit(count)))
            await home.until_service(name, "bad", "failed")

        async def look(over: trio.Event) -> None:
            while not over.is_set():
                assert (await home.run("calm", "echo", "here"))[1] == b"here\n"

        async with trio.open_nursery() as nursery:
            over = trio.Event()
            nursery.start_soon(look, over)
            await together(*[partial(loop, name) for name in names])
            over.set()
        crashes = sum(home.states(name, "bad").count(("restarting", "exit 1")) for name in names)
        assert crashes == CRASHES_IN_ALL
        assert home.house.colony("calm").services[0].pid == calm.services[0].pid
        assert {home.house.colony(name).state for name in names} == {"running"}
        assert home.states("calm", "web")[-1] == ("ready", "")


async def test_a_port_that_never_opens_fails_after_as_many_restarts_as_are_allowed_however_slow(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        keys = {"port": "4001", "ready": '{ port = true, timeout = "200ms" }', "grace": '"100ms"'}
        await home.spawn("app", service("mute", **keys, restart='{ count = 2, window = "1ms" }'))
        failed = await home.until_service("app", "mute", "failed")
        assert failed.reason == "port 4001 did not open within 0.2 s"
        assert failed.pid is None
        told = home.states("app", "mute")
        assert told.count(("restarting", failed.reason)) == 2
        assert [reason for state, reason in told if state == "ready"] == []


@pytest.mark.parametrize(
    ("ready", "said"),
    [
        ('{ http = "/", timeout = "1s" }', "GET / on port 4001 gave no good answer within 1 s"),
        ('{ log = "never said", timeout = "1s" }', "no log line matched 'never said' within 1 s"),
    ],
)
async def test_a_page_or_a_line_that_never_comes_fails_a_service(tmp_path: Path, ready: str, said: str) -> None:
    async with open_home(tmp_path) as home:
        command = listen("127.0.0.1", 4001, status=500)
        await home.spawn("app", service("web", command, port="4001", ready=ready, restart='"never"'))
        assert (await home.until_service("app", "web", "failed")).reason == said


async def test_a_service_is_ready_by_its_page_or_its_line(tmp_path: Path) -> None:
    by_page = service("page", listen("127.0.0.1", 4001), port="4001", ready='{ http = "/health" }')
    by_line = service("line", "echo not yet; echo now serving; exec sleep 1000", ready='{ log = "now *ing" }')
    async with open_home(tmp_path) as home:
        await home.up("app", by_page + by_line)
        assert ("starting", "waiting for GET /health") in home.states("app", "page")
        assert ("starting", "waiting for its log line") in home.states("app", "line")


@pytest.mark.parametrize(
    ("command", "keys", "said"),
    [
        ('["no-such-program-here"]', {}, "no-such-program-here"),
        ('["./not-there"]', {}, "not-there"),
        ('["true"]', {"cwd": '"nowhere"'}, "nowhere"),
        ('["true"]', {"env_file": '"nowhere.env"'}, "there is no env file nowhere.env"),
    ],
)
async def test_what_cannot_be_started_fails_at_once_and_says_what_is_missing(
    tmp_path: Path, command: str, keys: dict[str, str], said: str
) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", service("bad", command, **keys) + service("good"))
        failed = await home.until_service("app", "bad", "failed")
        assert said in failed.reason
        assert failed.restarts == 0
        await home.until_service("app", "good", "ready")


async def test_an_env_file_that_is_not_text_fails_its_service_alone(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        source = home.write("app", service("bad", env_file='"bad.env"') + service("good"))
        (source / "bad.env").write_bytes(b"A=\xff\xfe")
        await home.spawn("app", (source / "colony.toml").read_text())
        assert "not UTF-8" in (await home.until_service("app", "bad", "failed")).reason
        await home.until_service("app", "good", "ready")


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ('["true", "echo wrong; exit 4"]', "setup failed (exit 4): echo wrong; exit 4"),
        ('["sleep 1000"]\ntimeout = "200ms"', "setup took longer than 0.2 s: sleep 1000"),
        ('["./nowhere"]', "setup failed (exit 127): ./nowhere"),
    ],
)
async def test_a_setup_that_fails_leaves_the_colony_failed_and_down(tmp_path: Path, setup: str, said: str) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", f"[setup]\ncommands = {setup}\n" + service("one"))
        view = await home.until_state("app", "failed")
        assert view.reason == said
        assert view.address is None
        assert home.states("app", "one") == []
        home.write("app", service("one"))
        await home.house.apply("app")
        await home.house.start("app")
        await home.until("app", all_ready)


async def test_a_colony_that_failed_can_be_stopped_and_removed(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", '[setup]\ncommands = ["false"]\n' + service("one"))
        await home.until_state("app", "failed")
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        await home.house.restart("app")
        await home.until_state("app", "failed")
        await home.house.remove("app")
        assert home.house.colonies() == ()


async def test_a_missing_requirement_is_named(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", '[colony.environment]\npython = ">=99"\n' + service("one"))
        view = await home.until_state("app", "failed")
        assert "python >=99 is required" in view.reason
        assert [state for state, _ in home.states("app")] == ["spawning", "provisioning", "failed"]


async def test_walls_that_cannot_be_built_fail_one_colony_with_the_kernels_words(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("calm", service("one"))
        walls = home.colony("calm").means.isolation
        real = walls.build

        async def refuse(name: str, *, slot: int | None = None) -> None:
            raise LimitReached("too-many", "the kernel refused the walls")

        walls.build = refuse  # type: ignore[method-assign, assignment]
        await home.spawn("app", service("one"))
        assert (await home.until_state("app", "failed")).reason == "the kernel refused the walls"
        walls.build = real  # type: ignore[method-assign]
        await home.house.start("app")
        await home.until("app", all_ready)
        assert all_ready(home.house.colony("calm"))


async def test_a_spawn_that_cannot_be_written_down_leaves_nothing(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("calm", service("one"))
        means = home.colony("calm").means
        real = means.store

        class Full:
            async def write(self, fn: object) -> None:
                raise LimitReached("store-full", "no room left")

        means.store = Full()  # type: ignore[assignment]
        with pytest.raises(LimitReached, match="no room left"):
            await home.spawn("app", service("one"))
        with pytest.raises(LimitReached, match="no room left"):
            await home.house.stop("calm")
        assert home.house.colony("calm").state == "running"
        means.store = real
        with pytest.raises(NotFound):
            home.house.colony("app")
        await home.up("app", service("one"))


async def test_a_full_disk_of_the_store_harms_no_running_service(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", service("one") + service("two"))
        means = home.colony("app").means
        real = means.store

        class Full:
            async def write(self, fn: object) -> None:
                raise LimitReached("store-full", "no room left")

        means.store = Full()  # type: ignore[assignment]
        with pytest.raises(LimitReached, match="no room left"):  # what is acknowledged must last
            await home.house.service("app", "one", "restart")
        colony = home.colony("app")
        for _ in range(8):  # more often than the subtree of a colony may restart its owner
            colony.ask_service(colony.service("one"), "restart", None)
        await home.until("app", lambda v: all_ready(v) and of(v, "one").pid != of(view, "one").pid)
        means.store = real
        await home.house.stop("app")
        await home.until_state("app", "stopped")


async def test_a_cancelled_spawn_has_happened_or_has_not(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        writing = trio.Event()
        means = home.house._means
        real = means.store

        class Slow:
            async def write(self, fn: object) -> object:
                writing.set()
                await trio.testing.wait_all_tasks_blocked()
                return await real.write(fn)  # type: ignore[arg-type]

        means.store = Slow()  # type: ignore[assignment]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(home.spawn, "app", service("one"))
            await writing.wait()
            nursery.cancel_scope.cancel()
        means.store = real
        assert home.house.colony("app").name == "app"
        await home.house.remove("app")


async def test_a_lost_keeper_restarts_every_service_and_repeats_a_setup(tmp_path: Path) -> None:
    setup = '[setup]\ncommands = ["test -e ../again || { touch ../again; exec sleep 1000; }"]\n'
    async with open_home(tmp_path) as home:
        before = await home.up("app", service("one") + service("two", depends_on='["one"]'))
        await home.spawn("building", setup + service("one"))
        await appears(tmp_path / "again")
        keeper = home.house._means.keeper.current
        assert keeper is not None
        keeper._line._sock.shutdown(socket.SHUT_RDWR)  # as when it dies: first its line ends, then its processes

        def back(view: ColonyView) -> bool:
            return all_ready(view) and all(s.restarts > 0 for s in view.services)

        after = await home.until("app", back)
        assert not {s.pid for s in before.services} & {s.pid for s in after.services}
        await home.until("building", all_ready)
        assert [e.what for e in home.told if isinstance(e, HouseEvent)].count("keeper_lost") == 1


async def test_a_process_that_will_not_die_is_told_instead_of_a_clean_stop(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        walls = home.colony("app").means.isolation
        real = walls.destroy

        async def fail(cell: object) -> None:
            await real(cell)  # type: ignore[arg-type]
            raise Broken("unkillable", "process 7 does not die")

        walls.destroy = fail  # type: ignore[method-assign, assignment]
        await home.house.stop("app")
        view = await home.until_state("app", "failed")
        assert view.reason == "process 7 does not die"
        walls.destroy = real  # type: ignore[method-assign]
        await home.house.start("app")
        await home.until("app", all_ready)


async def test_leftovers_in_a_cell_are_gone_after_a_stop_though_they_hide_every_mark(tmp_path: Path) -> None:
    hide = "env -i setsid sh -c 'echo $$ > hidden; exec sleep 1000' & sleep 1000"
    async with open_home(tmp_path) as home:
        await home.up("app", service("one", hide))
        pid = int(await appears(tmp_path / "app-app" / "hidden", "\n"))
        assert alive(pid)
        await home.house.stop("app", grace=0.1)
        await home.until_state("app", "stopped")
        assert not alive(pid)


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder of an ordinary user, where that user can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="colony-test-", dir="/tmp"))
    os.chown(folder, 65534, 65534)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.root
async def test_services_run_as_the_owner_of_their_folder_and_nobodys_files_stay_nobodys(
    tmp_path: Path, nobodys: Path
) -> None:
    async with open_home(tmp_path) as home:
        home.folder = nobodys
        source = home.write(
            "app", '[setup]\ncommands = ["touch built"]\n' + service("one", "id -u; touch made; exec sleep 1000")
        )
        os.chown(source, 65534, 65534)
        view = await home.up("app", (source / "colony.toml").read_text())
        assert view.user == "nobody"
        assert not any("root" in note for note in view.notes)
        assert await home.line("app", "one") == "65534"
        code, out, _ = await home.run("app", "sh", "-c", "id -u; id -g; echo $HOME $USER; cat /proc/self/status")
        said = out.decode().splitlines()
        assert (code, said[:2]) == (0, ["65534", "65534"])
        assert said[2].endswith(" nobody")
        assert {(source / made).stat().st_uid for made in ("made", "built")} == {65534}


async def test_no_process_of_a_colony_has_a_capability_or_can_gain_one(tmp_path: Path) -> None:
    show = "grep -E '^(Cap|NoNewPrivs|SigIgn|SigBlk)' /proc/self/status"
    async with open_home(tmp_path) as home:
        await home.spawn("app", f'[setup]\ncommands = ["{show}"]\n' + service("one", f"{show}; exec sleep 1000"))
        await home.until("app", all_ready)
        _, inside, _ = await home.run("app", "sh", "-c", show)
        for label in ("one", "setup"):
            await home.line("app", label, "NoNewPrivs")
        page = await home.house.log_page("app")
        for said in (
            inside.decode().splitlines(),
            [line.text for line in page.lines if line.service == "one"],
            [line.text for line in page.lines if line.service == "setup"],
        ):
            found = dict(line.split(":\t") for line in said)
            assert found["NoNewPrivs"] == "1"
            assert {found[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
