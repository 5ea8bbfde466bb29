"""A working copy as a workspace of jj; where git can read it, it is a worktree of git as well, so that `git` and `gh` work in it."""

import secrets
from pathlib import Path

import attrs

from colony_core.errors import Broken
from colony_core.processes import KeeperLost

from .founding import ensure_jj
from .gitwords import conflict_hunks
from .hands import Git, Jj, open_git
from .kinds import BY_DEFAULT, Snapshot, check_there, conflicted, nothing_to_describe, own_branch
from .repository import MOST_CONFLICT_BYTES, Repository, Trial

_STATE = (
    'commit_id ++ "\\n" ++ if(empty, "", "full") ++ "\\n" ++ if(conflict, "conflict", "") ++ "\\n" '
    '++ if(description, "told", "") ++ "\\n" ++ parents.map(|each| each.commit_id()).join(" ")'
)
_CONFLICTED = 'conflicted_files.map(|file| file.path()).join("\\n")'
_ID = 'commit_id ++ "\\n"'
NO_COMMIT = "0" * 40
"""jj's root, which git does not have."""


@attrs.frozen(kw_only=True)
class _At:
    """The working-copy commit of jj's."""

    commit: str
    full: bool
    conflict: bool
    told: bool
    parents: tuple[str, ...]

    @property
    def is_work(self) -> bool:
        """Whether it is more than the empty commit that jj puts on top of everything."""
        return self.full or self.told or len(self.parents) > 1

    @property
    def tip(self) -> str:
        """The newest commit that holds something."""
        return self.commit if self.is_work else self.parents[0]


