"""The stage that a test of the contract asks for by name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .contract import STAGES, Stage


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    opener, _ = STAGES[request.param]
    async with opener(tmp_path) as found:
        yield found
        assert found.programs.living() == []
