"""What reaches a process of the keeper's rights, users and namespaces; with the real kernel."""

import contextlib
import ctypes
import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from colony_core.errors import NotFound, WrongState
from colony_core.processes import User, open_inline_keeper, owner_of

STATUS = "print(open('/proc/self/status').read())"


async def status(place: Any, keeper: Any, **more: Any) -> dict[str, str]:
    """/proc/self/status of a new process, by field."""
    before = await keeper.log_book(place.log.directory).last()
    process = await keeper.start(place.python(f"status.{before}", STATUS, **more))
    assert (await process.wait()).ok
    lines = (await keeper.log_book(place.log.directory).read(before)).lines
    return dict(line.text.split(":\t", 1) for line in lines if ":\t" in line.text)


@pytest.mark.parametrize("inline", [False, True])
async def test_a_process_holds_no_capability_and_can_gain_none(place: Any, inline: bool) -> None:
    mine = Path("/proc/self/status").read_text()
    async with open_inline_keeper(state_dir=place.state_dir) if inline else place.open() as keeper:
        seen = await status(place, keeper)
    assert seen["NoNewPrivs"] == "1"
    for field in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(seen[field], 16) == 0, field
    if os.getuid() == 0:
        assert int(seen["CapBnd"], 16) == 0
    assert Path("/proc/self/status").read_text().split("NoNewPrivs")[1][:5] == mine.split("NoNewPrivs")[1][:5]


async def test_limits_and_oom_score_of_a_process_are_the_daemons_not_the_keepers(place: Any) -> None:
    source = "import resource; print(resource.getrlimit(7), open('/proc/self/oom_score_adj').read().strip())"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with place.open() as keeper:
        assert (await (await keeper.start(place.launch("web.1", "cat", "/proc/self/limits"))).wait()).ok
        lines = [line.text for line in (await keeper.log_book(place.log.directory).read(0)).lines]
        (files,) = (line.split() for line in lines if line.startswith("Max open files"))
        assert files[3:5] == [str(soft), str(hard)]
        assert (await (await keeper.start(place.python("api.1", source))).wait()).ok
        adj = (await keeper.log_book(place.log.directory).read(limit=1)).lines[0].text.split()[-1]
        assert adj == Path("/proc/self/oom_score_adj").read_text().strip()


