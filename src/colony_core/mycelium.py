"""The whole house under one roof: opens every room in order, runs the tree, offers the verbs.

Crash-only: it may be killed at any instant. The next one finds every colony in the store, its cells in the kernel and its processes at the
keeper; it adopts what lives, starts what should, and clears what is left over.

The file is long because every verb of the house stands in it, in a line or two each.
"""

import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

import colony_core

from . import clock, isolation, processes, routing, store
from .access import Audit, Idempotency, Keys, Logins
from .backends import Backend, standard_backends
from .colonies import (
    Colonies,
    Colony,
    KeeperPost,
    LogItems,
    MayApply,
    Means,
    Running,
    Verb,
    Wanted,
    base_environment,
    command_environment,
    follow_log,
    follow_log_pages,
    log_page,
    resolve,
    run_command,
    usage_of,
)
from .config import Config, reloaded
from .errors import Invalid, TooSlow, WrongState
from .events import HouseEvent, Missed
from .houselock import hold_lock
from .journal import Journal, open_journal
from .sessions import Sessions, agent_environment
from .supervision import (
    Backoff,
    Child,
    ChildSpec,
    DynamicSupervisor,
    Event,
    Limit,
    Status,
    Supervisor,
    dynamic_supervisor_spec,
    log_event,
    open_supervisor,
    supervisor_spec,
)
from .tools import mcp_servers, serve_tools
from .tracing import Tracer
from .views import (
    ApplyView,
    ColonyView,
    ExecRequest,
    LogLineView,
    LogPageView,
    NewColony,
    NewInstruction,
    NewTerminal,
    ReloadView,
    ServiceView,
    SystemView,
    TerminalSize,
    TerminalView,
    UsageView,
)
from .workspaces import find_tools

logger = logging.getLogger("colony.mycelium")

