"""Deaths of the daemon and of the keeper: what goes on, what is told afterwards, what is started anew."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import colony_core.processes
from colony_core.errors import AlreadyExists, WrongState
from colony_core.processes import KeeperLost, open_keeper

DAEMON = """
import sys, trio
from pathlib import Path
from colony_core.processes import Launch, LogTarget, open_keeper

async def main(run_dir, state_dir, log, *argv):
    async with open_keeper(run_dir=Path(run_dir), state_dir=Path(state_dir)) as keeper:
        process = await keeper.start(
            Launch(key="web.1", argv=argv, cwd="/", env={}, label="web", log=LogTarget(directory=Path(log)))
        )
        print(process.pid, flush=True)
        await trio.sleep_forever()

trio.run(main, *sys.argv[1:])
"""

COUNTER = "import time\nn = 0\nwhile True:\n    print(n, flush=True)\n    n += 1\n    time.sleep(0.001)\n"

ECHO = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print("port", server.getsockname()[1], flush=True)
peer, _ = server.accept()
while data := peer.recv(100):
    if data.startswith(b"end"):
        print("ending", flush=True)
        sys.exit(7)
    peer.sendall(data.upper())
"""


@attrs.frozen
class Daemon:
    """A daemon in a process of its own that keeps one service."""

    process: subprocess.Popen[str]
    service: int

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def daemon(place: Any, source: str, *, prefix: tuple[str, ...] = ()) -> Iterator[Daemon]:
    service = (sys.executable, "-I", "-S", "-c", source)
    folders = (str(place.run_dir), str(place.state_dir), str(place.log.directory))
    command = [*prefix, sys.executable, "-c", DAEMON, *folders, *service]
    path = str(Path(colony_core.processes.__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            yield Daemon(process, int(process.stdout.readline()))
        finally:
            process.kill()


async def test_a_killed_daemon_costs_no_pid_and_no_line(place: Any) -> None:
    with daemon(place, COUNTER) as first:
        first.kill()
        async with place.open() as keeper:
            assert not keeper.fresh
            (process,) = keeper.processes()
            assert (process.pid, process.running, process.label) == (first.service, True, "web")
            seen = (await keeper.log_book(place.log.directory).read()).last
            await place.line(keeper, str(seen + 50))
            await process.stop(grace=60)
            page = await keeper.log_book(place.log.directory).read(0, limit=10**6)
            assert len(page.lines) > 50
            assert [line.seq for line in page.lines] == list(range(1, len(page.lines) + 1))
            assert [int(line.text) for line in page.lines] == list(range(len(page.lines)))


async def test_connections_and_the_end_of_a_service_outlive_the_daemon(place: Any) -> None:
    with daemon(place, ECHO) as first:
        directory = place.log.directory

        def port() -> int:
            text = b"".join(path.read_bytes() for path in sorted(directory.glob("*.log")))
            return int(text.split()[-1]) if text.endswith(b"\n") else 0

        connection = await trio.open_tcp_stream("127.0.0.1", await place.until(port))
        await connection.send_all(b"before")
        assert await connection.receive_some() == b"BEFORE"
        first.kill()
        await connection.send_all(b"after")
        assert await connection.receive_some() == b"AFTER"
        await connection.send_all(b"end")
        assert await connection.receive_some() == b""
        await connection.aclose()
        await place.until(lambda: list((place.state_dir / "exits").glob("*.json")))
        async with place.open() as keeper:
            (process,) = keeper.processes()
            exited = await process.wait()
            assert (process.pid, exited.code, exited.reason) == (first.service, 7, "exit 7")
            lines = (await keeper.log_book(directory).read(0)).lines
            assert [line.text.split()[0] for line in lines] == ["port", "ending"]
            await keeper.forget(process.key)
        async with place.open() as keeper:
            assert keeper.processes() == ()


async def test_a_daemon_killed_while_it_stops_a_service_does_not_stop_the_stopping(place: Any, is_alive: Any) -> None:
    async with place.open() as keeper:
        script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done"
        process = await keeper.start(place.shell("web.1", script))
        await place.line(keeper, "up")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(process.stop, grace=1000))
            await place.line(keeper, "asked")
            nursery.start_soon(partial(process.stop, grace=0.3))
            await trio.testing.wait_all_tasks_blocked()  # both requests are on their way
            nursery.cancel_scope.cancel()
    await place.until(lambda: not is_alive(process.pid))
    async with place.open() as keeper:
        assert (await keeper.processes()[0].wait()).code == -9


async def test_services_get_default_signals_from_a_daemon_that_ignores_some(place: Any) -> None:
    source = "import time\nprint(open('/proc/self/status').read(), end='', flush=True)\nprint('done', flush=True)\ntime.sleep(1000)"
    with daemon(place, source, prefix=("sh", "-c", "trap '' INT QUIT HUP USR1; exec \"$@\"", "sh")) as first:
        first.kill()
        async with place.open() as keeper:
            await place.line(keeper, "done")
            lines = (await keeper.log_book(place.log.directory).read(0)).lines
            status = dict(line.text.split(":\t", 1) for line in lines if ":\t" in line.text)
            python_itself = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
            c_library = (
                1 << 31 | 1 << 32
            )  # signals 32 and 33: ignored in what its posix_spawn starts (make does), and nobody may set them
            assert int(status["SigIgn"], 16) & ~(python_itself | c_library) == 0
            assert int(status["SigBlk"], 16) == 0
            (process,) = keeper.processes()
            await process.signal(signal.SIGINT)
            assert (await process.wait()).reason == "killed by SIGINT"


async def test_a_killed_keeper_is_told_and_its_leftovers_do_not_run_twice(place: Any, is_alive: Any) -> None:
    async with place.open() as keeper:
        process = await keeper.start(
            place.shell("web.1", "trap '' TERM; (setsid sleep 1000 &); echo up; sleep 1000; sleep 1000")
        )
        await place.line(keeper, "up")
        os.kill(keeper.pid, signal.SIGKILL)
        with trio.fail_after(60), pytest.raises(KeeperLost):
            await process.wait()
        assert keeper.lost.is_set()
        with pytest.raises(KeeperLost):
            await keeper.start(place.launch("web.2", "true"))
        with pytest.raises(KeeperLost):
            await process.stop(grace=0)
        assert is_alive(process.pid)
        note = (await keeper.log_book(place.log.directory).read(0)).last
    async with place.open() as keeper:
        assert keeper.fresh
        assert keeper.processes() == ()
        assert not is_alive(process.pid)
        again = await keeper.start(place.launch("web.1", "echo", "again"))
        await again.wait()
        lines = (await keeper.log_book(place.log.directory).read(note)).lines
        assert [(line.seq, line.text) for line in lines] == [(note + 1, "again")]


async def test_a_follower_outlives_the_keeper(place: Any) -> None:
    async with place.open() as keeper, contextlib.aclosing(keeper.log_book(place.log.directory).follow(0)) as lines:
        await keeper.note(place.log, "one")
        assert (await anext(lines)).text == "one"
        await keeper.shutdown()
        with trio.fail_after(60):
            other = place.run_dir.with_name("run2")
            async with open_keeper(run_dir=other, state_dir=place.state_dir) as second:
                await second.note(place.log, "two")
                assert (await anext(lines)).text == "two"
                await second.shutdown()


async def test_two_daemons_do_not_share_a_keeper(place: Any) -> None:
    async with place.open() as keeper:
        with pytest.raises(AlreadyExists) as caught:
            async with place.open():
                pass
        assert caught.value.code == "keeper-in-use"
        assert str(os.getpid()) in caught.value.message
        assert await _raw(place, {"id": 1, "op": "hello", "protocol": 1}) == "keeper-in-use"
        assert not keeper.lost.is_set()


async def test_versions_that_do_not_fit_are_told(place: Any) -> None:
    async with place.open() as keeper:
        assert await _raw(place, {"id": 1, "op": "hello", "protocol": 0}) == "keeper-too-new"
        assert await _raw(place, {"id": 1, "op": "start"}) == "hello-first"
        await keeper.shutdown()
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        (place.run_dir / "keeper.sock").unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{_folder(place.run_dir)}/keeper.sock")
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer_as_an_old_keeper, listener)
            with pytest.raises(WrongState) as caught:
                async with place.open():
                    pass
        assert caught.value.code == "keeper-too-old"
    (place.run_dir / "keeper.sock").unlink()


