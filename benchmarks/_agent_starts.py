"""How soon an agent's first text comes: from an instruction, and from a spawn, against the same program with the same words by hand.

The program is one that speaks like Claude Code and is there at once; and the real one, where COLONY_TESTS_CLAUDE names it, with a model on
loopback that answers at once: beside it by hand, a service of its colony under Colony.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from benchmarks.metric import Metric
from colony_core.remote import Client, Target, calls
from colony_core.remote.calls import Call
from colony_core.remote.streaming import open_events

MODEL = Path(__file__).parents[1] / "tests/core/backends/fake_model.py"
REAL = os.environ.get("COLONY_TESTS_CLAUDE", "")
PORT = 9999
TIMES = 7
PATIENCE_SECONDS = 60.0
OPTIONS = (
    *("-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose", "--include-partial-messages"),
    *("--permission-prompt-tool=stdio", "--permission-mode=acceptEdits", "--model=sonnet"),
)


@attrs.frozen(kw_only=True)
class Part:
    """A program, what lies in the folder that it works in, and words that it answers at once."""

    name: str
    program: Path
    words: str
    files: Mapping[str, str]
    environment: Mapping[str, str] = {}
    goals: tuple[float, float]
    """Milliseconds that Colony may add to a spawn and to an instruction."""
    beside: Sequence[str] = ()
    """What runs beside it by hand, at PORT."""

    def lay_out(self, folder: Path) -> Path:
        """Makes the folder."""
        folder.mkdir(parents=True)
        for name, text in self.files.items():
            (folder / name).write_text(text)
        return folder


def stand_in(program: Path) -> Part:
    """The program that only speaks like Claude Code."""
    files = {"colony.toml": '[agent]\nbackend = "claude"\n'}
    return Part(name="a stand-in", program=program, words="1000 0.001", files=files, goals=(200.0, 100.0))


def real(program: Path, home: Path) -> Part:
    """Claude Code itself, whose home is a folder of its own."""
    home.mkdir()
    environment = {
        "ANTHROPIC_API_KEY": "dummy",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{PORT}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CONFIG_DIR": str(home),
    }
    serves = f'command = "{sys.executable} -S model.py --port {PORT}"\nport = {PORT}\n'
    manifest = f'[services.model]\n{serves}[agent]\nbackend = "claude"\n[colony.environment]\nHOME = "{home}"\n'
    files = {
        "colony.toml": manifest,
        "model.py": MODEL.read_text(),
        ".env": "".join(f"{name}={value}\n" for name, value in environment.items()),
    }
    return Part(
        name="Claude Code",
        program=program,
        words='FAKE:[{"text": "Here I am."}]',
        files=files,
        environment={**environment, "HOME": str(home)},
        goals=(750.0, 500.0),  # of an agent that starts a tool server of Colony's besides
        beside=(sys.executable, "-S", "model.py", "--port", str(PORT)),
    )


def starts(client: Client, target: Target, folder: Path, part: Part) -> Iterator[Metric]:
    """The figures of one program, by Colony and by hand in turns; the first of each counts for nothing."""
    source = part.lay_out(folder / part.name.replace(" ", "-"))
    ours, bare = [], []
    for number in range(TIMES + 1):
        bare.append(sum(_by_hand(part, source)))
        ours.append(trio.run(_spawned, client, target, str(source), part.words, f"start-{number}"))
    yield _metric(f"spawn to the first text of {part.name}, p50", ours[1:], bare[1:], part.goals[0])
    client.send_raw(calls.spawn("starts", str(source)))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_up(client.send_raw(calls.colony("starts"))):
        assert time.monotonic() < deadline, "the colony and its services do not come up"
        time.sleep(0.02)
    ours, bare = [], []
    for _ in range(TIMES + 1):
        bare.append(_by_hand(part, source)[1])
        ours.append(trio.run(_first, client, target, calls.instruct("starts", part.words), "starts"))
    client.send_raw(calls.remove("starts"))
    yield _metric(f"instruction to the first text of {part.name}, p50", ours[1:], bare[1:], part.goals[1])


def _metric(what: str, ours: list[float], bare: list[float], goal: float) -> Metric:
    value, base = statistics.median(ours) * 1000, statistics.median(bare) * 1000
    return Metric(
        metric=what,
        value=value,
        unit="ms",
        n=len(ours),
        baseline=f"the same by hand: {base:.0f} ms; Colony adds {value - base:.0f} ms",
        ratio=value / base,
        better="lower",
        goal=f"adds < {goal:g} ms",
        ok=value - base < goal,
    )


async def _spawned(client: Client, target: Target, source: str, words: str, name: str) -> float:
    took = await _first(client, target, calls.spawn(name, source, task=words), name)
    await trio.to_thread.run_sync(client.send_raw, calls.remove(name))
    return took


async def _first(client: Client, target: Target, order: Call, name: str) -> float:
    """Seconds from an order to the first text that it brings about; returns when the agent of `name` rests."""
    after = client.send_raw(calls.system())["last_event"]
    async with open_events(target, after=after, kinds=("agent_event",)) as events:
        began = time.perf_counter()
        await trio.to_thread.run_sync(client.send_raw, order)
        with trio.fail_after(PATIENCE_SECONDS):
            async for event in events:
                if event.get("event_type") == "text_delta":
                    took = time.perf_counter() - began
                    break
            while client.send_raw(calls.agent(name))["state"] == "working":
                await trio.sleep(0.05)
    return took


def _by_hand(part: Part, source: Path) -> tuple[float, float]:
    """Seconds until what runs beside the program answers, and then until its first text."""
    began = time.perf_counter()
    with _beside(part, source):
        ready = time.perf_counter()
        environment = {**os.environ, **part.environment}
        with subprocess.Popen(
            [part.program, *OPTIONS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=source, env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            message = {"role": "user", "content": part.words}
            process.stdin.write(json.dumps({"type": "user", "message": message}).encode() + b"\n")
            process.stdin.close()
            for line in process.stdout:
                if b'"text_delta"' in line or b'"assistant"' in line:
                    took = time.perf_counter() - ready
                    process.kill()
                    return ready - began, took
    raise AssertionError("it said nothing")


@contextmanager
def _beside(part: Part, source: Path) -> Iterator[None]:
    if not part.beside:
        yield
        return
    with subprocess.Popen(part.beside, cwd=source, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # its port: it listens
        yield
        process.kill()


def _is_up(view: Mapping[str, object]) -> bool:
    services = view["services"]
    assert isinstance(services, list)
    return view["state"] == "running" and all(each["state"] == "ready" for each in services)
