"""Runs the real command as a process, without a terminal and with one, against a stand-in daemon on a Unix socket."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from .stand_in import StandIn, open_stand_in

DEADLINE_SECONDS = 120.0


@attrs.frozen
class Ended:
    """A run that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error object on stderr."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return found


class Terminal:
    """A run on a pseudo-terminal: what it shows, and what is typed."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self._read_so_far = b""
        self._master = master

    @property
    def shown(self) -> str:
        """All that was shown so far; of a letter whose last byte is still to come nothing."""
        return self._read_so_far.decode(errors="ignore").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Types."""
        os.write(self._master, text.encode())

    def until(self, text: str) -> None:
        """Waits until something is shown."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not self._read(0.2):
                assert text in self.shown, self.shown

    def end(self) -> int:
        """Waits for the end; the exit code."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._read(0.2):
            assert time.monotonic() < deadline, self.shown
        return self.process.wait(DEADLINE_SECONDS)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self._read_so_far += data
        return bool(data)


class Command:
    """The command, run against `socket`, in the folder `home`."""

    def __init__(self, socket: Path, home: Path) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(home), "COLONY_SERVER": f"unix:{socket}", "LANG": "C.UTF-8", "TERM": "xterm-256color",
            "XDG_CONFIG_HOME": str(home / "config"), "COLONY_STATE": str(home / "state"),
        }  # fmt: skip
        self._begun: list[subprocess.Popen[bytes]] = []
        self._terminals: list[tuple[subprocess.Popen[bytes], int]] = []

    def __call__(self, *words: str, stdin: str = "", **environ: str) -> Ended:
        """Runs to the end without a terminal."""
        done = subprocess.run(
            self._line(words), input=stdin.encode(), capture_output=True, env=self.environ | environ, cwd=self.home,
            timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def begin(self, *words: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Begins a run without a terminal; the caller waits for it."""
        pipe = subprocess.PIPE
        environment = self.environ | environ
        process = subprocess.Popen(
            self._line(words), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=self.home
        )
        self._begun.append(process)
        return process

    def terminal(self, *words: str, width: int = 100, **environ: str) -> Terminal:
        """Begins a run on a terminal of `width` columns."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        try:
            process = subprocess.Popen(
                self._line(words), stdin=slave, stdout=slave, stderr=slave, env=self.environ | environ, cwd=self.home,
                start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
        finally:
            os.close(slave)
        self._terminals.append((process, master))
        return Terminal(process, master)

    def shown(self, *words: str, width: int = 100, **environ: str) -> tuple[int, str]:
        """Runs to the end on a terminal: exit code, and what is shown."""
        terminal = self.terminal(*words, width=width, **environ)
        code = terminal.end()
        return code, terminal.shown

    def close(self) -> None:
        """Ends what was begun."""
        for process in self._begun:
            process.kill()
            process.communicate()
        for process, master in self._terminals:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            os.close(master)

    @staticmethod
    def _line(words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "colony_cli", *words]


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A short path: the kernel takes no more than 107 bytes for a socket."""
    with tempfile.TemporaryDirectory(prefix="cli-") as folder:
        yield Path(folder, "colony.sock")


@pytest.fixture
def house(socket_path: Path) -> Iterator[StandIn]:
    """A daemon that answers."""
    with open_stand_in(socket_path) as stand_in:
        yield stand_in


@pytest.fixture
def colony(socket_path: Path, tmp_path: Path) -> Iterator[Command]:
    """The command."""
    command = Command(socket_path, tmp_path)
    yield command
    command.close()
