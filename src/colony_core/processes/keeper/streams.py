"""From the pipes of processes to their logs."""

import os
import time
from collections.abc import Callable

from .records import ERR, NOTE, OUT, Splitter
from .segments import Limits, LogWriter
from .timers import Timer, Timers

READ_BYTES = 64 * 1024
"""At most so much is taken from one pipe before all others had their turn; also what a pipe holds by default."""
IDLE_SECONDS = 0.5
"""An unfinished line is written, as one that goes on, when nothing came for so long."""
FULL_DISK_RETRY_SECONDS = 1.0
PIPE_BYTES_MAX = 1024 * 1024
"""What a pipe can hold at most, unless a privileged process widened it."""
KINDS = {1: OUT, 2: ERR}
COLONY_LABEL = b"colony"


class Logs:
    """The logs that processes of this keeper write to, by directory; opened when first needed, closed with their last user."""

    def __init__(self, timers: Timers, advanced: Callable[[LogWriter], None]) -> None:
        self.timers = timers
        self._advanced = advanced
        self._writers: dict[str, tuple[LogWriter, int]] = {}
        self._retry: Timer | None = None

    def acquire(self, directory: str, limits: Limits) -> LogWriter:
        """The log of a directory for one more user; the newest limits count."""
        writer, users = self._writers.get(directory) or (LogWriter(directory, limits, advanced=self._advanced), 0)
        writer.limits = limits
        self._writers[directory] = writer, users + 1
        return writer

    def release(self, writer: LogWriter) -> None:
        _, users = self._writers[writer.directory]
        self._writers[writer.directory] = writer, users - 1
        self._close_idle()

    def note(self, directory: str, limits: Limits, text: str) -> int:
        """Writes a line of Colony's own; gives its number, or 0 when it was dropped."""
        writer = self.acquire(directory, limits)
        try:
            before = writer.next
            lines = text.encode(errors="replace").split(b"\n")
            self.append(writer, COLONY_LABEL, NOTE, lines)
            return writer.next - 1 if writer.next > before else 0
        finally:
            self.release(writer)

    def append(self, writer: LogWriter, label: bytes, kind: bytes, lines: list[bytes]) -> None:
        writer.append(label, [(kind, lines)])
        self.watch(writer)

    def watch(self, writer: LogWriter) -> None:
        """Sees to it that dropped lines are told when the disk has room again, also if nothing more is written."""
        if writer.dropped and self._retry is None:
            self._retry = self.timers.later(FULL_DISK_RETRY_SECONDS, self._retry_full)

    def open_now(self) -> dict[str, int]:
        """The number of the last record of each open log."""
        return {directory: writer.next - 1 for directory, (writer, _) in self._writers.items()}

    def close(self) -> None:
        for writer, _ in self._writers.values():
            writer.tell_dropped()
            writer.close()
        self._writers.clear()

    def _retry_full(self) -> None:
        self._retry = None
        for writer, _ in list(self._writers.values()):
            writer.tell_dropped()
            self.watch(writer)
        self._close_idle()

    def _close_idle(self) -> None:
        for writer, users in list(self._writers.values()):
            if not users and not writer.dropped:
                writer.close()
                del self._writers[writer.directory]


class Source:
    """One pipe of a process: read in bounded bites, cut into records, appended to the log."""

    def __init__(
        self, fd: int, label: str, kind: bytes, *, logs: Logs, writer: LogWriter, gone: Callable[[int], None]
    ) -> None:
        self.fd = fd
        self._label = label.encode()
        self._splitter = Splitter(kind)
        self._logs = logs
        self._writer = writer
        self._gone = gone
        self._read_at = 0.0
        self._idle: Timer | None = None
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Takes one bite; False when nothing is there now."""
        if self.fd < 0:
            return False
        try:
            chunk = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._close()
            return False
        self._write(self._splitter.feed(chunk))
        self._read_at = time.monotonic()
        if self._splitter.rest and self._idle is None:
            self._idle = self._logs.timers.later(IDLE_SECONDS, self._on_idle)
        return True

    def on_readable(self, _: int) -> None:
        self.read()

    def finish(self) -> None:
        """Takes what is left in the pipe, at most what a pipe can hold, and lets go of it."""
        held = 0
        while held < PIPE_BYTES_MAX and self.read():
            held += READ_BYTES
        if self.fd >= 0:
            self._close()

    def _on_idle(self) -> None:
        self._idle = None
        if self.fd < 0 or not self._splitter.rest:
            return
        quiet = time.monotonic() - self._read_at
        if quiet >= IDLE_SECONDS:
            self._write(self._splitter.pause())
        else:
            self._idle = self._logs.timers.later(IDLE_SECONDS - quiet, self._on_idle)

    def _write(self, groups: list[tuple[bytes, list[bytes]]]) -> None:
        if groups:
            self._writer.append(self._label, groups)
            self._logs.watch(self._writer)

    def _close(self) -> None:
        self._write(self._splitter.end())
        if self._idle is not None:
            self._idle.cancel()
        self._gone(self.fd)
        os.close(self.fd)
        self.fd = -1
        self._logs.release(self._writer)
