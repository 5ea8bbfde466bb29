"""Projects and workspaces in the store."""

import json
from collections.abc import Mapping
from typing import Any

import attrs
from sqlalchemy import Boolean, Column, Connection, Float, Table, Text, delete, insert, select, update

from colony_core.store import metadata

projects = Table(
    "projects",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("author_name", Text, nullable=False),
    Column("author_email", Text, nullable=False),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("colony_id", Text, primary_key=True),
    Column("colony", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("branch", Text),
    Column("path", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("colocated", Boolean, nullable=False),
    Column("notes", Text, nullable=False),
)


@attrs.frozen(kw_only=True)
class ProjectRecord:
    """What the store knows of a project. `state`: cloning, ready, failed."""

    name: str
    kind: str
    url: str
    state: str
    reason: str
    owner: str
    created_at: float
    author_name: str
    author_email: str


@attrs.frozen(kw_only=True)
class WorkspaceRecord:
    """What the store knows of a colony's workspace.

    `state`: planned (nothing of it need be there, anything may), ready, kept (ready, and stays when its colony goes).
    `kind` is what was asked for until it is ready, `auto` included, and then what it is.
    """

    colony_id: str
    colony: str
    owner: str
    project: str
    kind: str
    branch: str | None
    path: str
    state: str = "planned"
    target: str = ""
    base: str = ""
    colocated: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        """Whether it was there whole once."""
        return self.state != "planned"


def add_project(connection: Connection, record: ProjectRecord) -> None:
    """Records a new project."""
    connection.execute(insert(projects).values(attrs.asdict(record)))


def change_project(connection: Connection, record: ProjectRecord) -> None:
    """Records what has become of a project."""
    connection.execute(update(projects).where(projects.c.name == record.name).values(attrs.asdict(record)))


def forget_project(connection: Connection, name: str) -> None:
    """Removes a project's record, and those of the workspaces that were kept of it."""
    connection.execute(delete(workspaces).where(workspaces.c.project == name))
    connection.execute(delete(projects).where(projects.c.name == name))


def all_projects(connection: Connection) -> tuple[ProjectRecord, ...]:
    """Every project, by name."""
    rows = connection.execute(select(projects).order_by(projects.c.name)).mappings()
    return tuple(ProjectRecord(**row) for row in rows)


def add_workspace(connection: Connection, record: WorkspaceRecord) -> None:
    """Records what is planned for a colony."""
    connection.execute(insert(workspaces).values(_row(record)))


def change_workspace(connection: Connection, record: WorkspaceRecord) -> None:
    """Records what has become of a colony's workspace."""
    connection.execute(update(workspaces).where(workspaces.c.colony_id == record.colony_id).values(_row(record)))


def forget_workspace(connection: Connection, colony_id: str) -> None:
    """Removes a workspace's record."""
    connection.execute(delete(workspaces).where(workspaces.c.colony_id == colony_id))


def all_workspaces(connection: Connection) -> tuple[WorkspaceRecord, ...]:
    """Every workspace."""
    return tuple(_record(dict(row)) for row in connection.execute(select(workspaces)).mappings())


def _row(record: WorkspaceRecord) -> dict[str, Any]:
    return attrs.asdict(record) | {"notes": json.dumps(record.notes)}


def _record(row: Mapping[str, Any]) -> WorkspaceRecord:
    return WorkspaceRecord(**{**row, "notes": tuple(json.loads(row["notes"]))})
