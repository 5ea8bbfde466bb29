"""One daemon per state folder: a lock that the kernel drops with its holder, and says who holds it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import AlreadyExists, Broken


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Holds `folder`/lock for the time of the block; raises AlreadyExists (`already-running`) naming the process that holds it.

    The folder is made with mode 0700. The lock is an flock(2): it goes with its holder, so that a stale file never keeps anybody out.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Broken(
            "state-folder", f"cannot use {folder}: {error.strerror}", "set COLONY_STATE to a folder that you own"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _running(folder, os.pread(fd, 1000, 0)) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid()}).encode(), 0)
        yield
    finally:
        os.close(fd)


def _running(folder: Path, told: bytes) -> AlreadyExists:
    try:
        pid = json.loads(told)["pid"]
        who = f"by process {pid}"
    except (ValueError, KeyError, TypeError):
        pid, who = None, "by another process"
    return AlreadyExists(
        "already-running",
        f"a daemon is running on {folder} already, {who}",
        "colony status; colony shutdown",
        details={"pid": pid},
    )
