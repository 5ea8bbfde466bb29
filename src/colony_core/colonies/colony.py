"""One colony: its cell, its services, and the actor that answers for them at once.

A colony is a supervisor subtree. Its children, in start order: `(owner)`, which does the slow work one piece at a time; `(cell)`,
`(names)`, `(egress)`, `(tools)` and `(terminals)` while it is up; and one supervisor per service. A service that reaches its limit
ends alone. Stopping the subtree stops the services, then the cell. What people ask is answered from memory and handed to the owner, so
that a colony answers at once whatever its owner does.

States change from two sides: by what is asked, and by the owner's jobs. Whoever asks for the opposite of what is under way takes over the
new state at once and has the job given up; a job that was given up changes no state any more (`_reach`). The file is long because this
play of asking and working is in it, and nowhere else.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager, suppress
from functools import partial
from math import inf

import trio

from colony_core import clock, naming
from colony_core.errors import Broken, ColonyError, NotFound, WrongState, did_you_mean, first_of
from colony_core.events import ColonyStateChanged
from colony_core.isolation import Cell, serve_names, serve_way_out
from colony_core.processes import Keeper, KeeperLost, LogBook, Process, kill_leftovers
from colony_core.supervision import (
    Child,
    ChildSpec,
    ChildStartError,
    Exit,
    Limit,
    NoSuchChild,
    Restart,
    Status,
    Supervisor,
    supervisor_spec,
)
from colony_core.tracing import Span, asking
from colony_core.views import ColonyView, StepView

from . import records, rests
from .build import build
from .changes import compare
from .folders import manifest_in
from .jobs import Job, Jobs
from .launching import user_name
from .links import Links
from .manifest import Manifest, start_order
from .means import Means
from .records import ColonyRecord
from .rests import Rest
from .service import Service
from .state import ColonyState, ServiceState, Verb, Wanted, is_at_rest, is_settled, is_starting, may_follow
from .terminals import KEY_PART as TERMINAL_KEYS
from .terminals import Terminals

OWNER, CELL, NAMES, EGRESS, TOOLS, TERMINALS = "(owner)", "(cell)", "(names)", "(egress)", "(tools)", "(terminals)"
"""Children of a colony that are no services; no service can have such a name."""
NAMES_PORT = 53
_TOLD_AS_THEY_ARE = frozenset({ServiceState.RESTARTING, ServiceState.STOPPING})

logger = logging.getLogger("colony.colonies")


class Colony:
    """One colony, as long as it is known; up or not."""

    def __init__(self, means: Means, record: ColonyRecord, links: Links) -> None:
        self.means = means
        self.links = links
        self.record = record
        self.id = record.id
        self.name = record.name
        self.source = record.source
        self.user_name = user_name(self.source)
        self.manifest: Manifest = record.manifest
        """As it was last read; the services follow it as soon as the owner comes to it."""
        self.state = ColonyState.FAILED if record.state is ColonyState.FAILED else ColonyState.STOPPED
        self.reason = record.reason
        self.since = record.since
        self.wanted = record.wanted
        self.cell: Cell | None = None
        self.services = {spec.name: Service(self, spec) for spec in self.manifest.services}
        self.terminals = Terminals(self)
        self.steps: tuple[StepView, ...] = ()
        self.start_seconds: float | None = None
        self.deciding = trio.Lock()
        """Held from writing down what is wanted until it is asked for, so that store and colony hear the same last word."""
        self.removal: Job | None = None
        self.removal_error: Exception | None = None
        self.gone = trio.Event()
        """Set when nobody knows it any more."""
        self.cookies_told: set[str] = set()
        """The services, or ports, of which it was told that they set cookies for all previews."""
        self.trace: Span | None = None
        """The span of its last start, within which its parts are."""
        self._in_force = record.manifest
        self._rests: dict[str, Rest] = dict(record.services)
        self._was_up = record.state is ColonyState.RUNNING
        self._began: float | None = None
        self._changed = trio.Event()
        self._entered = trio.Event()
        self._jobs = Jobs(self.name)
        self._following: set[str] = set()
        self._cell_was_found = False
        self._tree: Supervisor | None = None

    # ---- what everybody may ask, answered at once

    def view(self) -> ColonyView:
        """What the outside sees."""
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
            template=self.manifest.template or self.record.template,
            source=self.source,
            user=self.user_name,
            namespace=naming.namespace_name(self.name),
            address=self.cell.address if self.cell else None,
            url=self.url,
            start_seconds=self.start_seconds,
            steps=self.steps,
            services=tuple(service.view() for service in self.services.values()),
            links=self.links.views(self),
            workspace=self.means.workspaces.view(self.id),
            notes=tuple(notes),
            limits=dict(self.manifest.limits),
            environment=dict(self.manifest.requirements),
            terminal=self.manifest.terminal,
        )

    @property
    def url(self) -> str | None:
        """The preview of its first service with a port; None without one, or where no proxy runs."""
        if not any(service.port for service in self.manifest.services):
            return None
        return self.means.url(f"{self.name}.{self.means.config.routing.domain}")

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

    async def other_state(self, state: ColonyState) -> None:
        """Returns when the colony is in another state than this one."""
        while self.state is state:
            await self._entered.wait()

    async def last_line(self) -> int:
        """The number of the newest line of the log."""
        return await self.log.last()

    @property
    def log(self) -> LogBook:
        """The log of the colony; woken by the keeper while there is one."""
        keeper, folder = self.means.keeper.current, self.means.log_folder(self.id)
        return LogBook(folder) if keeper is None else keeper.log_book(folder)

    def span(self, what: str, *, within: Span | None, **facts: str) -> AbstractContextManager[Span]:
        """A span of this colony's, for the time of a block."""
        told = {
            "colony.name": self.name,
            "colony.id": self.id,
            **{f"colony.{key}": fact for key, fact in facts.items()},
        }
        return self.means.tracer.span(f"colony.{what}", told, within=within)

    # ---- what services tell their colony

    def service_changed(self, service: Service) -> None:
        """Wakes whoever waits, and sees whether the colony has settled."""
        self._stir()
        if service.state is ServiceState.FINISHED or service.state is ServiceState.FAILED:
            self._rest(service)
        self._running_reason()

    def restarted(self, service: Service) -> None:
        """A service runs again; those that depend on it with `restart = true` follow, once however often it happens meanwhile."""
        for other in self.services.values():
            follows = any(d.name == service.name and d.restart for d in other.spec.depends_on)
            if follows and other.state is not ServiceState.STOPPED and other.name not in self._following:
                self._following.add(other.name)
                self._jobs.ask(partial(self._follow, other))

    # ---- what people ask; each returns at once and the owner does the rest

    def ask_start(self) -> None:
        """Works towards running."""
        self.wanted = Wanted.RUNNING
        if self.state in (ColonyState.STOPPED, ColonyState.FAILED):
            self.enter(ColonyState.SPAWNING)
        self._jobs.ask(partial(self._start, asking.get()))

    def ask_stop(self, grace: float | None) -> None:
        """Works towards stopped, whatever is under way."""
        self.wanted = Wanted.STOPPED
        if self.state is not ColonyState.STOPPED:
            self.enter(ColonyState.STOPPING, "asked to stop")
            self._jobs.ask(partial(self._stop, grace), instead=True)

    def ask_restart(self, grace: float | None) -> None:
        """Stops, then starts."""
        self.wanted = Wanted.RUNNING
        self.enter(ColonyState.STOPPING, "asked to restart")
        self._jobs.ask(partial(self._stop, grace), instead=True)
        self._jobs.ask(partial(self._start, asking.get()))

    def check_running(self) -> None:
        """Raises WrongState unless the colony is running: its services take wishes of their own only then."""
        if self.state is not ColonyState.RUNNING:
            raise WrongState(
                "colony-not-running", f"colony “{self.name}” is {self.state.value}", f"colony start {self.name}"
            )

    def rests_after(self, service: Service, verb: Verb) -> dict[str, Rest]:
        """What is to be written down before `verb` is asked of a service."""
        return rests.after_verb(self._rests, service.name, verb)

    def rests_under(self, manifest: Manifest) -> dict[str, Rest]:
        """What is to be written down before `manifest` is taken over."""
        changed = compare(self.manifest, manifest).restarted
        return rests.after_edit(self._rests, (name for name in changed if name in self.services))

    def ask_service(self, service: Service, verb: Verb, grace: float | None) -> None:
        """Starts, stops or restarts one service of a running colony."""
        self._rests = self.rests_after(service, verb)
        self._jobs.ask(partial(self._serve, service, verb, grace))

    def ask_apply(self, manifest: Manifest) -> None:
        """Takes over an edited manifest and restarts only what changed; where nothing runs it is in force at once."""
        self._rests = self.rests_under(manifest)
        self.manifest = manifest
        if self.state in (ColonyState.STOPPED, ColonyState.FAILED):
            self._take_over(manifest)
        self._jobs.ask(self._apply)

    def ask_remove(self, forget: Callable[["Colony"], Awaitable[None]]) -> None:
        """Stops for good; `forget` is called when nothing is left but the record, then the subtree ends and `removal` is over.

        Where that fails the colony is failed with the reason, `removal_error` says it too, and anything may be asked for again.
        """
        self.wanted = Wanted.REMOVED
        self.enter(ColonyState.STOPPING, "being removed")
        self.removal = self._jobs.ask(partial(self._remove, forget), instead=True)

    def ask_sweep(self) -> None:
        """Clears what a killed daemon may have left of a colony that is to be down."""
        self._jobs.ask(self._sweep)

    async def halt(self) -> None:
        """Stops, without a word about what is wanted; returns when the colony is down. A removal under way is finished instead."""
        if self.wanted is Wanted.REMOVED and self.removal is not None:
            job = self.removal
        elif self.state is ColonyState.STOPPED:
            job = self._jobs.ask(trio.lowlevel.checkpoint)
        else:
            self.enter(ColonyState.STOPPING, "the house shuts down")
            job = self._jobs.ask(partial(self._stop, None, "the house was shut down", durable=False), instead=True)
        await job.over.wait()

    # ---- the subtree

    def tree_spec(self) -> ChildSpec:
        """The colony as a child of the house: alone in its fate, and with a limit that is its own."""
        owner = ChildSpec(id=OWNER, run=self._own, grace=1.0)
        return supervisor_spec(self.name, [owner], restart=Restart.TEMPORARY, limit=Limit(5, 60.0))

    def planted(self, tree: Supervisor) -> None:
        """The subtree runs; children are started and stopped in it from now on."""
        self._tree = tree

    async def _own(self, *, status: Status) -> None:
        status.started()
        await self._jobs.work()

    async def _start(self, asked: Span | None) -> None:
        if self.state is ColonyState.RUNNING:
            for service in list(self.services.values()):
                if service.spec.autostart and service.state in (ServiceState.STOPPED, ServiceState.FAILED):
                    await self._start_service(service)
        else:
            try:
                await self._reach(ColonyState.SPAWNING)
                with self.span("start", within=asked) as self.trace:
                    await self._come_up()
            except Exception as error:  # whatever it is: the colony is down then, and says why
                if not isinstance(error, (ColonyError, ChildStartError)):
                    logger.exception("%s could not be started", self.name)
                await self._take_down(None)
                await self._reach(ColonyState.FAILED, _why(error))
        await self._remember()

    async def _come_up(self) -> None:
        """Workspace, walls, build, services. Where it was up and its walls still stand, its services are found rather than started."""
        self.start_seconds, self.steps, self._began = None, (), trio.current_time()
        made = await self._open_workspace()
        self._take_over(self.manifest)
        self.user_name = user_name(self.source)
        self.cookies_told.clear()
        with self.span("cell", within=self.trace):
            cell: Cell = (await self._grown().start_child(ChildSpec(id=CELL, run=self._keep_cell, grace=30.0))).value
        adopting, self._was_up = self._was_up and self._cell_was_found, False
        if adopting:
            self._began = None
        else:
            self._rests = {name: rests.NOT_STARTED for name, s in self.services.items() if not s.spec.autostart}
        spare = {TERMINAL_KEYS, *self.services.keys() - self._rests.keys()} if adopting else ()
        await self._sweep_processes(spare=spare)
        await self._start_names()
        await self._open_way_out()
        await self._start_tools()
        await self._grown().start_child(ChildSpec(id=TERMINALS, run=self.terminals.keep, grace=inf))
        self.steps = made + tuple(StepView(name=s.name, detail=s.detail, seconds=s.seconds) for s in cell.steps)
        await build(self, adopting=adopting)
        await self._reach(ColonyState.RUNNING, "starting")
        for rank in start_order(self._in_force.services):
            for service in [self.services[name] for name in rank]:
                resting = self._rests.get(service.name, rests.TO_RESTART)
                if resting["state"] == ServiceState.RESTARTING.value:
                    await self._start_service(service)
                else:
                    service.enter(ServiceState(resting["state"]), resting["reason"])
        self._running_reason()

    async def _open_workspace(self) -> tuple[StepView, ...]:
        """The working copy, where the colony has one of its own: the step of making it, if it had to be made."""
        if self.means.workspaces.view(self.id) is None:
            return ()
        began, word = trio.current_time(), None
        while word is None:
            with suppress(KeeperLost):  # again, with the next keeper
                word = await self.means.workspaces.open(self.id, self._tell_progress, self._read_workspace)
        return (StepView(name="workspace", detail=word, seconds=trio.current_time() - began),) if word else ()

    def _tell_progress(self, what: str) -> None:
        if self.state is ColonyState.SPAWNING:
            self.enter(ColonyState.SPAWNING, what)

    async def _read_workspace(self) -> None:
        """Takes over the manifest of a workspace that was just made; the workspace counts as made when this is written down."""
        manifest = await manifest_in(
            self.source,
            templates=self.means.config.folders.templates,
            template=self.record.template,
            needed=False,
        )
        self.links.check(self.name, self.record.owner, manifest)
        await self.means.store.write(lambda connection: records.change(connection, self.id, manifest=manifest))
        self.manifest = manifest
        await self.links.try_renew()

    async def _start_names(self) -> None:
        """Unless a service is a nameserver itself: it may want port 53 of every address."""
        answers_itself = any(spec.port == NAMES_PORT for spec in self.manifest.services)
        if self.cell is not None and self.cell.nameservers(self.means.nameservers()) and not answers_itself:
            names = ChildSpec(id="resolver", run=self._serve_names, restart=Restart.PERMANENT, grace=1.0)
            await self._grown().start_child(supervisor_spec(NAMES, [names], restart=Restart.TEMPORARY))

    async def _open_way_out(self) -> None:
        """Where no cable leads out: before setup commands, which fetch things."""
        if self.means.isolation.egress.proxied:
            way = ChildSpec(id="forwarder", run=self._serve_way_out, restart=Restart.PERMANENT, grace=1.0)
            await self._grown().start_child(supervisor_spec(EGRESS, [way], restart=Restart.TEMPORARY))

    async def _start_tools(self) -> None:
        if self.means.serve_tools is not None:
            serve = partial(self.means.serve_tools, self)
            server = ChildSpec(id="server", run=serve, restart=Restart.PERMANENT, grace=1.0)
            await self._grown().start_child(supervisor_spec(TOOLS, [server], restart=Restart.TEMPORARY))

    async def _stop(self, grace: float | None, reason: str = "", *, durable: bool = True) -> None:
        """Its last step takes over the state, so that nobody sees the colony stopped while a start is queued behind this."""
        complaint = await self._take_down(grace)
        state = ColonyState.FAILED if complaint else ColonyState.STOPPED
        if durable:
            self._rests.clear()
            await self._remember(state, complaint or reason)
        await self._reach(state, complaint or reason)

    async def _sweep(self) -> None:
        await self._sweep_processes()
        await self.means.isolation.clear(self.name)

    async def _sweep_processes(self, *, spare: Collection[str] = ()) -> None:
        """Ends what the keeper still holds for this colony, but for the processes of the services `spare`."""
        prefix = f"{self.id}."
        done = False
        while not done:
            keeper = await self.means.keeper.get()
            ours = [p for p in keeper.processes() if p.key.startswith(prefix) and p.key.split(".")[1] not in spare]
            try:
                async with trio.open_nursery() as nursery:
                    for process in ours:
                        nursery.start_soon(self._see_off, keeper, process)
                done = True
            except* KeeperLost:
                pass  # the next keeper is asked; what this one left is killed before

    async def _see_off(self, keeper: Keeper, process: Process) -> None:
        if process.running:
            await process.stop(grace=self.means.config.processes.grace)
        await keeper.forget(process.key)

    async def _remove(self, forget: Callable[["Colony"], Awaitable[None]]) -> None:
        self.removal_error = None
        try:
            complaint = await self._take_down(None)
            if complaint:
                raise Broken("not-removed", complaint, "see what it waits for")
            await self._sweep()
            await forget(self)
        except Exception as error:  # whatever it is: who waits for the removal must hear of it
            what = f"could not be removed: {_why(error)}"
            self.wanted, self.removal_error = Wanted.STOPPED, error
            await self._reach(ColonyState.FAILED, what)
            return
        self._jobs.close()
        self._grown().stop()

    async def _take_down(self, grace: float | None) -> str:
        """Services in reverse order of their start, those of one rank together; then terminals, tools, names, walls. What went wrong
        is told."""
        for rank in reversed(start_order(self._in_force.services)):
            async with trio.open_nursery() as nursery:
                for name in rank:
                    nursery.start_soon(self._stop_service, self.services[name], grace)
        self.terminals.grace = grace
        await self._stop_child(TERMINALS)
        await self._stop_child(TOOLS)
        await self._stop_child(EGRESS)
        await self._stop_child(NAMES)
        end = await self._stop_child(CELL)
        self._following.clear()
        self._take_over(self.manifest)
        return "" if end is None or end.error is None else _why(end.error)

    # ---- services, one by one

    async def _serve(self, service: Service, verb: Verb, grace: float | None) -> None:
        """Does what was asked of one service, if the colony still runs and still has it."""
        if self.state is not ColonyState.RUNNING or self.services.get(service.name) is not service:
            return
        if verb != "start":
            await self._stop_service(service, grace)
        if verb == "stop":
            self._rests[service.name] = rests.rest(service.state, service.reason)
        else:
            await self._start_service(service)
        if verb == "restart":
            self.restarted(service)
        await self._remember()

    async def _follow(self, service: Service) -> None:
        self._following.discard(service.name)
        if service.state is not ServiceState.STOPPED:
            await self._serve(service, "restart", None)

    async def _start_service(self, service: Service) -> None:
        """Starts a service that is at rest; one that is at work is left alone."""
        if not is_at_rest(service.state):
            return
        await self._stop_child(service.name)  # one that ended by itself still stands in the tree
        self._rests.pop(service.name, None)
        service.enter(ServiceState.STARTING)
        await self._grown().start_child(service.child_spec())

    async def _stop_service(self, service: Service, grace: float | None) -> None:
        service.stop_with(grace)
        if grace is not None:
            await service.hurry(grace)
        if await self._stop_child(service.name) is not None or not is_settled(service.state):
            service.enter(ServiceState.STOPPED, "stopped on request")

    async def _apply(self) -> None:
        target = self.manifest
        changes = compare(self._in_force, target)
        at_work = {name for name in changes.restarted if self.services[name].state is not ServiceState.STOPPED}
        for rank in reversed(start_order(self._in_force.services)):
            for name in rank:
                if name in changes.removed or name in at_work:
                    await self._stop_service(self.services[name], None)
        self._take_over(target)
        if self.state is ColonyState.RUNNING:
            for rank in start_order(target.services):
                for service in [self.services[name] for name in rank]:
                    if service.name in at_work or (service.name in changes.added and service.spec.autostart):
                        await self._start_service(service)
            self._running_reason()
        self._rests = rests.without_restarts(self._rests)
        await self._remember()

    def _take_over(self, manifest: Manifest) -> None:
        """Brings the services in line with `manifest`: new ones at rest, removed ones, at rest by now, forgotten."""
        known, self._in_force = self.services, manifest
        self.services = {spec.name: known.get(spec.name) or Service(self, spec) for spec in manifest.services}
        for spec in manifest.services:
            self.services[spec.name].spec = spec
        for name in self._rests.keys() - self.services.keys():
            del self._rests[name]
        self._stir()

    def _stir(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _child(self, child_id: str) -> Child | None:
        return next((child for child in self._grown().children() if child.id == child_id), None)

    async def _stop_child(self, child_id: str) -> Exit | None:
        """How it ended; None where there is no such child."""
        try:
            end = await self._grown().stop_child(child_id)
        except NoSuchChild:
            return None
        if self._child(child_id) is not None:
            await self._grown().delete_child(child_id)
        return end

    def _grown(self) -> Supervisor:
        assert self._tree is not None, "a colony is asked for nothing before its subtree runs"
        return self._tree

    # ---- children

    async def _keep_cell(self, *, status: Status) -> None:
        """The walls, found again or built; they come down at the end, unless the house leaves them to the next daemon."""
        isolation = self.means.isolation
        cell = await isolation.adopt(self.name)
        self._cell_was_found = cell is not None
        if cell is None:
            await isolation.clear(self.name)
            cell = await isolation.build(self.name, slot=self.record.slot)
        elif (await self.means.keeper.get()).fresh:
            await kill_leftovers(networks=[cell.inode])  # of a keeper that died; some hide from the next one
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
        lookup = partial(self.links.lookup, self)
        await serve_names(self.cell, self.means.nameservers, lookup=lookup, task_status=status)

    async def _serve_way_out(self, *, status: Status) -> None:
        assert self.cell is not None
        await serve_way_out(self.cell, cells=(self.means.isolation.plan.network,), task_status=status)

    # ---- what the build tells

    async def provision(self) -> None:
        """For the build: the colony looks for what it requires."""
        await self._reach(ColonyState.PROVISIONING)

    async def run_setup(self, reason: str) -> None:
        """For the build: the colony runs a setup command."""
        await self._reach(ColonyState.BUILDING, reason)

    async def _reach(self, state: ColonyState, reason: str = "") -> None:
        """As `enter`, for jobs: one that was given up changes nothing any more."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.enter(state, reason)

    def enter(self, state: ColonyState, reason: str = "") -> None:
        """Takes over a state and tells everybody."""
        if (state, reason) == (self.state, self.reason):
            return
        assert may_follow(self.state, state), f"{self.name}: {self.state.value} -> {state.value}"
        before, self.state, self.reason, self.since = self.state, state, reason, clock.unix_now()
        entered, self._entered = self._entered, trio.Event()
        entered.set()
        self.means.bus.publish(
            ColonyStateChanged(
                colony=self.name,
                colony_id=self.id,
                owner=self.record.owner,
                before=before.value,
                state=state.value,
                reason=reason,
            )
        )

    def _running_reason(self) -> None:
        if self.state is not ColonyState.RUNNING:  # also where a job that was given up has not noticed yet
            return
        failed = [s.name for s in self.services.values() if s.state is ServiceState.FAILED]
        moving = [s for s in self.services.values() if not is_settled(s.state)]
        if not moving and self._began is not None:
            self.start_seconds, self._began = trio.current_time() - self._began, None
        if failed:
            self.enter(ColonyState.RUNNING, f"{', '.join(failed)} failed")
            return
        words: dict[str, list[str]] = {}
        for service in moving:
            word = service.state.value if service.state in _TOLD_AS_THEY_ARE else "starting"
            words.setdefault(word, []).append(service.name)
        self.enter(ColonyState.RUNNING, ", ".join(f"{word} {', '.join(names)}" for word, names in words.items()))

    def _rest(self, service: Service) -> None:
        how = rests.rest(service.state, service.reason)
        if self._rests.get(service.name) != how:
            self._rests[service.name] = how
            self._jobs.ask(self._remember)

    async def remember_end(self, service: Service, state: ServiceState, reason: str) -> None:
        """Writes down that a service ended for good, before the keeper forgets the process which showed it."""
        self._rests[service.name] = rests.rest(state, reason)
        await self._remember()

    async def _record_cell(self, cell: Cell) -> None:
        values = {"slot": cell.slot, "netns_inode": cell.inode, "boot_id": self.means.boot_id}
        await self.means.store.write(lambda connection: records.change(connection, self.id, **values))

    async def _remember(self, state: ColonyState | None = None, reason: str | None = None) -> None:
        """Writes down what a later daemon could not see by looking; where that fails the colony goes on, and the daemon's log tells."""
        told = self.reason if reason is None else reason
        services = {name: dict(how) for name, how in self._rests.items()}
        values = {"state": state or self.state, "reason": told, "since": self.since, "services": services}
        try:
            await self.means.store.write(lambda connection: records.change(connection, self.id, **values))
        except ColonyError as error:
            logger.error("%s: its state was not written down: %s", self.name, error)

    def is_starting(self) -> bool:
        """Whether the colony is on its way to running."""
        return is_starting(self.state)


def _why(error: BaseException) -> str:
    cause: BaseException = error.__cause__ or error if isinstance(error, ChildStartError) else error
    if isinstance(cause, BaseExceptionGroup):
        cause = first_of(cause)
    return cause.message if isinstance(cause, ColonyError) else f"{type(cause).__name__}: {cause}"
