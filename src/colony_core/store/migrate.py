"""Brings a database to the tables of this version, in the caller's transaction: all steps, or none."""

import re
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from colony_core.errors import WrongState

from .faults import not_a_store

MIGRATIONS = Path(__file__).parent / "migrations"
_FILE = re.compile(r"^v(\d{4})_[a-z0-9_]+\.py$")


def known_revisions() -> tuple[str, ...]:
    """The numbers of all migrations of this version, oldest first."""
    found = (_FILE.match(file.name) for file in (MIGRATIONS / "versions").iterdir())
    return tuple(sorted(match[1] for match in found if match))


def upgrade(connection: Connection, path: Path) -> None:
    """Runs the migrations that `path` still lacks. Raises `store-too-new` where a newer Colony wrote it, `store-broken` where none did."""
    known = known_revisions()
    current = _revision(connection, path)
    if current == known[-1]:
        return
    if current is not None and current not in known:
        raise WrongState(
            "store-too-new",
            f"{path} was written by a newer Colony (its tables are {current}, this one knows {known[-1]})",
            "start the newer version again; a database is never taken back",
            details={"found": current, "known": known[-1]},
        )
    # Alembic takes a quarter of a second to import, so only a database that lacks something pays for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection, path: Path) -> str | None:
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if tables:
            raise not_a_store(path, f"it holds the tables of another program ({', '.join(sorted(tables)[:5])})")
        return None
    rows = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if len(rows) > 1:
        raise not_a_store(path, "it names more than one version")
    return rows[0] if rows else None
