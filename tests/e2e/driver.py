"""Drives a daemon from outside: starts it, kills it, talks to it by the command and by the API."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from colony_core.errors import ColonyError
from colony_core.remote import Call, Client, calls, discover

T = TypeVar("T")
COLONY = [sys.executable, "-m", "colony_cli"]
BASE = "10.213.0.0/16"
"""Apart from the default range, so that the colonies of whoever runs the tests are left alone."""
PATIENCE_SECONDS = 180.0
"""What is not there by then never comes: a bound for what hangs, on a machine however busy."""


class Daemon:
    """One state folder, and the daemons that run on it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("COLONY_")}
        self.environment = inherited | {
            "COLONY_STATE": str(self.state),
            "COLONY_CONFIG": str(folder / "none.toml"),
            "COLONY_SERVER__PORT": "0",
            "COLONY_ROUTING__PORT": "0",
            "COLONY_ISOLATION__BASE": BASE,
            "COLONY_ISOLATION__EGRESS": "false",
            "COLONY_PROCESSES__GRACE": "3s",
        }
        (folder / "none.toml").touch()
        self.flags: tuple[str, ...] = ()
        """Of `colony serve`."""
        self.process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator["Daemon"]:
        """Starts the daemon; at the end nothing of it is left."""
        try:
            self.start()
            yield self
        finally:
            self.destroy()

    def start(self) -> None:
        """Starts a daemon and returns when it answers."""
        log = (self.folder / "daemon.log").open("ab")
        self.process = subprocess.Popen(
            [*COLONY, "serve", *self.flags], env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        self.until(self._answers, "the daemon answers")

    def kill(self) -> None:
        """kill -9, and nothing polite."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """An orderly end that leaves the colonies."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def restart(self) -> None:
        """An orderly end that leaves the colonies, and the next daemon."""
        self.terminate()
        self.start()

    def destroy(self) -> None:
        """Ends everything: the daemon with its colonies if it lives, else a new one that does so."""
        with suppress(ColonyError, AssertionError, subprocess.TimeoutExpired):
            if self.process is None or self.process.poll() is not None:
                self.start()
            self.send(calls.shutdown(colonies=True))
            assert self.process is not None
            self.process.wait(PATIENCE_SECONDS)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def cli(self, *arguments: str, check: int | None = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command of `colony`; its exit code must be `check`."""
        done = subprocess.run(
            [*COLONY, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert check is None or done.returncode == check, (
            f"colony {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def send(self, call: Call) -> Any:
        """One call of the API, over the Unix socket."""
        return Client(discover(environ=self.environment)).send_raw(call)

    def send_all(self, call: Call) -> list[Any]:
        """Every item of a list, over all of its pages."""
        return Client(discover(environ=self.environment)).send_all(call)

    def send_system(self) -> dict[str, Any]:
        """Who the daemon is."""
        found: dict[str, Any] = self.send(calls.system())
        return found

    def colony(self, name: str) -> dict[str, Any]:
        """The view of a colony."""
        found: dict[str, Any] = self.send(calls.colony(name))
        return found

    def service(self, colony: str, name: str) -> dict[str, Any]:
        """The view of a service."""
        return next(service for service in self.colony(colony)["services"] if service["name"] == name)

    def spawn(self, name: str, manifest: str, **files: str) -> None:
        """Makes a folder with a manifest and files, and asks for a colony of it."""
        folder = self.folder / f"app-{name}"
        folder.mkdir()
        (folder / "colony.toml").write_text(manifest)
        for file, text in files.items():
            (folder / file.replace("_py", ".py")).write_text(text)
        self.send(calls.spawn(name, str(folder)))

    def until_ready(self, name: str) -> dict[str, Any]:
        """The view of a colony when every service of it is ready."""
        return self.until(lambda: self._ready(name), f"{name} is ready")

    def until(self, ask: Callable[[], T | None], what: str) -> T:
        """What `ask` gives as soon as it gives something."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = ask()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(
            f"not within {PATIENCE_SECONDS:g} s: {what}\n{(self.folder / 'daemon.log').read_text()[-4000:]}"
        )

    def _ready(self, name: str) -> dict[str, Any] | None:
        view = self.colony(name)
        good = view["state"] == "running" and all(service["state"] == "ready" for service in view["services"])
        return view if good else None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended:\n{(self.folder / 'daemon.log').read_text()[-4000:]}")
        with suppress(ColonyError):
            return bool(self.send(calls.system()))
        return False


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)


def logged_lines(daemon: Daemon) -> list[dict[str, Any]]:
    """The lines of the daemon's own log; no JSON is the greeting, and no line yet is what stands behind the last end of one."""
    whole = (daemon.folder / "daemon.log").read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def log_numbers(daemon: Daemon, colony: str, service: str) -> list[int]:
    """The numbers that a counting service has printed, as the log has them."""
    page = daemon.send(calls.logs(colony, limit=10_000, services=[service]))
    return [int(line["text"]) for line in page["lines"] if line["stream"] == "out"]


def plain(text: str) -> Any:
    """JSON as values."""
    return json.loads(text)
