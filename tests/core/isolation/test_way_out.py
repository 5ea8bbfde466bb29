"""The proxy that is a cell's way out, between real cells and a world outside of a host of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import ways_out
from .test_apart import APART

pytestmark = pytest.mark.kernel

NEEDS_ROOT = {"an_ordinary_users_way_out"}
PACKAGE = Path(__file__).parent


@pytest.mark.parametrize(
    "scene", [pytest.param(name, marks=[pytest.mark.root] if name in NEEDS_ROOT else []) for name in ways_out.SCENES]
)
def test_from_a_cell_to_the_world(scene: str) -> None:
    own = ["unshare", *APART, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    command = [*own, sys.executable, "-P", "-m", f"{PACKAGE.name}.ways_out", scene]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
