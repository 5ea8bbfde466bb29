"""Walls on a host of their own: system mode, two daemons, strangers, kills half way, services and ordinary users."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import apart

pytestmark = pytest.mark.kernel

APART = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
NEEDS_ROOT = {"a_system_service", "a_service_without_the_folder"}


@pytest.mark.parametrize(
    "scene", [pytest.param(name, marks=[pytest.mark.root] if name in NEEDS_ROOT else []) for name in apart.SCENES]
)
def test_on_a_host_of_its_own(scene: str) -> None:
    own = ["unshare", *APART, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if scene == "an_ordinary_user" and os.geteuid() != 0:
        own = []
    command = [*own, sys.executable, "-P", str(Path(apart.__file__)), scene]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
