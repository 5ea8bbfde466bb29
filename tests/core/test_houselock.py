"""Two daemons never share a state folder, and a dead one keeps nobody out."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from colony_core.errors import AlreadyExists, Broken
from colony_core.houselock import hold_lock

HOLDER = """
import sys, time, pathlib
from colony_core.houselock import hold_lock
with hold_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "state"):
        with pytest.raises(AlreadyExists) as caught, hold_lock(tmp_path / "state"):
            pass
        assert caught.value.code == "already-running"
        assert f"process {os.getpid()}" in caught.value.message
    with hold_lock(tmp_path / "state"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyExists, match=f"process {holder.pid}"), hold_lock(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with hold_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Broken, match="COLONY_STATE"), hold_lock(tmp_path / "file" / "state"):
        pass
