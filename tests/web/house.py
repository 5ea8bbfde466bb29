"""A house of cardboard with the verbs of a Mycelium: everything in memory, every call noted."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

from colony_core.access import AuditRecord, Identity, Logins, Role, Stored, house_owner
from colony_core.access.keys import parse_role
from colony_core.bus import Bus
from colony_core.config import Config, Folders, Routing, Server
from colony_core.errors import AlreadyExists, Broken, Invalid, NotFound, WrongState, did_you_mean
from colony_core.events import ColonyCreated, Missed
from colony_core.journal import Entry, Selection
from colony_core.journal.entries import entry_of
from colony_core.naming import check_colony_name
from colony_core.processes import Output
from colony_core.tracing import NoTracer, Tracer
from colony_core.views import (
    ApplyView,
    ColonyView,
    ExecRequest,
    LogLineView,
    LogPageView,
    NewColony,
    NewTerminal,
    ReloadView,
    ServiceView,
    SystemView,
    TerminalView,
    TokenView,
    UsageView,
)

MOMENT = "2026-01-31T08:15:00.000Z"


def config_in(folder: Path, *, port: int = 0) -> Config:
    """Settings whose folders are a test's own; the API takes any free port."""
    return Config(
        folders=Folders(state=folder / "state", run=folder / "run", templates=folder / "templates"),
        server=Server(port=port),
        routing=Routing(port=0),
    )


def with_connections(config: Config, most: int) -> Config:
    """The same settings for a face that takes fewer connections."""
    return attrs.evolve(config, server=attrs.evolve(config.server, connections=most))


def service_view(name: str = "web", *, colony: str = "hello", state: str = "ready") -> ServiceView:
    """A service as the outside sees it."""
    return ServiceView(
        name=name,
        colony=colony,
        colony_id="col_0000000000000001",
        state=state,
        reason="",
        since=MOMENT,
        command="python3 serve.py",
        port=4001,
        url=None,
        pid=17,
        restarts=0,
        last_exit=None,
        depends_on=(),
        restart="on-failure",
    )


def colony_view(name: str = "hello", *, state: str = "running", owner: str = "ape", number: int = 1) -> ColonyView:
    """A colony as the outside sees it."""
    return ColonyView(
        id=f"col_{number:016x}",
        name=name,
        garden="local",
        owner=owner,
        state=state,
        reason="",
        since=MOMENT,
        created_at=MOMENT,
        description="",
        template=None,
        source="/src",
        user="me",
        namespace=f"ns-{name}",
        address="10.200.0.1",
        url=None,
        start_seconds=0.1,
        steps=(),
        services=(service_view("web", colony=name), service_view("api", colony=name)),
        notes=(),
        limits={},
        environment={},
        terminal=None,
    )


class CardboardKeys:
    """Keys in memory; the tokens are `<role>-<number>`. They are the daemon's own user's, unless they are somebody else's by name."""

    def __init__(self) -> None:
        self.made: dict[str, TokenView] = {}

    async def mint(
        self, name: str, role: str, *, owner: str, seconds: float | None = None, colony: str | None = None
    ) -> TokenView:
        parse_role(role)
        return self._make(TokenView(
            id=f"key{len(self.made) + 1}", name=name, role=role, created_at=MOMENT, person=owner, colony=colony,
            token=f"{role}-{len(self.made) + 1}",
        ))  # fmt: skip

    async def open_session(self, identity: Identity, *, seconds: float) -> TokenView:
        number = len(self.made) + 1
        return self._make(TokenView(
            id=f"key{number}", name="browser", role=identity.role.value, created_at=MOMENT, person=identity.person,
            browser=True, token=f"session-{number}",
        ))  # fmt: skip

    def _make(self, view: TokenView) -> TokenView:
        self.made[view.id] = view
        return view

    def list(self) -> tuple[TokenView, ...]:
        return tuple(attrs.evolve(view, token=None) for view in self.made.values())

    async def revoke(self, key_id: str) -> None:
        if self.made.pop(key_id, None) is None:
            raise NotFound("token-not-found", f"no key has the id {key_id!r}", "colony token ls shows the ids")

    async def revoke_person(self, person: str) -> None:
        for view in [view for view in self.made.values() if view.person == person]:
            await self.revoke(view.id)

    def visit(self, identity: Identity) -> AbstractContextManager[trio.CancelScope]:
        return trio.CancelScope()

    def authenticate(self, token: str, *, browser: bool = False) -> Identity | None:
        for view in self.made.values():
            if view.token == token and view.browser is browser:
                return Identity(
                    id=view.id, name=view.name, role=Role(view.role), person=view.person, colony=view.colony,
                    house=view.person in ("me", house_owner()), browser=browser,
                )  # fmt: skip
        return None