async def test_garbage_on_the_socket_does_not_disturb(place: Any) -> None:
    async with place.open() as keeper:
        for garbage in (b"\0\xff\n", b"[]\n", b'{"op":"hello","fds":3}\n', b'{"op":1,"fds":"x"}\n'):
            with _connected(place) as sock:
                sock.sendall(garbage)
                assert await trio.to_thread.run_sync(sock.recv, 100) == b""
        assert (await (await keeper.start(place.launch("web.1", "true"))).wait()).ok


async def test_the_keeper_needs_nothing_but_the_standard_library(place: Any) -> None:
    program = Path(colony_core.processes.__file__).parent / "keeper" / "__main__.py"
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(program), "--help"]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    imported = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.decode().splitlines()}
    assert "keeper" in imported
    assert (
        not {name for name in imported if name not in sys.stdlib_module_names}
        - {"keeper", "imported package"}
        - {name for name in imported if name.startswith("_")}
    )
    assert "site" not in imported


async def test_the_keeper_is_alone_in_its_session_and_lets_nobody_in(place: Any) -> None:
    async with place.open() as keeper:
        assert os.getsid(keeper.pid) == keeper.pid
        assert (place.run_dir / "keeper.sock").stat().st_mode & 0o777 == 0o600
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            os.kill(keeper.pid, number)
        assert (await (await keeper.start(place.launch("web.1", "true"))).wait()).ok
        process = await keeper.start(place.launch("web.2", "sleep", "1000"))
        os.kill(keeper.pid, signal.SIGTERM)
        with trio.fail_after(60):
            await keeper.lost.wait()
        assert (await process.wait()).reason == "killed by SIGTERM"


