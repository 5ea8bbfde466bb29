"""What to start, in whose name, and how it ended: values only, and who owns a path."""

import grp
import os
import pwd
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from colony_core.errors import Broken, NotFound

from .keeper.segments import SEGMENT_BYTES, SEGMENT_SECONDS, TOTAL_BYTES


@attrs.frozen(kw_only=True)
class User:
    """In whose name a process runs."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""

    @property
    def is_root(self) -> bool:
        return self.uid == 0


@attrs.frozen(kw_only=True)
class LogTarget:
    """The log of a colony: one folder, one sequence of records for all its services.

    A segment ends at `segment_bytes` or `segment_seconds`; the oldest go when all together would exceed `total_bytes`.
    """

    directory: Path
    segment_bytes: int = SEGMENT_BYTES
    total_bytes: int = TOTAL_BYTES
    segment_seconds: float = SEGMENT_SECONDS

    def request(self) -> dict[str, Any]:
        return {
            "directory": os.path.abspath(self.directory),
            "segment_bytes": self.segment_bytes,
            "total_bytes": self.total_bytes,
            "segment_seconds": self.segment_seconds,
        }


@attrs.frozen(kw_only=True)
class OnTerminal:
    """A terminal that the keeper holds: its first size, how many bytes of its output are kept, and after how many seconds without a
    viewer, output or input its program is ended (0: never)."""

    rows: int = 24
    columns: int = 80
    scrollback: int = 2**20
    idle: float = 0.0

    def request(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class Launch:
    """A command to start. `key` is unique among the living and the unacknowledged dead; `env` is the whole environment.

    Output goes to `log` under `label`; without a log it goes nowhere. `stdio` hands over three descriptors of the caller's instead, who
    keeps and closes them; with `tty` they are the end of a terminal that becomes the process's own. With `terminal` it runs on a terminal
    of the keeper's, and `log` is left aside. `note` is told back with the process, also to later daemons. With `netns` the process lives
    in that namespace, whose inode must be `netns_inode` where that is given.
    """

    key: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = attrs.field(repr=False)
    label: str
    log: LogTarget | None = None
    netns: Path | None = None
    netns_inode: int | None = None
    user: User | None = None
    umask: int = 0o022
    stdio: tuple[int, int, int] | None = None
    tty: bool = False
    terminal: OnTerminal | None = None
    note: Mapping[str, str] = attrs.field(factory=dict)

    def request(self) -> dict[str, Any]:
        return {
            "op": "start",
            "key": self.key,
            "argv": list(self.argv),
            "cwd": self.cwd,
            "env": dict(self.env),
            "label": self.label,
            "log": self.log and self.log.request(),
            "netns": self.netns and os.fspath(self.netns),
            "netns_inode": self.netns_inode,
            "user": self.user and [self.user.uid, self.user.gid, list(self.user.groups)],
            "umask": self.umask,
            "tty": self.tty,
            "terminal": self.terminal and self.terminal.request(),
            "note": dict(self.note),
            "fds": 3 if self.stdio is not None else 0,
        }


@attrs.frozen(kw_only=True)
class Exited:
    """How a process ended; by then its whole tree is gone, but for `survivors` (pids that SIGKILL did not end)."""

    key: str
    code: int
    """The exit code, or minus the number of the signal that killed it."""
    at: float
    """Unix seconds."""
    survivors: tuple[int, ...] = ()
    why: str = ""
    """`idle` where the keeper ended it because nobody used its terminal."""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def reason(self) -> str:
        """For people: `exit 1`, `killed by SIGKILL`."""
        if self.code >= 0:
            return f"exit {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


class KeeperLost(Broken):
    """The keeper died or closed the line; what it held is to be started again with a new one."""


def owner_of(path: Path) -> User:
    """The owner of a path, with the groups the system's user database knows for them.

    An owner without an entry there gets the group of the path alone. Raises NotFound when the path is not there.
    """
    try:
        info = path.stat()
    except FileNotFoundError as error:
        raise NotFound("path-missing", f"{path} is not there") from error
    try:
        entry = pwd.getpwuid(info.st_uid)
    except KeyError:
        return User(uid=info.st_uid, gid=info.st_gid)
    groups = {group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem}
    return User(uid=info.st_uid, gid=entry.pw_gid, groups=tuple(sorted(groups | {entry.pw_gid})), name=entry.pw_name)
