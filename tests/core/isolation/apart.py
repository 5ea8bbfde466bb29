"""Scenes that need a host of their own: each is a program, run in a process whose network, mounts and /run nobody shares.

There, system mode is what it is on a real host: /run/netns, ip(8), forwarding, one firewall per daemon. `as_user` and `as_service` take the
process from root to what an ordinary user, or a system service with two capabilities, is.
"""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import trio

from colony_core import isolation
from colony_core.errors import AlreadyExists, ColonyError, Missing
from colony_core.isolation import (
    AddressPlan,
    Cell,
    Isolation,
    Mode,
    Passage,
    firewall,
    netlink,
    open_isolation,
    syscalls,
    trial,
)
from colony_core.isolation.rootless import NEEDED, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE

USER = 61_234
NETNS = Path("/run/netns")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
BASE = "10.211.0.0/16"
PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 4, 8
MOST_REQUESTS = 12
HANGS_AFTER = 60.0


@asynccontextmanager
async def daemon(
    run: str = "one", *, base: str = BASE, egress: bool = True, mode: Mode = Mode.ROOT
) -> AsyncIterator[Isolation]:
    """The walls of a daemon with a run folder of its own."""
    async with open_isolation(run_dir=FOLDER / run, mode=mode, plan=AddressPlan(base), egress=egress) as walls:
        yield walls


def ip(*words: str) -> str:
    """What ip(8) says."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def tables() -> list[str]:
    """Colony's firewalls."""
    told = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    return [line.split()[-1] for line in told.splitlines() if "colony_" in line]


def cables() -> list[str]:
    """The cables of all cells."""
    return [name for _, name in socket.if_nameindex() if name.startswith("vc-")]


async def eventually(reached: Callable[[], bool]) -> None:
    """Returns when the kernel has got there."""
    with trio.fail_after(HANGS_AFTER):
        while not reached():
            await trio.sleep(0.005)


async def start(walls: Isolation, cell: Cell) -> "subprocess.Popen[bytes]":
    """A process in the cell."""

    def sleeping() -> "subprocess.Popen[bytes]":
        with cell._kernel.inside(cell.fd):
            return subprocess.Popen(["sleep", "1000"])

    return await walls.run_in_thread(sleeping)


async def refusing(cell: Cell) -> bool:
    """Whether the cell is there for the host: a closed port refuses at once."""
    with trio.fail_after(HANGS_AFTER), trio.socket.socket() as sock:
        try:
            await sock.connect((cell.address, 9))
        except ConnectionRefusedError:
            return True
    return False


@contextmanager
def refused(kind: type[ColonyError], code: str, hint: str = "") -> Iterator[None]:
    """The block is refused so."""
    try:
        yield
    except kind as error:
        if error.code != code or hint not in (error.hint or ""):
            raise
    else:
        raise AssertionError(f"not refused: {code}")


@contextmanager
def replaced(where: object, name: str, by: object) -> Iterator[None]:
    """For the time of the block, something else under a name."""
    real = getattr(where, name)
    setattr(where, name, by)
    try:
        yield
    finally:
        setattr(where, name, real)


async def what_ip_sees() -> None:
    async with daemon() as walls:
        assert FORWARD.read_text().strip() == "1"
        assert walls.egress.allowed, walls.egress
        async with walls.open_cell("agent-frontend") as cell:
            assert f"{cell.address}/31" in ip("netns", "exec", "ns-agent-frontend", "ip", "address", "show", "eth0")
            assert cell.link in ip("link", "show", "veth-agent-frontend-host")
            assert cell.path == NETNS / "ns-agent-frontend"
            assert await refusing(cell)
            assert tables()
        assert os.listdir(NETNS) == []
    assert cables() == []
    assert tables() == []
    assert FORWARD.read_text().strip() == "0"


async def left_standing_and_adopted() -> None:
    async with daemon() as walls:
        left = await walls.build("hello", slot=7)
        process = await start(walls, left)
    assert len(tables()) == 1, "who still stands needs the firewall"
    assert FORWARD.read_text().strip() == "1"
    async with daemon() as walls:
        assert await walls.found() == ("hello",)
        cell = await walls.adopt("hello")
        assert cell is not None
        assert (cell.address, cell.slot, cell.inode) == (left.address, 7, left.inode)
        assert await walls.adopt("hello") is None, "once is enough"
        assert await cell.pids() == (process.pid,)
        async with walls.open_cell("other", slot=7) as other:
            assert other.slot != 7
        await walls.destroy(cell)
        assert process.wait() == -signal.SIGKILL
    assert (cables(), tables(), FORWARD.read_text().strip()) == ([], [], "0")


