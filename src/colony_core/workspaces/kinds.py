"""What a working copy of a colony's can do, whichever program keeps it; and what is common to both kinds."""

from pathlib import Path
from typing import Protocol

import attrs

from colony_core.errors import WrongState

from .hands import Git
from .places import is_empty
from .repository import Repository, Trial

BY_DEFAULT = "Work of colony {name}"


@attrs.frozen(kw_only=True)
class Snapshot:
    """Everything that is in a working copy now, as a commit; `head` is its last commit that somebody made.

    `dirty`: there are changes that nobody has committed; `conflicted`: there are conflicts that nobody has resolved.
    """

    commit: str
    head: str
    dirty: bool
    conflicted: bool


class Workspace(Protocol):
    """A working copy of a shared repository. Whatever it does to files or commits, the state before is in a snapshot that was asked for."""

    repository: Repository
    name: str
    path: Path

    async def make(self, commit: str) -> tuple[str, ...]:
        """Makes the working copy in its folder, which is there and empty; gives notes for people."""

    async def snapshot(self) -> Snapshot:
        """What is in it; touches nothing that its user sees."""

    async def save(self, message: str | None) -> str:
        """Commits what nobody has committed, and gives the last commit. Raises WrongState (`workspace-conflicted`)."""

    async def describe(self, message: str) -> str:
        """Gives the newest change its message. Raises WrongState (`nothing-to-describe`)."""

    async def reset(self, commit: str) -> None:
        """Goes back to a commit: files and history are those of it then; ignored files stay."""

    async def trial(self, git: Git, ours: str, theirs: str) -> Trial:
        """Tries a merge, and shows conflicts as its program does."""

    async def change_ids(self, commits: list[str]) -> dict[str, str]:
        """jj's names for commits."""

    async def told(self) -> None:
        """The shared repository's branches were moved: whoever keeps an account of them takes that up."""

    async def last(self) -> str | None:
        """The last commit that is known of it, also where its folder is gone."""

    async def forget(self) -> None:
        """Takes it off the repository's lists, its branch with it; its folder is empty or gone by then. Twice is fine."""


def is_there(path: Path) -> bool:
    """Whether a working copy is where it was made; a link in its place is none."""
    return not path.is_symlink() and path.is_dir() and not is_empty(path)


def check_there(path: Path, name: str) -> None:
    """Raises WrongState where a working copy was deleted by hand."""
    if not is_there(path):
        raise WrongState(
            "workspace-gone", f"the workspace of “{name}” is gone from {path}", f"colony restart {name} makes it anew"
        )


def conflicted(name: str, what: str) -> WrongState:
    """The error for work that holds conflicts."""
    return WrongState(
        "workspace-conflicted", f"the work of “{name}” holds conflicts: {what}", "resolve them, then again"
    )


def nothing_to_describe(name: str) -> WrongState:
    """The error for a workspace without a change of its own."""
    return WrongState("nothing-to-describe", f"“{name}” has no change of its own to describe", f"colony history {name}")


def own_branch(name: str) -> str:
    """The branch of a colony's own, where its work is kept and pushed."""
    return f"colony/{name}"
