"""Finding the keeper of a run folder, or starting one; blocking, for a thread."""

import fcntl
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from colony_core.errors import AlreadyExists, Broken, Missing, TooSlow

from .keeper import kernel
from .keeper.program import LOG_NAME, SOCKET_NAME
from .keeper.tree import KEEPER_TAG, PROCESS_TAG

START_SECONDS = 20.0
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""How many this program was to hold; the keeper's processes get so many, though the daemon raises its own limit."""
LOCK_NAME = "keeper.lock"
ATTEMPTS = 5


def lock_run_dir(run_dir: Path) -> int:
    """Makes this process the only daemon of a run folder; the lock goes with the descriptor. Raises AlreadyExists."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise AlreadyExists(
            "keeper-in-use",
            f"another daemon (pid {holder or 'unknown'}) uses the keeper in {run_dir}",
            "stop it, or choose another run folder",
        ) from error
    os.truncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def reach_keeper(run_dir: Path, state_dir: Path) -> tuple[socket.socket, bool]:
    """A connection to the keeper of the folder, and whether it was started for this; call it with the folder locked."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(ATTEMPTS):
        if (sock := _connect(run_dir)) is not None:
            return sock, False
        _start(run_dir, state_dir)
        if (sock := _connect(run_dir)) is not None:
            return sock, True
    raise Broken("keeper-unreachable", f"the keeper in {run_dir} ends as soon as it starts", _look(state_dir))


def _connect(run_dir: Path) -> socket.socket | None:
    folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(START_SECONDS)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")  # the path of the folder may be longer than sun_path
        if not _answers(sock):
            sock.close()
            return None
    except (FileNotFoundError, ConnectionError):
        sock.close()
        return None
    except TimeoutError:
        sock.close()
        what = f"the keeper in {run_dir} takes a connection but does not answer"
        raise TooSlow("keeper-silent", what, "look at its process; if it hangs, kill it: services restart") from None
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def _answers(sock: socket.socket) -> bool:
    """Whether a keeper is behind the connection: one that is just dying still lets us in, and says nothing any more."""
    sock.sendall(b'{"id":0,"op":"probe"}\n')
    answer = b""
    while not answer.endswith(b"\n"):
        chunk = sock.recv(4096)
        if not chunk:
            return False
        answer += chunk
    return True


def _start(run_dir: Path, state_dir: Path) -> None:
    if not sys.executable:
        raise Missing("no-python", "this program does not know its Python interpreter", "run Colony with python -m")
    ready, told = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            pid = _spawn_with_capabilities(_command(run_dir, state_dir, told), told)
        finally:
            os.close(told)
        answer = _read_answer(ready)
    finally:
        os.close(ready)
    if answer != "ready":
        _reap(pid)
        raise Broken("keeper-failed", f"the keeper did not start: {answer or 'it ended at once'}", _look(state_dir))
    threading.Thread(target=_reap, args=(pid,), name="colony-keeper-reaper", daemon=True).start()


def _command(run_dir: Path, state_dir: Path, told: int) -> list[str]:
    program = Path(__file__).with_name("keeper") / "__main__.py"
    folders = ["--run-dir", os.path.abspath(run_dir), "--state-dir", os.path.abspath(state_dir)]
    limit = ["--descriptors", str(DESCRIPTORS)]
    return [sys.executable, "-I", "-S", str(program), *folders, *limit, "--ready", str(told)]


def _spawn_with_capabilities(command: list[str], told: int) -> int:
    """Starts the keeper from a thread of its own: capabilities belong to threads, and only this one hands them on."""
    started: list[int] = []
    failed: list[BaseException] = []

    def spawn() -> None:
        try:
            if os.geteuid() != 0 and kernel.permitted():
                kernel.raise_ambient(kernel.KEEPER_CAPABILITIES)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                pass_fds=(told,),
            )
            process.returncode = 0  # it outlives this program; while that runs, _reap waits for it
            started.append(process.pid)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=spawn, name="colony-keeper-start")
    thread.start()
    thread.join()
    if failed:
        raise Broken("keeper-failed", f"the keeper could not be started: {failed[0]}") from failed[0]
    return started[0]


def _environment() -> dict[str, str]:
    """Nothing but the marks of an outer keeper, to whose tree this one belongs."""
    return {name: os.environ[name] for name in (PROCESS_TAG, KEEPER_TAG) if name in os.environ}


def _read_answer(ready: int) -> str:
    answer = b""
    deadline = time.monotonic() + START_SECONDS
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    while not answer.endswith(b"\n"):
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TooSlow("keeper-slow", f"the keeper was not ready after {START_SECONDS:.0f} s")
        chunk = os.read(ready, 4096)
        if not chunk:
            break
        answer += chunk
    return answer.decode(errors="replace").strip()


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def _look(state_dir: Path) -> str:
    return f"look into {state_dir / LOG_NAME}"
