"""What would be lost with a workspace or a project: work that exists nowhere else. Pure."""

import attrs

from colony_core.errors import WrongState

MOST_LOST = 20
"""So many commits and files are named where work would be lost."""


@attrs.frozen(kw_only=True)
class Loss:
    """Work that exists nowhere else: commits, as one line each, and files with changes that nobody has committed.

    `repositories` are folders within the workspace that hold work of their own, which no ref of ours can keep.
    """

    commits: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.commits or self.files or self.repositories)


def would_be_lost(name: str, loss: Loss, hint: str) -> WrongState:
    """The refusal to lose it; names what would be."""
    parts = []
    if loss.commits:
        parts.append(f"{len(loss.commits)} commit{'s' if len(loss.commits) != 1 else ''} that no branch has")
    if loss.files:
        parts.append(f"{len(loss.files)} file{'s' if len(loss.files) != 1 else ''} that nobody committed")
    if loss.repositories:
        parts.append(f"work in repositories within it, which is not kept ({', '.join(loss.repositories[:3])})")
    return WrongState(
        "work-would-be-lost",
        f"{name} holds work that exists nowhere else: {' and '.join(parts)}",
        hint,
        details={
            "name": name,
            "commits": list(loss.commits[:MOST_LOST]),
            "files": list(loss.files[:MOST_LOST]),
            "repositories": list(loss.repositories[:MOST_LOST]),
        },
    )
