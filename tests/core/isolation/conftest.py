"""Walls for these tests: in a network of the test's own, that nothing of the host is touched by and that goes with the test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_trio import trio_fixture

from colony_core import isolation
from colony_core.errors import ColonyError
from colony_core.isolation import Isolation, Mode, open_fake_isolation, open_isolation


def private_mode() -> Mode:
    """How this process gets its rights; as an ordinary user it must still be able to enter a user namespace."""
    if os.geteuid() == 0:
        return Mode.ROOT
    try:
        isolation.enter_rootless()
    except ColonyError as error:
        pytest.skip(str(error))
    return Mode.ROOTLESS


@trio_fixture
async def walls(tmp_path: Path) -> AsyncIterator[Isolation]:
    """Real walls, private to the test."""
    async with open_isolation(run_dir=tmp_path, mode=private_mode(), private=True) as opened:
        yield opened


@trio_fixture
async def fake_walls(tmp_path: Path) -> AsyncIterator[Isolation]:
    """Walls of cardboard."""
    async with open_fake_isolation(run_dir=tmp_path) as opened:
        yield opened
