"""A house for these tests, and small services for it."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from colony_core.colonies import Colony
from colony_core.events import ColonyStateChanged, Event, HouseEvent, Missed, ServiceStateChanged
from colony_core.mycelium import Mycelium
from colony_core.testing import fake_walls, open_test_house, wait_for
from colony_core.testing.houses import free_walls
from colony_core.views import ColonyView, ExecRequest, NewColony, ServiceView

PATIENCE_SECONDS = 300.0
SLEEP = "exec sleep 1000"
LISTEN = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[3]) if len(sys.argv) > 3 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


def listen(address: str, port: int, status: int = 200) -> str:
    """A command that answers HTTP on one address."""
    return json.dumps(["python3", "-S", "-c", LISTEN, address, str(port), str(status)])


def service(name: str, command: str = SLEEP, **keys: str) -> str:
    """A table of a manifest; values of `keys` are TOML."""
    said = command if command.startswith("[") else json.dumps(command)
    lines = [f"[services.{name}]", f"command = {said}", *(f"{key} = {value}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


class Home:
    """A house, the folders of its colonies, and everything that it has told."""

    def __init__(self, house: Mycelium, folder: Path) -> None:
        self.house = house
        self.folder = folder
        self.told: list[Event] = []

    def write(self, name: str, manifest: str, **files: str) -> Path:
        """The folder of a colony, with this manifest."""
        source = self.folder / f"app-{name}"
        source.mkdir(exist_ok=True)
        (source / "colony.toml").write_text(manifest)
        for file, text in files.items():
            (source / file).write_text(text)
        return source

    async def spawn(self, name: str, manifest: str, *, start: bool = True, **files: str) -> ColonyView:
        source = self.write(name, manifest, **files)
        return await self.house.spawn(NewColony(name=name, path=str(source), start=start), owner="test")

    async def until(self, name: str, reached: Callable[[ColonyView], bool]) -> ColonyView:
        return await wait_for(self.house, name, reached, timeout=PATIENCE_SECONDS)

    async def until_state(self, name: str, state: str) -> ColonyView:
        return await self.until(name, lambda view: view.state == state)

    async def until_service(self, name: str, service: str, state: str) -> ServiceView:
        view = await self.until(name, lambda view: of(view, service).state == state)
        return of(view, service)

    async def up(self, name: str, manifest: str, **files: str) -> ColonyView:
        """The view of a new colony whose services all are ready."""
        await self.spawn(name, manifest, **files)
        return await self.until(name, all_ready)

    async def until_told(self, what: str) -> None:
        """Returns when the house has told of something that concerns itself."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not any(isinstance(event, HouseEvent) and event.what == what for event in self.told):
                await trio.sleep(0.01)

    async def gone(self, pid: int) -> None:
        """Returns when no such process runs."""
        with trio.fail_after(PATIENCE_SECONDS):
            while alive(pid):
                await trio.sleep(0.01)

    async def line(self, name: str, service: str, part: str = "") -> str:
        """The first line of a service with `part` in it, as soon as it is there."""
        with trio.fail_after(PATIENCE_SECONDS):
            async with self.house.follow_log(name, after=0, services=frozenset({service})) as lines:
                async for line in lines:
                    if not isinstance(line, Missed) and part in line.text:
                        return line.text
        raise AssertionError("a log ended")

    async def run(self, name: str, *command: str, stdin: bytes = b"", **request: Any) -> tuple[int, bytes, bytes]:
        """Exit code, output and errors of a command in the cell."""
        said = {"out": b"", "err": b""}

        async def read(what: str, stream: trio.abc.ReceiveStream) -> None:
            async for data in stream:
                said[what] += data

        with trio.fail_after(PATIENCE_SECONDS):
            async with self.house.exec(name, ExecRequest(command=command, **request)) as running:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read, "out", running.stdout)
                    nursery.start_soon(read, "err", running.stderr)
                    if stdin:
                        await running.stdin.send_all(stdin)
                    await running.stdin.aclose()
                code = await running.wait()
        return code, said["out"], said["err"]

    def colony(self, name: str) -> Colony:
        """What is behind a view, for faults that cannot be made from outside."""
        return self.house._colonies.find(name)

    def states(self, name: str, service: str | None = None) -> list[tuple[str, str]]:
        """States and reasons, as they were told."""
        if service is None:
            colony = [e for e in self.told if isinstance(e, ColonyStateChanged) and e.colony == name]
            return [(event.state, event.reason) for event in colony]
        found = [
            e for e in self.told if isinstance(e, ServiceStateChanged) and (e.colony, e.service) == (name, service)
        ]
        return [(event.state, event.reason) for event in found]


@asynccontextmanager
async def open_home(folder: Path, *, fake: bool = False, egress: bool = False, **settings: Any) -> AsyncIterator[Home]:
    """A house with real walls in a network of its own, from which a proxy may lead out, or cardboard ones."""
    run = folder / "house" / "run"
    async with open_test_house(
        folder / "house",
        walls=fake_walls(run) if fake else free_walls(run, egress=egress),
        settings={key.replace("__", "."): value for key, value in settings.items()},
    ) as house:
        home = Home(house, folder)
        house.bus.on_publish(lambda numbered: home.told.append(numbered.event))
        yield home


def of(view: ColonyView, name: str) -> ServiceView:
    """A service of a view."""
    return next(service for service in view.services if service.name == name)


def all_ready(view: ColonyView) -> bool:
    return view.state == "running" and all(service.state == "ready" for service in view.services)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, 9)


async def appears(path: Path, text: str = "") -> str:
    """What a file holds, as soon as it holds `text`."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not (path.exists() and text in path.read_text()):
            await trio.sleep(0.01)
    return path.read_text()


async def together(*calls: Callable[[], Any]) -> None:
    """All at once."""
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(partial(call))
