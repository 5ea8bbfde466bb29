"""A real terminal to type at: a tmux whose one window runs a shell, and whose screen can be read as a person sees it."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 180.0


class Tmux:
    """The screen, and keys for it."""

    def __init__(self, socket: str, environment: dict[str, str]) -> None:
        self._socket = socket
        self._environment = environment

    def __call__(self, *words: str) -> str:
        """A command of tmux."""
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
        return done.stdout

    @property
    def screen(self) -> str:
        """What is on the screen now, lines without what is blank behind them."""
        return self("capture-pane", "-p", "-t", "0").rstrip("\n")

    @property
    def history(self) -> str:
        """What has been on the screen, from the beginning."""
        return self("capture-pane", "-p", "-t", "0", "-S", "-")

    @property
    def command(self) -> int:
        """The pid of what the shell runs in the foreground."""
        shell = self("display-message", "-p", "-t", "0", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[-1])

    def type(self, text: str) -> None:
        """Types letters."""
        self("send-keys", "-t", "0", "-l", text)

    def line(self, text: str) -> None:
        """Types a line."""
        self.type(text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Presses keys, by tmux's names."""
        self("send-keys", "-t", "0", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self("resize-window", "-t", "0", "-x", str(columns), "-y", str(rows))

    def until(self, true: str | Callable[[str], object]) -> str:
        """The screen, as soon as a text is on it, or something is true of it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            screen = self.screen
            if true in screen if isinstance(true, str) else true(screen):
                return screen
            time.sleep(0.05)
        raise AssertionError(f"not on the screen: {true!r}\n{self.screen}")


@contextmanager
def open_tmux(environment: dict[str, str], *, columns: int = 100, rows: int = 30) -> Iterator[Tmux]:
    """A terminal in which `colony` is the one under test; gone with the block."""
    with tempfile.TemporaryDirectory(prefix="tmux-") as folder:
        command = Path(folder, "colony")
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m colony_cli "$@"\n')
        command.chmod(0o755)
        plain = {k: v for k, v in environment.items() if k not in ("TMUX", "TMUX_PANE", "PROMPT_COMMAND")}
        own = plain | {"PATH": f"{folder}:{os.environ['PATH']}", "LANG": "C.UTF-8", "PS1": "outer$ ", "TERM": "screen"}
        tmux = Tmux(f"{folder}/socket", own)
        try:
            tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "env", "PS1=outer$ ", "sh")
            tmux.until("outer$")
            yield tmux
        finally:
            subprocess.run(["tmux", "-S", f"{folder}/socket", "kill-server"], capture_output=True, check=False)
