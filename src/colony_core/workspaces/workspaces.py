"""The working copies of colonies: planned with the colony's record, made when it first starts, gone when it is removed.

Each verb is one piece of work on one workspace at a time; what changes refs of the shared repository waits for the project's lock besides.
What a colony had is kept under `refs/colony/<name>/<time>` before anything could lose it.
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import attrs
import trio

from colony_core import clock
from colony_core.bus import Bus
from colony_core.config import Config
from colony_core.errors import AlreadyExists, Broken, ColonyError, Invalid, NotFound, WrongState
from colony_core.events import WorkspaceChanged
from colony_core.processes import KeeperLost
from colony_core.store import Store
from colony_core.supervision import DynamicSupervisor
from colony_core.views import (
    CommitView,
    ConflictView,
    DiffView,
    MergeRequest,
    MergeView,
    ProjectView,
    PushRequest,
    PushView,
    UndoRequest,
    UndoView,
    WorkspaceView,
)

from . import records
from .git_kind import GitWorkspace
from .hands import open_git
from .include import copy_included, fetch_submodules, lfs_note
from .jj_kind import JjWorkspace, unnamed_heads
from .kinds import Workspace, conflicted, is_there, own_branch
from .nested import holding_work
from .places import clear_folder, keeper_of, make_folder, repo_folder, workspace_folder
from .programs import GetKeeper, end_leftovers
from .projects import Projects
from .records import ProjectRecord, WorkspaceRecord
from .repository import MOST_PATCH_BYTES, Repository
from .sources import check_ref, is_commit
from .tools import Tools

Kind = Literal["auto", "jj", "git"]
logger = logging.getLogger("colony.workspaces")

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


class Workspaces:
    """Projects, and the workspace of every colony that has one; `colony_id` is the colony's everywhere."""

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        store: Store,
        bus: Bus,
        get_keeper: GetKeeper,
        environment: Mapping[str, str],
        tools: Tools,
    ) -> None:
        self.projects = Projects(
            config=config, store=store, bus=bus, get_keeper=get_keeper, environment=environment, tools=tools
        )
        self._config = config
        self._store = store
        self._bus = bus
        self._get_keeper = get_keeper
        self._records: dict[str, WorkspaceRecord] = {}
        self._locks: dict[str, trio.Lock] = {}

    async def restore(self, supervisor: DynamicSupervisor) -> None:
        """Takes up what is recorded, and ends what a killed daemon's programs are still doing. `supervisor` is where clones run."""
        await end_leftovers(await self._get_keeper())
        self._records = {record.colony_id: record for record in await self._store.read(records.all_workspaces)}
        await self.projects.restore(supervisor)

    # ---- projects

    def project_views(self) -> tuple[ProjectView, ...]:
        """Every project, by name."""
        return tuple(self.project_view(record) for record in self.projects)

    async def add_project(self, repo: str, *, name: str | None, owner: str) -> ProjectView:
        """Records a project and begins to clone it; durable when this returns. Raises AlreadyExists, Invalid, NotFound, Missing."""
        return self.project_view(await self.projects.add(repo, name=name, owner=owner))

    def project_view(self, record: ProjectRecord) -> ProjectView:
        """What the outside sees of a project."""
        using = sorted(
            each.colony for each in self._records.values() if each.project == record.name and each.state != "kept"
        )
        return ProjectView(
            name=record.name,
            url=record.url,
            state=record.state,
            reason=record.reason,
            owner=record.owner,
            created_at=clock.rfc3339(record.created_at),
            folder=str(repo_folder(self.projects.root, record.name)),
            colonies=tuple(using),
        )

    async def remove_project(self, name: str, *, confirm: str | None) -> None:
        """Removes a project. Raises WrongState where colonies work on it, or (`work-would-be-lost`) unless `confirm` is its name."""
        record = self.projects.find(name)
        users = [each.colony for each in self._records.values() if each.project == name and _is_used(each)]
        if users:
            raise WrongState(
                "project-in-use", f"{', '.join(sorted(users))} work on {name}", f"colony rm {' '.join(sorted(users))}"
            )
        if record.state == "ready" and confirm != name:
            repository = self.projects.repository(name)
            git = await repository.git()
            begin = await repository.beginning(git)
            only = await git("log", "--format=%h %s", "--max-count=100", "--branches", "--glob=refs/colony/*",
                             *await unnamed_heads(repository), "--not", "--remotes", "--tags", begin)  # fmt: skip
            lost = only.text.splitlines()
            if lost:
                raise _would_be_lost(name, Loss(commits=tuple(lost)), f"colony project rm {name} --discard {name}")
        await self.projects.remove(name)
        for each in [each for each in self._records.values() if each.project == name]:
            del self._records[each.colony_id]

    # ---- a colony's workspace

    async def plan(
        self,
        colony: str,
        colony_id: str,
        *,
        repo: str,
        branch: str | None,
        kind: Kind,
        owner: str,
        dry_run: bool = False,
    ) -> WorkspaceRecord:
        """What is to be made for a new colony; to be recorded with it (`record_workspace`). Clones what is not known yet, if not a dry run.

        Raises Invalid, NotFound, Missing, AlreadyExists (`workspace-taken`).
        """
        if branch is not None:
            check_ref(branch)
        if kind == "jj":
            self.projects.tools.need_jj()
        path = workspace_folder(self.projects.root, colony)
        if path.is_symlink() or (path.exists() and any(path.iterdir())):
            raise AlreadyExists(
                "workspace-taken",
                f"{path} is there already, kept of an earlier colony",
                "take another name, or move it away",
            )
        known = self.projects.known_as(repo)
        if known is not None and known.owner != owner and self._config().access.others != "look":
            raise NotFound("project-not-found", f"there is no project {repo[:80]!r}", "colony project ls")
        project = await self.projects.find_or_add(repo, owner=owner, dry_run=dry_run)
        return WorkspaceRecord(
            colony_id=colony_id,
            colony=colony,
            owner=owner,
            project=project.name,
            kind=kind,
            branch=branch,
            path=str(path),
        )

    def planned(self, record: WorkspaceRecord) -> None:
        """A planned workspace is in the store now."""
        self._records[record.colony_id] = record

    def view(self, colony_id: str) -> WorkspaceView | None:
        """What the outside sees of a colony's workspace; None where it has none."""
        record = self._records.get(colony_id)
        if record is None:
            return None
        return WorkspaceView(
            project=record.project,
            kind=record.kind,
            state=record.state,
            path=record.path,
            target=record.target,
            base=record.base,
            colocated=record.colocated,
            notes=record.notes,
        )

    async def open(
        self, colony_id: str, tell: Callable[[str], object], then: Callable[[], Awaitable[None]] | None = None
    ) -> str:
        """Sees to it that the workspace is there; gives a word on what was made, or nothing where nothing was to do.

        What was made counts as made once `then` has returned.

        Begun anew after a kill or a cancellation at any moment. One that was deleted by hand is made again from its last commit.
        """
        async with self._lock(colony_id):
            record = self._record(colony_id)
            path = Path(record.path)
            if record.is_made and is_there(path):
                return ""
            repository = await self.projects.ready(record.project, tell)
            tell(f"makes a workspace of {record.project}")
            async with self.projects.lock(record.project):
                made = await self._make(record, repository)
            if then is not None:
                await then()
            await self._change(made)
        self._tell(made, "made", _word(made))
        return _word(made)

    async def _make(self, record: WorkspaceRecord, repository: Repository) -> WorkspaceRecord:
        path = Path(record.path)
        kind = self._kind(record)
        colocated = kind == "jj" and self.projects.tools.colocates
        workspace = self._workspace(attrs.evolve(record, kind=kind, colocated=colocated), repository)
        notes: list[str] = []
        last = await workspace.last() if record.is_made else None
        if last is not None:
            commit, base, target = last, record.base, record.target
            notes.append("it was deleted by hand, and is made anew from its last commit")
        else:
            notes.append(await self.projects.freshen(repository, record.project))
            found = await repository.base(record.branch)
            if record.branch is None:
                await repository.follow(found.target)
                found = await repository.base(None)
            commit, base, target = found.commit, found.commit, found.target
        await clear_folder(path, repository.hands)
        make_folder(path, repository.hands.user)
        notes += await workspace.make(commit)
        source = Path(repository.source.url) if repository.source.kind == "path" else repository.folder
        await copy_included(repository, source, path)
        if kind == "git" or colocated:
            git_dir = repository.git_dir / "worktrees" / path.name
            git = await open_git(repository.hands, git_dir, home=repository.home, work_tree=path)
            notes += await fetch_submodules(git, path, repository.source)
        elif (path / ".gitmodules").is_file():
            notes.append("submodules are not checked out: only jj works in this workspace")
        notes += lfs_note(path)
        return attrs.evolve(
            record,
            kind=kind,
            state="ready",
            target=target,
            base=base,
            colocated=colocated,
            notes=tuple(note for note in notes if note),
        )

    async def diff(self, colony_id: str, *, cut: int = MOST_PATCH_BYTES) -> DiffView:
        """What the colony changed since its work and its target parted, committed or not."""
        async with self._at_work(colony_id) as (record, repository, workspace):
            tip = (await workspace.snapshot()).commit
            git = await repository.git()
            base = await self._parted(record, repository, tip)
            return await repository.diff(git, base, tip, colony=record.colony, target=record.target, cut=cut)

    async def fingerprint(self, colony_id: str) -> str | None:
        """A hash of what the colony changed since its work began, committed or not, merged or not: the same for the same difference.

        None where it has no workspace.
        """
        if self.view(colony_id) is None:
            return None
        async with self._at_work(colony_id) as (record, repository, workspace):
            tip = (await workspace.snapshot()).commit
            git = await repository.git()
            trees = [await repository.tree_of(git, each) for each in (record.base, tip)]
        return hashlib.blake2b(" ".join(trees).encode(), digest_size=20).hexdigest()

    async def history(self, colony_id: str) -> tuple[CommitView, ...]:
        """The commits of the colony's own, the newest first; what nobody has committed stands before them."""
        async with self._at_work(colony_id) as (record, repository, workspace):
            snapshot = await workspace.snapshot()
            git = await repository.git()
            base = await self._parted(record, repository, snapshot.commit)
            commits = await repository.history(git, base, snapshot.commit)
            changes = await workspace.change_ids([commit.id for commit in commits])
        return tuple(
            attrs.evolve(
                commit,
                change_id=changes.get(commit.id),
                uncommitted=snapshot.dirty and commit.id == snapshot.commit,
            )
            for commit in commits
        )

    async def describe(self, colony_id: str, message: str) -> CommitView:
        """Gives the newest change a message; what is not committed is by that. Raises WrongState (`nothing-to-describe`)."""
        async with self._at_work(colony_id) as (_, repository, workspace):
            commit = await workspace.describe(_message(message))
            git = await repository.git()
            parent = await repository.commit_of(git, f"{commit}^")
            [view] = (await repository.history(git, parent or commit, commit))[:1] or [None]
            assert view is not None, "a commit is in its own history"
            changes = await workspace.change_ids([commit])
        return attrs.evolve(view, change_id=changes.get(commit))

    async def merge(self, colony_id: str, request: MergeRequest) -> MergeView:
        """Merges the colony's work into its target, or another branch; what is not committed is, before.

        Tried first, on objects alone: with conflicts nothing moves, and WrongState (`merge-conflict`) holds them, as git or jj shows them.
        """
        async with self._at_work(colony_id) as (record, repository, workspace):
            target = check_ref(request.target) if request.target else record.target
            async with self.projects.lock(record.project):
                git = await repository.git()
                await repository.follow(target)
                old = await repository.commit_of(git, f"refs/heads/{target}")
                if old is None:
                    raise NotFound(
                        "branch-not-found", f"{record.project} has no branch {target}", "name another target"
                    )
                if request.dry_run:
                    snapshot = await workspace.snapshot()
                    if snapshot.conflicted:
                        raise conflicted(record.colony, "nobody has resolved them")
                    tip = snapshot.commit
                else:
                    tip = await workspace.save(request.message and _message(request.message))
                plan = await self._plan_merge(record, repository, workspace, request, target, old, tip)
                if request.dry_run or plan.outcome == "nothing":
                    return plan
                await repository.move(git, target, plan.commit, old)
                await workspace.told()
        self._tell(record, "merged", f"{plan.commit[:12]} into {target}")
        return plan

    async def _plan_merge(
        self, record: WorkspaceRecord, repository: Repository, workspace: Workspace, request: MergeRequest,
        target: str, old: str, tip: str,
    ) -> MergeView:  # fmt: skip
        """What a merge comes to, without moving anything."""
        git = await repository.git()
        plan = MergeView(
            colony=record.colony, target=target, outcome="nothing", commit=old, conflicts=(), dry_run=request.dry_run
        )
        if await repository.has(git, old, tip):
            return plan
        if request.ff != "never" and await repository.has(git, tip, old):
            return attrs.evolve(plan, outcome="fast-forward", commit=tip)
        if request.ff == "only":
            raise WrongState(
                "not-fast-forward", f"{target} has work that “{record.colony}” has not", "merge without --ff only"
            )
        trial = await workspace.trial(git, old, tip)
        if trial.conflicts:
            found = tuple(ConflictView(path=path, text=text) for path, text in trial.conflicts)
            if request.dry_run:
                return attrs.evolve(plan, outcome="conflicts", conflicts=found)
            raise _merge_conflict(record, target, found)
        message = f"{request.message or f'Merge colony {record.colony}'}\n"
        commit = await repository.merge_commit(git, trial.tree, (old, tip), message)
        return attrs.evolve(plan, outcome="merged", commit=commit)

    async def undo(self, colony_id: str, request: UndoRequest) -> UndoView:
        """Takes back what is not committed, else the last commit; or everything; or goes to a commit. The state before is kept."""
        async with self._at_work(colony_id) as (record, repository, workspace):
            if request.all and request.to:
                raise Invalid("wrong-use", "undo goes back to the base or to a commit, not both", "give one of them")
            snapshot = await workspace.snapshot()
            git = await repository.git()
            base = await self._parted(record, repository, snapshot.commit)
            if request.to:
                check_ref(request.to, what="commit or ref")
                goal = await repository.commit_of(
                    git, request.to if _is_full(request.to) else f"refs/heads/{request.to}"
                )
                if goal is None:
                    raise NotFound(
                        "commit-not-found", f"there is no commit {request.to}", f"colony history {record.colony}"
                    )
                undone = f"went to {goal[:12]}"
            elif request.all:
                goal, undone = base, "everything since it began"
            elif snapshot.dirty or snapshot.conflicted:
                goal, undone = snapshot.head, "what was not committed"
            else:
                parent = await repository.commit_of(git, f"{snapshot.head}^")
                if snapshot.head == base or parent is None:
                    raise WrongState(
                        "nothing-to-undo",
                        f"“{record.colony}” has no change of its own",
                        f"colony history {record.colony}",
                    )
                goal, undone = parent, "the last commit"
            kept = await repository.keep(git, snapshot.commit, record.colony)
            await workspace.reset(goal)
        self._tell(record, "undone", undone)
        return UndoView(colony=record.colony, undone=undone, kept=kept, commit=goal)

    async def push(self, colony_id: str, request: PushRequest) -> PushView:
        """Puts the colony's work onto a branch of the project's origin; what is not committed is, before. Raises Unreachable."""
        async with self._at_work(colony_id) as (record, repository, workspace):
            own = own_branch(record.colony)
            branch = check_ref(request.branch) if request.branch else (record.target if request.merged else own)
            git = await repository.git()
            if request.merged:
                commit = await repository.commit_of(git, f"refs/heads/{record.target}")
                assert commit is not None, "a target is a branch"
            else:
                commit = await workspace.save(None)
            await repository.push(git, commit, branch, replaces=branch == own)
        self._tell(record, "pushed", f"{commit[:12]} to {branch}")
        return PushView(colony=record.colony, url=repository.source.url, branch=branch, commit=commit)

    # ---- its end

    async def check_loss(self, colony_id: str, *, confirm: str | None) -> None:
        """Raises WrongState (`work-would-be-lost`) where removing the workspace would lose work, unless `confirm` is the colony's name."""
        record = self._records.get(colony_id)
        if record is None or record.state != "ready" or confirm == record.colony:
            return
        name = record.colony
        async with self._lock(colony_id):
            try:
                loss, _ = await self._loss(record)
            except Broken as error:
                message = f"whether {name} holds work that exists nowhere else cannot be told: {error.message}"
                hint = f"mend that, or colony rm {name} --discard {name}"
                raise WrongState("work-would-be-lost", message, hint, details={"name": name}) from error
        if loss:
            hint = f"colony merge {name}, colony push {name}, or colony rm {name} --discard {name}"
            raise _would_be_lost(name, loss, hint)

    async def set_kept(self, colony_id: str, keep: bool) -> None:
        """Writes down whether a workspace stays when its colony goes."""
        record = self._records.get(colony_id)
        if record is not None and record.is_made:
            await self._change(attrs.evolve(record, state="kept" if keep else "ready"))

    async def close(self, colony_id: str) -> str:
        """Removes a colony's workspace, unless it is to be kept; gives the ref under which its work is kept, if it had any of its own.

        Begun anew after a kill at any moment; the ref comes first. A project that is gone took the work with it.
        """
        record = self._records.get(colony_id)
        if record is None or record.state == "kept":
            return ""
        async with self._lock(colony_id):
            ref = None
            while ref is None:
                with suppress(KeeperLost):  # again, with the next keeper
                    ref = await self._take_away(record)
            await self._store.write(lambda connection: records.forget_workspace(connection, colony_id))
            del self._records[colony_id]
        self._locks.pop(colony_id, None)
        self._tell(record, "removed", f"its work is kept at {ref}" if ref else "")
        return ref

    async def _take_away(self, record: WorkspaceRecord) -> str:
        path = Path(record.path)
        ref = ""
        try:
            repository = self.projects.repository(record.project)
        except (NotFound, WrongState):  # never cloned: nothing was made of it
            await clear_folder(path, self.projects.hands_for(keeper_of(path)))
            return ""
        async with self.projects.lock(record.project):
            if record.is_made:
                ref = await self._keep_work(record, repository)
            await clear_folder(path, repository.hands)
            kinds = (record.kind,) if record.is_made else ("git", "jj")  # of a half-made one nobody knows
            for kind in kinds:
                await self._workspace(attrs.evolve(record, kind=kind), repository).forget()
        return ref

    async def _keep_work(self, record: WorkspaceRecord, repository: Repository) -> str:
        """Whoever asked for the end was told what would be lost: what cannot be kept, since the repository is broken, goes."""
        try:
            loss, last = await self._loss(record)
            if (loss.commits or loss.files) and last is not None:
                return await repository.keep(await repository.git(), last, record.colony)
        except KeeperLost:
            raise
        except Broken as error:
            logger.error("the work of %s could not be kept: %s", record.colony, error)
        return ""

    async def _loss(self, record: WorkspaceRecord) -> tuple[Loss, str | None]:
        """What would be lost with a workspace, and the commit that holds all of it."""
        repository = self.projects.repository(record.project)
        workspace = self._workspace(record, repository)
        git = await repository.git()
        path = Path(record.path)
        dirty: tuple[str, ...] = ()
        within: tuple[str, ...] = ()
        if is_there(path):
            within = await holding_work(repository, path)
            snapshot = await workspace.snapshot()
            head, last = snapshot.head, snapshot.commit
            if snapshot.dirty:
                changed = await git("diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv", head, last, "--")
                dirty = tuple(changed.words)
        else:
            found = await workspace.last()
            if found is None:
                return Loss(), None
            head = last = found
        commits = await repository.only_here(git, head, own=own_branch(record.colony))
        return Loss(commits=commits, files=dirty, repositories=within), last

    # ---- the rest

    @asynccontextmanager
    async def _at_work(self, colony_id: str) -> AsyncIterator[tuple[WorkspaceRecord, Repository, Workspace]]:
        async with self._lock(colony_id):
            record = self._record(colony_id)
            if not record.is_made:
                raise WrongState(
                    "workspace-not-ready",
                    f"the workspace of “{record.colony}” is not made yet",
                    f"colony start {record.colony}",
                )
            repository = self.projects.repository(record.project)
            yield record, repository, self._workspace(record, repository)

    def _record(self, colony_id: str) -> WorkspaceRecord:
        if colony_id not in self._records:
            raise WrongState(
                "no-workspace",
                "this colony works in a folder of yours, not in a workspace",
                "colony spawn NAME --repo R",
            )
        return self._records[colony_id]

    def _workspace(self, record: WorkspaceRecord, repository: Repository) -> Workspace:
        path = Path(record.path)
        if record.kind == "jj":
            return JjWorkspace(repository, record.colony, path, colocated=record.colocated)
        return GitWorkspace(repository, record.colony, path)

    def _kind(self, record: WorkspaceRecord) -> Kind:
        wanted = record.kind if record.kind != "auto" else self._config().workspaces.kind
        if wanted == "jj" or (wanted == "auto" and self.projects.tools.jj is not None):
            self.projects.tools.need_jj()
            return "jj"
        return "git"

    async def _parted(self, record: WorkspaceRecord, repository: Repository, tip: str) -> str:
        """Where work and target parted."""
        git = await repository.git()
        target = await repository.commit_of(git, f"refs/heads/{record.target}")
        return await repository.common(git, target or record.base, tip)

    async def _change(self, record: WorkspaceRecord) -> None:
        await self._store.write(lambda connection: records.change_workspace(connection, record))
        self._records[record.colony_id] = record

    def _lock(self, colony_id: str) -> trio.Lock:
        return self._locks.setdefault(colony_id, trio.Lock())

    def _tell(self, record: WorkspaceRecord, what: str, detail: str) -> None:
        self._bus.publish(
            WorkspaceChanged(
                colony=record.colony, colony_id=record.colony_id, owner=record.owner, what=what, detail=detail
            )
        )


def _is_used(record: WorkspaceRecord) -> bool:
    return record.state != "kept" or Path(record.path).exists()


def _word(record: WorkspaceRecord) -> str:
    return f"{record.kind} workspace on {record.branch or record.target}"


def _is_full(text: str) -> bool:
    return text.startswith("refs/") or is_commit(text)


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


def _would_be_lost(name: str, loss: Loss, hint: str) -> WrongState:
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
