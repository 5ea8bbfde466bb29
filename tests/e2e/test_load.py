"""Two hundred colonies under a hundred viewers: the short form of `python -m benchmarks load`, whose figures are this test's output."""

import pytest
import trio
from benchmarks.__main__ import row
from benchmarks._viewers import KINDS
from benchmarks.load import Scale, judged, load

from colony_core.remote import discover

from .driver import Daemon

# The daemon and the keeper let nobody but root look at their descriptors.
pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.slow]
MISTAKES = ("400", "401", "403", "405", "421", "422", "426", "429")
"""What an answer to a right question never is, however much colonies come and go."""


def test_whoever_comes_and_goes_leaves_nothing_behind(daemon: Daemon) -> None:
    scale = Scale()
    course = trio.run(load, daemon.folder, discover(environ=daemon.environment), scale)
    figures = list(judged(course, scale))
    print(*map(row, figures), sep="\n")
    assert [figure.metric for figure in figures if figure.ok is False] == []
    assert {"remove", *(f"saw {kind}" for kind in KINDS)} <= course.done.keys()
    assert [what for what in course.done if what.endswith(MISTAKES)] == []
    log = (daemon.folder / "daemon.log").read_text()
    assert "Traceback" not in log, log[-6000:]
