"""The migrations make exactly the tables that the rooms describe."""

import importlib
from pathlib import Path

import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import colony_core
from colony_core.store import metadata, migrate, open_store


def import_all_records() -> None:
    for file in Path(colony_core.__file__).parent.glob("*/records.py"):
        importlib.import_module(f"colony_core.{file.parent.name}.records")


async def test_the_tables_that_are_made_are_those_that_are_described(tmp_path: Path) -> None:
    import_all_records()
    async with open_store(tmp_path / "s.db") as store:
        options = {"compare_type": True, "compare_server_default": True}
        difference = await store.read(lambda c: compare_metadata(MigrationContext.configure(c, opts=options), metadata))
        partial = await store.read(
            lambda c: c.scalar(sqlalchemy.text("SELECT sql FROM sqlite_master WHERE name = 'uq_colonies_name_living'"))
        )
    assert difference == []
    assert partial.endswith("WHERE removed_at IS NULL")


async def test_opening_again_runs_nothing_and_loses_nothing(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db"):
        pass
    before = (tmp_path / "s.db").read_bytes()
    async with open_store(tmp_path / "s.db"):
        pass
    assert (tmp_path / "s.db").read_bytes() == before


def test_revisions_are_numbered_without_holes() -> None:
    known = migrate.known_revisions()
    assert known == tuple(f"{number:04}" for number in range(1, len(known) + 1))
