"""Erlang/OTP and pykka at the same operations, where they are installed. For the reader only: nothing is held against them."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.metric import Metric

ERLANG = Path(__file__).with_name("supervision.erl")
ERLANG_SECONDS = 120.0
THREADS = 200
MESSAGES = 5_000


def run(ours: dict[str, float]) -> Iterator[Metric]:
    """The figures of whoever is here, each beside ours."""
    if shutil.which("escript"):
        yield from _rows("erlang", _erlang(), ours)
    if find_spec("pykka"):
        yield from _rows("pykka", _pykka(), ours)


def _rows(who: str, found: dict[str, float], ours: dict[str, float]) -> Iterator[Metric]:
    for name, value in found.items():
        mine = ours[name]
        memory = name.startswith("memory.")
        yield Metric(
            metric=f"supervision.{who}.{name}",
            value=value,
            unit="B" if memory else "/s",
            n=1,
            baseline=f"ours: {mine:,.0f}",
            ratio=value / mine,
            better="lower" if memory else "higher",
        )


def _erlang() -> dict[str, float]:
    """Lines of a name and a figure, printed by the script beside this file."""
    done = subprocess.run(["escript", str(ERLANG)], check=True, capture_output=True, text=True, timeout=ERLANG_SECONDS)
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


def _pykka() -> dict[str, float]:
    import pykka  # type: ignore[import-not-found,unused-ignore]

    done = threading.Event()

    class Server(pykka.ThreadingActor):  # type: ignore[misc,unused-ignore]
        def on_receive(self, message: Any) -> Any:
            if message == MESSAGES:
                done.set()
            return message

    def timed(act: Any, n: int) -> float:
        begin = perf_counter()
        act()
        return n / (perf_counter() - begin)

    try:
        found = {"start": timed(lambda: [Server.start() for _ in range(THREADS)], THREADS)}
        server = Server.start()
        found["call"] = timed(lambda: [server.ask(0) for _ in range(MESSAGES)], MESSAGES)
        found["cast"] = timed(lambda: [*map(server.tell, range(1, MESSAGES + 1)), done.wait()], MESSAGES)
    finally:
        pykka.ActorRegistry.stop_all()
    return found
