"""All colonies of this machine: spawn, find, apply, remove, and bring back after the daemon was gone.

The file is long because a colony comes, changes and goes in it: what is in the store, in memory and in the tree has to agree at each step.
"""

import logging
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import partial

import attrs
import trio
from sqlalchemy import Connection

from colony_core import clock, naming
from colony_core.errors import (
    AlreadyExists,
    Broken,
    ColonyError,
    Invalid,
    LimitReached,
    NotFound,
    WrongState,
    did_you_mean,
)
from colony_core.events import ColonyApplied, ColonyCreated, ColonyRemoved
from colony_core.supervision import DynamicSupervisor, Event, SupervisionError
from colony_core.supervision import LimitReached as RestartsReached
from colony_core.views import ApplyView, NewColony
from colony_core.workspaces import WorkspaceRecord, record_workspace

from . import records
from .changes import compare, version
from .colony import Colony
from .folders import check_template, manifest_in
from .links import Links
from .manifest import Manifest
from .means import Means
from .records import ColonyRecord
from .service import Service
from .state import ColonyState, ServiceState, Verb, Wanted

MOST_COLONIES = 4000
logger = logging.getLogger("colony.colonies")

MayApply = Callable[[frozenset[str]], None]
PARTS = tuple(field.name for field in attrs.fields(Manifest))
COLONY_DEPTH = 3
"""How long the path of a colony is in the tree: mycelium, colonies, its name."""


