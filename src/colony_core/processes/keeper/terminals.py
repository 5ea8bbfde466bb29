"""Terminals: a program on a pseudo-terminal, and those who look at it.

The keeper holds both ends, takes whatever the program says into a scrollback at once, and so never holds it up. A viewer has a socket of
its own and a place in the scrollback; the scrollback is its queue. One that falls behind what is kept is told what it missed and goes on
with the newest, and neither the program nor another viewer notices.

A terminal has one size. Whoever was the last to come, to type or to resize decides it (as in tmux since 3.1): with the smallest of all a
forgotten window would crimp everybody for ever.
"""

import fcntl
import os
import select
import struct
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .scrollback import Scrollback
from .timers import Timer, Timers

if TYPE_CHECKING:
    from .viewers import Viewer

READ_BYTES = 64 * 1024
READS_PER_TURN = 16
"""The kernel gives about 4 KiB of a terminal at a time."""
LAST_TURNS = 16
"""More than the kernel holds of what a program said before it ended."""
INPUT_BYTES_MAX = 64 * 1024
"""What waits for a program that does not read; beyond it viewers are not read either."""
SIDE_MAX = 4096
NUDGE_SECONDS = 0.05
IUTF8 = 0o40000


class Size(NamedTuple):
    rows: int
    columns: int

    @classmethod
    def of(cls, value: Any) -> "Size":
        """Raises ValueError for what is no size."""
        rows, columns = value
        if not (type(rows) is type(columns) is int and 1 <= rows <= SIDE_MAX and 1 <= columns <= SIDE_MAX):
            raise ValueError(f"{rows!r} by {columns!r} is no size of a terminal")
        return cls(rows, columns)


class Settings(NamedTuple):
    """What a start request says of its terminal; raises KeyError, TypeError or ValueError in `of`."""

    size: Size
    scrollback: int
    idle: float

    @classmethod
    def of(cls, value: Any) -> "Settings":
        size = Size.of((value["rows"], value["columns"]))
        scrollback, idle = int(value["scrollback"]), float(value["idle"])
        if scrollback < 1 or not idle >= 0:
            raise ValueError("scrollback or idle")
        return cls(size, scrollback, idle)


class Loop(Protocol):
    """What a terminal needs of the engine."""

    timers: Timers

    def watch(self, fd: int, handler: Callable[[int], None], mask: int = ...) -> None: ...
    def change_watch(self, fd: int, mask: int) -> None: ...
    def unwatch(self, fd: int) -> None: ...


def open_pair(size: Size, owner: int | None) -> tuple[int, int]:
    """Both ends of a new terminal for the user `owner`; the second is the program's.

    Ctrl-S and Ctrl-Q reach the program: there is no slow line to be stopped, only screens that seem to hang.
    """
    master, slave = os.openpty()
    try:
        if owner is not None and os.fstat(slave).st_uid != owner:
            os.fchown(slave, owner, -1)
        modes = termios.tcgetattr(slave)
        modes[0] = modes[0] & ~termios.IXON | IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        set_size(slave, size)
        os.set_blocking(master, False)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return master, slave


def set_size(fd: int, size: Size) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


