"""Who belongs to a process, found in /proc: by tag, session, process group and ancestors.

Every command starts with `COLONY_PROCESS=<key>` and `COLONY_KEEPER=<id>` in its environment, so that a descendant is known by its tag
however often it forked or changed its session. Signals go through a pidfd whose process was checked to be the one that was seen.
"""

import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

PROCESS_TAG = "COLONY_PROCESS"
KEEPER_TAG = "COLONY_KEEPER"
_ENVIRON_BYTES_MAX = 4 * 1024 * 1024
_KERNEL_THREAD = 0x00200000
_ROUNDS_MAX = 5


class Tags(NamedTuple):
    process: str | None = None
    keeper: str | None = None


class Seen(NamedTuple):
    """A process as one look at /proc showed it; `started` (clock ticks since boot) tells it from a later one with its pid."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    zombie: bool
    tags: Tags


class Snapshot:
    """All processes at one moment, with the indexes that tell who belongs to whom."""

    def __init__(self, seen: Iterable[Seen]) -> None:
        self.by_pid = {process.pid: process for process in seen}
        self.by_tags: defaultdict[Tags, list[int]] = defaultdict(list)
        self.by_session: defaultdict[int, set[int]] = defaultdict(set)
        self.children: defaultdict[int, list[int]] = defaultdict(list)
        for process in self.by_pid.values():
            if process.tags.process is not None:
                self.by_tags[process.tags].append(process.pid)
            self.by_session[process.session].add(process.pid)
            self.by_session[process.group].add(process.pid)
            self.children[process.parent].append(process.pid)

    def tree(self, tags: Tags, main: int, *, extra: Iterable[int] = (), spare: Iterable[int] = ()) -> list[Seen]:
        """Who belongs to the process with these tags and the pid `main`: itself, its session and group, the tagged, and all descendants.

        Zombies are left out: they only wait for their parent. `main` must not have been reaped yet, or its pid may be another's.
        """
        found: set[int] = set()
        spared = set(spare) - {main}
        todo = [main, *self.by_tags.get(tags, ()), *self.by_session.get(main, ()), *extra]
        while todo:
            pid = todo.pop()
            if pid in found or pid in spared or pid not in self.by_pid:
                continue
            found.add(pid)
            todo.extend(self.children.get(pid, ()))
        return [process for process in map(self.by_pid.__getitem__, sorted(found)) if not process.zombie]


class ProcessTable:
    """Looks at /proc; remembers tags, which a process keeps for life even if it clears its environment later."""

    def __init__(self) -> None:
        self._tags: dict[tuple[int, int], Tags] = {}

    def look(self) -> Snapshot:
        """Everybody there is. Reading takes a while, in which some die and leave a child that was not listed: it is read as well."""
        looked: dict[int, Seen | None] = {}
        for _ in range(_ROUNDS_MAX):
            new = [pid for name in os.listdir("/proc") if name.isdigit() and (pid := int(name)) not in looked]
            if not new:
                break
            looked.update((pid, self._look_at(pid)) for pid in new)
        seen = [process for process in looked.values() if process is not None]
        alive = {(process.pid, process.started) for process in seen}
        for gone in self._tags.keys() - alive:
            del self._tags[gone]
        return Snapshot(seen)

    def _look_at(self, pid: int) -> Seen | None:
        fields = read_stat(pid)
        if fields is None:
            return None
        started = int(fields[19])
        tags = self._tags.get((pid, started))
        if tags is None:
            tags = Tags() if int(fields[6]) & _KERNEL_THREAD else read_tags(pid)
            if tags is not None:
                self._tags[pid, started] = tags
        return Seen(
            pid, int(fields[1]), int(fields[2]), int(fields[3]), started, fields[0] in (b"Z", b"X"), tags or Tags()
        )


def read_stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/<pid>/stat after the name, the state first; None for a process that is gone."""
    data = _read(f"/proc/{pid}/stat", 4096)
    return data[data.rindex(b")") + 2 :].split(b" ", 20) if data else None


def read_tags(pid: int) -> Tags | None:
    """The tags in a process's environment; None when it cannot be read, or not yet: in the middle of an exec it is empty."""
    data = _read(f"/proc/{pid}/environ", _ENVIRON_BYTES_MAX)
    if not data:
        return None
    if b"COLONY_" not in data:
        return Tags()
    entries = (entry.partition(b"=") for entry in data.split(b"\0") if entry.startswith(b"COLONY_"))
    found = {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in entries}
    return Tags(found.get(PROCESS_TAG), found.get(KEEPER_TAG))


def network_inode(pid: int) -> int | None:
    """The inode of a process's network namespace; None when it is gone or not ours to see."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def send_signal(process: Seen, number: int) -> bool:
    """Signals exactly the process that was seen; False when it is gone or may not be signalled."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        fields = read_stat(process.pid)
        if fields is None or int(fields[19]) != process.started:
            return False
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _read(path: str, limit: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, min(limit, 65536))
        while len(data) % 4096 == 0 and data and len(data) < limit:
            more = os.read(fd, 65536)
            if not more:
                break
            data += more
        return data
    except OSError:
        return None
    finally:
        os.close(fd)
