"""Stopping: the whole tree is gone, whatever it did to hide, and nothing else is touched."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from colony_core.processes import kill_leftovers, open_inline_keeper
from colony_core.processes.keeper import children, tree

DAEMONISE = "import os, sys, signal, time\n" + (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "said, says = os.pipe()\n"
    "def spawn(deep):\n"
    "    if os.fork() == 0:\n"
    "        os.setsid()\n"
    "        if deep:\n"
    "            spawn(False); os._exit(0)\n"
    "        print('daemon', os.getpid(), flush=True)\n"
    "        os.write(says, b'x')\n"
    "        time.sleep(1000)\n"
    "spawn(True); spawn(False)\n"
    "os.read(said, 1), os.read(said, 1)\n"
    "print('main', os.getpid(), flush=True)\n"
)
"""Starts two daemons, and goes on when both are there."""


async def daemons(place: Any, keeper: Any, count: int) -> list[int]:
    """The pids that the last process has printed."""
    pids: list[int] = []
    with trio.fail_after(60):
        async with contextlib.aclosing(keeper.log_book(place.log.directory).follow()) as lines:
            async for line in lines:
                pids.append(int(line.text.split()[1]))
                if len(pids) == count:
                    return pids
    raise AssertionError


async def test_a_tree_that_ignores_sigterm_and_daemonises_is_gone_after_its_grace(place: Any, is_alive: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(place.python("web.1", DAEMONISE + "time.sleep(1000)"))
        pids = await daemons(place, keeper, 3)
        assert all(map(is_alive, pids))
        exited = await process.stop(grace=0.2)
        assert (exited.code, exited.survivors) == (-9, ())
        assert not any(map(is_alive, pids))


async def test_what_a_main_process_leaves_behind_is_gone_before_its_end_is_told(place: Any, is_alive: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(place.python("web.1", DAEMONISE + "sys.exit(4)"))
        exited = await process.wait()
        pids = await daemons(place, keeper, 3)
        assert (exited.code, exited.survivors) == (4, ())
        assert not any(map(is_alive, pids))


async def test_another_keepers_process_of_the_same_key_is_left_alone(place: Any, is_alive: Any) -> None:
    other = attrs.evolve(place, run_dir=place.run_dir / "other", state_dir=place.state_dir / "other", log=None)
    async with place.open() as ours, other.open() as theirs:
        spared = await theirs.start(other.python("web.1", "import time; time.sleep(1000)"))
        stopped = await ours.start(place.python("web.1", "import time; time.sleep(1000)"))
        assert (await stopped.stop(grace=60)).code == -15
        assert is_alive(spared.pid)
        await theirs.shutdown(grace=5)


async def test_what_gave_up_every_mark_is_gone_with_the_keeper(place: Any, is_alive: Any) -> None:
    hide = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print('hidden', os.getpid(), flush=True)\n"
        "        os.execve('/bin/sleep', ['sleep', '1000'], {})\n"
        "    os._exit(0)\n"
        "time.sleep(1000)"
    )
    async with place.open() as keeper:
        await keeper.start(place.python("web.1", hide))
        (pid,) = await daemons(place, keeper, 1)
        await place.until(lambda: b"COLONY" not in Path(f"/proc/{pid}/environ").read_bytes())
        await keeper.shutdown(grace=5)
    await place.until(lambda: not is_alive(pid))


async def test_leftovers_that_obey_end_without_waiting_for_the_kill(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LEFTOVER_GRACE_SECONDS", 60.0)
    async with open_inline_keeper(state_dir=place.state_dir) as keeper:
        loop = "(trap 'echo bye; exit' TERM; echo ready; touch up; while :; do sleep 0.01; done) &"
        source = f"cd {place.state_dir}; {loop} until [ -e up ]; do sleep 0.01; done; exit 1"
        exited = await (await keeper.start(place.shell("web.1", source))).wait()
        assert exited.code == 1
        texts = [line.text for line in (await keeper.log_book(place.log.directory).read(0)).lines]
        said = [
            text for text in texts if text != "Terminated"
        ]  # what a shell may say of its sleep, which is asked as well
        assert said == ["ready", "bye"]


async def test_a_stopped_process_group_can_be_stopped(place: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(place.shell("web.1", "trap 'exit 6' TERM; echo up; kill -STOP $$; sleep 1000"))
        await place.line(keeper, "up")
        stat = Path(f"/proc/{process.pid}/stat")
        await place.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        assert (await process.stop(grace=60)).code == 6


async def test_a_second_stop_may_shorten_the_grace(place: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(place.shell("web.1", "trap '' TERM; echo up; while :; do sleep 0.01; done"))
        await place.line(keeper, "up")
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: process.stop(grace=1000))
                await trio.testing.wait_all_tasks_blocked()
                assert (await process.stop(grace=0)).code == -9


async def test_siblings_and_strangers_are_left_alone(place: Any, is_alive: Any) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
    try:
        async with place.open() as keeper:
            sibling = await keeper.start(place.launch("api.1", "sleep", "1000"))
            process = await keeper.start(place.launch("web.1", "sleep", "1000"))
            await process.stop(grace=60)
            assert sibling.running
            assert is_alive(sibling.pid)
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_process_that_forks_as_fast_as_it_dies_is_gone(place: Any) -> None:
    source = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('go', flush=True)\n"
        "for _ in range(1000):\n    time.sleep(0.01)\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
    )
    async with place.open() as keeper:
        process = await keeper.start(place.python("hop.1", source))
        exited = await process.wait()
        assert exited.survivors == ()
        tag = b"COLONY_PROCESS=hop.1\0"
        assert not [pid for pid in filter(str.isdigit, os.listdir("/proc")) if tag in _read(f"/proc/{pid}/environ")]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


async def test_orphans_are_reaped(place: Any, is_alive: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(place.shell("web.1", "(sh -c 'sleep 0.05' &); echo up; sleep 1000"))
        await place.line(keeper, "up")

        def children() -> list[int]:
            names = filter(str.isdigit, os.listdir("/proc"))
            stats = {int(name): _read(f"/proc/{name}/stat").rpartition(b")")[2].split() for name in names}
            return [pid for pid, fields in stats.items() if fields and int(fields[1]) == keeper.pid]

        await place.until(lambda: children() == [process.pid])


async def test_leftovers_are_found_by_key(place: Any, is_alive: Any) -> None:
    child = subprocess.Popen(  # noqa: ASYNC220
        ["sh", "-c", "(setsid sleep 1000 &); sleep 1000"],
        env={"COLONY_PROCESS": "prc-test-key", "PATH": "/bin:/usr/bin"},
    )
    other = subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
    try:
        await place.until(lambda: b"prc-test-key" in _read(f"/proc/{child.pid}/environ"))  # it is being born till then
        assert await kill_leftovers(keys=["prc-test-key"], grace=0) == ()
        assert child.wait() == -9
        assert other.poll() is None
        assert await kill_leftovers(keys=["prc-test-key"]) == ()
        assert await kill_leftovers(networks=[os.stat("/proc/self/ns/net").st_ino]) == ()
        assert other.poll() is None, "the network of this program itself is never cleared"
    finally:
        other.kill()
        other.wait()


def test_who_is_born_while_all_are_looked_at_is_seen_although_its_parent_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, born = tree.read_stat, []
    parent = subprocess.Popen(
        ["sh", "-c", "read go; sleep 1000 >&- & echo $!"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def read_stat(pid: int) -> list[bytes] | None:
        if pid == parent.pid and not born:  # it was listed, and dies before anybody has looked at it
            born.append(int(parent.communicate(b"go\n")[0]))
        return real(pid)

    monkeypatch.setattr(tree, "read_stat", read_stat)
    seen = tree.ProcessTable().look().by_pid
    os.kill(born[0], signal.SIGKILL)
    assert seen.keys() & {parent.pid, *born} == set(born)


def test_a_process_that_has_no_environment_yet_is_asked_for_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tag = {"COLONY_PROCESS": "prc-test-born"}
    child = subprocess.Popen(["cat"], env=tag, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(b"x")
        assert child.stdout.read(1) == b"x", "its exec is over"
        table = tree.ProcessTable()
        with monkeypatch.context() as early:
            early.setattr(tree, "_read", lambda path, _: b"" if path.endswith("environ") else _read(path))
            assert table.look().by_pid[child.pid].tags == tree.Tags()
        assert table.look().by_pid[child.pid].tags == tree.Tags("prc-test-born", None)
    finally:
        child.kill()
        child.communicate()
