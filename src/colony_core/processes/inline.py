"""The engine of a keeper in a thread of this program."""

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

import trio

from colony_core.errors import Broken

from .keeper import kernel
from .keeper.engine import Engine, StateFolder
from .keeper.leftovers import kill_leftovers
from .keeper.spawning import Spawner
from .keeper.tree import KEEPER_TAG

LEFTOVER_GRACE_SECONDS = 1.0


async def run_inline_engine(state_dir: Path, sock: socket.socket) -> threading.Thread:
    """Starts the thread; it ends when its daemon's end of `sock` is closed and its processes are stopped."""
    ready = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            engine = _prepare(os.path.abspath(state_dir), sock)
        except BaseException as error:
            failed.append(error)
            sock.close()
            return
        finally:
            ready.set()
        engine.serve()

    thread = threading.Thread(target=run, name="colony-inline-keeper", daemon=True)
    thread.start()
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(ready.wait)
    if failed:
        raise Broken("keeper-failed", f"the inline keeper did not start: {failed[0]}") from failed[0]
    return thread


def _prepare(state_dir: str, sock: socket.socket) -> Engine:
    state = StateFolder(state_dir)
    kill_leftovers(keeper=state.identity, grace=LEFTOVER_GRACE_SECONDS)
    kernel.leave_nothing_to_children()  # of this thread alone; the program keeps what it has
    spawner = Spawner({KEEPER_TAG: state.identity})
    engine = Engine(state, spawner=spawner, program=False, say=_say)
    engine.connect(sock)
    return engine


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"keeper: {text}", file=sys.stderr, flush=True)
