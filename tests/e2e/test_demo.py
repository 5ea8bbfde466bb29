"""`make demo` as a user runs it: as root on a host of its own, as an ordinary user right here."""

import os

import pytest

from .world import play

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.parametrize("scene", ["demo", "demo_whose_daemon_is_killed", "demo_beside_a_daemon"])
def test_the_demo(scene: str) -> None:
    play(scene, apart=os.geteuid() == 0)
