"""A real daemon, started as a user starts it, in folders of its test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .driver import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon; killed and cleaned up at the end, whatever the test did to it."""
    with Daemon(tmp_path).running() as running:
        yield running