class CardboardAudit:
    """What was written down, in memory."""

    def __init__(self) -> None:
        self.entries: list[AuditRecord] = []

    async def record(self, entry: AuditRecord) -> None:
        self.entries.append(attrs.evolve(entry, seq=len(self.entries) + 1))

    async def page(
        self, *, after: int | None, limit: int, person: str | None = None, target: str | None = None
    ) -> tuple[AuditRecord, ...]:
        wanted = [each for each in self.entries if person in (None, each.person) and target in (None, each.target)]
        chosen = [each for each in wanted if each.seq > (after or 0)]
        return tuple(chosen[-limit:] if after is None else chosen[:limit])

    async def next_page(
        self, *, after: int, limit: int, person: str | None = None, target: str | None = None
    ) -> tuple[AuditRecord, ...]:
        while not (found := await self.page(after=after, limit=limit, person=person, target=target)):
            await trio.sleep(0.1)
        return found


class CardboardJournal:
    """Tells what the bus of its house holds, at once."""

    def __init__(self, house: "CardboardHouse") -> None:
        self._house = house

    @property
    def last(self) -> int:
        return self._house.bus.last_seq

    def cursor(self, after: int | None) -> int:
        if after is not None and after > self.last:
            raise WrongState("cursor-ahead", f"event {after} was never told", "begin again behind 0")
        return self.last if after is None else after

    async def page(self, after: int, *, limit: int, selection: Selection) -> tuple[tuple[Entry, ...], int]:
        missed, events = self._house.bus.after(after)
        items = [entry_of(item, at=0.0) for item in (*((missed,) if missed else ()), *events)]
        wanted = [entry for entry in items if selection.wants(entry)]
        return tuple(wanted[:limit]), wanted[limit - 1].seq if len(wanted) > limit else self.last

    async def newest(self, limit: int, *, selection: Selection) -> tuple[Entry, ...]:
        entries, _ = await self.page(self.last - len(self._house.bus.after(0)[1]), limit=10**9, selection=selection)
        return entries[-limit:]

    async def listen(self, after: int, *, selection: Selection) -> AsyncIterator[tuple[Entry, ...]]:
        while True:
            entries, after = await self.page(after, limit=1000, selection=selection)
            if entries:
                yield entries
            else:
                await self.beyond(after)

    async def beyond(self, after: int) -> None:
        await self._house.bus.beyond(after)


