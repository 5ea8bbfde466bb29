"""One service of a colony: what it is, how it is, and the task that keeps its process.

The keeper holds the process; this task only waits for it. When the daemon was killed, the next one finds the process by its key and goes on
waiting; an end that happened in between is told by the keeper and decides the restart as any other.

The file is long because requests and the task both change the state of a service, and should be read together.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from colony_core import clock, naming, supervision
from colony_core.errors import Broken, ColonyError, Invalid, Missing, NotAllowed, NotFound, TooSlow, first_of
from colony_core.events import ServiceStateChanged
from colony_core.processes import Exited, Keeper, KeeperLost, Launch, Process
from colony_core.supervision import (
    Backoff,
    ChildSpec,
    Limit,
    PlannedStop,
    Restart,
    RestartLimit,
    Status,
    supervisor_spec,
)
from colony_core.views import ServiceView

from .environment import read_env_files, service_environment
from .launching import inherited_environment, launch, way_out
from .manifest import Ready
from .manifest import Service as ServiceSpec
from .readiness import wait_ready
from .state import ServiceState, is_at_rest

if TYPE_CHECKING:
    from .colony import Colony

_OWN_FAULTS = (Invalid, NotFound, NotAllowed, Missing)
"""What is wrong with the service itself, so that another try would end in the same way."""


class ServiceExited(Exception):
    """The process of a service ended in a way that its policy calls a failure."""


@attrs.frozen
class _Outcome:
    exited: Exited | None = None
    error: ColonyError | None = None


@attrs.frozen
class _Verdict:
    """Where a service goes when its process has ended by itself, or could not be started."""

    state: ServiceState
    reason: str
    error: ColonyError | None = None


class Service:
    """One service; lives as long as its colony knows it, through any number of processes."""

    def __init__(self, colony: "Colony", spec: ServiceSpec) -> None:
        self.colony = colony
        self.spec = spec
        self.state = ServiceState.STOPPED
        self.reason = "not started"
        self.since = clock.unix_now()
        self.process: Process | None = None
        self.restarts = 0
        self.last_exit: str | None = None
        self.ready = trio.Event()
        self._runs = 0
        self._not_ready = 0
        self._grace: float | None = None

    @property
    def name(self) -> str:
        """The name in the manifest."""
        return self.spec.name

    def child_spec(self) -> ChildSpec:
        """The service as a child of its colony: a supervisor of its own, so that its limit ends nobody else."""
        policy = self.spec.restart
        self._runs = self.restarts = self._not_ready = 0
        self._grace = None
        process = ChildSpec(
            id="owner",
            run=self._run,
            restart=Restart.TRANSIENT,
            grace=inf,  # the keeper bounds a stop, also where a longer one was asked for than the manifest says
            backoff=Backoff(first=policy.backoff, most=policy.backoff_most, reset=policy.window),
        )
        limit = Limit(policy.count, policy.window)
        return supervisor_spec(self.name, [process], limit=limit, restart=Restart.TEMPORARY)

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL: as asked for this stop, as the manifest says, or the house's."""
        own = self.spec.grace if self.spec.grace is not None else self.colony.means.config.processes.grace
        return own if self._grace is None else self._grace

    def stop_with(self, grace: float | None) -> None:
        """The next stop gives `grace` seconds instead of the service's own."""
        self._grace = grace

    @property
    def url(self) -> str | None:
        """Its preview; None without a port, or where no proxy runs."""
        means = self.colony.means
        host = naming.service_host(self.name, self.colony.name, means.config.routing.domain)
        return means.url(host) if self.spec.port else None

    async def hurry(self, grace: float) -> None:
        """Shortens a stop that is under way; returns when it is over."""
        if self.state is ServiceState.STOPPING and self.process is not None:
            with suppress(KeeperLost, TooSlow):  # told by the stop itself
                await self.process.stop(grace=grace)

    def view(self) -> ServiceView:
        """What the outside sees."""
        spec = self.spec
        return ServiceView(
            name=spec.name,
            colony=self.colony.name,
            colony_id=self.colony.id,
            state=self.state.value,
            reason=self.reason,
            since=clock.rfc3339(self.since),
            command=spec.command_text,
            port=spec.port,
            url=self.url,
            pid=self.process.pid if self.process and self.process.running else None,
            restarts=self.restarts,
            last_exit=self.last_exit,
            depends_on=tuple(d.name for d in spec.depends_on),
            restart=spec.restart.policy,
        )

    def enter(self, state: ServiceState, reason: str = "") -> None:
        """Takes over a state, tells everybody, and lets those go on that wait for it to be ready."""
        if (state, reason) == (self.state, self.reason):
            return
        before, self.state, self.reason, self.since = self.state, state, reason, clock.unix_now()
        if state is ServiceState.READY:
            self.ready.set()
        elif self.ready.is_set():
            self.ready = trio.Event()
        self.colony.means.bus.publish(
            ServiceStateChanged(
                colony=self.colony.name,
                colony_id=self.colony.id,
                owner=self.colony.record.owner,
                service=self.name,
                before=before.value,
                state=state.value,
                reason=reason,
                pid=self.process.pid if self.process else None,
                restarts=self.restarts,
            )
        )
        self.colony.service_changed(self)

    def give_up(self, event: supervision.LimitReached) -> None:
        """The limit was passed: the service fails, alone, until somebody starts it again."""
        limit = event.limit
        self.enter(
            ServiceState.FAILED,
            f"restarted {limit.count} times in {limit.period:g} s; last: {self.last_exit or self.reason}",
        )

    def is_own_doing(self, event: supervision.Event) -> bool:
        """Whether an event tells no more than that the service's process ended, which its state shows already."""
        error = getattr(getattr(event, "exit", None), "error", None)
        return isinstance(error, (ServiceExited, RestartLimit))

    async def _run(self, *, status: Status) -> None:
        """One process, from its launch or adoption to its end; what its end means is decided by raising or returning."""
        if self._runs:
            self.restarts += 1
            self.colony.restarted(self)
        self._runs += 1
        stopping = status.stopping
        status.started()
        verdict = None
        try:
            async with _cancelled_by(stopping):
                verdict = self._judge(await self._keep_one())
        finally:
            await self._end(status, None if stopping.is_set() else verdict)
        if not stopping.is_set():
            assert verdict is not None, "it ended by itself"
            self._obey(verdict)
        elif not self.colony.means.leaving:
            self.enter(ServiceState.STOPPED, "stopped on request")

    async def _keep_one(self) -> _Outcome:
        """Until the process ends or something makes its start fail; never raises for what a service can do wrong."""
        outcome = _Outcome()
        try:
            outcome = _Outcome(exited=await self._hold())
        except* (ColonyError, OSError) as errors:
            outcome = _Outcome(error=_first(errors))
        return outcome

    async def _hold(self) -> Exited:
        await self._dependencies()
        keeper = await self.colony.means.keeper.get()
        process = self._living(keeper)
        adopted = process is not None
        if process is None:
            self.enter(ServiceState.STARTING)
            seen: int | None = await self.colony.last_line()
            process = await keeper.start(await self._launch())
        else:
            seen = await self._last_line_before(process)
        self.process = process
        if not process.running:
            return await process.wait()  # it ended while no daemon ran
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self._announce_ready, adopted=adopted, after=seen))
            exited = await process.wait()
            nursery.cancel_scope.cancel()
        return exited

    async def _last_line_before(self, process: Process) -> int | None:
        """The number of the last line before the first of an adopted process; None where the log no longer goes back so far."""
        log = self.colony.log
        number = await log.number_at(int(process.started_at * 1000) / 1000)
        return None if number == (await log.read(limit=0)).first > 1 else number - 1

    async def _announce_ready(self, *, adopted: bool, after: int | None) -> None:
        """An adopted service may have said its line to an earlier daemon: the log is read again, and where it is cut off, believed."""
        assert self.colony.cell is not None
        rule = self.spec.ready
        self.enter(ServiceState.STARTING, f"waiting for {_rule(rule, self.spec)}" if rule else "")
        if after is not None or rule is None or rule.kind != "log":
            with self.colony.span("service", within=None if self.restarts else self.colony.trace, service=self.name):
                await wait_ready(self.spec, self.colony.cell, self.colony.log, after=after or 0)
        self._not_ready = 0
        self.enter(ServiceState.READY)
        if adopted and self.process is not None:
            self.since = self.process.started_at

    async def _dependencies(self) -> None:
        while (sibling := self._awaited()) is not None:
            how = f", which is {sibling.state.value}" if is_at_rest(sibling.state) else ""
            self.enter(ServiceState.WAITING, f"waits for {sibling.name}{how}")
            await self.colony.any_service_change()

    def _awaited(self) -> "Service | None":
        """The first that it depends on, by the manifest of this moment, and that is neither ready nor finished."""
        for dependency in self.spec.depends_on:
            sibling = self.colony.services.get(dependency.name)
            if sibling is not None and not sibling.ready.is_set() and sibling.state is not ServiceState.FINISHED:
                return sibling
        return None

    def _living(self, keeper: Keeper) -> Process | None:
        prefix = f"{self.colony.id}.{self.name}."
        found = [p for p in keeper.processes() if p.key.startswith(prefix)]
        running = [p for p in found if p.running]
        return (running or found)[-1] if found else None

    async def _launch(self) -> Launch:
        folder = Path(self.colony.source)
        extra = await trio.to_thread.run_sync(read_env_files, folder, self.spec.env_file)
        environment = service_environment(
            base=inherited_environment(self.colony),
            manifest=self.colony.manifest,
            service=self.spec,
            colony=self.colony.name,
            url=self.url,
            env_file=extra,
            way_out=way_out(self.colony),
        )
        return launch(
            self.colony,
            label=self.name,
            argv=self.spec.command,
            environment=environment,
            cwd=self.spec.cwd,
            key=f"{self.name}.{secrets.token_hex(4)}",
        )

    async def _end(self, status: Status, verdict: _Verdict | None) -> None:
        """Sees the process off: gone with its whole tree, unless the house leaves it to the next daemon.

        The keeper's record of an end that is for good is dropped only when the store has it.
        """
        process = self.process
        if process is None or self.colony.means.leaving:
            return
        with status.cleanup():
            try:
                if process.running:
                    self.enter(ServiceState.STOPPING, f"SIGTERM sent, {self.grace:g} s of grace")
                    await process.stop(grace=self.grace)
                if verdict is not None and is_at_rest(verdict.state):
                    await self.colony.remember_end(self, verdict.state, verdict.reason)
                keeper = self.colony.means.keeper.current
                if keeper is not None:
                    await keeper.forget(process.key)
            except KeeperLost:
                pass  # its leftovers are killed before a new keeper takes over
            finally:
                self.process = None

    def _judge(self, outcome: _Outcome) -> _Verdict:
        """What the end of a process means by the policy of its service."""
        exited, policy = outcome.exited, self.spec.restart.policy
        if exited is None:
            assert outcome.error is not None
            return self._judge_error(outcome.error)
        self.last_exit = exited.reason
        if policy == "never" or (policy == "on-failure" and exited.code == 0):
            return _Verdict(ServiceState.FINISHED if exited.code == 0 else ServiceState.FAILED, exited.reason)
        return _Verdict(ServiceState.RESTARTING, exited.reason)

    def _judge_error(self, error: ColonyError) -> _Verdict:
        """Starts in a row that are not ready in time count without the window, which would never see so slow a loop."""
        policy = self.spec.restart
        if isinstance(error, TooSlow):
            self._not_ready += 1
        lost = self._not_ready > policy.count or isinstance(error, _OWN_FAULTS) or policy.policy == "never"
        return _Verdict(ServiceState.FAILED if lost else ServiceState.RESTARTING, error.message, error)

    def _obey(self, verdict: _Verdict) -> None:
        self.enter(verdict.state, verdict.reason)
        if is_at_rest(verdict.state):
            raise PlannedStop
        raise ServiceExited(f"{self.name}: {verdict.reason}") from verdict.error


def _rule(rule: Ready, spec: ServiceSpec) -> str:
    return {"port": f"port {spec.port}", "http": f"GET {rule.target}", "log": "its log line"}[rule.kind]


def _first(group: BaseExceptionGroup[ColonyError | OSError]) -> ColonyError:
    found = first_of(group)
    if isinstance(found, ColonyError):
        return found
    error = Broken("service-failed", str(found))
    error.__cause__ = found
    return error


@asynccontextmanager
async def _cancelled_by(event: trio.Event) -> AsyncIterator[None]:
    """Runs the block until it ends or `event` is set, whichever is first; then goes on behind it."""
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def watch() -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        yield
        nursery.cancel_scope.cancel()
