"""What the processes of cells use, and what crossed their cables: counters of the kernel, read when somebody asks."""

import os
from collections.abc import Collection

import attrs

from .cell import namespace_of

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
UTIME, CSTIME = 11, 15
"""Where the four times of /proc/PID/stat stand behind the name: own and of children waited for, user and system (proc(5))."""
RSS_PAGES = 1


@attrs.frozen
class Processes:
    """The living processes of one cell. `cpu_seconds` with those of ended children that were waited for; memory counts shared pages
    once for each process that has them."""

    count: int = 0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


def processes_in(inodes: Collection[int]) -> dict[int, Processes]:
    """By namespace, in one walk through /proc; blocking, for a thread. Who ends meanwhile does not count."""
    found = {inode: [0, 0, 0] for inode in inodes}
    for name in os.listdir("/proc"):
        if name.isdigit() and (sums := found.get(namespace_of(f"/proc/{name}") or 0)) is not None:
            try:
                ticks, pages = _counters(name)
            except (FileNotFoundError, ProcessLookupError):
                continue
            sums[0] += 1
            sums[1] += ticks
            sums[2] += pages
    return {
        inode: Processes(count, ticks / TICKS_PER_SECOND, pages * PAGE_BYTES)
        for inode, (count, ticks, pages) in found.items()
    }


def _counters(pid: str) -> tuple[int, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        times = file.read().rpartition(b")")[2].split()[UTIME:CSTIME]
    with open(f"/proc/{pid}/statm", "rb") as file:
        pages = int(file.read().split()[RSS_PAGES])
    return sum(map(int, times)), pages
