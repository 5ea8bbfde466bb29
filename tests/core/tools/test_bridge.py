"""The bridge as a program: what it carries, and what it says when the daemon goes away and comes back."""

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from colony_core.tools import BRIDGE

HANGS_AFTER = 120.0
CALL = {"method": "tools/call", "params": {"name": "services"}}
START = """
import sys
sys.path.insert(0, sys.argv[1])
import bridge
bridge.PATIENCE_SECONDS = float(sys.argv[3])
bridge.Bridge(sys.argv[2], 0, 1).run()
"""


class Agent:
    """The bridge, seen from the agent that started it."""

    def __init__(self, name: str, patience: float) -> None:
        words = [sys.executable, "-I", "-S", "-c", START, str(BRIDGE.parent), name, str(patience)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def say(self, **message: Any) -> None:
        self.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def hear(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout.readline())
        return found


class Daemon:
    """Whoever listens at the name."""

    def __init__(self, name: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"\0{name}")
        self.listener.listen()
        self.listener.settimeout(HANGS_AFTER)

    def accept(self) -> None:
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(HANGS_AFTER)
        self.lines = self.connection.makefile("rw")

    def hear(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines.readline())
        return found

    def say(self, **message: Any) -> None:
        self.lines.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.lines.flush()

    def die(self) -> None:
        self.listener.close()
        self.lines.close()
        self.connection.close()


@pytest.fixture
def name() -> str:
    return f"colony-test-{secrets.token_hex(8)}"


@contextmanager
def started(name: str, patience: float = HANGS_AFTER) -> Iterator[Agent]:
    agent = Agent(name, patience)
    try:
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait()
        agent.stdout.close()
        with suppress(BrokenPipeError):
            agent.stdin.close()


def test_it_carries_what_is_said_and_ends_with_the_agent(name: str) -> None:
    daemon = Daemon(name)
    with started(name) as agent:
        agent.say(id=1, **CALL)
        agent.say(method="notifications/initialized")
        daemon.accept()
        assert daemon.hear()["id"] == 1
        assert daemon.hear()["method"] == "notifications/initialized"
        daemon.say(id=1, result={"text": "é" * 300_000})
        assert agent.hear()["result"]["text"] == "é" * 300_000
        agent.stdin.close()
        assert agent.process.wait(HANGS_AFTER) == 0
    daemon.die()


def test_an_agent_that_says_no_more_still_gets_its_answers(name: str) -> None:
    """So that a script may pipe its calls in."""
    daemon = Daemon(name)
    with started(name) as agent:
        agent.say(id="x", **CALL)
        agent.stdin.close()
        daemon.accept()
        assert daemon.hear()["id"] == "x"
        daemon.say(id="x", result={})
        assert agent.hear()["id"] == "x"
        assert agent.process.wait(HANGS_AFTER) == 0
    daemon.die()


def test_what_is_asked_before_there_is_a_daemon_waits_for_it(name: str) -> None:
    with started(name) as agent:
        agent.say(id=1, method="initialize")
        daemon = Daemon(name)
        daemon.accept()
        assert daemon.hear()["method"] == "initialize"
        daemon.say(id=1, result={})
        assert agent.hear()["id"] == 1
        daemon.die()


def test_of_a_daemon_that_dies_calls_end_with_an_error_and_the_rest_is_asked_of_the_next(name: str) -> None:
    first = Daemon(name)
    with started(name) as agent:
        agent.say(id=1, **CALL)
        agent.say(id=2, method="tools/list")
        first.accept()
        assert [first.hear()["id"], first.hear()["id"]] == [1, 2]
        first.die()
        answer = agent.hear()
        assert (answer["id"], answer["error"]["code"]) == (1, -32000)
        assert "before you ask again" in answer["error"]["message"]
        second = Daemon(name)
        second.accept()
        assert second.hear()["id"] == 2, "the call is not made twice"
        second.say(id=2, result={"tools": []})
        assert agent.hear() == {"jsonrpc": "2.0", "id": 2, "result": {"tools": []}}
        agent.say(id=3, **CALL)
        assert second.hear()["id"] == 3
        second.die()
        assert agent.hear()["id"] == 3


def test_where_no_daemon_comes_the_agent_is_told(name: str) -> None:
    with started(name, patience=0.3) as agent:
        agent.say(id=1, **CALL)
        assert "nobody answers for this colony" in agent.hear()["error"]["message"]
        agent.stdin.close()
        assert agent.process.wait(HANGS_AFTER) == 0


def test_it_ends_when_nobody_reads_any_more(name: str) -> None:
    daemon = Daemon(name)
    with started(name) as agent:
        agent.say(id=1, **CALL)
        daemon.accept()
        daemon.hear()
        agent.stdout.close()
        assert agent.process.wait(HANGS_AFTER) == 0
        assert daemon.lines.readline() == "", "and the daemon hears it: a question that it asked is void"
    daemon.die()


def test_it_needs_nothing_but_the_standard_library() -> None:
    words = [sys.executable, "-I", "-S", "-X", "importtime", str(BRIDGE)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()[1:]}
    assert {"socket", "select"} <= imported
    assert imported <= {*sys.stdlib_module_names, "imported package"}
