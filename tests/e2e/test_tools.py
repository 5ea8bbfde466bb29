"""What an agent may know and do from inside of its colony, over the bridge that it starts: with a real daemon in real cells."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colony_core.remote import calls

from .driver import Daemon, alive
from .test_agents import agent_of, claude, feed_of, rests, steps, with_claude

__all__ = ["claude"]
pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ASK = """
import json, os, subprocess, sys

class Tools:
    def __init__(self):
        self.bridge = subprocess.Popen([sys.executable, "-m", "colony_cli", "mcp"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, bufsize=1)
        self.number = 0
        self.introduction = self.ask("initialize", protocolVersion="2025-06-18", capabilities={},
            clientInfo={"name": "test", "version": "1"})
        self.say({"method": "notifications/initialized"})

    def say(self, message):
        self.bridge.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")

    def ask(self, method, **params):
        self.number += 1
        self.say({"id": self.number, "method": method, "params": params})
        answer = json.loads(self.bridge.stdout.readline())
        assert answer["id"] == self.number, answer
        return answer.get("result") or answer

    def call(self, name, **arguments):
        result = self.ask("tools/call", name=name, arguments=arguments)
        return (result["content"][0]["text"], not result["isError"]) if "content" in result else (str(result), False)
"""
SCRIPT = '[agent]\nbackend = "script"\npermissions = "all"\n'
IDLE = '[services.idle]\ncommand = "python3 -u idle.py"\nready = { log = "here I am" }\n'
IDLE_PY = "import time\nprint('here I am')\ntime.sleep(600)\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path).running() as running:
        yield running


def spawned(daemon: Daemon, name: str, manifest: str = SCRIPT + IDLE, **files: str) -> Path:
    daemon.spawn(name, manifest, **{"idle.py": IDLE_PY, "tools.py": ASK, **files})
    daemon.until_ready(name)
    return daemon.folder / f"app-{name}"


def told_to(daemon: Daemon, name: str, body: str) -> None:
    """Has the colony's script agent play `body`, a program with `tools` in it."""
    program = daemon.folder / f"app-{name}/play.py"
    program.write_text(f"import json, time\nfrom tools import Tools\ntools = Tools()\n{body}\n")
    daemon.cli("instruct", name, "--new", f"{sys.executable} play.py")


def said(daemon: Daemon, name: str, body: str) -> list[Any]:
    """What `body` prints, line by line as JSON, once the agent has come to rest."""
    told_to(daemon, name, body)
    ended = rests(daemon, name)
    assert ended["state"] == "done", (ended, feed_of(daemon, name))
    return [json.loads(line) for line in ended["result"].splitlines()]


def audited(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.send(calls.audit(after=0, limit=1000))
    return [entry for entry in found if entry["method"] == "TOOL"]


def test_an_agent_sees_and_restarts_its_services_and_it_is_written_down(daemon: Daemon) -> None:
    spawned(daemon, "one")
    before = daemon.service("one", "idle")["pid"]
    body = """
print(json.dumps(tools.introduction["serverInfo"]["name"]))
print(json.dumps(sorted(tool["name"] for tool in tools.ask("tools/list")["tools"])))
print(tools.call("services")[0])
print(json.dumps(tools.call("logs", service="idle", tail=1)))
print(tools.call("restart_service", service="idle")[0])
print(tools.call("stop_service", service="idle")[0])
print(json.dumps(tools.call("start_service", service="idel")))
print(json.dumps(tools.ask("no/such/thing")["error"]["code"]))
"""
    name, names, service, logs, restarted, stopped, wrong, unknown = said(daemon, "one", body)
    assert name == "colony"
    assert {"services", "logs", "apply", "siblings", "report", "ask", "request_approval"} < set(names)
    assert (service["name"], service["state"], service["pid"]) == ("idle", "ready", before)
    assert logs[1] is True
    assert logs[0].endswith("idle out: here I am")
    assert restarted["state"] == "ready"
    assert restarted["pid"] not in (before, None)
    assert stopped["state"] == "stopped"
    assert wrong == ["service-not-found: colony “one” has no service “idel” (hint: did you mean idle?)", False]
    assert unknown == -32601
    assert not alive(before)
    colony = daemon.colony("one")
    rows = [
        (entry["command"], entry["status"], entry["role"], entry["name"], entry["target"]) for entry in audited(daemon)
    ]
    assert rows == [
        ("restart_service idle", 200, "agent", "one", "one"),
        ("stop_service idle", 200, "agent", "one", "one"),
        ("start_service idel", 404, "agent", "one", "one"),
    ]
    assert {entry["who"] for entry in audited(daemon)} == {f"colony:{colony['id']}"}


def test_an_agent_applies_what_it_edited_but_not_what_binds_it(daemon: Daemon) -> None:
    spawned(daemon, "one")
    more = '[services.two]\ncommand = "sleep 600"\n'
    body = f"""
manifest = open("colony.toml").read()
def edited(text):
    open("colony.toml", "w").write(text)
    print(json.dumps(tools.call("apply")))
edited(manifest + {more!r})
edited(manifest + {more!r})
edited(manifest.replace('permissions = "all"', 'permissions = "all"\\nmax_turns = 9'))
edited("[network]\\nlinks = ['two']\\n" + manifest)
edited(manifest.replace("command", "comand") + "[services.X]\\n")
"""
    added, again, turns, links, wrong = said(daemon, "one", body)
    assert added == ["two: added", True]
    assert again == ["nothing changed", True]
    assert turns[0].startswith("needs-a-person: colony.toml changes agent")
    assert links[0].startswith("needs-a-person: colony.toml changes links")
    assert wrong[1] is False
    assert len(wrong[0].splitlines()) > 2, "every mistake has its line"
    assert daemon.service("one", "two")["state"] == "ready"
    assert agent_of(daemon, "one")["state"] == "done"
    assert [entry["status"] for entry in audited(daemon)] == [200, 200, 403, 403, 422]


def test_an_agent_knows_what_its_siblings_are_at(daemon: Daemon) -> None:
    spawned(daemon, "one", SCRIPT + '[services.web]\ncommand = "python3 -m http.server 3000"\nport = 3000\n')
    spawned(daemon, "two")
    daemon.cli("instruct", "one", "echo Add a login; sleep 600")
    (sibling,) = said(daemon, "two", 'print(tools.call("siblings")[0])')
    assert (sibling["name"], sibling["state"], sibling["agent"]) == ("one", "running", "working")
    assert sibling["instruction"].startswith("echo Add a login")
    assert sibling["preview"].startswith("http://one.")


def test_what_an_agent_reports_and_asks_reaches_a_person_and_the_answer_comes_back(daemon: Daemon) -> None:
    spawned(daemon, "one")
    body = """
print(json.dumps(tools.call("report", text="half of it is done", status="progress")))
print(json.dumps(tools.call("ask", question="Which database?")))
print(json.dumps(tools.call("request_approval", action="drop the table", why="it is empty")))
print(json.dumps(tools.call("request_approval", action="push", why="it is done")))
"""
    told_to(daemon, "one", body)

    def asks(what: str) -> Any:
        return next((each for each in agent_of(daemon, "one")["approvals"] if what in each["summary"]), None)

    question = daemon.until(lambda: asks("Which database?"), "it asks")
    assert agent_of(daemon, "one")["state"] == "waiting"
    assert question["kind"] == "question"
    assert "colony answer one TEXT" in daemon.cli("why", "one").stderr
    daemon.cli("answer", "one", "PostgreSQL")
    drop = daemon.until(lambda: asks("drop the table"), "it asks again")
    assert "asks nothing" in daemon.cli("answer", "one", "yes", drop["id"], check=5).stderr
    assert "asks nothing" in daemon.cli("answer", "one", "yes", check=5).stderr  # what is to be approved is no question
    daemon.cli("deny", "one", "-m", "keep it")
    daemon.until(lambda: asks("push"), "it asks once more")
    daemon.cli("approve", "one")
    ended = rests(daemon, "one")
    told, answer, denied, approved = [json.loads(line) for line in ended["result"].splitlines()]
    assert (told, answer, denied, approved) == (
        ["told", True], ["PostgreSQL", True], ["denied: keep it", True], ["approved", True],
    )  # fmt: skip
    feed = [(line["kind"], line["content"]) for line in feed_of(daemon, "one")]
    assert ("report", "half of it is done") in feed
    assert ("decision", "allowed Which database?") in feed
    decided = daemon.send(calls.approvals("one"))
    assert [each["decision"] for each in decided] == ["allowed", "denied", "allowed"]


def test_a_question_is_void_when_its_agent_is_gone(daemon: Daemon) -> None:
    spawned(daemon, "one")
    told_to(daemon, "one", 'tools.call("ask", question="Anybody?")')
    daemon.until(lambda: agent_of(daemon, "one")["state"] == "waiting", "it asks")
    daemon.cli("interrupt", "one")
    assert rests(daemon, "one")["state"] == "idle"
    (question,) = daemon.send(calls.approvals("one"))
    assert question["decision"] == "void"
    assert "asks nothing" in daemon.cli("answer", "one", "here", check=5).stderr


def test_a_question_that_a_killed_daemon_left_is_void_and_is_asked_again(daemon: Daemon) -> None:
    spawned(daemon, "one")
    told_to(daemon, "one", 'print(json.dumps(tools.call("ask", question="Which way?")))')
    daemon.until(lambda: agent_of(daemon, "one")["approvals"], "it asks")
    (first,) = agent_of(daemon, "one")["approvals"]
    daemon.kill()
    daemon.start()
    daemon.until(lambda: agent_of(daemon, "one")["approvals"], "it asks again")
    (second,) = agent_of(daemon, "one")["approvals"]
    assert second["id"] != first["id"]
    assert "nobody waits" in daemon.cli("approve", "one", first["id"], check=None).stderr
    daemon.cli("answer", "one", "left")
    assert json.loads(rests(daemon, "one")["result"]) == ["left", True]
    assert [each["decision"] for each in daemon.send(calls.approvals("one"))] == ["allowed", "void"]


BESIDE = """
import time
from tools import Tools
tools = Tools()
while True:
    print("call", *tools.call("services"), flush=True)
    time.sleep(0.2)
"""


def test_a_bridge_outlives_the_daemon_and_speaks_to_the_next_one(daemon: Daemon) -> None:
    """A service holds it, which outlives the daemon as well: neither is started anew, and the calls go on."""
    beside = f"[services.beside]\ncommand = {json.dumps([sys.executable, '-u', 'beside.py'])}\n"
    spawned(daemon, "one", SCRIPT + beside, **{"beside.py": BESIDE})

    def answered() -> int:
        lines = daemon.send(calls.logs("one", limit=10_000, services=["beside"]))["lines"]
        return len([line for line in lines if line["text"].startswith("call {") and line["text"].endswith("True")])

    daemon.until(answered, "it is answered")
    pid = daemon.service("one", "beside")["pid"]
    daemon.kill()
    daemon.start()
    daemon.until_ready("one")
    before = answered()
    daemon.until(lambda: answered() > before + 2, "it is answered again")
    assert daemon.service("one", "beside")["pid"] == pid
    assert daemon.service("one", "beside")["restarts"] == 0


@pytest.mark.claude
def test_claude_uses_its_tools_without_asking_and_asks_a_person_through_them(claude: Daemon) -> None:
    with_claude(claude, "one")
    task = steps(
        {"tool": "mcp__colony__services", "input": {}},
        {"tool": "mcp__colony__report", "input": {"text": "I looked", "status": "progress"}},
        {"tool": "mcp__colony__ask", "input": {"question": "Which database?"}},
        {"text": "done"},
    )
    claude.cli("instruct", "one", "--permissions", "ask", task)
    claude.until(lambda: agent_of(claude, "one")["state"] == "waiting", "it asks")
    (question,) = agent_of(claude, "one")["approvals"]
    assert (question["tool"], question["summary"]) == ("ask", "Which database?")
    claude.cli("answer", "one", "PostgreSQL")
    assert rests(claude, "one")["state"] == "done"
    feed = [(line["kind"], line["content"]) for line in feed_of(claude, "one")]
    results = [content for kind, content in feed if kind == "tool_result"]
    assert '"name": "model"' in results[0]
    assert results[-1].endswith("PostgreSQL")
    assert ("report", "I looked") in feed
    assert not [content for _, content in feed if "did not start" in content]