async def two_daemons() -> None:
    for base in (BASE, "10.212.0.0/16"):
        async with daemon("one") as one, daemon("two", base=base) as two:
            mine, yours = await one.build("ant"), await two.build("bee")
            assert mine.ifindex != yours.ifindex
            assert len(tables()) == 2
            assert (await one.found(), await two.found()) == (("ant",), ("bee",))
            process = await start(two, yours)
            assert await one.adopt("bee") is None
            await one.clear("bee")
            assert process.poll() is None
            with refused(AlreadyExists, "cell-exists"):
                await one.build("bee")
            await one.destroy(mine)
            assert await refusing(yours)
            await two.release(yours)
        async with daemon("one"):
            pass
        assert len(tables()) == 1
        assert FORWARD.read_text().strip() == "1", "the other's cells still go out"
        async with daemon("two", base=base) as two:
            cell = await two.adopt("bee")
            assert cell is not None
            assert await refusing(cell)
            await two.clear("bee")
        assert process.wait() == -signal.SIGKILL
        assert (cables(), tables(), os.listdir(NETNS)) == ([], [], [])
        FORWARD.write_text("0")


async def caller_at(source: Cell, target: Cell, patience: float = HANGS_AFTER) -> str | None:
    """Under which address a call from one cell comes in at another; None where it is refused, or never heard of."""
    sock = trio.socket.from_stdlib_socket(await target.socket())
    await sock.bind((target.address, 0))
    sock.listen(1)
    caller = trio.socket.from_stdlib_socket(await source.socket())
    with sock, caller:
        with trio.move_on_after(patience):
            try:
                await caller.connect(sock.getsockname())
            except OSError:
                return None
            return str((await sock.accept())[1][0])
    return None


async def links_beside_another_daemon() -> None:
    async with daemon("one") as one, daemon("two", egress=False) as two:
        ant, bee = await one.build("ant"), await one.build("bee")
        cat, dog = await two.build("cat"), await two.build("dog")
        await one.allow([Passage("ant", "bee")])
        await two.allow([Passage("cat", "dog")])
        assert await caller_at(ant, bee) == ant.address
        assert await caller_at(cat, dog) == cat.address
        for source, target in ((bee, ant), (dog, cat), (ant, dog), (cat, bee)):
            assert await caller_at(source, target, patience=1) is None
        for walls, cell in ((one, ant), (one, bee), (two, cat), (two, dog)):
            await walls.destroy(cell)


async def a_strangers_namespace() -> None:
    async with daemon() as walls:
        ip("netns", "add", "ns-foo")
        process = await walls.run_in_thread(subprocess.Popen, ["ip", "netns", "exec", "ns-foo", "sleep", "1000"])
        assert await walls.found() == ()
        assert await walls.adopt("foo") is None
        await walls.clear("foo")
        assert process.poll() is None
        with refused(AlreadyExists, "cell-exists", "ip netns del ns-foo"):
            await walls.build("foo")
        assert "ns-foo" in ip("netns", "list")
        await eventually(lambda: cables() == [])
        process.kill()
        process.wait()


async def a_strangers_link() -> None:
    async with daemon() as walls:
        ip("link", "add", "veth-foo-host", "type", "veth", "peer", "name", "far")
        with refused(AlreadyExists, "link-exists"):
            await walls.build("foo")
        await walls.clear("foo")
        assert walls._leaving == {}, "that link is none of ours to remove"
        assert "veth-foo-host" in ip("link", "show", "far")
        assert os.listdir(NETNS) == []


async def a_file_that_nothing_is_bound_on() -> None:
    async with daemon() as walls:
        (NETNS / "ns-foo").touch()
        assert await walls.found() == ()
        assert await walls.adopt("foo") is None
        async with walls.open_cell("foo") as cell:
            assert await refusing(cell)
        (NETNS / "ns-foo").touch()
        await walls.clear("foo")
        assert os.listdir(NETNS) == []


async def a_broken_cell() -> None:
    async with daemon() as walls:
        cell = await walls.build("hello")
        process = await start(walls, cell)
    ip("link", "del", cell.link)
    async with daemon() as walls:
        assert await walls.found() == ("hello",)
        assert await walls.adopt("hello") is None
        await walls.clear("hello")
        assert process.wait() == -signal.SIGKILL
        async with walls.open_cell("hello") as cell:
            assert await refusing(cell)