@pytest.mark.kernel
async def test_nobody_in_another_network_is_let_in(place: Any) -> None:
    ask = (
        "import socket, sys; line = socket.socket(socket.AF_UNIX); line.connect(sys.argv[1]);"
        ' line.sendall(b\'{"id": 1, "op": "hello", "protocol": 1}\\n\'); print(line.recv(100))'
    )
    apart = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    async with place.open() as keeper:
        await keeper.note(place.log, "so that it stays")
    program = [sys.executable, "-I", "-S", "-c", ask, str(place.run_dir / "keeper.sock")]
    from_here = await trio.run_process(program, capture_stdout=True)
    from_there = await trio.run_process([*apart, *program], capture_stdout=True, capture_stderr=True, check=False)
    assert b'"ok"' in from_here.stdout
    assert from_there.stdout.strip() == b"b''" or from_there.stderr.splitlines()[-1].startswith(
        (b"BrokenPipeError", b"ConnectionResetError")
    )


async def test_a_folder_with_a_long_path_is_fine(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with open_keeper(run_dir=deep / "run", state_dir=deep / "state") as keeper:
        await keeper.shutdown()


async def test_a_state_folder_that_cannot_be_used_is_told(place: Any) -> None:
    async with place.open() as keeper:
        await keeper.shutdown()
    shutil.rmtree(place.state_dir / "exits")
    (place.state_dir / "exits").write_text("in the way")
    with pytest.raises(colony_core.errors.Broken) as caught:
        async with place.open():
            pass
    assert "exits" in caught.value.message
    (place.state_dir / "exits").unlink()


def _folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


@contextlib.contextmanager
def _connected(place: Any) -> Iterator[socket.socket]:
    folder = _folder(place.run_dir)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(f"/proc/self/fd/{folder}/keeper.sock")
        os.close(folder)
        yield sock


async def _raw(place: Any, message: dict[str, Any]) -> str:
    """The code of the error that a message is answered with."""
    with _connected(place) as sock:
        sock.sendall(json.dumps(message).encode() + b"\n")
        reply = json.loads(await trio.to_thread.run_sync(sock.recv, 10000))
        assert reply["id"] == message["id"]
        return str(reply["error"]["code"])


async def _answer_as_an_old_keeper(listener: socket.socket) -> None:
    sock, _ = await trio.to_thread.run_sync(listener.accept)
    with sock:
        await trio.to_thread.run_sync(sock.recv, 10000)
        sock.sendall(b'{"id":0,"error":{}}\n')
        hello = json.loads(await trio.to_thread.run_sync(sock.recv, 10000))
        answer = {"protocol": 0, "pid": 1, "identity": "", "living": [], "ended": [], "logs": {}}
        sock.sendall(json.dumps({"id": hello["id"], "ok": answer}).encode() + b"\n")
        await trio.to_thread.run_sync(sock.recv, 1)