class JjWorkspace:
    """A workspace of jj. Whoever works in it commits with jj, with git, or not at all: jj takes up every change by itself."""

    def __init__(self, repository: Repository, name: str, path: Path, *, colocated: bool) -> None:
        self.repository = repository
        self.name = name
        self.path = path
        self.colocated = colocated
        self._label = name if name != "default" else "colony-default"

    async def make(self, commit: str) -> tuple[str, ...]:
        await ensure_jj(self.repository)
        jj = await self.repository.jj()
        shared = await self.repository.git()
        await shared("worktree", "prune")
        await self._make_known(jj, shared, commit)
        colocation = "--colocate" if self.colocated else "--no-colocate"
        await jj("workspace", "forget", self._label)
        await jj("workspace", "add", colocation, "--name", self._label, "-r", commit, "--", str(self.path))
        notes: list[str] = []
        if self.colocated and not await self._git_reads_it():
            raise Broken("not-colocated", "git cannot read the workspace that jj has made", "install a newer git")
        if not self.colocated and (why := self.repository.hands.tools.why_not_colocated):
            notes.append(f"only jj works in the workspace, git does not: {why}")
        return tuple(notes)

    async def snapshot(self) -> Snapshot:
        at = await self._at(await self._jj())
        dirty = at.full or len(at.parents) > 1
        return Snapshot(commit=at.tip, head=at.parents[0], dirty=dirty, conflicted=at.conflict)

    async def save(self, message: str | None) -> str:
        jj = await self._jj()
        at = await self._at(jj)
        held = await jj("log", "--no-graph", "-r", "conflicts() & ::@", "-T", 'change_id.short() ++ "\\n"')
        if held.text:
            raise conflicted(self.name, ", ".join(held.text.split()[:10]))
        if at.is_work:
            text = message or BY_DEFAULT.format(name=self.name)
            await jj(*(("new",) if at.told and message is None else ("commit", f"--message={text}")))
            at = await self._at(jj)
        return at.tip

    async def describe(self, message: str) -> str:
        jj = await self._jj()
        at = await self._at(jj)
        if at.is_work:
            await jj("commit", f"--message={message}")
            return (await self._at(jj)).tip
        git = await self.repository.git()
        if await self.repository.is_elsewhere(git, at.tip, own=own_branch(self.name)):
            raise nothing_to_describe(self.name)
        await jj("describe", "-r", at.tip, f"--message={message}")
        return (await self._at(jj)).tip

    async def reset(self, commit: str) -> None:
        jj = await self._jj()
        old = await self._at(jj)
        await jj("new", commit)
        mine = f"({commit}..{old.commit}) ~ ::(bookmarks() | remote_bookmarks() | tags() | working_copies())"
        await jj("abandon", mine)

    async def trial(self, git: Git, ours: str, theirs: str) -> Trial:
        """git's trial first, which is quick; where that finds conflicts, jj is asked, which knows more ways out and shows what is left."""
        tried = await self.repository.trial(git, ours, theirs)
        if not tried.conflicts:
            return tried
        jj = await self.repository.jj()
        await jj("git", "import")
        token = f"trial {secrets.token_hex(8)}"
        await jj("new", "--no-edit", "-m", token, ours, theirs)
        found = (await jj("log", "--no-graph", "-r", f'description(exact:"{token}\\n")', "-T", _ID)).text
        try:
            listed = await jj("log", "--no-graph", "-r", found, "-T", _CONFLICTED)
            files = [line for line in listed.text.splitlines() if line]
            texts = [await jj("file", "show", "-r", found, "--", f"root-file:{_quoted(file)}") for file in files]
            tree = (await git("rev-parse", "--verify", f"{found}^{{tree}}")).text
        finally:
            await jj("abandon", found)
        shown = (conflict_hunks(text.text)[:MOST_CONFLICT_BYTES] for text in texts)
        return Trial(tree=tree, conflicts=tuple(zip(files, shown, strict=True)))

    async def change_ids(self, commits: list[str]) -> dict[str, str]:
        if not commits:
            return {}
        jj = await self.repository.jj()
        found = await jj(
            "log", "--no-graph", "--ignore-working-copy", "-r", " | ".join(f"present({each})" for each in commits),
            "-T", 'commit_id ++ " " ++ change_id ++ "\n"',
        )  # fmt: skip
        return dict(line.split(" ", 1) for line in found.text.splitlines())

    async def told(self) -> None:
        await (await self.repository.jj())("git", "import")

    async def last(self) -> str | None:
        jj = await self.repository.jj()
        found = await jj("log", "--no-graph", "-r", f"present({self._label}@)", "-T", _STATE, "--ignore-working-copy")
        at = _read(found.text) if found.text else None
        return None if at is None or at.tip == NO_COMMIT else at.tip

    async def forget(self) -> None:
        if (self.repository.folder / ".jj").exists():
            await (await self.repository.jj())("workspace", "forget", self._label)
        git = await self.repository.git()
        await git("worktree", "prune")
        await git("update-ref", "-d", f"refs/heads/{own_branch(self.name)}")

    async def _make_known(self, jj: Jj, shared: Git, commit: str) -> None:
        """jj knows what branches and tags have; a kept commit that neither has is shown to it under a branch for the moment."""
        branch = f"refs/heads/{own_branch(self.name)}"
        if await self.repository.is_elsewhere(shared, commit, own=own_branch(self.name)):
            await jj("git", "import")
            return
        await shared("update-ref", branch, commit)
        await jj("git", "import")

    async def _git_reads_it(self) -> bool:
        git_dir = self.repository.git_dir / "worktrees" / self.path.name
        try:
            git = await open_git(self.repository.hands, git_dir, home=self.repository.home, work_tree=self.path)
            await git("rev-parse", "--verify", "--quiet", "HEAD")
        except KeeperLost:
            raise
        except Broken:
            return False
        return True

    async def _jj(self) -> Jj:
        check_there(self.path, self.name)
        jj = await self.repository.jj(self.path)
        await jj("workspace", "update-stale")
        return jj

    async def _at(self, jj: Jj) -> _At:
        return _read((await jj("log", "--no-graph", "-r", "@", "-T", _STATE)).text)


async def unnamed_heads(repository: Repository) -> tuple[str, ...]:
    """Commits that jj shows, and that no branch need have: somebody left them aside. Empty where there is no jj or was none."""
    if repository.hands.tools.jj is None or not (repository.folder / ".jj").exists():
        return ()
    jj = await repository.jj()
    left = 'heads(all() ~ root() ~ (empty() & description(exact:"") & ~merges()))'
    found = await jj("log", "--no-graph", "--ignore-working-copy", "-r", left, "-T", _ID)
    return tuple(found.text.split())


def _read(text: str) -> _At:
    commit, full, conflict, told, parents = text.split("\n")
    return _At(commit=commit, full=bool(full), conflict=bool(conflict), told=bool(told), parents=tuple(parents.split()))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
