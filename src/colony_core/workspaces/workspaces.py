"""The working copies of colonies: planned with the colony's record, made when it first starts, gone when it is removed.

Each verb is one piece of work on one workspace at a time; what changes refs of the shared repository waits for the project's lock besides.
What a colony had is kept under `refs/colony/<name>/<time>` before anything could lose it.

The file is long because every verb that others have of workspaces stands in it, with its locks, its record and its news.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import trio

from colony_core import clock
from colony_core.bus import Bus
from colony_core.config import Config
from colony_core.errors import AlreadyExists, Broken, ColonyError, LimitReached, NotFound, TooSlow, WrongState
from colony_core.events import WorkspaceChanged, WorkspaceFailed
from colony_core.processes import KeeperLost
from colony_core.store import Store
from colony_core.supervision import ChildSpec, DynamicSupervisor, Restart, Status
from colony_core.views import (
    CommitView,
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
from .founding import beginning
from .git_kind import GitWorkspace
from .jj_kind import JjWorkspace, unnamed_heads
from .kinds import Workspace, is_there
from .losses import Loss, would_be_lost
from .making import make_workspace
from .places import clear_folder, keeper_of, repo_folder, workspace_folder
from .programs import GetKeeper, end_leftovers
from .projects import Projects
from .records import ProjectRecord, WorkspaceRecord
from .repository import MOST_COMMITS, MOST_PATCH_BYTES, Repository
from .sources import check_ref
from .tools import Tools
from .work import Work

Kind = Literal["auto", "jj", "git"]
logger = logging.getLogger("colony.workspaces")

MOST_LATER = 8
"""Pieces of work on one workspace that are under way, or wait for it, while nobody waits for their answers."""


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
        self._later: Counter[str] = Counter()
        self._supervisor: DynamicSupervisor

    async def restore(self, supervisor: DynamicSupervisor) -> None:
        """Takes up what is recorded, and ends what a killed daemon's programs are still doing.

        `supervisor` is where clones run, and what is done later.
        """
        self._supervisor = supervisor
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
            begin = await beginning(git)
            only = await git("log", "--format=%h %s", "--max-count=100", "--branches", "--glob=refs/colony/*",
                             *await unnamed_heads(repository), "--not", "--remotes", "--tags", begin)  # fmt: skip
            lost = only.text.splitlines()
            if lost:
                raise would_be_lost(name, Loss(commits=tuple(lost)), f"colony project rm {name} --discard {name}")
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
                kind = self._kind(record)
                colocated = kind == "jj" and self.projects.tools.colocates
                record = attrs.evolve(record, kind=kind, colocated=colocated)
                workspace = self._workspace(record, repository)
                freshen = partial(self.projects.freshen, repository, record.project)
                made = await make_workspace(record, repository, workspace, freshen)
            if then is not None:
                await then()
            await self._change(made)
        self._tell(made, "made", _word(made))
        return _word(made)

    # ---- its work, as `Work` says of each

    async def diff(self, colony_id: str, *, cut: int = MOST_PATCH_BYTES) -> DiffView:
        """What the colony changed since its work and its target parted, committed or not."""
        async with self._at_work(colony_id) as work:
            return await work.diff(cut=cut)

    async def fingerprint(self, colony_id: str) -> str | None:
        """A hash of what the colony changed since its work began, committed or not, merged or not. None where it has no workspace."""
        if self.view(colony_id) is None:
            return None
        async with self._at_work(colony_id) as work:
            return await work.fingerprint()

    async def history(
        self, colony_id: str, *, after: str | None = None, limit: int = MOST_COMMITS
    ) -> tuple[CommitView, ...]:
        """The commits of the colony's own, the newest first; what nobody has committed stands before them.

        Those behind the commit `after`; raises NotFound (`commit-not-found`) where that is none of them.
        """
        async with self._at_work(colony_id) as work:
            return await work.history(after=after, limit=limit)

    async def describe(self, colony_id: str, message: str) -> CommitView:
        """Gives the newest change a message; what is not committed is by that. Raises WrongState (`nothing-to-describe`)."""
        async with self._at_work(colony_id) as work:
            described = await work.describe(message)
        self._tell(work.record, "described", f"{described.id[:12]} {described.message.partition(chr(10))[0]}")
        return described

    async def merge(self, colony_id: str, request: MergeRequest) -> MergeView:
        """Merges the colony's work into its target, or another branch; what is not committed is, before. Raises WrongState."""
        async with self._at_work(colony_id) as work, self.projects.lock(work.record.project):
            merged = await work.merge(request)
        if not request.dry_run:
            nothing = merged.outcome == "nothing"
            self._tell(work.record, "merged", f"{'nothing' if nothing else merged.commit[:12]} into {merged.target}")
        return merged

    async def undo(self, colony_id: str, request: UndoRequest) -> UndoView:
        """Takes back what is not committed, else the last commit; or everything; or goes to a commit. The state before is kept."""
        async with self._at_work(colony_id) as work:
            undone = await work.undo(request)
        self._tell(work.record, "undone", undone.undone)
        return undone

    async def push(self, colony_id: str, request: PushRequest) -> PushView:
        """Puts the colony's work onto a branch of the project's origin; what is not committed is, before. Raises Unreachable."""
        async with self._at_work(colony_id) as work:
            pushed = await work.push(request)
        self._tell(work.record, "pushed", f"{pushed.commit[:12]} to {pushed.branch}")
        return pushed

    async def later(self, colony_id: str, verb: str, work: Callable[[], Awaitable[object]], *, seconds: float) -> None:
        """Begins one of these verbs, given as `work`, and returns; an event tells how it ends (WorkspaceFailed: how it failed).

        It goes on whoever asked, is given up after `seconds`, or when the daemon ends. Raises WrongState where the colony has no
        workspace to work in, LimitReached where much is to be done later already.
        """
        record = self._made(colony_id)
        if self._later[colony_id] >= MOST_LATER:
            raise LimitReached(
                "too-much-to-do",
                f"{MOST_LATER} pieces of work on “{record.colony}” wait already",
                f"wait for their end: colony events -f --colony {record.colony} --kind workspace",
            )
        run = partial(self._do_later, record, verb, work, seconds)
        name = f"{verb} {record.colony}"  # no project's: it has a space
        await self._supervisor.start_child(ChildSpec(id=name, run=run, restart=Restart.TEMPORARY, grace=10.0))

    async def _do_later(
        self,
        record: WorkspaceRecord,
        verb: str,
        work: Callable[[], Awaitable[object]],
        seconds: float,
        *,
        status: Status,
    ) -> None:
        self._later[record.colony_id] += 1
        status.started()
        failed: ColonyError | None = _given_up(verb, "the daemon ended first")
        try:
            with trio.move_on_after(seconds) as scope:
                await work()
                failed = None
            if scope.cancelled_caught:
                failed = _given_up(verb, f"it did not end within {seconds:.0f} s")
        except ColonyError as error:
            failed = error
        except Exception:  # a mistake of ours: nobody waits for the answer, so the event must tell of it, too
            logger.exception("%s of %s failed", verb, record.colony)
            failed = Broken("internal-error", f"Colony made a mistake with this {verb}", "look into the daemon's log")
        finally:
            self._later -= Counter((record.colony_id,))  # and forgets it with the last
            if failed is not None:
                self._tell_failure(record, verb, failed)

    # ---- its end

    async def check_loss(self, colony_id: str, *, confirm: str | None) -> None:
        """Raises WrongState (`work-would-be-lost`) where removing the workspace would lose work, unless `confirm` is the colony's name."""
        record = self._records.get(colony_id)
        if record is None or record.state != "ready" or confirm == record.colony:
            return
        name = record.colony
        async with self._lock(colony_id):
            try:
                loss, _ = await self._work(record).loss()
            except Broken as error:
                message = f"whether {name} holds work that exists nowhere else cannot be told: {error.message}"
                hint = f"mend that, or colony rm {name} --discard {name}"
                raise WrongState("work-would-be-lost", message, hint, details={"name": name}) from error
        if loss:
            hint = f"colony merge {name}, colony push {name}, or colony rm {name} --discard {name}"
            raise would_be_lost(name, loss, hint)

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
            loss, last = await self._work(record).loss()
            if (loss.commits or loss.files) and last is not None:
                return await repository.keep(await repository.git(), last, record.colony)
        except KeeperLost:
            raise
        except Broken as error:
            logger.error("the work of %s could not be kept: %s", record.colony, error)
        return ""

    # ---- the rest

    @asynccontextmanager
    async def _at_work(self, colony_id: str) -> AsyncIterator[Work]:
        async with self._lock(colony_id):
            yield self._work(self._made(colony_id))

    def _made(self, colony_id: str) -> WorkspaceRecord:
        record = self._record(colony_id)
        if not record.is_made:
            raise WrongState(
                "workspace-not-ready",
                f"the workspace of “{record.colony}” is not made yet",
                f"colony start {record.colony}",
            )
        return record

    def _record(self, colony_id: str) -> WorkspaceRecord:
        if colony_id not in self._records:
            raise WrongState(
                "no-workspace",
                "this colony works in a folder of yours, not in a workspace",
                "colony spawn NAME --repo R",
            )
        return self._records[colony_id]

    def _work(self, record: WorkspaceRecord) -> Work:
        repository = self.projects.repository(record.project)
        return Work(record=record, repository=repository, workspace=self._workspace(record, repository))

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

    def _tell_failure(self, record: WorkspaceRecord, verb: str, error: ColonyError) -> None:
        self._bus.publish(
            WorkspaceFailed(
                colony=record.colony,
                colony_id=record.colony_id,
                owner=record.owner,
                verb=verb,
                code=error.code,
                message=error.message,
                hint=error.hint,
            )
        )


def _given_up(verb: str, why: str) -> ColonyError:
    return TooSlow("given-up", f"{verb} was given up: {why}", "look how far it came: colony history")


def _is_used(record: WorkspaceRecord) -> bool:
    return record.state != "kept" or Path(record.path).exists()


def _word(record: WorkspaceRecord) -> str:
    return f"{record.kind} workspace on {record.branch or record.target}"
