"""A store of its own for every test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_trio

from colony_core.store import Store, open_store


@pytest_trio.trio_fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "store" / "s.db") as opened:
        yield opened