API_VERSION = 1
PRUNE_SECONDS = 3600.0
HOUSE_LIMIT = Limit(10, 60.0)
RESOLV_CONF = Path("/etc/resolv.conf")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Mycelium:
    """The house: every verb that the faces offer. `ref` is a colony's name or id everywhere; errors are kinds of ColonyError."""

    def __init__(
        self,
        means: Means,
        *,
        journal: Journal,
        keys: Keys,
        idempotency: Idempotency,
        egress: str,
        backends: Mapping[str, Backend],
    ) -> None:
        self.load_config: Callable[[], Config] | None = None
        """How the settings are read again; None where a program gave its own."""
        self.take_over: Callable[[Config], None] = lambda config: None
        """Called with settings that were read again and are in force now."""
        self.bus = means.bus
        self.journal = journal
        self.mode = means.isolation.mode.value
        self.tracer = means.tracer
        self.keys = keys
        self.idempotency = idempotency
        self.audit = Audit(means.store, keep=means.config.access.audit_keep)
        self.logins = Logins()
        self.shutdown_requested = trio.Event()
        self.api_url: str | None = None
        self._means = means
        self._egress = egress
        self._started_at = clock.unix_now()
        self._stop_colonies = False
        self._colonies = Colonies(means)
        self.sessions = Sessions(
            means,
            self._colonies,
            backends=backends,
            environment=agent_environment(os.environ),
            fingerprint=lambda colony: means.workspaces.fingerprint(colony.id),
            mcp_servers=mcp_servers,
        )
        """The agents of all colonies."""
        self.workspaces = means.workspaces
        """Projects, and the working copies of colonies."""
        self._root: Supervisor

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._means.config

    # ---- colonies

    def colonies(self) -> tuple[ColonyView, ...]:
        """Every colony, by name; answered from memory."""
        return tuple(self._view(colony) for colony in self._colonies)

    def colony(self, ref: str) -> ColonyView:
        """One colony; raises NotFound (`colony-not-found`)."""
        return self._view(self._colonies.find(ref))

    async def spawn(self, request: NewColony, *, owner: str) -> ColonyView:
        """Records a colony and begins to build it; progress is told by events. Durable when it returns, its agent's task as well."""
        task = None if request.task is None else NewInstruction(instruction=request.task, agent=request.agent)
        if task is not None:
            self.sessions.check(task)
        colony = await self._colonies.spawn(request, owner=owner)
        if task is not None and not request.dry_run:
            await self.sessions.instruct(colony.id, task, follow_up=False, by=owner)
        return self._view(colony)

    async def start(self, ref: str) -> ColonyView:
        """Wants the colony to run, and returns at once. Of a running one, services that failed or were stopped are started."""
        colony = self._colonies.find(ref)
        await self._colonies.want(colony, Wanted.RUNNING, colony.ask_start)
        return self._view(colony)

    async def stop(self, ref: str, *, grace: float | None = None) -> ColonyView:
        """Wants the colony to be down, and returns at once; `grace` replaces that of every service."""
        colony = self._colonies.find(ref)
        await self._colonies.want(colony, Wanted.STOPPED, partial(colony.ask_stop, grace))
        return self._view(colony)

    async def restart(self, ref: str, *, grace: float | None = None) -> ColonyView:
        """Stops and starts the colony; returns at once."""
        colony = self._colonies.find(ref)
        await self._colonies.want(colony, Wanted.RUNNING, partial(colony.ask_restart, grace))
        return self._view(colony)

    async def apply(
        self,
        ref: str,
        *,
        dry_run: bool = False,
        versions: Collection[str] | None = None,
        may: MayApply | None = None,
    ) -> ApplyView:
        """Reads the colony's manifest again and restarts only what changed; with `versions` only if the difference is one of them.

        `may` is told what would change, and raises to forbid it.
        """
        return await self._colonies.apply(self._colonies.find(ref), dry_run=dry_run, versions=versions, may=may)

    async def remove(self, ref: str, *, keep_workspace: bool = False, discard: str | None = None) -> None:
        """Stops the colony and forgets it with its log and its workspace; returns when it is gone.

        Raises WrongState (`work-would-be-lost`) where the workspace holds work that exists nowhere else, unless `discard` is the colony's
        name. That work is kept under a ref all the same.
        """
        colony = self._colonies.find(ref)
        if colony.wanted is not Wanted.REMOVED:
            if not keep_workspace:
                await self.workspaces.check_loss(colony.id, confirm=discard)
            await self.workspaces.set_kept(colony.id, keep_workspace)
        await self._colonies.remove(colony)
        await self.sessions.forget(colony.id)

    def services(self, ref: str) -> tuple[ServiceView, ...]:
        """The services of a colony, in the manifest's order."""
        return self.colony(ref).services

    async def service(self, ref: str, service: str, verb: Verb, *, grace: float | None = None) -> ServiceView:
        """Starts, stops or restarts one service of a running colony; returns at once."""
        colony = self._colonies.find(ref)
        return (await self._colonies.want_service(colony, service, verb, grace)).view()

    def _view(self, colony: Colony) -> ColonyView:
        return attrs.evolve(colony.view(), agent=self.sessions.glance(colony))

    # ---- logs and commands

    async def log_page(self, ref: str, **choice: Any) -> LogPageView:
        """Lines of a colony's log; see colonies.log_page for the choice."""
        return await log_page(self._colonies.find(ref), **choice)

    def follow_log(
        self, ref: str, *, after: int | None = None, services: frozenset[str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLineView | Missed]]:
        """The lines of a colony's log as they are written."""
        return follow_log(self._colonies.find(ref), after=after, services=services)

    def follow_log_pages(
        self, ref: str, *, after: int | None = None, services: frozenset[str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogItems]]:
        """The same, as many lines at once as there are."""
        return follow_log_pages(self._colonies.find(ref), after=after, services=services)

    async def removed(self, ref: str) -> None:
        """Returns when the colony is removed."""
        await self._colonies.find(ref).gone.wait()

    def exec(self, ref: str, request: ExecRequest) -> AbstractAsyncContextManager[Running]:
        """Runs a command in the colony's cell, with pipes of the caller; it ends with the block."""
        return run_command(self._colonies.find(ref), request)

    def variables(self, ref: str) -> Mapping[str, str]:
        """What a command that is run in a colony finds in its environment."""
        return command_environment(self._colonies.find(ref))

    async def usage(self) -> tuple[UsageView, ...]:
        """What every colony uses at this moment, by name: read from the kernel, in a few milliseconds for hundreds of colonies."""
        return await usage_of(self._colonies)

    # ---- terminals

    async def terminals(self, ref: str) -> tuple[TerminalView, ...]:
        """The terminals of a colony, the oldest first."""
        return await self._colonies.find(ref).terminals.views()

    async def open_terminal(self, ref: str, request: NewTerminal, *, opened_by: str) -> TerminalView:
        """Opens a terminal that lives until its program ends, is closed, was idle for too long, or the colony stops."""
        return await self._colonies.find(ref).terminals.open(request, opened_by=opened_by)

    async def close_terminal(self, ref: str, terminal: str) -> None:
        """Hangs up on a terminal's program; returns when its whole tree is gone."""
        await self._colonies.find(ref).terminals.close(terminal)

    def view_terminal(
        self, ref: str, terminal: str, *, after: int | None = None, size: TerminalSize | None = None
    ) -> AbstractAsyncContextManager[processes.View]:
        """A terminal's bytes, behind the place `after` or from the oldest that is kept; with a size it has a say in the terminal's."""
        return self._colonies.find(ref).terminals.view(terminal, after=after, size=size)

    # ---- the house

    def system(self) -> SystemView:
        """Who this daemon is, where it listens, how it isolates."""
        keeper = self._means.keeper.current
        notes = ["services run as this user and can read its files: colonies are apart on the network, not on disk"]
        return SystemView(
            version=colony_core.__version__,
            api=API_VERSION,
            pid=os.getpid(),
            started_at=clock.rfc3339(self._started_at),
            mode=self.mode,
            egress=self._egress,
            garden="local",
            domain=self.config.routing.domain,
            preview_port=self._means.preview_port,
            socket=str(self.config.folders.socket),
            state_folder=str(self.config.folders.state),
            colonies=len(self._colonies),
            last_event=self.journal.last,
            keeper_pid=keeper.pid if keeper else None,
            notes=tuple(notes),
            api_url=self.api_url,
            preview_url=self._means.url(f"<service>.<colony>.{self.config.routing.domain}"),
        )

    def tree(self) -> dict[str, Any]:
        """The supervision tree, as plain values."""
        return self._root.report().as_dict()

    def tree_text(self) -> str:
        """The supervision tree, for people."""
        return str(self._root.report())

    async def supervise(self, spec: ChildSpec) -> Child:
        """Runs a long-lived task of a face in the tree of the house; returns its handle once it has started."""
        return await self._root.start_child(spec)

    async def reload(self) -> ReloadView:
        """Reads the settings again and takes over what can change at once; those that are wrong are refused whole, and nothing changes.

        Raises Invalid naming file and key, WrongState (`nothing-to-reload`) where the settings are a program's own.
        """
        if self.load_config is None:
            raise WrongState("nothing-to-reload", "the settings were given by a program", "change them there")
        try:
            found = reloaded(self.config, await trio.to_thread.run_sync(self.load_config))
        except Invalid as error:
            self.bus.publish(HouseEvent(what="reload_refused", message=f"the old settings stay: {error.message}"))
            raise
        self._means.config = found.config
        self.take_over(found.config)
        told = [f"changed {', '.join(found.changed)}"] if found.changed else []
        told += [f"at the next start {', '.join(found.waiting)}"] if found.waiting else []
        self.bus.publish(HouseEvent(what="reloaded", message="; ".join(told) or "nothing changed"))
        return ReloadView(changed=found.changed, waiting=found.waiting)

    async def shutdown(self, *, colonies: bool) -> None:
        """Asks the house to end; with `colonies` they are stopped first, without they go on and the next daemon finds them."""
        self._stop_colonies = self._stop_colonies or colonies
        self.shutdown_requested.set()

    async def hurry(self) -> None:
        """Kills what is being waited for: for an end that somebody does not want to wait for."""
        keeper = self._means.keeper.current
        if keeper is not None and self._stop_colonies:
            async with trio.open_nursery() as nursery:
                for process in keeper.processes():
                    if process.running:
                        nursery.start_soon(_kill, process)

    def notice(self, event: Event) -> None:
        """Hears what happens in the tree: colonies take what is theirs, everything else is logged."""
        if not self._colonies.notice(event):
            log_event(event)

    def knows(self, name: str) -> bool:
        """Whether a colony of exactly that name lives here."""
        return self._colonies.named(name) is not None

    def resolve(self, target: routing.Target) -> routing.Upstream | routing.Refusal:
        """Where a preview request goes."""
        return resolve(self._colonies, target)

    async def _leave(self) -> None:
        """Before the tree is stopped: either everything goes, or everything is left as it is."""
        self._means.closing = True
        if self._stop_colonies:
            await self._colonies.stop_all()
        keeper = self._means.keeper.current
        if keeper is not None and (
            self._stop_colonies or not keeper.processes()
        ):  # one that keeps nothing is of no use
            self._means.ending = True
            with suppress(processes.KeeperLost):  # it was gone before us
                await keeper.shutdown()
        self._means.leaving = True


