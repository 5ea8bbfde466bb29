"""Machines that lack something, that were rebooted, or on which a daemon was killed."""

import pytest

from .world import play

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.parametrize(
    "scene",
    [
        "doctor_lines",
        "doctor_fix",
        "rebooted",
        "pids_reused",
        "no_nft",
        "exec_while_the_daemon_is_killed",
        "names_outlive_the_daemon",
    ],
)
def test_on_a_machine_of_its_own(scene: str) -> None:
    play(scene)
