"""A working copy as a worktree of git, on a branch `colony/<name>`."""

import re
from pathlib import Path

from .hands import Git, open_git
from .kinds import BY_DEFAULT, Snapshot, check_there, conflicted, nothing_to_describe, own_branch
from .programs import failure
from .repository import Repository, Trial

PRIVATE_INDEX = "colony-index"
"""An index beside the worktree's own: what is looked at with it is staged for nobody."""

_BEGUN = re.compile(r"^error: '(.+)/' does not have a commit checked out$", re.MULTILINE)
MOST_BEGUN = 50


class GitWorkspace:
    """A worktree of git. Its agent may be on any branch, or none: what counts is where its HEAD is."""

    def __init__(self, repository: Repository, name: str, path: Path) -> None:
        self.repository = repository
        self.name = name
        self.path = path
        self._git_dir = repository.git_dir / "worktrees" / path.name

    async def make(self, commit: str) -> tuple[str, ...]:
        shared = await self.repository.git()
        await shared("worktree", "prune")
        branch = own_branch(self.name)
        before = await self.repository.commit_of(shared, f"refs/heads/{branch}")
        if before not in (None, commit):
            await self.repository.keep(shared, str(before), self.name)
        await shared("worktree", "add", "--quiet", "--no-track", "-B", branch, "--", str(self.path), commit)
        return ()

    async def snapshot(self) -> Snapshot:
        git = await self._git()
        head = await self._head(git)
        index = self._git_dir / PRIVATE_INDEX
        await self.repository.hands.do(
            "cp",
            "--reflink=auto",
            "--preserve=timestamps",
            "--",
            str(self._git_dir / "index"),
            str(index),
            cwd=self._git_dir,
            what="no room",
        )
        await _add_all(git, index)
        tree = (await git("write-tree", index=index)).text
        unmerged = bool((await git("ls-files", "--unmerged", "-z")).out)
        if tree == (await git("rev-parse", "--verify", f"{head}^{{tree}}")).text:
            return Snapshot(commit=head, head=head, dirty=False, conflicted=unmerged)
        message = f"{BY_DEFAULT.format(name=self.name)}\n".encode()
        commit = (await git("commit-tree", tree, "-p", head, stdin=message)).text
        return Snapshot(commit=commit, head=head, dirty=True, conflicted=unmerged)

    async def save(self, message: str | None) -> str:
        git = await self._git()
        unmerged = await git("diff", "--name-only", "--diff-filter=U", "-z", "--no-ext-diff", "--no-textconv")
        if unmerged.out:
            raise conflicted(self.name, ", ".join(unmerged.words[:10]))
        await _add_all(git, None)
        staged = await git("diff", "--cached", "--quiet", "--no-ext-diff", "--no-textconv", ok=(0, 1))
        merging = await self.repository.commit_of(git, "MERGE_HEAD")
        if staged.code == 1 or merging is not None:
            text = message or BY_DEFAULT.format(name=self.name)
            await git("commit", "--quiet", "--no-verify", "--allow-empty", "--file=-", stdin=f"{text}\n".encode())
        return await self._head(git)

    async def describe(self, message: str) -> str:
        git = await self._git()
        before = await self._head(git)
        if (after := await self.save(message)) != before:
            return after
        if await self.repository.is_elsewhere(git, before, own=own_branch(self.name)):
            raise nothing_to_describe(self.name)
        await git(
            "commit", "--quiet", "--no-verify", "--amend", "--only", "--allow-empty", "--file=-",
            stdin=f"{message}\n".encode(),
        )  # fmt: skip
        return await self._head(git)

    async def reset(self, commit: str) -> None:
        git = await self._git()
        await git("reset", "--hard", "--quiet", commit)
        await git("clean", "-fdq")

    async def trial(self, git: Git, ours: str, theirs: str) -> Trial:
        return await self.repository.trial(git, ours, theirs)

    async def change_ids(self, commits: list[str]) -> dict[str, str]:
        return {}

    async def told(self) -> None:
        return None

    async def last(self) -> str | None:
        git = await self.repository.git()
        for ref in (f"worktrees/{self.path.name}/HEAD", f"refs/heads/{own_branch(self.name)}"):
            commit = await self.repository.commit_of(git, ref)
            if commit is not None:
                return commit
        return None

    async def forget(self) -> None:
        git = await self.repository.git()
        await git("worktree", "prune")
        await git("update-ref", "-d", f"refs/heads/{own_branch(self.name)}")

    async def _git(self) -> Git:
        check_there(self.path, self.name)
        return await open_git(self.repository.hands, self._git_dir, home=self.repository.home, work_tree=self.path)

    async def _head(self, git: Git) -> str:
        return (await git("rev-parse", "--verify", "HEAD^{commit}", what="the workspace has no commit")).text


async def _add_all(git: Git, index: Path | None) -> None:
    """Adds everything but repositories that somebody has begun within it and never committed in: git would add nothing at all."""
    begun: list[str] = []
    while True:
        ran = await git("add", "--all", "--", ".", *begun, index=index, ok=tuple(range(256)))
        if ran.code == 0:
            return
        found = [f":(exclude,top,literal){name}" for name in _BEGUN.findall(ran.errors)]
        if not set(found) - set(begun) or len(begun) > MOST_BEGUN:
            raise failure(ran, "a file of the workspace cannot be read")
        begun += found
