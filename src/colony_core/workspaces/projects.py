"""Projects: repositories that colonies work on, cloned once and shared.

The file is long because a clone that is under way, has failed or was cut off is one record, which all verbs here read and change.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import trio

from colony_core import clock
from colony_core.bus import Bus
from colony_core.config import Config
from colony_core.errors import AlreadyExists, Broken, ColonyError, Invalid, NotFound, WrongState, did_you_mean
from colony_core.events import ProjectStateChanged
from colony_core.processes import KeeperLost, User
from colony_core.store import Store
from colony_core.supervision import ChildSpec, DynamicSupervisor, NoSuchChild, Restart, Status

from . import records
from .founding import fill
from .hands import Hands
from .include import author_of
from .places import (
    REPOS,
    UNFINISHED,
    check_entered,
    clear_folder,
    home_of,
    keeper_of,
    make_folder,
    prepare_root,
    repo_folder,
    user_for,
)
from .programs import GetKeeper
from .records import ProjectRecord
from .repository import Repository
from .sources import Source, check_project_name, is_short, read_source
from .tools import Tools

logger = logging.getLogger("colony.workspaces")

NOBODY = ("Colony", "colony@localhost")
_PROGRESS = re.compile(rb"((?:remote: )?[A-Z][a-z]+ [a-z]+): +(\d+)%")
STEP_PERCENT = 10


class Projects:
    """All projects. Reading is answered from memory; a clone is a child of the house, and begins anew with the next daemon."""

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
        self.tools = tools
        self._config = config
        self._store = store
        self._bus = bus
        self._get_keeper = get_keeper
        self._environment = environment
        self._known: dict[str, ProjectRecord] = {}
        self._locks: dict[str, trio.Lock] = {}
        self._fetched: dict[str, float] = {}
        self._news = trio.Event()
        self._adding = trio.Lock()
        self._supervisor: DynamicSupervisor

    def __iter__(self) -> Iterator[ProjectRecord]:
        return iter(sorted(self._known.values(), key=lambda project: project.name))

    @property
    def root(self) -> Path:
        """The folder of `repos` and `workspaces`."""
        return self._config().workspaces_root

    async def restore(self, supervisor: DynamicSupervisor) -> None:
        """Takes up what is recorded, clears what clones of a killed daemon have left, and begins those anew."""
        self._supervisor = supervisor
        self._known = {record.name: record for record in await self._store.read(records.all_projects)}
        for half in (self.root / REPOS).glob(f"{UNFINISHED}*"):
            await clear_folder(half, self.hands_for(keeper_of(half)))
        for record in self._known.values():
            if record.state == "cloning":
                await self._begin(record)

    def find(self, name: str) -> ProjectRecord:
        """The project of that name; raises NotFound naming the nearest."""
        if name not in self._known:
            nearest = did_you_mean(name, tuple(self._known))
            hint = f"did you mean {nearest}?" if nearest else "colony project ls"
            raise NotFound("project-not-found", f"there is no project {name[:80]!r}", hint)
        return self._known[name]

    def known_as(self, text: str) -> ProjectRecord | None:
        """The project that somebody means by its name, its address, or `user/app`."""
        if text in self._known:
            return self._known[text]
        address = text.rstrip("/")
        for record in self._known.values():
            if record.url in (text, address, f"{address}.git"):
                return record
        return self._known.get(read_source(text).name) if is_short(text) else None

    def _exists(self, known: ProjectRecord, owner: str) -> AlreadyExists:
        """The name is given once for all; of what it is, only those hear who may look."""
        seen = known.owner == owner or self._config().access.others == "look"
        words = f"there is a project {known.name} already" + (f", of {known.url}" if seen else "")
        return AlreadyExists("project-exists", words, "give another --name")

    async def add(self, text: str, *, name: str | None, owner: str) -> ProjectRecord:
        """Records a project and begins to clone it; durable when this returns. Raises AlreadyExists, Invalid, NotFound, Missing."""
        self.tools.need_git()
        source = await self._source(text)
        record = self._new(source, name, owner)
        chosen = record.name
        async with self._adding:
            if chosen in self._known:
                raise self._exists(self._known[chosen], owner)
            user_for(source.kind, source.url, self._config().workspaces.user)
            await trio.to_thread.run_sync(prepare_root, self.root)
            with trio.CancelScope(shield=True):
                await self._store.write(lambda connection: records.add_project(connection, record))
                self._known[chosen] = record
                await self._begin(record)
        self._tell(record)
        return record

    async def find_or_add(self, text: str, *, owner: str, dry_run: bool = False) -> ProjectRecord:
        """The project that is meant, made where there is none yet; a dry run only tells what would be."""
        known = self.known_as(text)
        if known is not None:
            return known
        if dry_run:
            return self._new(await self._source(text), None, owner)
        try:
            return await self.add(text, name=None, owner=owner)
        except AlreadyExists:
            known = self.known_as(text)  # somebody was faster with the same wish
            if known is None:
                raise
            return known

    async def ready(self, name: str, tell: Callable[[str], object]) -> Repository:
        """The repository of a project, as soon as it is cloned; one that failed is tried again. Raises Broken (`clone-failed`)."""
        tried = False
        while (record := self.find(name)).state != "ready":
            if record.state == "failed":
                if tried:
                    raise Broken("clone-failed", f"{record.name} was not cloned: {record.reason}", "colony project ls")
                await self._retry(record)
            tried = True
            tell(f"clones {record.name}{f': {record.reason}' if record.reason else ''}")
            await self._news.wait()
        return self.repository(name)

    def repository(self, name: str) -> Repository:
        """The repository of a project that is ready. Raises WrongState where it is not."""
        record = self.find(name)
        if record.state != "ready":
            raise WrongState("project-not-ready", f"the project {name} is {record.state}", "colony project ls")
        folder = repo_folder(self.root, name)
        hands = self.hands_for(keeper_of(folder), author=(record.author_name, record.author_email))
        return Repository(hands, folder, _source_of(record))

    def lock(self, name: str) -> trio.Lock:
        """Held while refs of a project's repository change."""
        return self._locks.setdefault(name, trio.Lock())

    async def freshen(self, repository: Repository, name: str) -> str:
        """Fetches, unless that was done a moment ago; gives a note where the origin does not answer. Called with the lock held."""
        now = trio.current_time()
        if now - self._fetched.get(name, -float("inf")) < self._config().workspaces.fresh:
            return ""
        try:
            await repository.fetch()
        except ColonyError as error:
            return f"begun without what is new at the origin: {error.message}"
        self._fetched[name] = now
        return ""

    async def remove(self, name: str) -> None:
        """Forgets a project and removes its repository; a clone under way is given up. Whether it may go is the caller's to know."""
        record = self.find(name)
        with suppress(NoSuchChild):
            await self._supervisor.stop_child(name)
        folder = repo_folder(self.root, name)
        async with self.lock(name):
            await clear_folder(folder, self.hands_for(keeper_of(folder)))
            await self._store.write(lambda connection: records.forget_project(connection, name))
        self._known.pop(name, None)
        self._fetched.pop(name, None)
        self._tell(attrs.evolve(record, state="removed", reason=""))

    def hands_for(self, user: User | None, *, author: tuple[str, str] = NOBODY) -> Hands:
        """Whoever works in a user's name."""
        return Hands(
            get_keeper=self._get_keeper,
            tools=self.tools,
            user=user,
            home=home_of(user),
            author=author,
            inherited=self._environment if user is None else {},
        )

    def _new(self, source: Source, name: str | None, owner: str) -> ProjectRecord:
        return ProjectRecord(
            name=check_project_name(source.name if name is None else name),
            kind=source.kind,
            url=source.url,
            state="cloning",
            reason="",
            owner=owner,
            created_at=clock.unix_now(),
            author_name=NOBODY[0],
            author_email=NOBODY[1],
        )

    async def _source(self, text: str) -> Source:
        """What somebody means, where no project is known by it: a folder first. Raises Invalid, NotFound."""
        if not text.startswith("/"):
            return read_source(text)
        source = read_source(text.rstrip("/") or "/")
        if not await trio.Path(source.url).is_dir():
            raise NotFound("folder-not-found", f"there is no folder {source.url}", "give the folder of a repository")
        return source

    async def _retry(self, record: ProjectRecord) -> None:
        record = attrs.evolve(record, state="cloning", reason="")
        await self._change(record)
        await self._begin(record)

    async def _begin(self, record: ProjectRecord) -> None:
        spec = ChildSpec(id=record.name, run=partial(self._clone, record.name), restart=Restart.TEMPORARY, grace=10.0)
        await self._supervisor.start_child(spec)

    async def _clone(self, name: str, *, status: Status) -> None:
        """The child that clones. What it makes appears at once when it is whole, and an error stands in the record."""
        status.started()
        try:
            author = await self._fill(name)
            record = attrs.evolve(
                self.find(name), state="ready", reason="", author_name=author[0], author_email=author[1]
            )
            self._fetched[name] = trio.current_time()
        except Exception as error:  # whatever it is: colonies wait for this project, and must hear of it
            if not isinstance(error, ColonyError):
                logger.exception("the project %s could not be cloned", name)
            reason = error.message if isinstance(error, ColonyError) else f"{type(error).__name__}: {error}"
            record = attrs.evolve(self.find(name), state="failed", reason=reason)
        await self._change(record)

    async def _fill(self, name: str) -> tuple[str, str]:
        record = self.find(name)
        user = user_for(record.kind, record.url, self._config().workspaces.user)
        hands = self.hands_for(user)
        final = repo_folder(self.root, name)
        half = final.with_name(f"{UNFINISHED}{name}")
        if final.exists():  # whole already: only the record of it was lost
            return await author_of(hands, final)
        while True:
            try:
                await clear_folder(half, hands)
                make_folder(half, user)
                await check_entered(half, hands)
                author = await author_of(hands, half)
                repository = Repository(attrs.evolve(hands, author=author), half, _source_of(record))
                await fill(repository, hear=_Progress(partial(self._progress, name)))
                half.rename(final)
                return author
            except KeeperLost:
                continue  # with the next keeper
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
                    await clear_folder(half, hands)

    def _progress(self, name: str, text: str) -> None:
        record = attrs.evolve(self._known[name], reason=text)
        self._known[name] = record
        self._stir()
        self._tell(record)

    async def _change(self, record: ProjectRecord) -> None:
        await self._store.write(lambda connection: records.change_project(connection, record))
        self._known[record.name] = record
        self._stir()
        self._tell(record)

    def _stir(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    def _tell(self, record: ProjectRecord) -> None:
        self._bus.publish(
            ProjectStateChanged(project=record.name, state=record.state, reason=record.reason, owner=record.owner)
        )


class _Progress:
    """Hears git's own words on how far it is, and passes on whole tens of per cent."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._told = ""
        self._rest = b""

    def __call__(self, chunk: bytes) -> None:
        *lines, self._rest = re.split(rb"[\r\n]", self._rest + chunk)
        for line in lines:
            found = _PROGRESS.search(line)
            if found:
                what = found[1].decode().removeprefix("remote: ").lower()
                text = f"{what} {int(found[2]) // STEP_PERCENT * STEP_PERCENT} %"
                if text != self._told:
                    self._told = text
                    self._tell(text)


def _source_of(record: ProjectRecord) -> Source:
    if record.kind not in ("url", "path"):
        raise Invalid("invalid-repository", f"{record.kind} is no kind of repository", "colony project rm")
    return Source(kind="path" if record.kind == "path" else "url", url=record.url, name=record.name)
