"""Apps over a house of cardboard, and servers on real sockets."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio

from colony_web import create_app
from colony_web.auth import PEER, Peer, own_network
from colony_web.protocol import Settings
from colony_web.serve import serve

from .house import CardboardHouse, config_in
from .wire import Served

OWNER = Peer(pid=os.getpid(), uid=os.getuid(), gid=os.getgid(), netns=own_network())


@pytest.fixture
def house(tmp_path: Path) -> CardboardHouse:
    """A house with one colony, hello."""
    return CardboardHouse(config_in(tmp_path))


@pytest.fixture
def app(house: CardboardHouse) -> QuartTrio:
    """The face of the house."""
    return create_app(house)


@pytest.fixture
def client(app: QuartTrio) -> Any:
    """Asks as the socket's owner does."""
    plain = app.test_client()
    owner = {"state": {PEER: OWNER}}

    class Owner:
        def __getattr__(self, verb: str) -> Any:
            return partial(getattr(plain, verb), scope_base=owner)

    return Owner()


@pytest.fixture
async def serving(house: CardboardHouse, nursery: trio.Nursery) -> Callable[..., Any]:
    """Serves an app (default: the house's face) on a Unix socket and a port; returns its addresses."""

    async def start(app: Any = None, **changes: Any) -> Served:
        settings = Settings()
        settings.graceful_timeout = 10_000.0  # a machine that stands still for a while cuts nothing short
        for name, value in changes.items():
            setattr(settings, name, value)
        unix, tcp = await nursery.start(partial(serve, house, app=app, settings=settings))
        return Served(socket=unix.removeprefix("unix:"), port=int(tcp.rpartition(":")[2]))

    return start
