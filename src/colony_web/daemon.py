"""The daemon: a house with its web face in the tree, from the first lock to the last signal.

SIGINT (Ctrl-C) stops the colonies and ends; SIGTERM ends the daemon and leaves the colonies to the next one, so that an upgrade drops
nothing. SIGHUP does the same where the daemon has a terminal, which was closed then; without one the settings are read again. A second
signal to end cuts the graces of services short.
"""

import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Literal

import attrs
import trio

from colony_core import isolation, processes
from colony_core.config import Config
from colony_core.errors import ColonyError
from colony_core.mycelium import Mycelium, open_mycelium
from colony_core.supervision import Backoff, ChildSpec, Limit, Status, supervisor_spec
from colony_core.views import SystemView

from .demo import demo_backends, demo_folders, populate
from .logs import speak
from .serve import serve
from .systemd import Notifier, notifier
from .telemetry import open_tracer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FULL_PASS_SECONDS = 600.0
"""How often the garbage collector looks at everything: a tenth of a second with 200 colonies."""

logger = logging.getLogger("colony.daemon")


def run(load: Callable[[], Config], *, announce: Callable[[SystemView], None], demo: bool = False) -> None:
    """Runs the daemon until it is told to end; `announce` is called once, when it serves. Blocks; call it before any thread exists.

    `load` gives the settings, at first and whenever they are to be read again. With `demo` it shows what Colony looks like, on a machine
    without rights: walls of cardboard, agents that play, nothing kept.

    Raises ColonyError when it cannot begin: `already-running`, `port-taken`, missing rights.
    """
    # The usual 1024 is less than the connections that are let in.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = load()
    speak(config.log)
    if demo:
        with demo_folders(config) as config:
            _run(config, lambda: config, announce, demo=True)
        return
    wanted = config.isolation.mode
    mode = isolation.choose_mode() if wanted == "auto" else isolation.Mode(wanted)
    if mode is isolation.Mode.ROOTLESS:
        isolation.enter_rootless(processes.living_keeper(config.folders.run))

    def settled(config: Config) -> Config:
        return attrs.evolve(config, isolation=attrs.evolve(config.isolation, mode=mode.value))

    _run(settled(config), lambda: settled(load()), announce)


def _run(
    config: Config, load: Callable[[], Config], announce: Callable[[SystemView], None], *, demo: bool = False
) -> None:
    try:
        trio.run(partial(_main, config, load, announce, demo=demo))
    except BaseExceptionGroup as group:
        raise _one_cause(group) from group


async def _main(
    config: Config, load: Callable[[], Config], announce: Callable[[SystemView], None], *, demo: bool
) -> None:
    walls = partial(isolation.open_fake_isolation, run_dir=config.folders.run) if demo else None
    keeper: Literal["inline", "process"] = "inline" if demo else "process"
    agents = demo_backends() if demo else None
    manager = notifier(os.environ)
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            async with (
                open_tracer(config.telemetry) as tracer,
                open_mycelium(config, tracer=tracer, walls=walls, keeper=keeper, backends=agents) as house,
            ):
                house.load_config, house.take_over = load, lambda config: speak(config.log)
                nursery.start_soon(_obey, house, signals, manager)
                web = ChildSpec(id="server", run=partial(_serve, house), grace=10.0, backoff=Backoff(first=0.1))
                face = await house.supervise(supervisor_spec("web", [web], limit=Limit(10, 60.0)))
                house.api_url = face.value.children()[0].value[1]
                if demo:
                    await populate(house)
                announce(house.system())
                if manager is not None:
                    told = ChildSpec(id="systemd", run=partial(_live, manager), grace=1.0, backoff=Backoff(first=1.0))
                    await house.supervise(told)
                    await manager.ready(f"API {house.api_url}")
                calm_collector()
                await house.supervise(ChildSpec(id="collector", run=collect_old, backoff=Backoff(first=1.0)))
                await house.shutdown_requested.wait()
                if manager is not None:
                    await manager.stopping()
            nursery.cancel_scope.cancel()


def calm_collector() -> None:
    """Spares the garbage collector what lives for ever, and the loop long passes; for the moment when everything has been built.

    Thousands of small task objects stay; looking at them again and again is half of a busy daemon's time. So the collector looks at the
    newest 10,000, which takes about 10 ms, again at what outlived that once in a million. Nothing that
    comes and goes often may leave garbage in circles that is older; what a removed colony leaves is `collect_old`'s.
    """
    gc.freeze()
    gc.set_threshold(10_000, 100, 50)


async def collect_old(*, status: Status) -> None:
    """Takes away every ten minutes what lived long before it became garbage in circles: removed colonies, 11 KB each."""
    status.started()
    while True:
        await trio.sleep(FULL_PASS_SECONDS)
        gc.collect()


async def _serve(house: Mycelium, *, status: Status) -> None:
    stopping = (
        status.stopping
    )  # asked for here: a stop then waits for the answers under way, that to the shutdown itself among them
    async with trio.open_nursery() as nursery:

        async def drain_when_stopped() -> None:
            await stopping.wait()
            house.shutdown_requested.set()

        nursery.start_soon(drain_when_stopped)
        await serve(house, task_status=status)


async def _live(manager: Notifier, *, status: Status) -> None:
    status.started()
    await manager.live()


async def _obey(house: Mycelium, signals: AsyncIterator[int], manager: Notifier | None) -> None:
    """The first signal to end asks for an orderly one, every further one cuts the graces short."""
    async for number in signals:
        if number == signal.SIGHUP and not os.isatty(0):
            await _reload(house, manager)
        elif house.shutdown_requested.is_set():
            await house.hurry()
        else:
            await house.shutdown(colonies=number == signal.SIGINT)


async def _reload(house: Mycelium, manager: Notifier | None) -> None:
    if manager is not None:
        await manager.reloading()
    try:
        await house.reload()
        said = "settings were read again"
    except ColonyError as error:
        logger.error("the old settings stay: %s", error)
        said = f"the old settings stay: {error.message}"
    if manager is not None:
        await manager.ready(said)


def _one_cause(error: BaseException) -> BaseException:
    """The ColonyError at the bottom of a group or a chain, or the thing itself."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ColonyError):
        found = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else found.__cause__
    return found or error