class Colonies:
    """Every colony that is known here. Reading is answered at once from memory; what changes is in the store before it is acknowledged."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._supervisor: DynamicSupervisor
        self._by_id: dict[str, Colony] = {}
        self._by_name: dict[str, Colony] = {}
        self._reserved: set[str] = set()
        self._links = Links(means, self.named, self._by_id.values)

    def __iter__(self) -> Iterator[Colony]:
        return iter(sorted(self._by_id.values(), key=lambda colony: colony.name))

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, ref: str) -> Colony:
        """The colony of that name or id; raises NotFound naming the nearest."""
        found = self._by_id.get(ref) or self._by_name.get(ref)
        if found is None:
            nearest = did_you_mean(ref, tuple(self._by_name))
            raise NotFound(
                "colony-not-found",
                f"colony “{ref[:80]}” not found",
                f"did you mean {nearest}?" if nearest else "colony ls",
            )
        return found

    def named(self, name: str) -> Colony | None:
        """The colony of exactly that name."""
        return self._by_name.get(name)

    def with_id(self, colony_id: str) -> Colony | None:
        """The colony with exactly that id."""
        return self._by_id.get(colony_id)

    def notice(self, event: Event) -> bool:
        """Hears what happens in the tree; True if it is the business of a colony alone and no fault of the house."""
        path = event.path
        if len(path) < COLONY_DEPTH or path[1] != "colonies":
            return False
        colony = self._by_name.get(str(path[2]))
        service = colony.services.get(str(path[3])) if colony is not None and len(path) > COLONY_DEPTH else None
        if service is None:
            return False
        if isinstance(event, RestartsReached):
            service.give_up(event)
        return isinstance(event, RestartsReached) or service.is_own_doing(event)

    async def spawn(self, request: NewColony, *, owner: str) -> Colony:
        """Records a colony and begins to build it; durable when this returns. Raises AlreadyExists, Invalid, LimitReached."""
        name = naming.check_colony_name(request.name)
        self._check_open()
        if name in self._by_name or name in self._reserved:
            there = self._by_name.get(name)
            raise _taken(name, yours=there is not None and there.record.owner == owner)
        if len(self._by_id) >= MOST_COLONIES:
            raise LimitReached(
                "too-many-colonies", f"{MOST_COLONIES} colonies are as many as one machine takes", "colony rm NAME"
            )
        self._reserved.add(name)
        try:
            record, workspace = await self._planned(request, owner=owner)
            colony = Colony(self._means, record, self._links)
            if request.dry_run:
                return colony
            with trio.CancelScope(shield=True):  # recorded and planted, or neither
                await self._record(record, workspace)
                await self._plant_new(colony)
                await self._links.try_renew()
        finally:
            self._reserved.discard(name)
        self._means.bus.publish(ColonyCreated(colony=name, colony_id=colony.id, owner=owner))
        if request.start and not self._means.closing:
            colony.ask_start()
        return colony

    async def _planned(self, request: NewColony, *, owner: str) -> tuple[ColonyRecord, WorkspaceRecord | None]:
        """What is to be recorded of a new colony, and of its workspace where it gets one: its manifest is read once that is there."""
        colony_id = naming.new_colony_id()
        if request.repo is None:
            if request.branch is not None or request.workspace != "auto":
                raise Invalid(
                    "no-repository", "a branch or a kind of workspace needs a repository", "colony spawn NAME --repo R"
                )
            if request.path is None:
                raise Invalid(
                    "no-source", "a colony needs a folder or a repository", "give the path of a folder, or repo"
                )
            manifest = await self._manifest(request.path, request.template)
            self._links.check(request.name, owner, manifest)
            return self._new_record(colony_id, request, request.path, manifest, owner=owner), None
        if request.path is not None:
            raise Invalid("two-sources", "a colony works in a folder or on a repository, not both", "give one of them")
        if request.template is not None:
            await check_template(request.template, templates=self._means.config.folders.templates)
        workspace = await self._means.workspaces.plan(
            request.name,
            colony_id,
            repo=request.repo,
            branch=request.branch,
            kind=request.workspace,
            owner=owner,
            dry_run=request.dry_run,
        )
        return self._new_record(colony_id, request, workspace.path, Manifest(), owner=owner), workspace

    async def _record(self, record: ColonyRecord, workspace: WorkspaceRecord | None) -> None:
        def write(connection: Connection) -> None:
            records.add(connection, record)
            if workspace is not None:
                record_workspace(connection, workspace)

        try:
            await self._means.store.write(write)
        except AlreadyExists as error:
            raise _taken(record.name) from error
        if workspace is not None:
            self._means.workspaces.planned(workspace)

    async def want(self, colony: Colony, wanted: Wanted, then: Callable[[], object]) -> None:
        """Writes down what is wanted of a colony, then asks for it with `then`. Cancelled, either both or neither has happened."""
        async with colony.deciding:
            self._check_takes_wishes(colony)
            await self._means.store.write(lambda connection: records.change(connection, colony.id, wanted=wanted))
            then()

    async def want_service(self, colony: Colony, service: str, verb: Verb, grace: float | None) -> Service:
        """Writes down what is wanted of one service of a running colony, then asks for it. Raises NotFound, WrongState."""
        async with colony.deciding:
            self._check_takes_wishes(colony)
            found = colony.service(service)
            colony.check_running()
            resting = colony.rests_after(found, verb)
            await self._means.store.write(lambda connection: records.change(connection, colony.id, services=resting))
            colony.ask_service(found, verb, grace)
        return found

    async def apply(
        self,
        colony: Colony,
        *,
        dry_run: bool,
        versions: Collection[str] | None = None,
        may: MayApply | None = None,
    ) -> ApplyView:
        """Reads the manifest again and takes over what changed; raises Invalid or NotAllowed and changes nothing if it is wrong.

        With `versions` the difference must be one of those, else WrongState (`changed-meanwhile`) is raised and nothing changes.
        `may` is told which parts of the manifest changed, and raises where they are not for whoever asks.
        Raises Broken (`firewall`, `no-forwarding`) where all was taken over but its links could not be opened or closed.
        """
        async with colony.deciding:
            self._check_takes_wishes(colony)
            needed = self._means.workspaces.view(colony.id) is None
            manifest = await self._manifest(colony.source, colony.record.template, needed=needed)
            self._links.check(colony.name, colony.record.owner, manifest)
            step = version(colony.manifest, manifest)
            if versions is not None and step not in versions:
                raise _changed_meanwhile(colony.name)
            if may is not None:
                may(frozenset(name for name in PARTS if getattr(colony.manifest, name) != getattr(manifest, name)))
            changes = compare(colony.manifest, manifest)
            services = [colony.services[name] for name in changes.restarted if name in colony.services]
            restarted = tuple(s.name for s in services if s.state is not ServiceState.STOPPED)
            if not dry_run and changes.sentences:
                await self._take_over(colony, manifest, changes.sentences)
        return ApplyView(
            colony=colony.view(), changes=changes.sentences, restarted=restarted, dry_run=dry_run, version=step
        )

    async def _take_over(self, colony: Colony, manifest: Manifest, sentences: tuple[str, ...]) -> None:
        """Has a colony live by another manifest from now on."""
        after = {"manifest": manifest, "services": colony.rests_under(manifest)}
        await self._means.store.write(lambda connection: records.change(connection, colony.id, **after))
        colony.ask_apply(manifest)
        self._means.bus.publish(
            ColonyApplied(colony=colony.name, colony_id=colony.id, owner=colony.record.owner, changes=sentences)
        )
        with trio.CancelScope(shield=True):
            await self._links.renew()

    async def remove(self, colony: Colony) -> None:
        """Stops a colony and forgets it; returns when its cell, its record and its log are gone. Goes on when the caller is cancelled.

        Raises Broken (`not-removed`) with what was in the way; the colony is failed then, and the removal can be tried again.
        """
        if colony.wanted is not Wanted.REMOVED:
            try:
                await self.want(colony, Wanted.REMOVED, partial(colony.ask_remove, self._forget))
            except WrongState:
                if colony.removal is None:  # else somebody was faster with the same wish
                    raise
        assert colony.removal is not None, "what is to be removed has a removal"
        await colony.removal.over.wait()
        if colony.removal_error is not None:
            raise Broken(
                "not-removed",
                f"colony “{colony.name}” {colony.reason}",
                f"colony rm {colony.name}, once that is mended",
            ) from colony.removal_error

    async def restore(self, supervisor: DynamicSupervisor) -> None:
        """Plants every recorded colony; what was wanted to run is found again or started, what was being removed is removed."""
        self._supervisor = supervisor
        for record in await self._means.store.read(records.living):
            await self._plant(Colony(self._means, record, self._links))
        await self._links.try_renew()  # before anything moves: what an earlier daemon opened is as it shall be
        for colony in list(self._by_id.values()):
            if colony.wanted is Wanted.RUNNING:
                colony.ask_start()
            elif colony.wanted is Wanted.STOPPED:
                colony.ask_sweep()
            else:
                colony.ask_remove(self._forget)
        for name in await self._means.isolation.found():
            if name not in self._by_name:
                try:
                    await self._means.isolation.clear(name)
                except ColonyError as error:  # what cannot be cleared must not keep the house from opening
                    logger.error("walls without a colony, %s, stay: %s", name, error)

    async def stop_all(self) -> None:
        """Stops every colony, all at once, but leaves what is wanted as it is: the next daemon brings them back."""
        async with trio.open_nursery() as nursery:
            for colony in self._by_id.values():
                nursery.start_soon(colony.halt)

    async def _plant(self, colony: Colony) -> None:
        child = await self._supervisor.start_child(colony.tree_spec())
        colony.planted(child.value)
        self._by_id[colony.id] = self._by_name[colony.name] = colony

    async def _plant_new(self, colony: Colony) -> None:
        try:
            await self._plant(colony)
        except SupervisionError as error:  # the house has just begun to end
            now = clock.unix_now()
            await self._means.store.write(lambda connection: records.change(connection, colony.id, removed_at=now))
            raise _ending() from error

    def _check_open(self) -> None:
        if self._means.closing:
            raise _ending()

    def _check_takes_wishes(self, colony: Colony) -> None:
        self._check_open()
        if colony.wanted is Wanted.REMOVED:
            raise WrongState("colony-being-removed", f"colony “{colony.name}” is being removed", "colony ls")

    async def _forget(self, colony: Colony) -> None:
        """The last step of a removal: workspace, log, record, index; in this order, so that a kill in between leaves nothing unknown."""
        nothing = {
            "removed_at": clock.unix_now(),
            "manifest": Manifest(),
            "services": {},
        }  # a manifest may hold secrets
        await self._means.workspaces.close(colony.id)
        await trio.to_thread.run_sync(partial(shutil.rmtree, self._means.log_folder(colony.id), ignore_errors=True))
        await self._means.store.write(lambda connection: records.change(connection, colony.id, **nothing))
        self._by_id.pop(colony.id, None)
        self._by_name.pop(colony.name, None)
        await self._links.try_renew()
        colony.enter(ColonyState.STOPPED, "removed")
        colony.gone.set()
        self._means.bus.publish(ColonyRemoved(colony=colony.name, colony_id=colony.id, owner=colony.record.owner))

    def _new_record(
        self, colony_id: str, request: NewColony, source: str, manifest: Manifest, *, owner: str
    ) -> ColonyRecord:
        now = clock.unix_now()
        return ColonyRecord(
            id=colony_id,
            name=request.name,
            garden="local",
            owner=owner,
            wanted=Wanted.RUNNING if request.start else Wanted.STOPPED,
            state=ColonyState.STOPPED,
            reason="" if request.start else "not started",
            since=now,
            created_at=now,
            source=source,
            template=request.template,
            manifest=manifest,
            services={},
        )

    async def _manifest(self, folder: str, template: str | None, *, needed: bool = True) -> Manifest:
        templates = self._means.config.folders.templates
        return await manifest_in(folder, templates=templates, template=template, needed=needed)


def _ending() -> WrongState:
    return WrongState("house-ending", "the daemon is shutting down", "start it again: colony serve")


def _changed_meanwhile(name: str) -> WrongState:
    return WrongState(
        "changed-meanwhile",
        f"since you looked, somebody else has edited or applied the manifest of “{name}”",
        f"look again: colony apply {name} --dry-run",
    )


def _taken(name: str, *, yours: bool = False) -> AlreadyExists:
    hint = f"take another name, or: colony rm {name}" if yours else "take another name"
    return AlreadyExists("name-taken", f"there is a colony “{name}” already", hint)