class CardboardAnswers:
    """First answers in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[str, Stored | None]] = {}

    async def begin(self, key: str, caller: str, fingerprint: str) -> Stored | None:
        if (caller, key) not in self.kept:
            self.kept[caller, key] = (fingerprint, None)
            return None
        first, stored = self.kept[caller, key]
        if first != fingerprint:
            raise Invalid("idempotency-key-reused", "used for another request", "send a fresh key")
        if stored is None:
            raise WrongState("idempotency-in-progress", "still under way", "ask again in a moment")
        return stored

    async def finish(self, key: str, caller: str, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        first, _ = self.kept[caller, key]
        self.kept[caller, key] = (first, Stored(status=status, body=body, headers=dict(headers)))


@attrs.frozen
class CardboardRun:
    """A command without a process: the test holds the other ends of its pipes."""

    stdin: trio.abc.SendStream
    stdout: Output
    stderr: Output
    input: trio.abc.ReceiveStream
    output: trio.abc.SendStream
    errors: trio.abc.SendStream
    ended: trio.Event = attrs.field(factory=trio.Event)
    killed: trio.Event = attrs.field(factory=trio.Event)
    code: list[int] = attrs.field(factory=list)

    async def wait(self) -> int:
        await self.ended.wait()
        self.stdout.end_soon()
        self.stderr.end_soon()
        return self.code[0]

    async def end(self, code: int) -> None:
        """The command ends: its outputs close."""
        self.code.append(code)
        await self.output.aclose()
        await self.errors.aclose()
        self.ended.set()


def new_run() -> CardboardRun:
    """A command with small pipes, so that they are full soon."""
    ours_in, theirs_in = trio.testing.lockstep_stream_one_way_pair()
    theirs_out, ours_out = trio.testing.memory_stream_one_way_pair()
    theirs_err, ours_err = trio.testing.memory_stream_one_way_pair()
    return CardboardRun(ours_in, Output(ours_out), Output(ours_err), theirs_in, theirs_out, theirs_err)


class CardboardHouse:
    """Stands where a Mycelium would."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.bus = Bus()
        self.journal = CardboardJournal(self)
        self.mode = "fake"
        self.tracer: Tracer = NoTracer()
        self.keys = CardboardKeys()
        self.idempotency = CardboardAnswers()
        self.logins = Logins()
        self.audit = CardboardAudit()
        self.shutdown_requested = trio.Event()
        self.calls: list[tuple[Any, ...]] = []
        self.lines: list[LogLineView] = []
        self.first_line = 1
        self.new_line = trio.Event()
        self.run = new_run()
        self.exec_requests: list[ExecRequest] = []
        self.trouble: BaseException | None = None
        self.pause: trio.Event | None = None
        self.used: tuple[UsageView, ...] = ()
        self.opened: list[TerminalView] = []
        self._colonies = {"hello": colony_view()}
        self.removal = trio.Event()

    def colonies(self) -> tuple[ColonyView, ...]:
        return tuple(self._colonies[name] for name in sorted(self._colonies))

    def colony(self, ref: str) -> ColonyView:
        if self.trouble:
            raise self.trouble
        for view in self._colonies.values():
            if ref in (view.name, view.id):
                return view
        nearest = did_you_mean(ref, list(self._colonies))
        raise NotFound("colony-not-found", f"there is no colony {ref!r}", f"did you mean {nearest}?" if nearest else "")

    async def spawn(self, request: NewColony, *, owner: str) -> ColonyView:
        self.calls.append(("spawn", request, owner))
        if self.pause is not None:
            await self.pause.wait()
        check_colony_name(request.name)
        if request.name in self._colonies:
            raise AlreadyExists("colony-exists", f"there is a colony {request.name!r}", "take another name")
        view = colony_view(request.name, state="spawning", owner=owner, number=len(self._colonies) + 1)
        self._colonies[request.name] = view
        self.bus.publish(ColonyCreated(colony=view.name, colony_id=view.id))
        return view

    async def start(self, ref: str) -> ColonyView:
        self.calls.append(("start", self.colony(ref).name))
        return self.colony(ref)

    async def stop(self, ref: str, *, grace: float | None = None) -> ColonyView:
        self.calls.append(("stop", self.colony(ref).name, grace))
        return self.colony(ref)

    async def restart(self, ref: str, *, grace: float | None = None) -> ColonyView:
        self.calls.append(("restart", self.colony(ref).name, grace))
        return self.colony(ref)

    async def apply(self, ref: str, *, dry_run: bool = False, versions: Collection[str] | None = None) -> ApplyView:
        self.calls.append(("apply", self.colony(ref).name, dry_run))
        return ApplyView(colony=self.colony(ref), changes=("a port",), restarted=(), dry_run=dry_run)

    async def remove(self, ref: str, *, keep_workspace: bool = False, discard: str | None = None) -> None:
        self.calls.append(("remove", self.colony(ref).name, keep_workspace, discard))
        if self.pause is not None:
            await self.pause.wait()
        del self._colonies[self.colony(ref).name]
        self.removal.set()

    async def removed(self, ref: str) -> None:
        await self.removal.wait()

    async def terminals(self, ref: str) -> tuple[TerminalView, ...]:
        return tuple(self.opened)

    async def open_terminal(self, ref: str, request: NewTerminal, *, opened_by: str) -> TerminalView:
        self.calls.append(("open_terminal", request, opened_by))
        view = TerminalView(
            id=f"t{len(self.opened)}",
            colony=self.colony(ref).name,
            colony_id=self.colony(ref).id,
            command=" ".join(request.command),
            opened_by=opened_by,
            opened_at=MOMENT,
            pid=17,
            rows=request.screen.rows,
            columns=request.screen.columns,
            viewers=0,
            idle_seconds=0.0,
        )
        self.opened.append(view)
        return view

    async def close_terminal(self, ref: str, terminal: str) -> None:
        self.calls.append(("close_terminal", self.colony(ref).name, terminal))

    def services(self, ref: str) -> tuple[ServiceView, ...]:
        return self.colony(ref).services

    async def service(self, ref: str, service: str, verb: str, *, grace: float | None = None) -> ServiceView:
        self.calls.append(("service", self.colony(ref).name, service, verb, grace))
        return service_view(service)

    def write(self, text: str, *, service: str = "web") -> None:
        """A new line in the log."""
        seq = self.lines[-1].seq + 1 if self.lines else self.first_line
        self.lines.append(LogLineView(seq=seq, at=MOMENT, service=service, stream="out", text=text))
        self.new_line.set()
        self.new_line = trio.Event()

    async def log_page(self, ref: str, **choice: Any) -> LogPageView:
        self.colony(ref)
        self.calls.append(("log_page", choice))
        chosen = self._after(choice.get("after", 0), choice.get("services"))
        if choice.get("tail"):
            chosen = chosen[-choice["tail"] :]
        last = self.lines[-1].seq if self.lines else 0
        return LogPageView(lines=tuple(chosen[: choice.get("limit", 1000)]), first=self.first_line, last=last, missed=0)

    @asynccontextmanager
    async def follow_log_pages(
        self, ref: str, *, after: int | None = None, services: frozenset[str] | None = None
    ) -> AsyncIterator[AsyncIterator[tuple[LogLineView | Missed, ...]]]:
        self.colony(ref)
        async with aclosing(self._follow(after, services)) as pages:
            yield pages

    async def _follow(
        self, after: int | None, services: frozenset[str] | None
    ) -> AsyncGenerator[tuple[LogLineView | Missed, ...], None]:
        cursor = (self.lines[-1].seq if self.lines else 0) if after is None else after
        if cursor + 1 < self.first_line:
            yield (Missed(first=cursor + 1, last=self.first_line - 1),)
            cursor = self.first_line - 1
        while True:
            news = self.new_line
            lines = self._after(cursor, services)
            for line in lines:
                cursor = line.seq
                if line.text == "the end":
                    return
                if line.text == "trouble":
                    raise Broken("log-broken", "the log cannot be read", "look at the disk")
            if lines:
                yield tuple(lines)
            await news.wait()

    def _after(self, seq: int, services: frozenset[str] | None) -> list[LogLineView]:
        return [line for line in self.lines if line.seq > seq and (services is None or line.service in services)]

    @asynccontextmanager
    async def exec(self, ref: str, request: ExecRequest) -> AsyncIterator[CardboardRun]:
        self.colony(ref)
        if request.command[0] == "nothing":
            raise Invalid("command-not-found", "there is no command 'nothing'", "is it installed?")
        self.exec_requests.append(request)
        try:
            yield self.run
        finally:
            self.run.killed.set()

    async def reload(self) -> ReloadView:
        self.calls.append(("reload",))
        return ReloadView(changed=("processes.grace",), waiting=("server.port",))

    def variables(self, ref: str) -> Mapping[str, str]:
        return {"API_TOKEN": "hush-hush"}

    async def usage(self) -> tuple[UsageView, ...]:
        return self.used

    def system(self) -> SystemView:
        return SystemView(
            version="0.1.0",
            api=1,
            pid=1,
            started_at=MOMENT,
            mode=self.mode,
            egress="off",
            garden="local",
            domain="colony.localhost",
            preview_port=None,
            socket=None,
            state_folder="/state",
            colonies=len(self._colonies),
            last_event=self.bus.last_seq,
            keeper_pid=None,
            notes=(),
        )

    def tree(self) -> dict[str, Any]:
        return {"name": "mycelium", "children": []}

    def tree_text(self) -> str:
        return "mycelium\n"

    async def shutdown(self, *, colonies: bool) -> None:
        self.calls.append(("shutdown", colonies))
        self.shutdown_requested.set()
