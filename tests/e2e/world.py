"""A host of its own for programs that need the standard ports and names, and a checkout whose .venv is the one that runs the tests.

`scenes.py SCENE` plays a scene in that process; `play` runs it in namespaces which end with it, whatever it left running.
`scenes.py SCENE USER` has that user play it there, who need have no name, home or rights.
"""

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
USER = 61_237
"""Nobody that a machine knows."""
ROOT = Path(__file__).resolve().parents[2]
OF_ITS_OWN = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
PATIENCE_SECONDS = 180.0
SCENE_SECONDS = 900.0


def play(scene: str, *, apart: bool = True, user: int | None = None) -> None:
    """Plays a scene as a program, on a host of its own or (`apart=False`) here; its traceback is the failure.

    With `user`, for which this must be root and apart, that user plays it.
    """
    own = [*OF_ITS_OWN, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])] if apart else []
    script = Path(__file__).with_name("scenes.py")
    done = subprocess.run(
        [*own, sys.executable, str(script), scene, *([] if user is None else [str(user)])],
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


def open_the_way(*folders: Path) -> None:
    """Lets other users reach folders that lie in one closed to them, as root's own is.

    For a host of its own: of what is closed, only these folders are seen from then on. Their files must be readable by others.
    """
    ways = []
    for number, folder in enumerate(folders):
        closed = [above for above in reversed(folder.parents) if not above.stat().st_mode & stat.S_IXOTH]
        if closed:
            aside = Path(f"/run/way-{number}")
            aside.mkdir()
            subprocess.run(["mount", "--bind", str(folder), str(aside)], check=True)
            ways.append((closed[0], aside, folder))
    for outermost in {closed for closed, _, _ in ways}:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(outermost)], check=True)
    for _, aside, folder in ways:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(aside), str(folder)], check=True)


def play_as(user: int, scene: str) -> None:
    """Has an ordinary user play a scene on this host of root's, with nothing of root's environment; afterwards nobody else runs here."""
    open_the_way(ROOT, Path(sys.prefix), Path(sys.base_prefix))
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    script = str(Path(__file__).with_name("scenes.py"))
    subprocess.run([*become, sys.executable, script, scene], cwd="/", env=environment(Path("/")), check=True)
    until(lambda: not others(), "nobody else runs")


def others() -> list[int]:
    """The processes of this host other than this one; a zombie is none."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if file.read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(int(file.parent.name))
    return [pid for pid in found if pid != os.getpid()]


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
