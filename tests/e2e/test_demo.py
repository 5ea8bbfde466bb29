"""`make demo` as a user runs it: as root on a host of its own, as an ordinary user right here, and as one whom root has play it."""

import os

import pytest

from .world import USER, play

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
ROOT = os.geteuid() == 0
SCENES = ["demo", "demo_whose_daemon_is_killed", "demo_beside_a_daemon"]


@pytest.mark.parametrize("scene", SCENES)
def test_the_demo(scene: str) -> None:
    play(scene, apart=ROOT)


@pytest.mark.root  # it becomes somebody else; an ordinary user's own run is the one above
@pytest.mark.parametrize("scene", SCENES)
def test_the_demo_of_an_ordinary_user(scene: str) -> None:
    play(scene, user=USER)


def test_where_user_namespaces_are_refused_the_demo_says_why_and_what_to_do() -> None:
    play("demo_where_it_is_refused", apart=ROOT, user=USER if ROOT else None)