@asynccontextmanager
async def open_mycelium(
    config: Config,
    *,
    keeper: Literal["process", "inline"] = "process",
    walls: Callable[[], AbstractAsyncContextManager[isolation.Isolation]] | None = None,
    previews: bool = True,
    backends: Mapping[str, Backend] | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Mycelium]:
    """Opens a house on `config`'s folders and brings back what it holds.

    With `keeper="process"` services outlive this program, and on leaving the block they go on, unless `shutdown(colonies=True)` was
    called; with `"inline"` the keeper is a thread of this program and everything ends with the block. `walls` replaces the kernel's
    isolation (tests ask for fakes by name; nothing else does). `backends` are the coding agents, by name; None: all that
    Colony knows. `tracer` keeps spans of requests and of starts.

    Raises AlreadyExists (`already-running`, `port-taken`), Missing (rights, nft), Broken. Outer cancellation becomes an orderly end.
    """
    async with AsyncExitStack() as stack:
        agents = standard_backends(acp_command=config.agent.acp_command) if backends is None else backends
        opened = _open_rooms(stack, config, walls or partial(_open_walls, config), previews=previews, backends=agents)
        house, listeners = await opened
        house.tracer = house._means.tracer = tracer or house.tracer
        async with _tree(house, house._means, keeper, listeners):
            try:
                message = f"version {colony_core.__version__}, pid {os.getpid()}"
                house.bus.publish(HouseEvent(what="started", message=message))
                yield house
            finally:
                with trio.CancelScope(shield=True):
                    house._stop_colonies = house._stop_colonies or keeper == "inline"
                    await house._leave()


