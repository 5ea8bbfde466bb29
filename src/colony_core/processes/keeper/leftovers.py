"""The certain end of processes that a dead keeper has left behind."""

import os
import signal
import time
from collections.abc import Callable, Collection

from .tree import KEEPER_TAG, ProcessTable, Seen, network_inode, send_signal

LOOK_SECONDS = 0.01


def kill_leftovers(
    *,
    keeper: str | None = None,
    keys: Collection[str] = (),
    networks: Collection[int] = (),
    grace: float = 0.0,
    patience: float = 10.0,
    spare: Collection[int] = (),
    pause: Callable[[float], None] = time.sleep,
) -> list[int]:
    """Ends the trees of all processes tagged with this keeper's id or one of `keys`, or living in one of `networks` (inodes).

    SIGTERM, `grace` seconds, then SIGKILL until nobody is found twice. Gives the pids that were still there after `patience` more
    seconds. This process, its parent, processes in its own network namespace and those in `spare` are never touched by inode.
    """
    table = ProcessTable()
    spared = {os.getpid(), os.getppid(), *spare}
    own = network_inode(os.getpid())
    inodes: set[int | None] = {inode for inode in networks if inode != own}
    start = time.monotonic()
    asked: set[tuple[int, int]] = set()
    empty = 0
    while True:
        members = [member for member in _members(table, keeper, set(keys), inodes) if member.pid not in spared]
        elapsed = time.monotonic() - start
        if not members:
            empty += 1
            if empty > bool(asked):
                return []
            continue
        empty = 0
        if elapsed > grace + patience:
            return [member.pid for member in members]
        for member in members:
            if elapsed >= grace:
                asked.add((member.pid, member.started))
                send_signal(member, signal.SIGKILL)
            elif (member.pid, member.started) not in asked:
                asked.add((member.pid, member.started))
                send_signal(member, signal.SIGTERM)
                send_signal(member, signal.SIGCONT)
        pause(LOOK_SECONDS)


def _members(table: ProcessTable, keeper: str | None, keys: set[str], inodes: set[int | None]) -> list[Seen]:
    snapshot = table.look()
    found: set[int] = set()
    todo = [
        process.pid
        for process in snapshot.by_pid.values()
        if (keeper is not None and process.tags.keeper == keeper)
        or process.tags.process in keys
        or (inodes and network_inode(process.pid) in inodes)
    ]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(snapshot.children.get(pid, ()))
    return [snapshot.by_pid[pid] for pid in sorted(found) if not snapshot.by_pid[pid].zombie]


__all__ = ["KEEPER_TAG", "kill_leftovers"]
