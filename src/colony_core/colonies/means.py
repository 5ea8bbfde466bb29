"""What every colony of a house shares: the kernel, the keeper, the store, the bus, the settings."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from colony_core.bus import Bus
from colony_core.config import Config
from colony_core.isolation import Isolation
from colony_core.processes import Keeper
from colony_core.store import Store
from colony_core.tracing import NoTracer, Tracer
from colony_core.workspaces import Tools, Workspaces


class KeeperPost:
    """Where the living keeper is found; empty while a lost one is being replaced."""

    def __init__(self) -> None:
        self._keeper: Keeper | None = None
        self._filled = trio.Event()
        self._left = trio.Event()

    @property
    def current(self) -> Keeper | None:
        """The keeper, if there is one at this moment."""
        return self._keeper

    async def get(self) -> Keeper:
        """The living keeper; waits while there is none. One that is lost and not yet replaced is none."""
        while self._keeper is None or self._keeper.lost.is_set():
            await (self._filled if self._keeper is None else self._left).wait()
        return self._keeper

    @asynccontextmanager
    async def filled_by(self, keeper: Keeper) -> AsyncIterator[None]:
        """Shows `keeper` to everybody for the time of the block."""
        self._keeper, self._left = keeper, trio.Event()
        self._filled.set()
        try:
            yield
        finally:
            self._keeper = None
            self._filled = trio.Event()
            self._left.set()


@attrs.define(kw_only=True)
class Means:
    """The shared means.

    `closing`: the house ends, and nothing new is begun; `ending`: nothing goes on, the keeper least; `leaving`: what still goes on is left
    to the next daemon.
    """

    config: Config
    isolation: Isolation
    keeper: KeeperPost
    store: Store
    bus: Bus
    boot_id: str
    base_environment: Mapping[str, str]
    nameservers: Callable[[], tuple[str, ...]]
    tools: Tools = attrs.field(factory=Tools)
    preview_port: int | None = None
    tracer: Tracer = attrs.field(factory=NoTracer)
    serve_tools: Callable[..., Awaitable[None]] | None = None
    """Serves a colony's agent inside its cell; called with the colony, as a child of it."""
    closing: bool = False
    ending: bool = False
    leaving: bool = False
    workspaces: Workspaces = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.workspaces = Workspaces(
            config=lambda: self.config,
            store=self.store,
            bus=self.bus,
            get_keeper=self.keeper.get,
            environment=os.environ,
            tools=self.tools,
        )

    def url(self, host: str) -> str | None:
        """The preview address of `host`, or None where no proxy runs."""
        if self.preview_port is None:
            return None
        return self.config.preview_url(host, self.preview_port)

    def log_folder(self, colony_id: str) -> Path:
        """Where the log of a colony lies."""
        return self.config.folders.logs / colony_id

    def log_lines(self, colony_id: str) -> int:
        """The number of the newest line of a colony's log that the keeper has told of."""
        keeper = self.keeper.current
        return keeper.news.last(str(self.log_folder(colony_id))) if keeper is not None else 0