async def _open_rooms(
    stack: AsyncExitStack,
    config: Config,
    walls: Callable[[], AbstractAsyncContextManager[isolation.Isolation]],
    *,
    previews: bool,
    backends: Mapping[str, Backend],
) -> tuple[Mycelium, list[trio.SocketListener]]:
    """Folders, lock, store, journal, doors, walls, keys, each in its turn: the house, and where previews come in."""
    # First: made as a parent, it would be open to all.
    config.folders.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    config.folders.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    stack.enter_context(hold_lock(config.folders.state))
    records = await stack.enter_async_context(store.open_store(config.folders.store))
    log = await stack.enter_async_context(open_journal(records, config.folders.event_ceiling, keep=config.events.keep))
    listeners = await _open_previews(stack, config) if previews else []
    kernel = await stack.enter_async_context(walls())
    means = Means(
        config=config,
        isolation=kernel,
        keeper=KeeperPost(),
        store=records,
        bus=log.bus,
        boot_id=BOOT_ID.read_text().strip(),
        base_environment=base_environment(os.environ),
        nameservers=partial(isolation.host_nameservers, RESOLV_CONF),
        tools=await trio.to_thread.run_sync(find_tools, os.environ.get("PATH")),
        preview_port=listeners[0].socket.getsockname()[1] if listeners else None,
    )
    keys = Keys(records)
    await keys.load()
    await keys.local_token(config.folders.run / "token")
    house = Mycelium(
        means,
        journal=log,
        keys=keys,
        idempotency=Idempotency(records),
        egress=str(kernel.egress),
        backends=backends,
    )
    means.serve_tools = partial(serve_tools, house)
    await house.sessions.load()
    return house, listeners


async def _open_previews(stack: AsyncExitStack, config: Config) -> list[trio.SocketListener]:
    """Where previews come in: the port first, and where a Caddy stands in front, the socket that it is told of."""
    listener = await routing.open_tcp_listener(
        config.routing.bind, config.routing.port, what="the previews", config_key="routing.port"
    )
    stack.push_async_callback(trio.aclose_forcefully, listener)
    if not config.caddy.enabled:
        return [listener]
    opened = routing.open_unix_listener(config.preview_socket, group=config.caddy.group)
    return [listener, await stack.enter_async_context(opened)]


@asynccontextmanager
async def _tree(
    house: Mycelium, means: Means, keeper: Literal["process", "inline"], listeners: Sequence[trio.SocketListener]
) -> AsyncIterator[None]:
    """The supervision tree. Nothing above a colony counts what happens in it; the house's own tasks share one limit."""
    specs = [
        ChildSpec(id="keeper", run=partial(_keep_keeper, means, keeper), grace=10.0, backoff=Backoff(first=0.05)),
        ChildSpec(id="journal", run=house.journal.run, grace=1.0, backoff=Backoff(first=1.0)),
        ChildSpec(id="janitor", run=partial(_prune, house), grace=1.0, backoff=Backoff(first=1.0)),
        dynamic_supervisor_spec("projects", None),
        dynamic_supervisor_spec("colonies", None),
    ]
    async with open_supervisor(specs, name="mycelium", limit=HOUSE_LIMIT, on_event=house.notice) as root:
        house._root = root
        colonies: DynamicSupervisor = next(child for child in root.children() if child.id == "colonies").value
        await house.workspaces.restore(next(child for child in root.children() if child.id == "projects").value)
        await house._colonies.restore(colonies)
        agents = await root.start_child(house.sessions.tree_spec())
        await house.sessions.restore(agents.value)
        if listeners:
            await root.start_child(supervisor_spec("previews", _preview_specs(house, listeners), limit=HOUSE_LIMIT))
        yield


