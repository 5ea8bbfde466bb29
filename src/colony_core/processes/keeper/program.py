"""The keeper as a program: a session of its own that nobody's death takes along."""

import argparse
import contextlib
import os
import signal
import socket
import sys
import time

from . import kernel
from .engine import Engine, StateFolder
from .leftovers import kill_leftovers
from .spawning import OomScore, Spawner, raise_descriptor_limit
from .tree import KEEPER_TAG

SOCKET_NAME = "keeper.sock"
LOG_NAME = "keeper.log"
LOG_BYTES_MAX = 1024 * 1024
LEFTOVER_GRACE_SECONDS = 2.0
SIGTERM_GRACE_SECONDS = 5.0
OOM_SCORE = -900
BACKLOG = 8


def main() -> int:
    """Serves until there is nothing left to keep; tells the descriptor `--ready` when daemons may connect, or why not."""
    parser = argparse.ArgumentParser(prog="keeper", description="Holds the processes of one Colony daemon.")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--ready", type=int, required=True, metavar="FD")
    parser.add_argument(
        "--descriptors", required=True, type=int, help="how many each process may hold, unless it raises that"
    )
    options = parser.parse_args()
    try:
        _become_independent(options.state_dir)
        run_fd = os.open(options.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        engine = _prepare(options.state_dir, options.descriptors)
        listener = _listen(run_fd)
        engine.listen(listener)
    except Exception as error:
        _say(f"cannot start: {error!r}")
        os.write(options.ready, f"{error}\n".encode())
        return 1
    os.write(options.ready, b"ready\n")
    os.close(options.ready)
    _say(f"serving as pid {os.getpid()}")
    engine.serve(before_end=lambda: _unlink_socket(run_fd))
    return 0


def _become_independent(state_dir: str) -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) in (signal.SIG_IGN, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, _ignore)  # a handler, unlike SIG_IGN, is not inherited by what we execute
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(0o077)
    os.chdir("/")
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    path = os.path.join(state_dir, LOG_NAME)
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size > LOG_BYTES_MAX:
            os.replace(path, path + ".old")
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


def _prepare(state_dir: str, descriptors_of_children: int) -> Engine:
    kernel.adopt_orphans()
    oom = OomScore.lower(OOM_SCORE)
    descriptors = raise_descriptor_limit(descriptors_of_children)
    state = StateFolder(state_dir)
    if left := kill_leftovers(keeper=state.identity, grace=LEFTOVER_GRACE_SECONDS):
        _say(f"processes of the keeper before could not be ended: {left}")
    if not kernel.leave_nothing_to_children():
        _say("the capability bounding set stays as it is; no_new_privs is set")
    kernel.hide_memory()
    spawner = Spawner({KEEPER_TAG: state.identity}, descriptors=descriptors, oom=oom)
    engine = Engine(state, spawner=spawner, program=True, say=_say)
    _watch_signals(engine)
    return engine


def _watch_signals(engine: Engine) -> None:
    waker, woken = socket.socketpair()
    for sock in (waker, woken):
        sock.setblocking(False)

    def on_signal(_: int) -> None:
        numbers = woken.recv(4096)
        if signal.SIGCHLD in numbers:
            engine.on_child_signal()
        if signal.SIGTERM in numbers:
            _say("SIGTERM: stopping all processes")
            engine.close_down(SIGTERM_GRACE_SECONDS)

    signal.signal(signal.SIGCHLD, _ignore)
    signal.signal(signal.SIGTERM, _ignore)
    engine.watch(woken.fileno(), on_signal)
    signal.set_wakeup_fd(waker.detach(), warn_on_full_buffer=False)


def _listen(run_fd: int) -> socket.socket:
    _unlink_socket(run_fd)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    listener.bind(f"/proc/self/fd/{run_fd}/{SOCKET_NAME}")  # the path of the folder may be longer than sun_path
    os.umask(umask)
    listener.listen(BACKLOG)
    return listener


def _unlink_socket(run_fd: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET_NAME, dir_fd=run_fd)


def _ignore(_number: int, _frame: object) -> None:
    return None


def _say(text: str) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):
        print(f"{moment} {text}", file=sys.stderr, flush=True)