async def a_cable_cut_while_its_cell_stands() -> None:
    async with daemon() as walls:
        cell = await walls.build("hello", slot=0)
        ip("link", "del", cell.link)
        await walls.destroy(cell)
        async with walls.open_cell("hello", slot=0) as new:
            assert await refusing(new)


async def a_name_that_cannot_be_bound() -> None:
    async with daemon() as walls:
        before = os.listdir("/proc/self/fd")

        def refuse(*_: object) -> None:
            raise PermissionError(1, "not here")

        with replaced(syscalls, "bind_mount", refuse), refused(Missing, "no-rights"):
            await walls.build("hello")
        assert os.listdir(NETNS) == []
        assert len(os.listdir("/proc/self/fd")) == len(before)


async def _build_and_die(before_request: int) -> None:
    count = 0

    def dying(sock: object, data: bytes, requests: int) -> None:
        nonlocal count
        if (count := count + 1) == before_request:
            os.kill(os.getpid(), signal.SIGKILL)
        netlink_transact(sock, data, requests)  # type: ignore[arg-type]

    netlink_transact, netlink.transact = netlink.transact, dying
    async with daemon() as walls:
        await walls.destroy(await walls.build("hello"))


async def _find_and_build() -> None:
    async with daemon() as walls:
        cell = await walls.adopt("hello")
        if cell is None:
            await walls.clear("hello")
            assert os.listdir(NETNS) == []
            cell = await walls.build("hello")
        assert await refusing(cell)
        await walls.destroy(cell)
    assert (cables(), tables(), os.listdir(NETNS)) == ([], [], [])


def killed_while_building() -> None:
    netlink.warm_up()
    died = 0
    for request in range(1, MOST_REQUESTS):
        if in_child(partial(trio.run, _build_and_die, request)) == 0:
            break
        died += 1
        assert in_child(partial(trio.run, _find_and_build)) == 0
    assert died >= 5, died


def in_child(work: Callable[[], object]) -> int:
    """The exit status of a fork that does this."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def as_user() -> None:
    """From root to an ordinary user; whoever is none already stays who he is."""
    netlink.warm_up()
    if os.geteuid() == 0:
        os.chown(FOLDER, USER, USER)
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def as_service() -> None:
    """From root to a user who holds two capabilities, as systemd's AmbientCapabilities= gives them."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    as_user()
    masks = struct.pack("=III", NEEDED, NEEDED, NEEDED) + bytes(12)
    assert libc.capset(struct.pack("=Ii", 0x20080522, 0), masks) == 0
    for capability in (12, 21):
        assert libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0


async def _service() -> None:
    async with daemon(mode=Mode.AMBIENT) as walls:
        assert walls.egress.allowed, walls.egress
        async with walls.open_cell("hello") as cell:
            assert cell.path == NETNS / "ns-hello"
            assert await refusing(cell)
        assert os.listdir(NETNS) == []


def a_system_service() -> None:
    NETNS.mkdir()
    os.chown(NETNS, USER, USER)
    as_service()
    assert isolation.choose_mode() is Mode.AMBIENT, isolation.probe()
    trio.run(_service)
    assert FORWARD.read_text().strip() == "0"


def a_service_without_the_folder() -> None:
    as_service()
    report = next(found for found in isolation.probe() if found.mode is Mode.AMBIENT)
    assert not report.works
    assert report.hint == f"sudo install -d -o {USER} /run/netns"


async def _leave_a_cell(holder: "subprocess.Popen[bytes]") -> None:
    async with daemon(mode=Mode.ROOTLESS) as walls:
        assert walls.egress.proxied
        assert "root" in walls.egress.text, "it says what would help"
        cell = await walls.build("hello")
        (FOLDER / "told").write_text(f"{holder.pid} {cell.inode} {cell.address}")
        listener = trio.socket.from_stdlib_socket(await cell.socket())
        with listener:
            await listener.bind(("127.0.0.1", 80))
            listener.listen()
            (await cell.connect(80)).socket.close()
        async with trio.open_nursery() as nursery:
            await nursery.start(isolation.serve_names, cell, lambda: ["127.0.0.53"])
            nursery.cancel_scope.cancel()


