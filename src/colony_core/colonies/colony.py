"""One colony: its cell, its services, and the actor that answers for them at once.

A colony is a supervisor subtree. Its children, in start order: `owner`, which does the slow work one piece at a time; `cell` and `names`
while it is up; and one supervisor per service. A service that reaches its limit ends alone. Stopping the subtree stops the services, then
the cell. What people ask is answered from memory and handed to the owner, so that a colony answers at once whatever its owner is busy with.
"""

import pwd
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import trio

from colony_core import clock, naming
from colony_core.errors import ColonyError, NotFound, WrongState, did_you_mean
from colony_core.events import ColonyStateChanged
from colony_core.isolation import Cell, needs_forwarding, serve_names
from colony_core.processes import Launch, LogBook, LogTarget, User
from colony_core.supervision import (
    Child,
    ChildSpec,
    ChildStartError,
    Limit,
    NoSuchChild,
    Restart,
    Status,
    Supervisor,
    supervisor_spec,
)
from colony_core.views import ColonyView, StepView

from . import records
from .build import build
from .changes import Changes
from .environment import path_inside
from .manifest import Manifest, start_order
from .means import Means
from .records import ColonyRecord
from .service import Service
from .state import ColonyState, ServiceState, Wanted, is_settled, is_starting, may_follow

Job = Callable[[], Awaitable[None]]


