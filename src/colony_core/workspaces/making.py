"""How a workspace comes to be, in a folder that may hold what an earlier attempt has left."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from .hands import open_git
from .include import copy_included, fetch_submodules, lfs_note
from .kinds import Workspace
from .places import clear_folder, make_folder
from .records import WorkspaceRecord
from .repository import Repository


async def make_workspace(
    record: WorkspaceRecord, repository: Repository, workspace: Workspace, freshen: Callable[[], Awaitable[str]]
) -> WorkspaceRecord:
    """Makes it, from its last commit where it was made before; gives what is to be recorded. `freshen` brings what the origin has."""
    path = Path(record.path)
    notes: list[str] = []
    last = await workspace.last() if record.is_made else None
    if last is not None:
        commit, base, target = last, record.base, record.target
        notes.append("it was deleted by hand, and is made anew from its last commit")
    else:
        notes.append(await freshen())
        found = await repository.base(record.branch)
        if record.branch is None:
            await repository.follow(found.target)
            found = await repository.base(None)
        commit, base, target = found.commit, found.commit, found.target
    await clear_folder(path, repository.hands)
    make_folder(path, repository.hands.user)
    notes += await workspace.make(commit)
    notes += await _furnish(record, repository, path)
    told = tuple(note for note in notes if note)
    return attrs.evolve(record, state="ready", target=target, base=base, notes=told)


async def _furnish(record: WorkspaceRecord, repository: Repository, path: Path) -> list[str]:
    """What belongs to it beside the files of its commit: ignored files, submodules, a word on LFS."""
    source = Path(repository.source.url) if repository.source.kind == "path" else repository.folder
    await copy_included(repository, source, path)
    notes: list[str] = []
    if record.kind == "git" or record.colocated:
        git_dir = repository.git_dir / "worktrees" / path.name
        git = await open_git(repository.hands, git_dir, home=repository.home, work_tree=path)
        notes += await fetch_submodules(git, path, repository.source)
    elif (path / ".gitmodules").is_file():
        notes.append("submodules are not checked out: only jj works in this workspace")
    return [*notes, *lfs_note(path)]
