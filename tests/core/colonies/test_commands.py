"""Commands that people run in a colony."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from colony_core.errors import Invalid, NotFound, WrongState
from colony_core.views import ExecRequest

from .homes import PATIENCE_SECONDS, alive, appears, listen, open_home, service

pytestmark = pytest.mark.kernel


async def test_a_command_runs_in_the_cell_the_folder_and_the_environment_of_its_colony(tmp_path: Path) -> None:
    variables = '[colony.environment]\nGREETING = "hello"\n'
    async with open_home(tmp_path) as home:
        await home.up("app", variables + service("web", listen("127.0.0.1", 4001), port="4001"))
        code, out, _ = await home.run("app", "sh", "-c", "readlink /proc/self/ns/net; pwd; echo $GREETING $COLONY_NAME")
        network, folder, said = out.decode().splitlines()
        assert code == 0
        assert network != os.readlink("/proc/self/ns/net")
        assert (Path(folder), said) == (tmp_path / "app-app", "hello app")
        reach = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:4001').read().decode())"
        assert (await home.run("app", "python3", "-c", reach))[:2] == (0, b"ok\n")


async def test_input_output_errors_and_the_exit_code_are_the_commands_own(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        got = await home.run("app", "sh", "-c", "cat; echo wrong >&2; exit 7", stdin=b"given\n\0\xff")
        assert got == (7, b"given\n\0\xff", b"wrong\n")
        assert (await home.run("app", "sh", "-c", "kill -9 $$"))[0] == -9
        big = await home.run("app", "sh", "-c", "head -c 3000000 /dev/zero")
        assert len(big[1]) == 3_000_000


async def test_own_variables_and_a_folder_go_before_the_colonys(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", '[colony.environment]\nA = "colony"\nB = "colony"\n' + service("one"))
        (tmp_path / "app-app" / "deep").mkdir()
        _, out, _ = await home.run("app", "sh", "-c", "echo $A $B; pwd", env={"A": "mine"}, cwd="deep")
        assert out.decode().splitlines() == ["mine colony", str(tmp_path / "app-app" / "deep")]


async def test_a_command_that_is_left_is_gone_with_its_whole_tree(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        script = "sleep 1000 & echo $! > ../child; setsid sleep 1000 & echo $! > ../stray; wait"
        async with home.house.exec("app", ExecRequest(command=("sh", "-c", script))) as running:
            pids = [int(await appears(tmp_path / name, "\n")) for name in ("child", "stray")]
            assert all(alive(pid) for pid in (*pids, running.process.pid))
        assert not any(alive(pid) for pid in (*pids, running.process.pid))


async def test_a_stop_of_the_colony_ends_a_command(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        async with home.house.exec("app", ExecRequest(command=("sleep", "1000"))) as running:
            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(home.house.stop, "app")
                    assert await running.wait() in (-9, -15)
        await home.until_state("app", "stopped")


def pipes() -> set[str]:
    """The pipes that this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed by another thread, or that of the list itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {each for each in found if each.startswith("pipe:")}


async def test_what_cannot_be_run_is_refused_with_the_reason_and_leaves_no_open_pipe(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        before = pipes()
        with pytest.raises(NotFound, match="no-such-program"):
            await home.run("app", "no-such-program")
        for command in ((), ("a\0b",)):
            with pytest.raises(Invalid, match="not a command"):
                await home.run("app", *command)
        with pytest.raises(Invalid):
            await home.run("app", "true", cwd="../..")
        assert pipes() <= before
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        with pytest.raises(WrongState, match="stopped"):
            await home.run("app", "true")
