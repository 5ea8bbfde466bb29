"""Repositories within a working copy: submodules, and what its user has cloned or begun there. Their work is in no commit of ours."""

from pathlib import Path

from .hands import open_git
from .repository import Repository

MOST = 100


async def holding_work(repository: Repository, path: Path) -> tuple[str, ...]:
    """The folders within `path` that are repositories of their own and hold what nobody else has; ignored ones are passed over.

    That is a change nobody has committed, or a commit that neither a remote nor a tag has. One that cannot be read counts as well.
    """
    hands, home = repository.hands, repository.home
    found = await hands.do(
        "find", str(path), "-xdev", "-mindepth", "2", "-name", ".git", "-printf", "%P\\0", "-prune",
        cwd=path, what="the workspace cannot be looked through",
    )  # fmt: skip
    names = [word.removesuffix("/.git") for word in found.words]
    if not names:
        return ()
    git = await open_git(hands, repository.git_dir, home=home, work_tree=path)
    asked = "\0".join(names).encode(errors="surrogateescape")
    nothing = home / "no-index"
    ignored = await git("check-ignore", "-z", "--stdin", "--no-index", stdin=asked, ok=(0, 1), index=nothing)
    kept = sorted(set(names) - set(ignored.words))[:MOST]
    return tuple([name for name in kept if await _holds_work(repository, path / name)])


async def _holds_work(repository: Repository, folder: Path) -> bool:
    git = await open_git(repository.hands, folder / ".git", home=repository.home, work_tree=folder)
    status = await git("status", "--porcelain", "-z", "--ignore-submodules=none", ok=tuple(range(256)))
    own = await git("rev-list", "--max-count=1", "--all", "--not", "--remotes", "--tags", ok=tuple(range(256)))
    return bool(status.code or status.out or own.code or own.out)
