"""The bridge is started by whoever the colony's user is, wherever Colony lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from colony_core.tools import BRIDGE, bridge_command

SYSTEM = "/usr/bin/env"
"""A program that everybody may run."""


def test_the_daemons_own_user_starts_it_where_it_lies() -> None:
    assert bridge_command(own=True) == (os.path.realpath(sys.executable), "-I", "-S", str(BRIDGE))


def test_others_start_what_they_can_come_to(tmp_path: Path) -> None:
    open_to_all, hidden = Path(SYSTEM), tmp_path / "home"
    hidden.mkdir(mode=0o700)
    shutil.copy(BRIDGE, hidden / "bridge.py")
    (hidden / "python").touch(mode=0o755)
    command = bridge_command(own=False, pythons=(str(hidden / "python"), SYSTEM), bridge=open_to_all)
    assert command == (SYSTEM, "-I", "-S", SYSTEM)
    command = bridge_command(own=False, pythons=(str(hidden / "python"),), bridge=hidden / "bridge.py")
    assert command == ("python3", "-I", "-S", "-c", BRIDGE.read_text())
    assert "${" not in BRIDGE.read_text(), "agents put variables in place of it"


@pytest.mark.root
def test_another_user_can_really_start_it() -> None:
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *bridge_command(own=False)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
