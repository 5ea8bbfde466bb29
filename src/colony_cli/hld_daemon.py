"""HumanLayer's daemon as Colony starts it: an instance of its own, whose agents run inside their colonies.

The daemon starts `claude` itself. What it is given as `claude` is a small program of ours, which finds the colony whose folder it was
started in and runs the real one there (`colony_cli.inside`); beside it lies what asks for permission, where `hlyr` is not installed.
"""

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from colony_core.backends import HldPlace
from colony_core.errors import Broken, Missing, NotAllowed, TooSlow

START_SECONDS = 15.0
LOOK_SECONDS = 0.1
HTTP_SECONDS = 5.0
LOG_BYTES = 2000
OF_ANOTHER = frozenset({"HUMANLAYER_SOCKET_PATH"})
"""Counts for hld before the variable that we set, and would make of ours the user's own daemon."""
INSTALL = "scripts/get-hld builds it; then put it on PATH, or name it in COLONY_HLD"


def hld_program(environ: Mapping[str, str]) -> str:
    """The daemon's program: `COLONY_HLD`, or `hld` on PATH. Raises Missing."""
    found = environ.get("COLONY_HLD") or shutil.which("hld", path=environ.get("PATH"))
    if not found or not os.access(found, os.X_OK):
        raise Missing("hld-missing", f"there is no {environ.get('COLONY_HLD') or 'hld on PATH'}", INSTALL)
    return os.path.abspath(found)


def prepare(place: HldPlace) -> None:
    """Makes the folder of an instance, for its user alone, with the programs that its agents are started by.

    A folder of the socket that is there already is left as it is. Raises NotAllowed (`hld-folder`) where our folder is somebody else's.
    """
    place.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (place.folder, place.folder / "bin", place.folder / "tools"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            hint = "start hld as the user whose home it is, or set HOME"
            raise NotAllowed(
                "hld-folder", f"{folder} belongs to somebody else, who could put another claude there", hint
            )
        folder.chmod(0o700)
    _script(claude_of(place), "colony_cli.inside", str(place.folder / "tools"))
    _script(place.folder / "tools/hlyr", "colony_cli.hlyr")


def claude_of(place: HldPlace) -> Path:
    """What the daemon is told to start as Claude Code."""
    return place.folder / "bin/claude"


def log_of(place: HldPlace) -> Path:
    """What the daemon says."""
    return place.folder / "daemon.log"


def environment(place: HldPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """The daemon's environment: that of whoever starts it, keys included, and where it lives. A Claude of the user's own stays."""
    return {
        **{name: value for name, value in environ.items() if name not in OF_ANOTHER},
        "HUMANLAYER_DAEMON_SOCKET": str(place.socket),
        "HUMANLAYER_DATABASE_PATH": str(place.database),
        "HUMANLAYER_DAEMON_HTTP_PORT": str(place.http_port),
        "HUMANLAYER_CLAUDE_PATH": environ.get("HUMANLAYER_CLAUDE_PATH") or str(claude_of(place)),
    }


def start(
    program: str, place: HldPlace, environ: Mapping[str, str], *, answers: Callable[[], bool]
) -> "subprocess.Popen[bytes]":
    """Starts the daemon on its own, to outlive this command, and waits until it answers. Raises Broken, TooSlow."""
    with log_of(place).open("ab") as log:
        process = subprocess.Popen(
            [program],
            env=environment(place, environ),
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Broken(
                "hld-did-not-start",
                f"hld ended with {process.returncode}: {_last_words(place)}",
                f"look at {log_of(place)}",
            )
        if answers():
            return process
        time.sleep(LOOK_SECONDS)
    process.terminate()
    process.wait()
    raise TooSlow("hld-silent", f"hld did not answer within {START_SECONDS:.0f} s", f"look at {log_of(place)}")


def http_health(place: HldPlace) -> dict[str, Any] | None:
    """What the daemon says of itself and of Claude Code over HTTP, where it answers; older ones may do so at another path."""
    for path in ("/api/v1/health", "/health"):
        connection = http.client.HTTPConnection("127.0.0.1", place.http_port, timeout=HTTP_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            found = json.loads(answer.read(2**20)) if answer.status == 200 else None
        except (OSError, ValueError, http.client.HTTPException):
            found = None
        finally:
            connection.close()
        if isinstance(found, dict):
            return found
    return None


def _script(path: Path, module: str, *arguments: str) -> None:
    words = shlex.join([sys.executable, "-m", module, *arguments])
    fresh = path.with_suffix(".new")
    fresh.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    fresh.chmod(0o700)
    fresh.rename(path)


def _last_words(place: HldPlace) -> str:
    lines = log_of(place).read_bytes()[-LOG_BYTES:].decode(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"