def _first_life() -> None:
    isolation.enter_rootless()
    isolation.enter_rootless()
    holder = subprocess.Popen(["sleep", "1000"])
    trio.run(_leave_a_cell, holder)


async def _take_over(inode: int, address: str) -> None:
    async with daemon(mode=Mode.ROOTLESS) as walls:
        assert await walls.found() == ("hello",)
        cell = await walls.adopt("hello")
        assert cell is not None
        assert (cell.inode, cell.address) == (inode, address)
        (await cell.socket()).close()
        process = await start(walls, cell)
        assert await cell.pids() == (process.pid,)
        assert f"\nUid:\t{os.getuid()}\t" in Path(f"/proc/{process.pid}/status").read_text()
        await eventually(lambda: "\nCapEff:\t0000000000000000\n" in Path(f"/proc/{process.pid}/status").read_text())
        await walls.destroy(cell)
        assert process.wait() == -signal.SIGKILL
        assert await walls.found() == ()


def _second_life() -> None:
    holder, inode, address = (FOLDER / "told").read_text().split()
    isolation.enter_rootless(int(holder))
    try:
        trio.run(_take_over, int(inode), address)
    finally:
        os.kill(int(holder), signal.SIGKILL)


def an_ordinary_user() -> None:
    as_user()
    assert isolation.choose_mode() is Mode.ROOTLESS, isolation.probe()
    assert os.listdir(FOLDER) == []
    assert in_child(_first_life) == 0
    assert in_child(_second_life) == 0


def trials_that_fail() -> None:
    with replaced(firewall.shutil, "which", lambda *_, **__: None):
        report = trial.try_mode(Mode.ROOT)
        assert (report.works, report.hint) == (False, "sudo apt install nftables")
        with refused(Missing, "no-isolation"):
            isolation.choose_mode()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "mounts are not for you")

    with replaced(syscalls, "bind_mount", refuse):
        report = trial.try_mode(Mode.ROOT)
        assert not report.works
        assert "mounts are not for you" in report.reason
    with replaced(trial, "_try", lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
        assert trial.try_mode(Mode.ROOT).reason == "the trial died"
    with replaced(trial, "_try", lambda *_: signal.pause()), replaced(trial, "TRY_SECONDS", 0.05):
        assert "took longer than 0.05 s" in trial.try_mode(Mode.ROOT).reason
    for answer in (b"", b"{}", b"[1]", b"\xff"):
        with replaced(trial, "_try", lambda *_, answer=answer: answer):
            assert not trial.try_mode(Mode.ROOT).works
    assert trial.try_mode(Mode.ROOT).works
    assert Path("/proc/thread-self/children").read_text() == ""


async def _ended() -> None:
    async with open_isolation(run_dir=FOLDER, mode=Mode.ROOT, private=True) as walls, walls.open_cell("hello") as cell:
        cell._kernel.home = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        await cell.socket()


def no_way_home() -> None:
    status = in_child(partial(trio.run, _ended))
    assert os.WTERMSIG(status) == signal.SIGABRT, status


SCENES: dict[str, Callable[[], object] | Callable[[], Awaitable[None]]] = {
    scene.__name__: scene
    for scene in (
        what_ip_sees,
        left_standing_and_adopted,
        two_daemons,
        links_beside_another_daemon,
        a_strangers_namespace,
        a_strangers_link,
        a_file_that_nothing_is_bound_on,
        a_broken_cell,
        a_cable_cut_while_its_cell_stands,
        a_name_that_cannot_be_bound,
        killed_while_building,
        trials_that_fail,
        no_way_home,
        a_system_service,
        a_service_without_the_folder,
        an_ordinary_user,
    )
}


Scenes = dict[str, Callable[[], object] | Callable[[], Awaitable[None]]]


def main(name: str, scenes: Scenes) -> None:
    """Plays a scene; fails with its traceback. As an ordinary user, on the real host, of which no user can change anything."""
    if os.geteuid() == 0:
        _make_a_host()
    scene = scenes[name]
    if scene.__code__.co_flags & 0x80:  # a coroutine function
        trio.run(scene)  # type: ignore[arg-type]
    else:
        scene()


def _make_a_host() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"], check=True)
    ip("link", "set", "lo", "up")
    FORWARD.write_text("0")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="colony-apart-", ignore_cleanup_errors=True) as folder:
        FOLDER = Path(folder)
        FOLDER.chmod(0o755)
        main(sys.argv[1], SCENES)
