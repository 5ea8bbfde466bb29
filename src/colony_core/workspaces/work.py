"""What is done with the work of one colony: looked at, described, merged, taken back, pushed, and weighed before it is lost.

`Workspaces` does one piece of it at a time, and holds the project's lock for a merge.
"""

import hashlib
from pathlib import Path

import attrs

from colony_core.errors import ColonyError, Invalid, NotFound, WrongState
from colony_core.views import (
    CommitView,
    ConflictView,
    DiffView,
    MergeRequest,
    MergeView,
    PushRequest,
    PushView,
    UndoRequest,
    UndoView,
)

from .hands import Git
from .kinds import Workspace, conflicted, is_there, own_branch
from .losses import Loss
from .nested import holding_work
from .records import WorkspaceRecord
from .repository import MOST_COMMITS, Repository
from .sources import check_ref, is_commit


@attrs.frozen(kw_only=True)
class Work:
    """A workspace with what is recorded of it and the repository that it shares."""

    record: WorkspaceRecord
    repository: Repository
    workspace: Workspace

    async def diff(self, *, cut: int) -> DiffView:
        """What the colony changed since its work and its target parted, committed or not."""
        tip = (await self.workspace.snapshot()).commit
        git = await self.repository.git()
        base = await self._parted(git, tip)
        name, target = self.record.colony, self.record.target
        return await self.repository.diff(git, base, tip, colony=name, target=target, cut=cut)

    async def fingerprint(self) -> str:
        """A hash of what the colony changed since its work began, committed or not, merged or not: the same for the same difference."""
        tip = (await self.workspace.snapshot()).commit
        git = await self.repository.git()
        trees = [await self.repository.tree_of(git, each) for each in (self.record.base, tip)]
        return hashlib.blake2b(" ".join(trees).encode(), digest_size=20).hexdigest()

    async def history(self, *, after: str | None = None, limit: int = MOST_COMMITS) -> tuple[CommitView, ...]:
        """The commits of the colony's own, the newest first; what nobody has committed stands before them.

        Those behind the commit `after`; raises NotFound (`commit-not-found`) where that is none of them.
        """
        snapshot = await self.workspace.snapshot()
        git = await self.repository.git()
        base = await self._parted(git, snapshot.commit)
        commits = await self.repository.history(git, base, snapshot.commit, after=after, limit=limit)
        changes = await self.workspace.change_ids([commit.id for commit in commits])
        return tuple(
            attrs.evolve(
                commit,
                change_id=changes.get(commit.id),
                uncommitted=snapshot.dirty and commit.id == snapshot.commit,
            )
            for commit in commits
        )

    async def describe(self, message: str) -> CommitView:
        """Gives the newest change a message; what is not committed is by that. Raises WrongState (`nothing-to-describe`)."""
        commit = await self.workspace.describe(_message(message))
        git = await self.repository.git()
        parent = await self.repository.commit_of(git, f"{commit}^")
        [view] = (await self.repository.history(git, parent or commit, commit))[:1] or [None]
        assert view is not None, "a commit is in its own history"
        changes = await self.workspace.change_ids([commit])
        return attrs.evolve(view, change_id=changes.get(commit))

    # ---- merging

    async def merge(self, request: MergeRequest) -> MergeView:
        """Merges the colony's work into its target, or another branch; what is not committed is, before.

        Tried first, on objects alone: with conflicts nothing moves, and WrongState (`merge-conflict`) holds them, as git or jj shows them.
        """
        record, repository = self.record, self.repository
        target = check_ref(request.target) if request.target else record.target
        git = await repository.git()
        await repository.follow(target)
        old = await repository.commit_of(git, f"refs/heads/{target}")
        if old is None:
            raise NotFound("branch-not-found", f"{record.project} has no branch {target}", "name another target")
        if request.dry_run:
            snapshot = await self.workspace.snapshot()
            if snapshot.conflicted:
                raise conflicted(record.colony, "nobody has resolved them")
            tip = snapshot.commit
        else:
            tip = await self.workspace.save(request.message and _message(request.message))
        plan = await self._plan_merge(git, request, target, old, tip)
        if not request.dry_run and plan.outcome != "nothing":
            await repository.move(git, target, plan.commit, old)
            await self.workspace.told()
        return plan

    async def _plan_merge(self, git: Git, request: MergeRequest, target: str, old: str, tip: str) -> MergeView:
        """What a merge comes to, without moving anything."""
        repository, name = self.repository, self.record.colony
        plan = MergeView(
            colony=name, target=target, outcome="nothing", commit=old, conflicts=(), dry_run=request.dry_run
        )
        if await repository.has(git, old, tip):
            return plan
        if request.ff != "never" and await repository.has(git, tip, old):
            return attrs.evolve(plan, outcome="fast-forward", commit=tip)
        if request.ff == "only":
            raise WrongState("not-fast-forward", f"{target} has work that “{name}” has not", "merge without --ff only")
        trial = await self.workspace.trial(git, old, tip)
        if trial.conflicts:
            found = tuple(ConflictView(path=path, text=text) for path, text in trial.conflicts)
            if request.dry_run:
                return attrs.evolve(plan, outcome="conflicts", conflicts=found)
            raise _merge_conflict(self.record, target, found)
        message = f"{request.message or f'Merge colony {name}'}\n"
        commit = await repository.merge_commit(git, trial.tree, (old, tip), message)
        return attrs.evolve(plan, outcome="merged", commit=commit)

    # ---- back, and away

    async def undo(self, request: UndoRequest) -> UndoView:
        """Takes back what is not committed, else the last commit; or everything; or goes to a commit. The state before is kept."""
        name = self.record.colony
        if request.all and request.to:
            raise Invalid("wrong-use", "undo goes back to the base or to a commit, not both", "give one of them")
        snapshot = await self.workspace.snapshot()
        git = await self.repository.git()
        base = await self._parted(git, snapshot.commit)
        if request.to:
            goal = await self._named(git, request.to)
            undone = f"went to {goal[:12]}"
        elif request.all:
            goal, undone = base, "everything since it began"
        elif snapshot.dirty or snapshot.conflicted:
            goal, undone = snapshot.head, "what was not committed"
        else:
            parent = await self.repository.commit_of(git, f"{snapshot.head}^")
            if snapshot.head == base or parent is None:
                raise WrongState("nothing-to-undo", f"“{name}” has no change of its own", f"colony history {name}")
            goal, undone = parent, "the last commit"
        kept = await self.repository.keep(git, snapshot.commit, name)
        await self.workspace.reset(goal)
        return UndoView(colony=name, undone=undone, kept=kept, commit=goal)

    async def _named(self, git: Git, wanted: str) -> str:
        """The commit that somebody names: by a branch, a full ref, or itself. Raises NotFound."""
        check_ref(wanted, what="commit or ref")
        ref = wanted if wanted.startswith("refs/") or is_commit(wanted) else f"refs/heads/{wanted}"
        found = await self.repository.commit_of(git, ref)
        if found is None:
            raise NotFound("commit-not-found", f"there is no commit {wanted}", f"colony history {self.record.colony}")
        return found

    async def push(self, request: PushRequest) -> PushView:
        """Puts the colony's work onto a branch of the project's origin; what is not committed is, before. Raises Unreachable."""
        record, repository = self.record, self.repository
        own = own_branch(record.colony)
        branch = check_ref(request.branch) if request.branch else (record.target if request.merged else own)
        git = await repository.git()
        if request.merged:
            commit = await repository.commit_of(git, f"refs/heads/{record.target}")
            assert commit is not None, "a target is a branch"
        else:
            commit = await self.workspace.save(None)
        await repository.push(git, commit, branch, replaces=branch == own)
        return PushView(colony=record.colony, url=repository.source.url, branch=branch, commit=commit)

    async def loss(self) -> tuple[Loss, str | None]:
        """What would be lost with the workspace, and the commit that holds all of it."""
        repository, path = self.repository, Path(self.record.path)
        git = await repository.git()
        dirty: tuple[str, ...] = ()
        within: tuple[str, ...] = ()
        if is_there(path):
            within = await holding_work(repository, path)
            snapshot = await self.workspace.snapshot()
            head, last = snapshot.head, snapshot.commit
            if snapshot.dirty:
                changed = await git("diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv", head, last, "--")
                dirty = tuple(changed.words)
        else:
            found = await self.workspace.last()
            if found is None:
                return Loss(), None
            head = last = found
        commits = await repository.only_here(git, head, own=own_branch(self.record.colony))
        return Loss(commits=commits, files=dirty, repositories=within), last

    async def _parted(self, git: Git, tip: str) -> str:
        """Where work and target parted."""
        target = await self.repository.commit_of(git, f"refs/heads/{self.record.target}")
        return await self.repository.common(git, target or self.record.base, tip)


def _message(text: str) -> str:
    stripped = text.strip()
    if not stripped or "\0" in stripped or len(stripped) > 2**16:
        raise Invalid("invalid-message", "a message is some text", "say in a line what was changed")
    return stripped


def _merge_conflict(record: WorkspaceRecord, target: str, found: tuple[ConflictView, ...]) -> ColonyError:
    files = ", ".join(each.path for each in found[:10])
    how = "jj new @- " if record.kind == "jj" else "git merge "
    return WrongState(
        "merge-conflict",
        f"“{record.colony}” and {target} changed the same lines: {files}; nothing was moved",
        f"in {record.path}: {how}{target}, resolve it, then colony merge {record.colony}",
        details={"target": target, "conflicts": [attrs.asdict(each) for each in found]},
    )
