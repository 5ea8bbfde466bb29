"""Two hundred colonies under a hundred viewers who come and go, while colonies are restarted, stopped, removed and made anew.

In rounds: after each everybody leaves, and what daemon, keeper and kernel hold is compared with what they held after the first. Counts
must be back where they were. Memory may grow while the newest 10,000 events, which the daemon keeps at hand, are not that many, and by what
waits for the garbage collector; so a short run allows some, and half an hour (`--long`) next to none. In the end all colonies are removed,
and nothing may be left.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from benchmarks._resources import held
from benchmarks._viewers import KINDS, Sights, look
from benchmarks.house import open_daemon
from benchmarks.metric import Metric
from colony_core.remote import Call, Client, Target, calls, discover
from colony_core.remote.streaming import open_exec
from colony_core.views import ExecRequest

PREFIX = "l"
SERVING_EACH = 10
"""Every tenth colony serves a page; the others only count."""
TERMINALS = 10
VIEWERS: Mapping[str, int] = {"events": 25, "log": 25, "preview": 25, "terminal": 10, "asking": 15}
CHURNERS = 6
SETTLE_SECONDS = 120.0
PATIENCE_SECONDS = 120.0
COUNTING = '[services.count]\ncommand = "n=0; while :; do echo $((n+=1)); sleep 2; done"\ngrace = "1s"\n'
SERVING = '[services.web]\ncommand = ["python3", "-S", "-E", "server.py"]\nport = 8000\ngrace = "1s"\n'
SERVER = """
import socket, threading, time
def serve(client):
    with client:
        asked = client.recv(9999)
        if b"/drip" not in asked:
            client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
            return
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nConnection: close\\r\\n\\r\\n")
        try:
            while True:
                client.sendall(b"data: drip\\n\\n")
                time.sleep(0.2)
        except OSError:
            pass
server = socket.create_server(("0.0.0.0", 8000), backlog=64)
while True:
    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""


@attrs.frozen(kw_only=True)
class Scale:
    """How much, and how long. `memory_mb` is by what daemon and keeper may grow in a round of the second half, each."""

    colonies: int = 200
    rounds: int = 2
    round_seconds: float = 10.0
    memory_mb: float = 8.0


LONG = Scale(rounds=16, round_seconds=100.0, memory_mb=0.5)


@attrs.frozen(kw_only=True)
class Course:
    """What was held: before the first colony, at rest after the first round, after each further one, and when all was removed."""

    before: Mapping[str, float]
    first: Mapping[str, float]
    rounds: list[Mapping[str, float]]
    gone: Mapping[str, float]
    done: Counter[str]


def run() -> Iterator[Metric]:
    """Yields what is held after the rounds; takes about a minute and a half."""
    yield from _figures(Scale())


def run_long() -> Iterator[Metric]:
    """The same for half an hour."""
    yield from _figures(LONG)


def _figures(scale: Scale) -> Iterator[Metric]:
    with tempfile.TemporaryDirectory() as folder, open_daemon(Path(folder)) as environment:
        course = trio.run(load, Path(folder), discover(environ=environment), scale)
    yield from judged(course, scale)