class Terminal:
    """One terminal; its program may end before its last viewer has read everything."""

    def __init__(self, ends: tuple[int, int], settings: Settings, *, loop: Loop, expired: Callable[[], None]) -> None:
        self.fd, self._slave = ends
        self.size = settings.size
        self.scrollback = Scrollback(settings.scrollback)
        self.end_message: dict[str, Any] | None = None
        self.seen = False
        """Whether anybody has ever looked."""
        self.viewers: list[Viewer] = []
        """The last one decides the size."""
        self._loop = loop
        self._inbox = bytearray()
        self._idle = settings.idle
        self._expired = expired
        self._active_at = time.monotonic()
        self._idle_timer: Timer | None = None
        self._nudge: Timer | None = None
        self._wait_idle(self._idle)

    def view(self) -> dict[str, Any]:
        """Where it stands now."""
        return {
            "rows": self.size.rows,
            "columns": self.size.columns,
            "viewers": len(self.viewers),
            "idle": time.monotonic() - self._active_at,
            "start": self.scrollback.start,
            "end": self.scrollback.end,
        }

    # -- the program's side

    def on_readable(self, mask: int) -> None:
        """Takes what the program says, and gives it what was typed."""
        if mask & select.EPOLLOUT:
            self._type_on()
        if mask & ~select.EPOLLOUT and self._read(READS_PER_TURN):
            for viewer in list(self.viewers):
                viewer.pump()

    def finish(self) -> None:
        """Takes the last words and lets go of both ends."""
        if self.fd < 0:
            return
        for _ in range(LAST_TURNS):
            if not self._read(READS_PER_TURN):
                break
        self._loop.unwatch(self.fd)
        os.close(self.fd)
        os.close(self._slave)
        self.fd = -1
        self._inbox.clear()
        for timer in (self._idle_timer, self._nudge):
            if timer is not None:
                timer.cancel()

    def end(self, code: int, why: str) -> None:
        """Tells every viewer, behind the last words, how the program ended."""
        self.end_message = {"exit": code, "why": why}
        for viewer in list(self.viewers):
            viewer.pump()

    def _read(self, most: int) -> bool:
        """Whether anything came."""
        came = False
        for _ in range(most):
            try:
                data = os.read(self.fd, READ_BYTES)
            except OSError:  # nothing more is there now
                break
            came = True
            self.scrollback.add(data)
        if came:
            self._active_at = time.monotonic()
        return came

    def _type_on(self) -> None:
        """Writes what was typed as far as the program's queue takes it."""
        clogged = self.clogged
        while self._inbox:
            try:
                del self._inbox[: os.write(self.fd, self._inbox[:4096])]
            except BlockingIOError:
                break
            except OSError:  # nobody will ever read it
                self._inbox.clear()
        self._loop.change_watch(self.fd, select.EPOLLIN | (select.EPOLLOUT if self._inbox else 0))
        if clogged:
            for viewer in self.viewers:
                viewer.watch()

    # -- the viewers' side

    @property
    def clogged(self) -> bool:
        """Whether the program has to read before more is taken for it."""
        return len(self._inbox) >= INPUT_BYTES_MAX

    def type(self, viewer: "Viewer", data: bytes) -> None:
        """Input for the program; the typist's size counts from now on."""
        self._active_at = time.monotonic()
        self.come_forward(viewer)
        if self.fd >= 0 and viewer in self.viewers:
            self._inbox += data
            self._type_on()
            if self.clogged:
                for other in self.viewers:
                    other.watch()

    def come_forward(self, viewer: "Viewer", *, redraw: bool = False) -> None:
        """This viewer is the one who decides the size now; with `redraw` the program is made to draw its screen anew in any case."""
        if viewer in self.viewers[:-1]:
            self.viewers.remove(viewer)
            self.viewers.append(viewer)
        if not self._fit() and redraw:
            self._nudge_program()

    def add(self, viewer: "Viewer") -> None:
        self.seen = True
        self.viewers.append(viewer)

    def leave(self, viewer: "Viewer") -> None:
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self._active_at = time.monotonic()
            self._fit()

    def _fit(self) -> bool:
        """Takes the size of who came last, of those that have one; whether it changed."""
        wanted = next((viewer.size for viewer in reversed(self.viewers) if viewer.size is not None), self.size)
        if wanted == self.size or self.fd < 0:
            return False
        self.size = wanted
        set_size(self.fd, wanted)
        for viewer in list(self.viewers):
            viewer.pump()
        return True

    def _nudge_program(self) -> None:
        """Full-screen programs draw everything when their size changes: it does so for a moment."""
        if self.fd < 0 or self._nudge is not None:
            return
        set_size(self.fd, self.size._replace(columns=max(self.size.columns - 1, 1)))
        self._nudge = self._loop.timers.later(NUDGE_SECONDS, self._end_nudge)

    def _end_nudge(self) -> None:
        self._nudge = None
        set_size(self.fd, self.size)

    # -- idleness

    def _wait_idle(self, seconds: float) -> None:
        if self._idle:
            self._idle_timer = self._loop.timers.later(seconds, self._check_idle)

    def _check_idle(self) -> None:
        left = self._idle - (time.monotonic() - self._active_at)
        if self.viewers:
            self._wait_idle(self._idle)
        elif left > 0:
            self._wait_idle(left)
        else:
            self._expired()