@pytest.mark.root
async def test_a_process_runs_in_the_name_of_the_owner(place: Any, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    owner = owner_of(tmp_path)
    assert (owner.uid, owner.gid, owner.name, owner.is_root) == (nobody.pw_uid, nobody.pw_gid, "nobody", False)
    async with place.open() as keeper:
        await keeper.start(
            place.shell("id.1", "id -u; id -g; id -G; cat /proc/self/status", user=User(uid=owner.uid, gid=owner.gid))
        )
        await keeper.find("id.1").wait()
        lines = [line.text for line in (await keeper.log_book(place.log.directory).read(0)).lines]
    assert lines[:3] == [str(owner.uid), str(owner.gid), str(owner.gid)]
    assert "CapEff:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines


def test_the_owner_of_a_path_without_a_user_is_its_number(tmp_path: Path) -> None:
    mine = owner_of(tmp_path)
    assert (mine.uid, mine.name) == (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)
    assert mine.gid in mine.groups
    with pytest.raises(NotFound):
        owner_of(tmp_path / "gone")


@pytest.mark.root
def test_an_owner_whom_nobody_knows_is_a_number(tmp_path: Path) -> None:
    os.chown(tmp_path, 61234, 61235)
    assert owner_of(tmp_path) == User(uid=61234, gid=61235)


@pytest.mark.root
async def test_strangers_are_sent_away(place: Any) -> None:
    source = (
        "import os, socket, sys\nos.chdir(sys.argv[1])\nos.setgroups([])\nos.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\ns.connect('keeper.sock')\n"
        'try:\n    s.sendall(b\'{"id":1,"op":"hello","protocol":1}\\n\')\n    print(s.recv(100))\n'
        "except ConnectionError: print(b'')\n"
    )
    async with place.open() as keeper:
        (place.run_dir / "keeper.sock").chmod(0o666)
        place.run_dir.chmod(0o711)
        done = await trio.run_process([sys.executable, "-I", "-c", source, str(place.run_dir)], capture_stdout=True)
        assert done.stdout.strip() == b"b''"
        assert not keeper.lost.is_set()


@contextlib.contextmanager
def namespace() -> Iterator[Path]:
    """A network namespace of the test's own, held by a process in it."""
    source = "import ctypes, sys; assert ctypes.CDLL(None).unshare(0x40000000) == 0; print('in', flush=True); sys.stdin.read()"
    command = [sys.executable, "-I", "-S", "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"in\n"
        try:
            yield Path(f"/proc/{holder.pid}/ns/net")
        finally:
            holder.kill()


@pytest.mark.root
@pytest.mark.parametrize("inline", [False, True])
async def test_a_process_is_born_in_its_namespace_and_the_next_one_at_home(place: Any, inline: bool) -> None:
    home = os.readlink("/proc/self/ns/net")
    with namespace() as path:
        inode = path.stat().st_ino
        async with open_inline_keeper(state_dir=place.state_dir) if inline else place.open() as keeper:
            where = ("readlink", "/proc/self/ns/net")
            cell = {"netns": path, "netns_inode": inode}
            await (await keeper.start(place.launch("a.1", *where, **cell))).wait()
            await (await keeper.start(place.launch("a.2", *where))).wait()
            with pytest.raises(WrongState) as caught:
                await keeper.start(place.launch("a.3", *where, netns=path, netns_inode=inode + 1))
            assert caught.value.code == "namespace-changed"
            with pytest.raises(NotFound):
                await keeper.start(place.launch("a.3", "no-such-command-here", **cell))
            await (await keeper.start(place.launch("a.3", *where))).wait()
            lines = [line.text for line in (await keeper.log_book(place.log.directory).read(0)).lines]
            assert lines == [f"net:[{inode}]", home, home]


@pytest.mark.root
async def test_a_descendant_without_any_mark_goes_with_the_last_process_of_its_namespace(
    place: Any, is_alive: Any
) -> None:
    hide = "env -i setsid sh -c 'env -i sleep 1000 & echo $!' & sleep 1000"
    with namespace() as path:
        async with place.open() as keeper:
            cell = {"netns": path, "netns_inode": path.stat().st_ino}
            web = await keeper.start(place.shell("web.1", hide, **cell))
            api = await keeper.start(place.launch("api.1", "sleep", "1000", **cell))
            (line,) = await _lines(place, keeper, 1)
            hidden = int(line.text)
            assert is_alive(hidden)
            await web.stop(grace=1)
            await api.stop(grace=1)
            assert not is_alive(hidden)


async def _lines(place: Any, keeper: Any, count: int) -> list[Any]:
    found = []
    with trio.fail_after(60):
        async with contextlib.aclosing(keeper.log_book(place.log.directory).follow()) as lines:
            async for line in lines:
                found.append(line)
                if len(found) == count:
                    return found
    raise AssertionError


@pytest.mark.root
async def test_a_full_log_disk_costs_lines_that_are_counted_and_nothing_else(place: Any, tmp_path: Path) -> None:
    """On a small tmpfs of its own; the service prints numbers all along."""
    libc = ctypes.CDLL(None, use_errno=True)
    disk = tmp_path / "log"
    disk.mkdir()
    assert libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 0, b"size=32m") == 0
    try:
        async with place.open() as keeper:
            progress = tmp_path / "progress"
            source = (
                f"import os, time\nfd = os.open({str(progress)!r}, os.O_RDWR | os.O_CREAT)\nn = 0\nwhile True:\n"
                "    print(n, 'x' * 500, flush=True)\n    os.pwrite(fd, b'%9d' % n, 0)\n    n += 1\n    time.sleep(0.001)\n"
            )
            process = await keeper.start(place.python("web.1", source))
            await place.line(keeper, "20 ")
            ballast = disk / "ballast"
            for size in (2**16, 2**9):
                with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                    while True:
                        file.write(bytes(size))
            written = int(progress.read_text())
            # More than the pipe, the keeper's hands and the last page of the log can hold.
            await place.until(lambda: int(progress.read_text()) > written + 500)
            ballast.unlink()
            await _until_told(place, keeper)
            assert process.running
            await process.stop(grace=5)
            lines = (await keeper.log_book(disk).read(0, limit=10**6)).lines
            assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
            position = 0
            for line in lines:
                if line.stream == "dropped":
                    assert int(line.text) > 0
                    position += int(line.text)
                else:
                    assert int(line.text.split()[0]) == position
                    position += 1
            assert lines[-1].stream == "out"
    finally:
        libc.umount2(str(disk).encode(), 2)


async def _until_told(place: Any, keeper: Any) -> None:
    """Until lines were dropped, told, and some more came after them."""
    told = False
    with trio.fail_after(60):
        async with contextlib.aclosing(keeper.log_book(place.log.directory).follow()) as lines:
            async for line in lines:
                if told and line.stream == "out":
                    return
                told = told or line.stream == "dropped"