def judged(course: Course, scale: Scale) -> Iterator[Metric]:
    """Two figures for each resource: its growth in a round, and what is left of it in the end."""
    said = ", ".join(f"{count} {what}" for what, count in sorted(course.done.items()))
    for name, before in course.before.items():
        values = [course.first[name], *(each[name] for each in course.rounds)]
        memory = name.endswith("memory")
        later = values[len(values) // 2 :] if memory else values
        growth = (later[-1] - later[0]) / max(1, len(later) - 1)
        most = scale.memory_mb if memory else 0
        yield Metric(
            metric=f"{name}, growth in a round",
            value=growth,
            unit="MB" if memory else "",
            n=len(course.rounds),
            baseline=f"before {before:g}, at rest {' '.join(f'{value:.4g}' for value in values)}, gone {course.gone[name]:.4g}",
            better="lower",
            goal=f"<= {most:g}",
            ok=growth <= most,
        )
        if not memory:
            yield Metric(
                metric=f"{name}, left when all is removed",
                value=course.gone[name] - before,
                unit="",
                n=1,
                better="lower",
                goal="<= 0",
                ok=course.gone[name] <= before,
            )
    yield Metric(metric="done meanwhile", value=course.done.total(), unit="", n=1, baseline=said, better="higher")


async def load(folder: Path, target: Target, scale: Scale) -> Course:
    """Loads a daemon in rounds, and removes everything again."""
    house = _House(folder, target, scale)
    before = await house.at_rest(None)
    await house.fill()
    samples: list[Mapping[str, float]] = []
    for number in range(scale.rounds + 1):
        await house.round(number, scale.round_seconds)
        samples.append(await house.at_rest(samples[0] if samples else None))
    await house.empty()
    gone = await house.at_rest(before)
    return Course(before=before, first=samples[0], rounds=samples[1:], gone=gone, done=house.done)


class _House:
    """A daemon under load, seen from outside."""

    def __init__(self, folder: Path, target: Target, scale: Scale) -> None:
        self._client = Client(target)
        self._folder = folder
        self._target = target
        self.names = [f"{PREFIX}{number}" for number in range(scale.colonies)]
        self.done: Counter[str] = Counter()
        self._terminals: list[tuple[str, str]] = []
        system = self._client.send_raw(calls.system())
        self._pids = system["pid"], system["keeper_pid"]
        self._preview_port = system["preview_port"]
        host, _, port = system["api_url"].removeprefix("http://").rpartition(":")
        token = self._client.send_raw(calls.mint_token(name="load", role="ape"))["token"]
        self._from_afar = Target(host=host, port=int(port), token=token)

    async def fill(self) -> None:
        """Spawns all colonies, and opens the terminals that live through the rounds."""
        for name, manifest in (("counting", COUNTING), ("serving", SERVING)):
            app = self._folder / name
            app.mkdir()
            (app / "colony.toml").write_text(manifest)
            (app / "server.py").write_text(SERVER)
        for name in self.names:
            await self._spawn(name)
        await self._until_all_run()
        for name in self.names[1 : TERMINALS + 1]:
            view = await self._ask(calls.open_terminal(name, command=("sh", "-c", "stty -echo; exec cat")))
            self._terminals.append((name, view["id"]))

    async def round(self, number: int, seconds: float) -> None:
        """Viewers and churn for a while; returns when everybody has left and every colony runs."""
        dice = random.Random(number)
        serving = self.names[::SERVING_EACH]
        sights = Sights(self._from_afar, self._preview_port, self.names, serving, self._terminals)
        async with trio.open_nursery() as viewers:
            for kind in KINDS:
                for _ in range(VIEWERS[kind]):
                    viewers.start_soon(look, kind, sights, random.Random(dice.random()), self.done)
            end = trio.current_time() + seconds
            async with trio.open_nursery() as churners:
                for at in range(CHURNERS):
                    mine = self.names[1 + TERMINALS + at :: CHURNERS]
                    churners.start_soon(self._churn, mine, random.Random(dice.random()), end)
            viewers.cancel_scope.cancel()
        await self._until_all_run()

    async def empty(self) -> None:
        """Removes all colonies."""
        async with trio.open_nursery() as nursery:
            for at in range(CHURNERS):
                nursery.start_soon(self._remove_all, self.names[at::CHURNERS])

    async def at_rest(self, wanted: Mapping[str, float] | None) -> Mapping[str, float]:
        """What is held once counts are down at what is `wanted`, or, if they do not come down or nothing is wanted, have come to rest."""
        deadline = time.monotonic() + SETTLE_SECONDS
        last: Mapping[str, float] = {}
        quiet = 0
        while True:
            now = await trio.to_thread.run_sync(held, self._target, *self._pids, PREFIX)
            counts = {name: value for name, value in now.items() if not name.endswith("memory")}
            if wanted is not None and all(value <= wanted[name] for name, value in counts.items()):
                return now
            quiet = quiet + 1 if counts == last else 0
            if (wanted is None and quiet >= 5) or time.monotonic() > deadline:
                return now
            last = counts
            await trio.sleep(0.5)

    async def _churn(self, names: list[str], dice: random.Random, end: float) -> None:
        while trio.current_time() < end:
            name = dice.choice(names)
            deed = dice.choices(("restart", "stop", "remove", "exec", "terminal"), (4, 2, 2, 1, 1))[0]
            await getattr(self, f"_{deed}")(name)
            self.done.update([deed])

    async def _restart(self, name: str) -> None:
        await self._until(name)
        service = (await self._ask(calls.services(name)))[0]["name"]
        await self._ask(calls.service(name, service, "restart"))

    async def _stop(self, name: str) -> None:
        await self._ask(calls.stop(name))
        await self._ask(calls.start(name))

    async def _remove(self, name: str) -> None:
        await self._ask(calls.remove(name))
        await self._spawn(name)
        await self._until(name)

    async def _exec(self, name: str) -> None:
        await self._until(name)
        async with open_exec(self._target, name, ExecRequest(command=("sh", "-c", "echo hello"))) as session:
            await session.wait()

    async def _terminal(self, name: str) -> None:
        await self._until(name)
        view = await self._ask(calls.open_terminal(name, command=("sleep", "60")))
        await self._ask(calls.close_terminal(name, view["id"]))

    async def _remove_all(self, names: list[str]) -> None:
        for name in names:
            await self._ask(calls.remove(name))

    async def _spawn(self, name: str) -> None:
        serving = int(name.removeprefix(PREFIX)) % SERVING_EACH == 0
        await self._ask(calls.spawn(name, str(self._folder / ("serving" if serving else "counting"))))

    async def _until_all_run(self) -> None:
        for name in self.names:
            await self._until(name)

    async def _until(self, name: str) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while not _ready(await self._ask(calls.colony(name))):
                await trio.sleep(0.05)

    async def _ask(self, call: Call) -> Any:
        return await trio.to_thread.run_sync(partial(self._client.send_raw, call))


def _ready(view: Mapping[str, Any]) -> bool:
    return view["state"] == "running" and all(service["state"] == "ready" for service in view["services"])