class Colony:
    """One colony, as long as it is known; up or not."""

    def __init__(self, means: Means, record: ColonyRecord, *, user: User | None, user_name: str) -> None:
        self.means = means
        self.record = record
        self.id = record.id
        self.name = record.name
        self.source = record.source
        self.user = user
        self.user_name = user_name
        self.manifest: Manifest = record.manifest
        self.state = ColonyState.FAILED if record.state is ColonyState.FAILED else ColonyState.STOPPED
        self.reason = record.reason
        self.since = record.since
        self.wanted = record.wanted
        self.cell: Cell | None = None
        self.services = {spec.name: Service(self, spec) for spec in self.manifest.services}
        self.steps: tuple[StepView, ...] = ()
        self.start_seconds: float | None = None
        self.gone = trio.Event()
        self._resting = {name: dict(how) for name, how in record.services.items()}
        self._was_up = record.state is ColonyState.RUNNING
        self._began: float | None = None
        self._changed = trio.Event()
        self._jobs_in, self._jobs = trio.open_memory_channel[Job](float("inf"))
        self._job_scope: trio.CancelScope | None = None
        self._tree: Supervisor | None = None

    # ---- what everybody may ask, answered at once

    def view(self) -> ColonyView:
        """What the outside sees."""
        domain = self.means.config.routing.domain
        first = next((s for s in self.manifest.services if s.port), None)
        notes = [] if not self.manifest.limits else ["limits are not enforced yet"]
        if self.user_name == "root":
            notes.append("services run as root, without capabilities")
        return ColonyView(
            id=self.id,
            name=self.name,
            garden=self.record.garden,
            owner=self.record.owner,
            state=self.state.value,
            reason=self.reason,
            since=clock.rfc3339(self.since),
            created_at=clock.rfc3339(self.record.created_at),
            description=self.manifest.description,
            template=self.record.template,
            source=self.source,
            user=self.user_name,
            namespace=naming.namespace_name(self.name),
            address=self.cell.address if self.cell else None,
            url=self.means.url(f"{self.name}.{domain}") if first else None,
            start_seconds=self.start_seconds,
            steps=self.steps,
            services=tuple(service.view() for service in self.services.values()),
            notes=tuple(notes),
            limits=dict(self.manifest.limits),
            environment=dict(self.manifest.requirements),
            terminal=self.manifest.terminal,
        )

    def service(self, name: str) -> Service:
        """The service of that name; raises NotFound naming the nearest."""
        if name not in self.services:
            nearest = did_you_mean(name, tuple(self.services))
            hint = f"did you mean {nearest}?" if nearest else f"colony service ls {self.name}"
            raise NotFound("service-not-found", f"colony “{self.name}” has no service “{name}”", hint)
        return self.services[name]

    async def any_service_change(self) -> None:
        """Returns when any service of this colony has gone to another state."""
        await self._changed.wait()

    async def last_line(self) -> int:
        """The number of the newest line of the log."""
        return await self.log.last()

    @property
    def log(self) -> LogBook:
        """The log of the colony; woken by the keeper while there is one."""
        keeper, folder = self.means.keeper.current, self.means.log_folder(self.id)
        return LogBook(folder) if keeper is None else keeper.log_book(folder)

    # ---- what services tell their colony

    def service_changed(self, service: Service) -> None:
        """Wakes whoever waits, and sees whether the colony has settled."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        if service.state is ServiceState.FINISHED or service.state is ServiceState.FAILED:
            self._rest(service)
        if self.state is ColonyState.RUNNING:
            self._running_reason()

    def restarted(self, service: Service) -> None:
        """A service runs again; those that depend on it with `restart = true` follow."""
        for other in self.services.values():
            if (
                any(d.name == service.name and d.restart for d in other.spec.depends_on)
                and other.state is not ServiceState.STOPPED
            ):
                self.ask(partial(self._restart_service, other, None))

    # ---- what people ask; each returns at once and the owner does the rest

    def ask(self, job: Job, *, instead: bool = False) -> None:
        """Hands `job` to the owner; with `instead`, what is under way or waits is given up for it."""
        if instead:
            while True:
                try:
                    self._jobs.receive_nowait()
                except trio.WouldBlock:
                    break
            if self._job_scope is not None:
                self._job_scope.cancel()
        self._jobs_in.send_nowait(job)

    def ask_start(self) -> None:
        """Works towards running."""
        self.wanted = Wanted.RUNNING
        if self.state in (ColonyState.STOPPED, ColonyState.FAILED):
            self.enter(ColonyState.SPAWNING)
        self.ask(self._start)

    def ask_stop(self, grace: float | None) -> None:
        """Works towards stopped, whatever is under way."""
        self.wanted = Wanted.STOPPED
        if self.state is not ColonyState.STOPPED:
            self.enter(ColonyState.STOPPING, "asked to stop")
            self.ask(partial(self._stop, grace), instead=True)

    def ask_restart(self, grace: float | None) -> None:
        """Stops, then starts."""
        self.wanted = Wanted.RUNNING
        self.enter(ColonyState.STOPPING, "asked to restart")
        self.ask(partial(self._stop, grace), instead=True)
        self.ask(self._start)

    def ask_service(self, service: Service, verb: str, grace: float | None) -> None:
        """Starts, stops or restarts one service of a running colony."""
        if self.state is not ColonyState.RUNNING:
            raise WrongState(
                "colony-not-running", f"colony “{self.name}” is {self.state.value}", f"colony start {self.name}"
            )
        if verb == "stop":
            self._resting[service.name] = {"state": "stopped", "reason": "stopped on request"}
            self.ask(partial(self._stop_service, service, grace))
        else:
            self._resting.pop(service.name, None)
            self.ask(
                partial(self._restart_service, service, grace)
                if verb == "restart"
                else partial(self._start_service, service)
            )

    def ask_apply(self, manifest: Manifest, changes: Changes) -> None:
        """Takes over an edited manifest and restarts only what changed."""
        self.manifest = manifest
        self.ask(partial(self._apply, changes))

    def ask_remove(self, forget: Callable[["Colony"], Awaitable[None]]) -> None:
        """Stops for good; `forget` is called when nothing is left but the record, then `gone` is set and the subtree ends."""
        self.wanted = Wanted.REMOVED
        if self.state is not ColonyState.STOPPED:
            self.enter(ColonyState.STOPPING, "being removed")
        self.ask(partial(self._remove, forget), instead=True)

    def ask_sweep(self) -> None:
        """Clears what a killed daemon may have left of a colony that is to be down."""
        self.ask(self._sweep)

    async def halt(self) -> None:
        """Stops, without a word about what is wanted; returns when the colony is down."""
        down = trio.Event()

        async def job() -> None:
            await self._take_down(None)
            self.enter(ColonyState.STOPPED, "the house was shut down")
            down.set()

        if self.state is not ColonyState.STOPPED:
            self.enter(ColonyState.STOPPING, "the house shuts down")
        self.ask(job, instead=True)
        await down.wait()

    # ---- the subtree

    def tree_spec(self) -> ChildSpec:
        """The colony as a child of the house: alone in its fate, and with a limit that is its own."""
        owner = ChildSpec(id="owner", run=self._own, grace=1.0)
        return supervisor_spec(self.name, [owner], restart=Restart.TEMPORARY, limit=Limit(5, 60.0))

    def planted(self, tree: Supervisor) -> None:
        """The subtree runs; children are started and stopped in it from now on."""
        self._tree = tree

    async def _own(self, *, status: Status) -> None:
        """Does one job after the other; a job that is given up leaves what it has built to the next one."""
        status.started()
        async for job in self._jobs:
            with trio.CancelScope() as self._job_scope:
                await job()
            self._job_scope = None

    async def _start(self) -> None:
        if self.state is ColonyState.RUNNING:
            for spec in self.manifest.services:
                await self._start_service(self.services[spec.name])
            return
        adopting, self._was_up = self._was_up, False
        self._began = None if adopting else trio.current_time()
        self.start_seconds, self.steps = None, ()
        if not adopting:
            self._resting.clear()
        try:
            self.enter(ColonyState.SPAWNING)
            cell: Cell = (await self._grown().start_child(ChildSpec(id="cell", run=self._keep_cell, grace=30.0))).value
            await self._start_names()
            self.steps = tuple(StepView(name=s.name, detail=s.detail, seconds=s.seconds) for s in cell.steps)
            await build(self, adopting=adopting)
            self.enter(ColonyState.RUNNING, "starting")
            for rank in start_order(self.manifest.services):
                for name in rank:
                    service = self.services[name]
                    if service.spec.autostart or adopting:
                        await self._start_service(service, resting=self._resting.get(name))
            self._running_reason()
        except (ColonyError, ChildStartError) as error:
            await self._take_down(None)
            self.enter(ColonyState.FAILED, _why(error))
        await self._remember()

    async def _start_names(self) -> None:
        if needs_forwarding(self.means.nameservers):
            names = ChildSpec(id="resolver", run=self._serve_names, restart=Restart.PERMANENT, grace=1.0)
            await self._grown().start_child(supervisor_spec("names", [names], restart=Restart.TEMPORARY))

    async def _stop(self, grace: float | None) -> None:
        await self._take_down(grace)
        self._resting.clear()
        self.enter(ColonyState.STOPPED, "")
        await self._remember()

    async def _sweep(self) -> None:
        await self._sweep_processes()
        await self.means.isolation.clear(self.name)

    async def _sweep_processes(self) -> None:
        """Ends processes that the keeper still holds for a colony that is down."""
        keeper = await self.means.keeper.get()
        for process in [p for p in keeper.processes() if p.key.startswith(f"{self.id}.")]:
            if process.running:
                await process.stop(grace=self.means.config.processes.grace)
            await keeper.forget(process.key)

    async def _remove(self, forget: Callable[["Colony"], Awaitable[None]]) -> None:
        await self._take_down(None)
        await self._sweep()
        await forget(self)
        self.enter(ColonyState.STOPPED, "removed")
        self.gone.set()
        self._grown().stop()

    async def _take_down(self, grace: float | None) -> None:
        """Services in reverse order of their start, those of one rank together; then the names; then the walls."""
        for rank in reversed(start_order(self.manifest.services)):
            async with trio.open_nursery() as nursery:
                for name in rank:
                    nursery.start_soon(self._stop_service, self.services[name], grace)
        for service in [s for s in self.services.values() if s.name not in {m.name for m in self.manifest.services}]:
            await self._stop_service(service, grace)
        await self._stop_child("names")
        await self._stop_child("cell")

    async def _start_service(self, service: Service, *, resting: Mapping[str, str] | None = None) -> None:
        if resting:
            service.enter(ServiceState(resting["state"]), resting["reason"])
        elif self._child(service.name) is None:
            service.enter(ServiceState.STARTING)
            await self._grown().start_child(service.child_spec())

    async def _stop_service(self, service: Service, grace: float | None) -> None:
        service.stop_with(grace)
        if await self._stop_child(service.name) or not is_settled(service.state):
            service.enter(ServiceState.STOPPED, "stopped on request")
        await self._remember()

    async def _restart_service(self, service: Service, grace: float | None) -> None:
        await self._stop_service(service, grace)
        await self._start_service(service)

    async def _apply(self, changes: Changes) -> None:
        for name in (*changes.removed, *changes.restarted):
            await self._stop_service(self.services[name], None)
        for name in changes.removed:
            del self.services[name]
        for spec in self.manifest.services:
            if spec.name in changes.added:
                self.services[spec.name] = Service(self, spec)
            else:
                self.services[spec.name].spec = spec
        if self.state is ColonyState.RUNNING:
            for name in (*changes.added, *changes.restarted):
                if self.services[name].spec.autostart:
                    await self._start_service(self.services[name], resting=self._resting.get(name))
        self.service_order()

    def service_order(self) -> None:
        """Shows services in the manifest's order."""
        self.services = {spec.name: self.services[spec.name] for spec in self.manifest.services}

    def _child(self, child_id: str) -> Child | None:
        return next((child for child in self._grown().children() if child.id == child_id), None)

    async def _stop_child(self, child_id: str) -> bool:
        try:
            await self._grown().stop_child(child_id)
        except NoSuchChild:
            return False
        if self._child(child_id) is not None:
            await self._grown().delete_child(child_id)
        return True

    def _grown(self) -> Supervisor:
        assert self._tree is not None, "a colony is asked for nothing before its subtree runs"
        return self._tree

    # ---- children

    async def _keep_cell(self, *, status: Status) -> None:
        """The walls, found again or built; they come down at the end, unless the house leaves them to the next daemon."""
        isolation = self.means.isolation
        cell = await isolation.adopt(self.name)
        if cell is None:
            await isolation.clear(self.name)
            cell = await isolation.build(self.name, slot=self.record.slot)
        try:
            await self._record_cell(cell)
            self.cell = cell
            status.started(cell)
            await status.stopping.wait()
        finally:
            self.cell = None
            with status.cleanup():
                if self.means.leaving:
                    await isolation.release(cell)
                else:
                    await isolation.destroy(cell)

    async def _serve_names(self, *, status: Status) -> None:
        assert self.cell is not None
        await serve_names(self.cell, needs_forwarding(self.means.nameservers), task_status=status)

    # ---- helpers of services and builds

    def base_environment(self) -> dict[str, str]:
        """What services inherit from the daemon, in the name of the colony's user."""
        base = dict(self.means.base_environment)
        if self.user is not None:
            base |= {"HOME": home_of(self.user), "USER": self.user.name, "LOGNAME": self.user.name}
        return base

    def launch(
        self, *, label: str, argv: tuple[str, ...], environment: Mapping[str, str], cwd: str | None, key: str
    ) -> Launch:
        """A process of this colony: in its cell, its folder, its user's name, its log."""
        assert self.cell is not None
        limits = self.means.config.processes
        folder = self.means.log_folder(self.id)
        log = LogTarget(
            directory=folder,
            segment_bytes=limits.log_segment,
            total_bytes=limits.log_total,
            segment_seconds=limits.log_age,
        )
        return Launch(
            key=f"{self.id}.{key}",
            argv=argv,
            cwd=str(path_inside(Path(self.source), cwd or ".")),
            env=environment,
            label=label,
            log=log,
            netns=self.cell.path,
            netns_inode=self.cell.inode,
            user=self.user,
        )

    def enter(self, state: ColonyState, reason: str = "") -> None:
        """Takes over a state and tells everybody."""
        if (state, reason) == (self.state, self.reason):
            return
        assert may_follow(self.state, state), f"{self.name}: {self.state.value} -> {state.value}"
        before, self.state, self.reason, self.since = self.state, state, reason, clock.unix_now()
        self.means.bus.publish(
            ColonyStateChanged(
                colony=self.name, colony_id=self.id, before=before.value, state=state.value, reason=reason
            )
        )

    def _running_reason(self) -> None:
        failed = [s.name for s in self.services.values() if s.state is ServiceState.FAILED]
        moving = [s.name for s in self.services.values() if not is_settled(s.state)]
        if not moving and self._began is not None:
            self.start_seconds, self._began = trio.current_time() - self._began, None
        if failed:
            self.enter(ColonyState.RUNNING, f"{', '.join(failed)} failed")
        else:
            self.enter(ColonyState.RUNNING, f"starting {', '.join(moving)}" if moving else "")

    def _rest(self, service: Service) -> None:
        self._resting[service.name] = {"state": service.state.value, "reason": service.reason}
        self.ask(self._remember)

    async def _record_cell(self, cell: Cell) -> None:
        values = {"slot": cell.slot, "netns_inode": cell.inode, "boot_id": self.means.boot_id}
        await self.means.store.write(lambda connection: records.change(connection, self.id, **values))

    async def _remember(self) -> None:
        """Writes down what a later daemon could not see by looking."""
        values = {"state": self.state, "reason": self.reason, "since": self.since, "services": self._resting}
        await self.means.store.write(lambda connection: records.change(connection, self.id, **values))

    def is_starting(self) -> bool:
        """Whether the colony is on its way to running."""
        return is_starting(self.state)


def _why(error: ColonyError | ChildStartError) -> str:
    cause = error.__cause__ if isinstance(error, ChildStartError) else error
    return cause.message if isinstance(cause, ColonyError) else f"{type(cause).__name__}: {cause}"


def home_of(user: User) -> str:
    """The home folder of a user; `/` for one that the system does not know."""
    try:
        return pwd.getpwuid(user.uid).pw_dir
    except KeyError:
        return "/"
