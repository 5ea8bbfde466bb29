"""A host of its own for programs that need the standard ports and names, and a checkout whose .venv is the one that runs the tests.

`world.py SCENE` plays a scene of scenes.py in this process; `play` runs that in namespaces which end with it, whatever it left running.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
OF_ITS_OWN = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
PATIENCE_SECONDS = 60.0
SCENE_SECONDS = 300.0


def play(scene: str, *, apart: bool = True) -> None:
    """Plays a scene as a program, on a host of its own or (`apart=False`) here; its traceback is the failure."""
    own = [*OF_ITS_OWN, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])] if apart else []
    script = Path(__file__).with_name("scenes.py")
    done = subprocess.run(
        [*own, sys.executable, str(script), scene],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCENE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def make_a_host() -> None:
    """A /run of its own and a loopback that is up."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def checkout() -> Iterator[Path]:
    """A folder as after `git clone` and a first `make`, with a HOME beside it."""
    with tempfile.TemporaryDirectory(prefix="colony-world-", ignore_cleanup_errors=True) as folder:
        home, made = Path(folder, "home"), Path(folder, "colony")
        venv = made / ".venv"
        home.mkdir()
        venv.mkdir(parents=True)
        for name in (
            "Makefile",
            "pyproject.toml",
            "requirements.lock",
            "build.lock",
            "src",
            "examples",
            "docs",
            "README.md",
        ):
            (made / name).symlink_to(ROOT / name)
        for name in ("bin", "lib", "pyvenv.cfg"):
            (venv / name).symlink_to(Path(sys.prefix, name))
        (venv / ".installed").touch()
        yield made


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a user has in a new shell."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb", **more}


class Shown:
    """A program in a session of its own, and what it has shown."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self.path = folder.parent / f"shown-{time.monotonic_ns()}"
        with self.path.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def text(self) -> str:
        """All that was shown so far."""
        return self.path.read_text(errors="replace")

    def until(self, pattern: str, after: int = 0) -> "re.Match[str]":
        """Waits until something that matches is shown, from the character `after` on."""
        try:
            return until(lambda: re.compile(pattern).search(self.text, after), repr(pattern))
        except AssertionError as error:
            error.add_note(self.text)
            raise

    def ctrl_c(self) -> int:
        """As Ctrl-C at its terminal does; the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """kill -9 of the whole session."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def until(ask: Callable[[], T | None], what: str) -> T:
    """What `ask` gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {what}")
