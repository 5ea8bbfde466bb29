"""The pytest plugin: a real house, real colonies, a real cell, for async tests under pytest-trio.

Nothing of Colony is imported until a fixture is used. Fixtures: `colony_house` (a Mycelium of its own for this test), `colony_spawn`
(`await colony_spawn(path, name="app")` gives a ready colony), `colony_cell` (an empty cell, for those who want no more than a network).

An ordinary user's networks live in a user namespace, which a process can enter only before it has threads. So the test run enters one
before its first test, if any test uses a fixture of these or imports `open_test_house`.
"""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from colony_core.isolation import Cell
    from colony_core.mycelium import Mycelium
    from colony_core.views import ColonyView

try:
    from pytest_trio import trio_fixture
except ImportError:  # the plugin is found in every environment with Colony; without pytest-trio it offers nothing
    trio_fixture = None

FIXTURES = frozenset({"colony_house", "colony_spawn", "colony_cell"})


def pytest_collection_finish(session: "pytest.Session") -> None:
    """Takes an ordinary user's test run into its user namespace; where that is refused, the tests that need walls say why."""
    wanted = "colony_core.testing.houses" in sys.modules or any(
        FIXTURES.intersection(getattr(item, "fixturenames", ())) for item in session.items
    )
    if os.geteuid() == 0 or not wanted or session.config.option.collectonly:
        return
    from colony_core import isolation
    from colony_core.errors import ColonyError

    with suppress(ColonyError):
        if isolation.choose_mode() is isolation.Mode.ROOTLESS:
            isolation.enter_rootless()


if trio_fixture is not None:

    @trio_fixture
    async def colony_house(tmp_path: Path) -> AsyncIterator["Mycelium"]:
        """A house of this test's own: real walls, a keeper in this process, everything gone at the end."""
        from . import open_test_house

        async with open_test_house(tmp_path / "colony") as house:
            yield house

    @trio_fixture
    async def colony_spawn(colony_house: "Mycelium") -> "Callable[..., Awaitable[ColonyView]]":
        """Spawns a colony from a folder and waits until it is ready."""
        from . import spawn_ready

        async def spawn(path: str | Path, *, name: str = "test", timeout: float = 30.0) -> "ColonyView":
            return await spawn_ready(colony_house, name, path, timeout=timeout)

        return spawn

    @trio_fixture
    async def colony_cell(tmp_path: Path) -> AsyncIterator["Cell"]:
        """An empty cell in a network of its own."""
        from . import free_walls

        async with free_walls(tmp_path / "run")() as walls, walls.open_cell("cell") as cell:
            yield cell