async def _keep_keeper(means: Means, kind: str, *, status: Status) -> None:
    """Connects to the keeper, or starts one; when it dies, clears what it left and lets the next incarnation start another."""
    folders = means.config.folders
    if kind == "process":
        opened = processes.open_keeper(run_dir=folders.run, state_dir=folders.state)
    else:
        opened = processes.open_inline_keeper(state_dir=folders.state)
    async with opened as keeper:
        async with means.keeper.filled_by(keeper):
            status.started(keeper)
            await keeper.lost.wait()
        if means.ending:
            await status.stopping.wait()
            return
        means.bus.publish(
            HouseEvent(what="keeper_lost", message=f"the keeper (pid {keeper.pid}) died; services restart")
        )
        await processes.kill_leftovers(keeper=keeper.identity, networks=means.isolation.networks)
        raise processes.KeeperLost("keeper-lost", "the keeper died", "services restart by their policy")


def _preview_specs(house: Mycelium, listeners: Sequence[trio.SocketListener]) -> list[ChildSpec]:
    """The proxy, and who keeps its site in Caddy; that one stops first, so that nobody is sent to a proxy that is gone."""
    config = house.config
    serve = partial(_serve_previews, house, listeners)
    specs = [ChildSpec(id="proxy", run=serve, grace=5.0, backoff=Backoff(first=0.1))]
    if config.caddy.enabled:

        def tell(what: str, message: str) -> None:
            house.bus.publish(HouseEvent(what=what, message=message))

        port = house.system().preview_port
        site = routing.Site(
            domain=config.routing.domain,
            socket=str(config.preview_socket),
            listen=config.caddy.listen,
            tls=config.caddy.tls,
            certificate=config.caddy.certificate,
            key=config.caddy.key,
            email=config.caddy.email,
            acme_ca=config.caddy.acme_ca,
            acme_root=config.caddy.acme_root,
            ask=f"http://{_reached_at(config.routing.bind)}:{port}{routing.ASK_PATH}",
        )
        keep = partial(routing.keep_site, Path(config.caddy.admin), site, tell=tell)
        specs.append(ChildSpec(id="caddy", run=keep, grace=5.0, backoff=Backoff(first=1.0)))
    return specs


def _reached_at(bind: str) -> str:
    """How this machine reaches a port that listens on `bind`."""
    address = ipaddress.ip_address(bind)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"[{address}]" if address.version == 6 else str(address)


async def _serve_previews(house: Mycelium, listeners: Sequence[trio.SocketListener], *, status: Status) -> None:
    """Serves on copies of the listening sockets: the proxy closes what it is given, and its next incarnation wants the same ones."""
    copies = [
        trio.SocketListener(trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(each.socket.fileno()))))
        for each in listeners
    ]
    async with AsyncExitStack() as stack:
        for each in copies:
            await stack.enter_async_context(each)
        await routing.serve_proxy(
            copies,
            house.resolve,
            domain=house.config.routing.domain,
            known=house.knows,
            trusted_proxies=[""],  # who comes over the Unix socket is Caddy
            drain=status.stopping.wait,
            task_status=status,
        )


async def _kill(process: processes.Process) -> None:
    with suppress(processes.KeeperLost, TooSlow):  # told by whoever stops it
        await process.stop(grace=0.0)


async def _prune(house: Mycelium, *, status: Status) -> None:
    status.started()
    while True:
        await house.idempotency.prune()
        await house.keys.save_use()
        await house.journal.forget(clock.unix_now() - house.config.events.age)
        await trio.sleep(PRUNE_SECONDS)


def _open_walls(config: Config) -> AbstractAsyncContextManager[isolation.Isolation]:
    wanted = config.isolation.mode
    mode = isolation.choose_mode() if wanted == "auto" else isolation.Mode(wanted)
    return isolation.open_isolation(
        run_dir=config.folders.run,
        mode=mode,
        plan=isolation.AddressPlan(config.isolation.base),
        egress=config.isolation.egress,
    )
