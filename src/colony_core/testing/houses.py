"""Opens houses in folders of a test, apart from the machine's own."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio

from colony_core import isolation
from colony_core.backends import Backend
from colony_core.config import Folders, load_config
from colony_core.errors import Broken, TooSlow
from colony_core.mycelium import Mycelium, open_mycelium
from colony_core.views import ColonyView, NewColony

Walls = Callable[[], AbstractAsyncContextManager[isolation.Isolation]]


def free_walls(run_dir: Path, *, egress: bool = False) -> Walls:
    """Real walls in a network of their own: nothing of them touches the host, and they go with the test.

    With `egress` a proxy in each cell leads out of it, as it does where an ordinary user runs Colony.

    As an ordinary user the process enters a user namespace here. Raises Missing (`no-isolation`), or `threads-exist` where it has threads
    already: then call `isolation.enter_rootless()` first in the program. The pytest plugin has done so.
    """
    mode = isolation.choose_mode()
    if mode is isolation.Mode.ROOTLESS:
        isolation.enter_rootless()
    return partial(isolation.open_isolation, run_dir=run_dir, mode=mode, egress=egress, private=True)


def fake_walls(run_dir: Path) -> Walls:
    """Walls of cardboard: every colony shares the host's network. For tests of your own logic where no rights can be had."""
    return partial(isolation.open_fake_isolation, run_dir=run_dir)


@asynccontextmanager
async def open_test_house(
    folder: Path,
    *,
    walls: Walls | None = None,
    keeper: Literal["process", "inline"] = "inline",
    settings: dict[str, Any] | None = None,
    backends: Mapping[str, Backend] | None = None,
) -> AsyncIterator[Mycelium]:
    """A house below `folder`, with real walls unless others are given; colonies, processes and namespaces are gone when the block ends.

    `settings` are as in `load_config(overrides=...)`, `backends` as in `open_mycelium`.

    Raises Missing where this machine lets nobody make namespaces.
    """
    folders = Folders(state=folder / "state", run=folder / "run", templates=folder / "templates")
    overrides = {"server.port": 0, "routing.port": 0, "processes.grace": "2s"} | (settings or {})
    config = load_config({}, folders=folders, overrides=overrides)
    walls = walls or free_walls(folders.run)
    async with open_mycelium(config, keeper=keeper, walls=walls, backends=backends) as house:
        yield house


async def spawn_ready(house: Mycelium, name: str, path: str | Path, *, timeout: float = 30.0) -> ColonyView:
    """Spawns a colony from a folder and returns its view when every service is ready or has finished.

    Raises Broken (`start-failed`) with the reason as soon as the colony or a service fails, TooSlow (`not-ready`) after `timeout` seconds.
    """
    await house.spawn(NewColony(name=name, path=str(Path(path).resolve())), owner="test")
    return await wait_for(house, name, _settled, timeout=timeout)


async def wait_for(
    house: Mycelium, ref: str, reached: Callable[[ColonyView], bool], *, timeout: float = 30.0
) -> ColonyView:
    """The view of a colony as soon as `reached` says so of it; looks whenever something happens, never by the clock."""
    with trio.move_on_after(timeout):
        after = house.bus.last_seq
        if reached(view := house.colony(ref)):
            return view
        async with aclosing(house.bus.listen(after)) as events:  # type: ignore[type-var]
            async for _ in events:
                if reached(view := house.colony(ref)):
                    return view
    view = house.colony(ref)
    services = ", ".join(f"{s.name} {s.state} ({s.reason})" for s in view.services)
    raise TooSlow(
        "not-ready",
        f"colony “{ref}” is {view.state} ({view.reason}) after {timeout:g} s: {services}",
        f"colony logs {ref}",
    )


def _settled(view: ColonyView) -> bool:
    if view.state == "failed" or (bad := [s for s in view.services if s.state == "failed"]):
        reason = view.reason if view.state == "failed" else ", ".join(f"{s.name}: {s.reason}" for s in bad)
        raise Broken("start-failed", f"colony “{view.name}” did not start: {reason}", f"colony logs {view.name}")
    return view.state == "running" and all(s.state in ("ready", "finished") for s in view.services)
