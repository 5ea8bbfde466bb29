"""Every operation of the API, with every parameter and field, over a real daemon; what it does is seen from outside of it."""

import html
import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from colony_core.remote import calls
from colony_core.remote.streaming import open_events, open_exec, open_terminal
from colony_core.views import ExecRequest, Screen, TerminalEnd, TerminalSize
from colony_web import openapi
from colony_web.app import ROUTES

from .driver import Daemon, alive

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

MANIFEST = """
[services.talk]
command = ["python3", "-u", "-c", "import time; print('hello'); print('world'); time.sleep(6000)"]
ready = { log = "world" }

[services.deaf]
command = "trap '' TERM; echo deaf; while :; do sleep 1; done"
ready = { log = "deaf" }
grace = "50s"
"""
EVERYWHERE = {"Idempotency-Key", "If-None-Match", "If-Match"}
"""Parameters of many operations; each has tests of its own."""
EXERCISED: dict[str, set[str]] = {}


def exercises(operation: str, *names: str) -> Callable[[Any], Any]:
    """Notes which operation a test exercises, and which of its parameters and fields."""
    EXERCISED.setdefault(operation, set()).update(names)
    return lambda test: test


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all of these."""
    with Daemon(tmp_path_factory.mktemp("routes")).running() as running:
        yield running


@pytest.fixture
def hello(daemon: Daemon) -> Iterator[dict[str, Any]]:
    """A colony that is up."""
    folder = daemon.folder / "hello"
    folder.mkdir(exist_ok=True)
    (folder / "colony.toml").write_text(MANIFEST)
    ask(daemon, "POST", "/api/colonies", {"name": "hello", "path": str(folder)}, expect=201)
    yield daemon.until_ready("hello")
    ask(daemon, "POST", "/api/colonies/hello/stop", {"grace": 0.1}, expect=(202, 404))
    ask(daemon, "DELETE", "/api/colonies/hello", expect=(204, 404))


def ask(
    daemon: Daemon, method: str, path: str, body: Any = None, *, expect: int | tuple[int, ...] = 200, **headers: str
) -> Any:
    """What curl is answered on the socket; the status must be as expected."""
    given = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    command = ["curl", "-sS", "-X", method, "--unix-socket", socket_of(daemon), *data]
    command += [part for header in given for part in ("-H", header)]
    done = subprocess.run(
        [*command, "-w", "\n%{http_code}", f"http://localhost{path}"],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    text, _, status = done.stdout.rpartition("\n")
    assert int(status) in (expect if isinstance(expect, tuple) else (expect,)), done.stdout
    return json.loads(text) if text else None


def socket_of(daemon: Daemon) -> str:
    return str(daemon.state / "run/colony.sock")


def pid_of(view: dict[str, Any], service: str = "talk") -> int:
    return int(next(s["pid"] for s in view["services"] if s["name"] == service))


def test_every_operation_parameter_and_field_is_exercised_here() -> None:
    document = openapi.document(ROUTES, version="0", extra_types=(ExecRequest,))
    schemas = document["components"]["schemas"]
    known: dict[str, set[str]] = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            names = {each["name"] for each in operation["parameters"] if each["in"] != "path"} - EVERYWHERE
            if "requestBody" in operation:
                kind = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                names |= set(schemas[kind]["properties"])
            known[operation["operationId"]] = names
    known["run_command"] |= set(schemas["ExecRequest"]["properties"])
    assert known == EXERCISED


@exercises("show_system")
@exercises("show_tree")
def test_the_system_is_shown(daemon: Daemon, hello: dict[str, Any]) -> None:
    system = ask(daemon, "GET", "/api/system")
    assert daemon.process is not None
    assert system["pid"] == daemon.process.pid
    assert alive(system["keeper_pid"])
    assert (system["socket"], system["colonies"]) == (socket_of(daemon), 1)
    tree = ask(daemon, "GET", "/api/system/tree")
    assert "hello (supervisor)" in tree["text"]
    assert "colonies" in [child["id"] for child in tree["tree"]["children"]]


@exercises("create_colony", "name", "path", "template", "start", "dry_run", "task", "agent")
@exercises("show_colony")
@exercises("list_colonies", "state", "owner", "name", "limit", "after")
@exercises("remove_colony")
def test_colonies_are_made_listed_shown_and_removed(daemon: Daemon, hello: dict[str, Any]) -> None:
    assert os.stat(f"/proc/{pid_of(hello)}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
    empty = daemon.folder / "empty"
    empty.mkdir(exist_ok=True)
    asked = {"name": "other", "path": str(empty), "template": "api-service"}
    assert ask(daemon, "POST", "/api/colonies", asked | {"dry_run": True})["name"] == "other"
    assert [c["name"] for c in ask(daemon, "GET", "/api/colonies")] == ["hello"]
    made = ask(daemon, "POST", "/api/colonies", asked | {"start": False}, expect=201, Idempotency_Key="once")
    again = ask(daemon, "POST", "/api/colonies", asked | {"start": False}, expect=201, Idempotency_Key="once")
    assert again == made
    assert ask(daemon, "POST", "/api/colonies", asked, expect=409)["code"] == "name-taken"
    assert (made["state"], [s["name"] for s in made["services"]]) == ("stopped", ["api"])
    assert [c["name"] for c in ask(daemon, "GET", "/api/colonies?state=stopped")] == ["other"]
    for query, names in (
        ("name=ot*", ["other"]),
        ("name=o", []),
        ("owner=nobody", []),
        (f"owner={made['owner']}", ["hello", "other"]),
        ("limit=1", ["hello"]),
        ("after=hello", ["other"]),
    ):
        assert [c["name"] for c in ask(daemon, "GET", f"/api/colonies?{query}")] == names, query
    assert ask(daemon, "GET", f"/api/colonies/{made['id']}")["name"] == "other"
    ask(daemon, "DELETE", "/api/colonies/other", expect=204)
    assert ask(daemon, "GET", "/api/colonies/other", expect=404)["code"] == "colony-not-found"
    ask(daemon, "POST", "/api/colonies/hello/services/deaf/stop", {"grace": 0.1}, expect=202)
    ask(daemon, "DELETE", "/api/colonies/hello", expect=204)
    assert not alive(pid_of(hello))
    assert not (daemon.state / "logs" / hello["id"]).exists()


PART = [
    {"text": {"text": "I begin."}},
    {"approval_asked": {"id": "q", "tool": "Bash", "kind": "execute", "input": {"command": "make"}}},
    {"ended": {"outcome": "done", "text": "made"}},
]


@exercises("list_sessions", "state", "owner", "name", "after", "limit")
@exercises("show_agent")
@exercises("show_receipt")
@exercises("instruct_agent", "instruction", "agent")
@exercises("continue_agent", "instruction", "agent")
@exercises("interrupt_agent")
@exercises("list_approvals", "decision", "after", "limit")
@exercises("decide_approval", "allow", "message")
@exercises("read_feed", "after", "limit")
@exercises("stream_feed", "after", "tail", "Last-Event-ID")
def test_an_agent_is_instructed_asked_interrupted_and_read(daemon: Daemon, hello: dict[str, Any]) -> None:
    at = "/api/colonies/hello"

    def agent() -> dict[str, Any]:
        found: dict[str, Any] = ask(daemon, "GET", f"{at}/agent")
        return found

    part = {"instruction": json.dumps(PART), "agent": {"backend": "fake", "model": "opus"}}
    assert ask(daemon, "POST", f"{at}/continue", part, expect=409)["code"] == "no-session"
    assert ask(daemon, "POST", f"{at}/interrupt", expect=409)["code"] == "agent-not-working"
    assert ask(daemon, "POST", f"{at}/instruct", part, expect=202)["state"] == "working"
    assert ask(daemon, "POST", f"{at}/instruct", part, expect=409)["code"] == "agent-working"
    daemon.until(lambda: agent()["state"] == "waiting", "it asks")
    (question,) = agent()["approvals"]
    assert ask(daemon, "GET", f"{at}/approvals") == [question]
    answered = ask(daemon, "POST", f"{at}/approvals/{question['id']}", {"allow": True, "message": "go on"})
    assert (answered["decision"], answered["message"]) == ("allowed", "go on")
    assert ask(daemon, "POST", f"{at}/approvals/{question['id']}", {"allow": True}, expect=404)
    assert ask(daemon, "GET", f"{at}/receipt", expect=(200, 404))
    daemon.until(lambda: agent()["state"] == "done", "it is done")
    assert ask(daemon, "GET", f"{at}/receipt")["verdict"] == "not-verified"
    assert [view["result"] for view in ask(daemon, "GET", "/api/sessions")] == ["made"]
    assert ask(daemon, "GET", "/api/sessions?limit=1&after=hello") == []
    owner = daemon.colony("hello")["owner"]
    for query, number in (
        (f"state=done&owner={owner}&name=h*", 1),
        ("state=waiting", 0),
        ("owner=nobody", 0),
        ("name=o*", 0),
    ):
        assert len(ask(daemon, "GET", f"/api/sessions?{query}")) == number, query
    asks = {"approval_asked": {"id": "r", "tool": "Ask", "kind": "question", "input": {"question": "left?"}}}
    follow_up = {"instruction": json.dumps([asks]), "agent": {"permissions": "all"}}
    assert ask(daemon, "POST", f"{at}/continue", follow_up, expect=202)["session"] == agent()["session"]
    daemon.until(lambda: agent()["state"] == "waiting", "it asks again")
    both = [agent()["approvals"][0]["id"], question["id"]]
    assert [each["id"] for each in daemon.send_all(calls.approvals("hello", limit=1))] == both
    assert [each["id"] for each in ask(daemon, "GET", f"{at}/approvals?after={both[0]}&limit=5")] == both[1:]
    for decision, wanted in (("open", both[:1]), ("allowed", both[1:]), ("denied", [])):
        assert [each["id"] for each in ask(daemon, "GET", f"{at}/approvals?decision={decision}")] == wanted
    ask(daemon, "POST", f"{at}/interrupt", expect=202)
    daemon.until(lambda: agent()["state"] == "idle", "it is interrupted")
    lines = ask(daemon, "GET", f"{at}/feed?after=0&limit=1000")
    assert [line["content"] for line in lines if line["kind"] == "status"] == ["completed", "interrupted"]
    assert ask(daemon, "GET", f"{at}/feed?after={lines[2]['seq']}&limit=2") == lines[3:5]
    for query, expected in ((f"after={lines[2]['seq']}", lines[3:]), ("tail=2", lines[-2:])):
        found = _lines_of(daemon, f"{at}/feed/stream?{query}", len(expected))
        assert [line["seq"] for line in found] == [line["seq"] for line in expected]
    again = _lines_of(daemon, f"{at}/feed/stream?after=0", 1, f"Last-Event-ID: {lines[4]['seq']}")
    assert again == lines[5:6]


def _lines_of(daemon: Daemon, path: str, count: int, *headers: str) -> list[dict[str, Any]]:
    """The first so many lines of a stream."""
    given = [part for header in headers for part in ("-H", header)]
    command = ["curl", "-sSN", "--unix-socket", socket_of(daemon), *given, f"http://localhost{path}"]
    found: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        for text in curl.stdout:
            if text.startswith("data: ") and "seq" in (line := json.loads(text.removeprefix("data: "))):
                found.append(line)
                if len(found) == count:
                    break
        curl.kill()
    return found


def test_a_colony_is_born_with_a_task_for_its_agent(daemon: Daemon) -> None:
    folder = daemon.folder / "born"
    folder.mkdir(exist_ok=True)
    (folder / "colony.toml").write_text("")
    asked = {"name": "born", "path": str(folder), "task": "[]", "agent": {"backend": "fake"}}
    assert ask(daemon, "POST", "/api/colonies", asked, expect=201)["agent"]["state"] == "working"
    daemon.until(lambda: daemon.colony("born")["agent"]["state"] == "done", "its task is done")
    ask(daemon, "DELETE", "/api/colonies/born", expect=204)
    assert ask(daemon, "GET", "/api/sessions") == []


def repository(folder: Path) -> Path:
    """Somebody's repository with one commit."""
    folder.mkdir(parents=True)
    (folder / "README").write_text("hello\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    return folder


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "maintenance.auto=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@exercises("add_project", "repo", "name")
@exercises("list_projects", "limit", "after")
@exercises("show_project")
@exercises("remove_project", "discard")
def test_projects_are_added_listed_shown_and_removed(daemon: Daemon, tmp_path: Path) -> None:
    repo = repository(tmp_path / "one")
    made = ask(daemon, "POST", "/api/projects", {"repo": str(repo), "name": "first"}, expect=202)
    assert (made["name"], made["url"]) == ("first", str(repo))
    assert ask(daemon, "POST", "/api/projects", {"repo": "ext::sh -c x"}, expect=422)["code"] == "invalid-repository"
    daemon.until(lambda: ask(daemon, "GET", "/api/projects/first")["state"] == "ready", "it is cloned")
    assert [each["name"] for each in ask(daemon, "GET", "/api/projects?limit=1")] == ["first"]
    assert ask(daemon, "GET", "/api/projects?after=first") == []
    folder = Path(made["folder"])
    git(
        folder / "repo.git",
        "update-ref",
        "refs/colony/x/1",
        git(folder / "repo.git", "commit-tree", "-m", "x", "main^{tree}"),
    )
    assert ask(daemon, "DELETE", "/api/projects/first", expect=409)["code"] == "work-would-be-lost"
    ask(daemon, "DELETE", "/api/projects/first?discard=first", expect=204)
    assert ask(daemon, "GET", "/api/projects/first", expect=404)["code"] == "project-not-found"
    assert not folder.exists()


@exercises("create_colony", "repo", "branch", "workspace")
@exercises("show_diff")
@exercises("show_history", "after", "limit")
@exercises("describe_change", "message", "Prefer")
@exercises("merge_colony", "target", "message", "ff", "dry_run", "Prefer")
@exercises("undo_change", "all", "to", "Prefer")
@exercises("push_colony", "branch", "merged", "Prefer")
@exercises("remove_colony", "keep_workspace", "discard")
def test_work_is_made_seen_described_merged_undone_pushed_and_removed(daemon: Daemon, tmp_path: Path) -> None:
    repo = repository(tmp_path / "two")
    git(repo, "branch", "release")
    asked = {"name": "scout", "repo": str(repo), "branch": "release", "workspace": "git"}
    ask(daemon, "POST", "/api/colonies", asked, expect=201)
    daemon.until(lambda: daemon.colony("scout")["state"] == "running", "it is up")
    view = daemon.colony("scout")
    assert (view["workspace"]["kind"], view["workspace"]["target"]) == ("git", "release")
    folder, at = Path(view["source"]), "/api/colonies/scout"
    (folder / "work.txt").write_text("1\n")
    assert [each["path"] for each in ask(daemon, "GET", f"{at}/diff")["files"]] == ["work.txt"]
    described = ask(daemon, "POST", f"{at}/describe", {"message": "Work"})
    assert [each["id"] for each in ask(daemon, "GET", f"{at}/history")] == [described["id"]]
    git(folder, "commit", "-q", "--allow-empty", "-m", "More")
    paged = daemon.send_all(calls.history("scout", limit=1))
    assert [each["message"] for each in paged] == ["More", "Work"]
    assert ask(daemon, "GET", f"{at}/history?after={paged[0]['id']}") == paged[1:]
    assert ask(daemon, "GET", f"{at}/history?after={'0' * 40}", expect=404)["code"] == "commit-not-found"
    tried = ask(daemon, "POST", f"{at}/merge", {"target": "main", "ff": "never", "dry_run": True})
    assert tried["outcome"] == "merged"
    merged = ask(daemon, "POST", f"{at}/merge", {"ff": "never", "message": "Together"})
    shared = daemon.state / "repos/two/repo.git"
    assert git(shared, "log", "-1", "--format=%s %H", "release") == f"Together {merged['commit']}"
    (folder / "work.txt").write_text("2\n")
    undone = ask(daemon, "POST", f"{at}/undo")
    assert (folder / "work.txt").read_text() == "1\n"
    ask(daemon, "POST", f"{at}/undo", {"to": undone["kept"]})
    assert (folder / "work.txt").read_text() == "2\n"
    assert ask(daemon, "POST", f"{at}/push", {"branch": "elsewhere"})["branch"] == "elsewhere"
    assert git(repo, "show", "elsewhere:work.txt") == "2"
    ask(daemon, "POST", f"{at}/push", {"merged": True})
    assert git(repo, "rev-parse", "release") == merged["commit"]
    (folder / "work.txt").write_text("3\n")
    ask(daemon, "POST", f"{at}/undo", {"all": True})
    assert (folder / "work.txt").read_text() == "1\n"
    _later(daemon, at, folder)
    (folder / "work.txt").write_text("4\n")
    lost = ask(daemon, "DELETE", at, expect=409)
    assert (lost["code"], lost["details"]["files"]) == ("work-would-be-lost", ["work.txt"])
    ask(daemon, "DELETE", f"{at}?keep_workspace=true", expect=204)
    assert (folder / "work.txt").read_text() == "4\n"
    ask(daemon, "POST", "/api/colonies", asked | {"name": "other"}, expect=201)
    daemon.until(lambda: daemon.colony("other")["state"] == "running", "it is up")
    (Path(daemon.colony("other")["source"]) / "work.txt").write_text("5\n")
    ask(daemon, "DELETE", "/api/colonies/other?discard=other", expect=204)
    assert "refs/colony/other/" in git(shared, "for-each-ref", "refs/colony")


def _later(daemon: Daemon, at: str, folder: Path) -> None:
    """The same verbs for somebody who does not wait for their answers."""

    def later(verb: str, body: Any = None) -> dict[str, Any]:
        """The event that tells the end."""
        after = told_all(daemon)
        assert ask(daemon, "POST", f"{at}/{verb}", body, expect=202, Prefer="respond-async") == {"accepted": True}
        (event,) = daemon.send(calls.events(after=after, kinds=["workspace"], wait_seconds=60))
        return {key: event[key] for key in ("type", "colony", "what", "detail", "verb", "code", "hint") if key in event}

    (folder / "later.txt").write_text("1\n")
    described = later("describe", {"message": "Later\n\nand more"})
    commit = ask(daemon, "GET", f"{at}/history")[0]["id"][:12]
    assert described == {
        "type": "workspace", "colony": "scout", "what": "described", "detail": f"{commit} Later"
    }  # fmt: skip
    assert later("merge", {"ff": "auto"})["what"] == "merged"
    assert later("merge")["detail"] == "nothing into release"
    assert later("push", {"branch": "later"})["detail"].endswith(" to later")
    (folder / "later.txt").write_text("2\n")
    assert later("undo")["what"] == "undone"
    assert (folder / "later.txt").read_text() == "1\n"
    failed = later("push", {"branch": "release", "merged": False})
    assert (failed["type"], failed["verb"], bool(failed["code"] and failed["hint"])) == (
        "workspace_failed",
        "push",
        True,
    )
    tried = ask(daemon, "POST", f"{at}/merge", {"dry_run": True}, Prefer="respond-async")
    assert tried["outcome"] == "nothing", "what a dry run finds is in its answer"
    assert ask(daemon, "POST", f"{at}/describe", {"message": ""}, expect=202, Prefer="wait=5, Respond-Async; x=1")


@exercises("stop_colony", "grace")
@exercises("start_colony")
@exercises("restart_colony", "grace")
def test_a_colony_stops_starts_and_restarts(daemon: Daemon, hello: dict[str, Any]) -> None:
    ask(daemon, "POST", "/api/colonies/hello/stop", {"grace": 0.1}, expect=202)
    daemon.until(lambda: daemon.colony("hello")["state"] == "stopped", "it is stopped")
    assert not any(alive(pid_of(hello, service)) for service in ("talk", "deaf"))
    ask(daemon, "POST", "/api/colonies/hello/start", expect=202)
    up = daemon.until_ready("hello")
    assert alive(pid_of(up, "deaf"))
    ask(daemon, "POST", "/api/colonies/hello/restart", {"grace": 0.1}, expect=202)
    daemon.until(lambda: not alive(pid_of(up, "deaf")), "the deaf one is killed long before its own grace")
    assert pid_of(daemon.until_ready("hello")) != pid_of(up)


@exercises("apply_colony", "dry_run")
def test_an_edited_manifest_is_applied(daemon: Daemon, hello: dict[str, Any]) -> None:
    (daemon.folder / "hello/colony.toml").write_text(MANIFEST.replace("'world'", "'the world'"))
    told = ask(daemon, "POST", "/api/colonies/hello/apply", {"dry_run": True})
    assert told["restarted"] == ["talk"]
    assert pid_of(daemon.colony("hello")) == pid_of(hello)
    assert ask(daemon, "POST", "/api/colonies/hello/apply")["changes"] == told["changes"]
    daemon.until(lambda: not alive(pid_of(hello)), "it is restarted")
    assert pid_of(daemon.until_ready("hello"), "deaf") == pid_of(hello, "deaf")


@exercises("list_services")
@exercises("stop_service", "grace")
@exercises("start_service")
@exercises("restart_service", "grace")
def test_services_are_listed_stopped_started_and_restarted(daemon: Daemon, hello: dict[str, Any]) -> None:
    at = "/api/colonies/hello/services"
    assert [s["pid"] for s in ask(daemon, "GET", at)] == [pid_of(hello), pid_of(hello, "deaf")]
    ask(daemon, "POST", f"{at}/deaf/stop", {"grace": 0.1}, expect=202)
    daemon.until(lambda: daemon.service("hello", "deaf")["state"] == "stopped", "it is stopped")
    assert [alive(pid_of(hello, service)) for service in ("talk", "deaf")] == [True, False]
    ask(daemon, "POST", f"{at}/deaf/start", expect=202)
    second = pid_of(daemon.until_ready("hello"), "deaf")
    assert alive(second)
    ask(daemon, "POST", f"{at}/deaf/restart", {"grace": 0.1}, expect=202)
    daemon.until(lambda: not alive(second), "it is killed long before its own grace")
    assert pid_of(daemon.until_ready("hello")) == pid_of(hello)


@exercises("read_log", "after", "limit", "tail", "service", "since", "until")
def test_a_log_is_read_by_every_choice(daemon: Daemon, hello: dict[str, Any]) -> None:
    def texts(query: str) -> list[str]:
        page = ask(daemon, "GET", f"/api/colonies/hello/logs?{query}")
        return [line["text"] for line in page["lines"] if line["stream"] == "out"]

    lines = ask(daemon, "GET", "/api/colonies/hello/logs?service=talk")["lines"]
    first, last = (next(line for line in lines if line["text"] == text) for text in ("hello", "world"))
    assert texts("service=talk") == ["hello", "world"]
    assert set(texts("service=talk&service=deaf")) == {"hello", "world", "deaf"}
    assert texts(f"service=talk&after={first['seq']}") == ["world"]
    assert texts("service=talk&limit=1") == ["hello"]
    assert texts("service=talk&tail=1") == ["world"]
    assert texts(f"service=talk&since={last['at']}")[-1:] == ["world"]
    assert texts("service=talk&since=2099-01-01T00:00:00Z") == []
    assert texts("service=talk&until=2001-01-01T00:00:00Z") == []


@exercises("stream_log", "after", "tail", "service", "Last-Event-ID")
def test_a_log_is_streamed_from_every_place(daemon: Daemon, hello: dict[str, Any]) -> None:
    lines = ask(daemon, "GET", "/api/colonies/hello/logs?service=talk")["lines"]
    hello_seq, world_seq = (next(line["seq"] for line in lines if line["text"] == text) for text in ("hello", "world"))
    assert first_streamed(daemon, "service=talk&after=0") == (hello_seq, "hello")
    assert first_streamed(daemon, f"service=talk&after={hello_seq}") == (world_seq, "world")
    assert first_streamed(daemon, "service=talk&tail=1") == (world_seq, "world")
    assert first_streamed(daemon, "service=talk", Last_Event_ID=str(hello_seq)) == (world_seq, "world")


def first_streamed(daemon: Daemon, query: str, **headers: str) -> tuple[int, str]:
    """Number and text of the first line that curl is sent."""
    given = [part for name, value in headers.items() for part in ("-H", f"{name.replace('_', '-')}: {value}")]
    address = f"http://localhost/api/colonies/hello/logs/stream?{query}"
    command = ["curl", "-sSN", "--max-time", "180", "--unix-socket", socket_of(daemon), *given, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        number = 0
        for line in curl.stdout:
            name, _, value = line.strip().partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data" and "text" in (said := json.loads(value)):
                curl.kill()
                return number, said["text"]
    raise AssertionError("the stream ended")


def told_all(daemon: Daemon) -> int:
    """The number of the newest event, when everything that has happened is told: that is kept first, a moment after it happened."""
    before = daemon.send_system()["last_event"]
    ask(daemon, "POST", "/api/system/reload")

    def reloaded() -> int | None:
        events = daemon.send(calls.events(after=before, limit=1000, kinds=["house"]))
        return next((int(event["seq"]) for event in events if event["what"] == "reloaded"), None)

    return daemon.until(reloaded, "the reload is told")


@exercises("list_events", "after", "limit", "wait_seconds", "colony", "service", "kind")
def test_events_are_listed_and_waited_for(daemon: Daemon, hello: dict[str, Any]) -> None:
    last = told_all(daemon)
    assert ask(daemon, "GET", "/api/system")["last_event"] == last
    assert [event["seq"] for event in ask(daemon, "GET", "/api/events?limit=1")] == [last]
    assert [event["seq"] for event in ask(daemon, "GET", f"/api/events?after={last - 3}&limit=2")] == [
        last - 2,
        last - 1,
    ]
    assert ask(daemon, "GET", f"/api/events?after={last}") == []
    some = ask(daemon, "GET", "/api/events?after=0&limit=1000&colony=hello&service=talk&kind=service")
    assert {(event["colony"], event["service"]) for event in some} == {("hello", "talk")}
    address = f"http://localhost/api/events?after={last}&wait_seconds=60"
    with subprocess.Popen(["curl", "-sS", "--unix-socket", socket_of(daemon), address], stdout=subprocess.PIPE) as curl:
        ask(daemon, "POST", "/api/colonies/hello/services/talk/restart", expect=202)
        assert curl.stdout is not None
        assert json.loads(curl.stdout.read())[0]["service"] == "talk"


@exercises("follow_events", "after", "colony", "service", "kind")
async def test_events_are_followed_over_a_websocket(daemon: Daemon, hello: dict[str, Any]) -> None:
    with trio.fail_after(180):
        async with open_events(target(daemon), after=0) as events:
            seen = [await anext(events) for _ in range(3)]
            assert [event["seq"] for event in seen] == [1, 2, 3]
        last = told_all(daemon)
        async with open_events(target(daemon), after=last) as events:
            ask(daemon, "POST", "/api/colonies/hello/services/talk/restart", expect=202)
            event = await anext(events)
            assert (event["seq"], event["service"]) == (last + 1, "talk")
        chosen = {"colonies": ["hello"], "services": ["talk", "deaf"], "kinds": ["service"]}
        async with open_events(target(daemon), after=0, **chosen) as events:
            assert {(await anext(events))["service"] for _ in range(4)} <= {"talk", "deaf"}


@exercises("stream_events", "after", "Last-Event-ID", "colony", "service", "kind")
def test_events_are_streamed_from_a_place_and_of_a_choice(daemon: Daemon, hello: dict[str, Any]) -> None:
    def first(query: str, *headers: str) -> dict[str, Any]:
        command = ["curl", "-sSN", "--max-time", "180", "--unix-socket", socket_of(daemon), *headers]
        address = f"http://localhost/api/events/stream?{query}"
        with subprocess.Popen([*command, address], stdout=subprocess.PIPE, text=True) as curl:
            assert curl.stdout is not None
            found: dict[str, Any] = next(json.loads(line[6:]) for line in curl.stdout if line.startswith("data: "))
            curl.kill()
        return found

    assert first("after=2")["seq"] == 3
    assert first("after=2", "-H", "Last-Event-ID: 4")["seq"] == 5
    event = first("after=0&colony=hello&service=deaf&kind=service")
    assert (event["type"], event["colony"], event["service"]) == ("service_state", "hello", "deaf")


@exercises("list_terminals", "limit", "after")
@exercises("open_terminal", "command", "cwd", "env", "screen")
@exercises("close_terminal")
@exercises("show_terminal", "after", "rows", "columns", "read_only")
async def test_a_terminal_is_opened_shown_and_closed(daemon: Daemon, hello: dict[str, Any]) -> None:
    (daemon.folder / "hello/inside").mkdir(exist_ok=True)
    screen = {"rows": 30, "columns": 90, "term": "vt100"}
    asked = {"command": ["sh", "-c", "pwd; stty size; echo $WORD $TERM; exec cat"], "cwd": "inside", "screen": screen}
    view = ask(daemon, "POST", "/api/colonies/hello/terminals", asked | {"env": {"WORD": "said"}}, expect=201)
    inside = daemon.folder / "hello/inside"
    with trio.fail_after(180):
        async with open_terminal(target(daemon), "hello", view["id"], read_only=True) as terminal:
            shown = await until(terminal, b"said vt100\r\n")
            assert shown.decode().split() == [str(inside), "30", "90", "said", "vt100"]
            place = terminal.place
        size = TerminalSize(31, 91)
        async with open_terminal(target(daemon), "hello", view["id"], after=place, size=size) as terminal:
            await terminal.type(b"again\r")
            assert await until(terminal, b"again\r\nagain\r\n") == b"again\r\nagain\r\n"
            [listed] = ask(daemon, "GET", "/api/colonies/hello/terminals")
            assert (listed["id"], listed["rows"], listed["columns"]) == (view["id"], 31, 91)
            ask(daemon, "DELETE", f"/api/colonies/hello/terminals/{view['id']}", expect=204)
            while not isinstance(await terminal.receive(), TerminalEnd):
                pass
    several = [
        ask(daemon, "POST", "/api/colonies/hello/terminals", {"command": ["cat"]}, expect=201)["id"] for _ in range(2)
    ]
    [first] = ask(daemon, "GET", "/api/colonies/hello/terminals?limit=1")
    behind = urllib.parse.quote(f"{first['opened_at']} {first['id']}")
    [second] = ask(daemon, "GET", f"/api/colonies/hello/terminals?after={behind}")
    assert {first["id"], second["id"]} == set(several)
    for one in several:
        ask(daemon, "DELETE", f"/api/colonies/hello/terminals/{one}", expect=204)
    assert ask(daemon, "GET", "/api/colonies/hello/terminals") == []
    assert not alive(view["pid"])


async def until(terminal: Any, text: bytes) -> bytes:
    """What a terminal shows, up to a text."""
    shown = b""
    while text not in shown:
        if isinstance(told := await terminal.receive(), bytes):
            shown += told
    return shown


@exercises("run_command", "command", "cwd", "env", "screen")
async def test_a_command_is_run_over_a_websocket(daemon: Daemon, hello: dict[str, Any]) -> None:
    (daemon.folder / "hello/inside").mkdir(exist_ok=True)
    request = ExecRequest(command=("sh", "-c", "pwd; echo $WORD; exit 7"), cwd="inside", env={"WORD": "said"})
    with trio.fail_after(180):
        async with open_exec(target(daemon), "hello", request) as running:
            await running.stdin.aclose()
            said = b"".join([part async for part in running.stdout])
            assert await running.wait() == 7
    assert said.decode().split() == [str(daemon.folder / "hello/inside"), "said"]
    screen = Screen(rows=30, columns=90, term="vt100")
    request = ExecRequest(command=("sh", "-c", "stty size; read go; stty size; echo $TERM; exit 8"), screen=screen)
    with trio.fail_after(180):
        async with open_exec(target(daemon), "hello", request) as running:
            shown = await running.stdout.receive_some()
            assert shown == b"30 90\r\n"
            await running.resize(TerminalSize(31, 91))
            await running.stdin.send_all(b"\r")
            said = b"".join([part async for part in running.stdout])
            assert await running.wait() == 8
    assert said == b"\r\n31 91\r\nvt100\r\n"


def target(daemon: Daemon) -> Any:
    from colony_core.remote import discover

    return discover(environ=daemon.environment)


def test_the_examples_of_the_page_answer(daemon: Daemon) -> None:
    command = ["curl", "-sS", "--unix-socket", socket_of(daemon), "http://localhost/docs"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
    lines = html.unescape(page.partition("<pre>")[2].partition("</pre>")[0]).splitlines()
    assert len(lines) == 3
    script = "\n".join(line.replace("curl ", "curl -sS --fail-with-body ") for line in lines)
    path = f"{Path(sys.executable).parent}:{daemon.environment['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", script],
        env=daemon.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[][]"), done.stderr


@exercises("list_backends")
def test_the_kinds_of_agents_say_whether_they_can_work(daemon: Daemon) -> None:
    views = ask(daemon, "GET", "/api/backends")
    assert {"hld", "claude", "acp", "script"} <= {view["name"] for view in views}
    assert sum(view["chosen"] for view in views) <= 1
    for view in views:
        assert view["detail"]
        assert view["ready"] or view["hint"], view["name"]
        assert view["chosen"] == bool(view["why"])


@exercises("list_usage", "limit", "after")
def test_what_a_colony_uses_is_told(daemon: Daemon, hello: dict[str, Any]) -> None:
    [usage] = ask(daemon, "GET", "/api/usage?limit=1")
    assert ask(daemon, "GET", "/api/usage?after=hello") == []
    assert (usage["colony"], usage["state"], usage["services"]) == ("hello", "running", 2)
    assert usage["processes"] >= 2
    assert usage["memory_bytes"] > 0
    assert usage["log_lines"] >= 3


@exercises("create_login")
@exercises("end_login")
@exercises("list_audit", "after", "limit", "wait_seconds", "person", "target")
def test_a_browser_comes_and_goes_and_both_are_written_down(daemon: Daemon) -> None:
    before = max([0, *(entry["seq"] for entry in ask(daemon, "GET", "/api/audit?limit=1"))])
    link = ask(daemon, "POST", "/api/logins", expect=201)["url"]
    said = subprocess.run(["curl", "-sSi", link], capture_output=True, text=True, timeout=180, check=True).stdout
    cookie = next(line for line in said.splitlines() if line.lower().startswith("set-cookie")).split()[1].rstrip(";")
    base = ask(daemon, "GET", "/api/system")["api_url"]
    leave = ["curl", "-sS", "-w", "%{http_code}", "-X", "POST", "-H", f"Cookie: {cookie}", "-H", "Colony-Request: 1"]
    for code in ("204", "401"):
        done = subprocess.run([*leave, f"{base}/api/logout"], capture_output=True, text=True, timeout=180, check=True)
        assert done.stdout.endswith(code)
    entries = ask(daemon, "GET", f"/api/audit?after={before}&limit=10&wait_seconds=5")
    assert [(entry["path"], entry["status"]) for entry in entries] == [
        ("/api/logins", 201),
        ("/login", 303),
        ("/api/logout", 204),
        ("/api/logout", 401),
    ]
    mine = ask(daemon, "GET", f"/api/audit?after={before}&person={entries[0]['person']}")
    assert [entry["status"] for entry in mine] == [201, 303, 204], "the last was nobody's"
    assert ask(daemon, "GET", "/api/audit?after=0&target=nothing") == []


@exercises("create_token", "name", "role", "seconds", "colony", "person")
def test_keys_may_be_anothers_an_agents_and_end(daemon: Daemon, hello: dict[str, Any]) -> None:
    asked = {"name": "helper", "role": "agent", "colony": "hello", "seconds": 3600, "person": "ann"}
    made = ask(daemon, "POST", "/api/tokens", asked, expect=201)
    assert (made["colony"], made["person"]) == (hello["id"], "ann")
    assert made["expires_at"] > made["created_at"]
    base = ask(daemon, "GET", "/api/system")["api_url"]
    assert status(f"{base}/api/colonies/hello", made["token"]) == 200
    assert status(f"{base}/api/colonies/other", made["token"]) == 404
    assert status(f"{base}/api/colonies/hello/services/talk/restart", made["token"], method="POST") == 202
    assert status(f"{base}/api/colonies/hello/stop", made["token"], method="POST") == 403


@exercises("create_token", "name", "role")
@exercises("list_tokens", "person", "limit", "after")
@exercises("revoke_token")
@exercises("revoke_tokens", "person")
def test_tokens_open_the_port_until_they_are_revoked(daemon: Daemon) -> None:
    made = ask(daemon, "POST", "/api/tokens", {"name": "looks", "role": "viewer"}, expect=201)
    [told] = [token for token in ask(daemon, "GET", "/api/tokens") if token["id"] == made["id"]]
    assert (told["name"], told["role"], told["token"]) == ("looks", "viewer", None)
    assert ask(daemon, "GET", "/api/tokens?person=nobody") == []
    [oldest] = ask(daemon, "GET", "/api/tokens?limit=1")
    behind = urllib.parse.quote(f"{oldest['created_at']} {oldest['id']}")
    assert oldest["id"] not in [token["id"] for token in ask(daemon, "GET", f"/api/tokens?after={behind}")]
    base = ask(daemon, "GET", "/api/system")["api_url"]
    assert status(f"{base}/api/colonies", made["token"]) == 200
    assert status(f"{base}/api/system/shutdown", made["token"], method="POST") == 403
    ask(daemon, "DELETE", f"/api/tokens/{made['id']}", expect=204)
    assert status(f"{base}/api/colonies", made["token"]) == 401
    anns = ask(daemon, "POST", "/api/tokens", {"name": "hers", "person": "ann"}, expect=201)["token"]
    assert status(f"{base}/api/colonies", anns) == 200
    ask(daemon, "DELETE", "/api/tokens?person=ann", expect=204)
    assert status(f"{base}/api/colonies", anns) == 401


def status(url: str, token: str, *, method: str = "GET") -> int:
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"})
    try:
        with closing(urllib.request.urlopen(request, timeout=180)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@exercises("reload")
def test_settings_are_read_again(daemon: Daemon) -> None:
    file = daemon.folder / "none.toml"
    file.write_text('[processes]\nlog_age = "2h"\n[routing]\ndomain = "other.localhost"\n')
    told = ask(daemon, "POST", "/api/system/reload")
    assert told == {"changed": ["processes.log_age"], "waiting": ["routing.domain"]}
    file.write_text("[processes]\nlog_aeg = 1\n")
    assert "did you mean log_age" in ask(daemon, "POST", "/api/system/reload", expect=422)["hint"]
    file.write_text("")
    assert ask(daemon, "POST", "/api/system/reload")["changed"] == ["processes.log_age"]


@exercises("shut_down", "colonies")
def test_the_daemon_ends_without_and_with_its_colonies(tmp_path: Path) -> None:
    with Daemon(tmp_path).running() as daemon:
        daemon.spawn("idle", '[services.idle]\ncommand = "exec sleep 6000"\n')
        pid = daemon.until_ready("idle")["services"][0]["pid"]
        for colonies in (False, True):
            ask(daemon, "POST", "/api/system/shutdown", {"colonies": colonies}, expect=202)
            assert daemon.process is not None
            assert daemon.process.wait(180) == 0
            assert alive(pid) is not colonies
            daemon.start()


def test_websockets_that_break_off_are_no_news_to_the_log(daemon: Daemon, hello: dict[str, Any]) -> None:
    def quit_after_the_start(path: str, first: str) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        import socket

        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(180)
            client.connect(socket_of(daemon))
            client.sendall(head.encode())
            assert b" 101 " in client.recv(4096)
            if first:
                data = first.encode()
                client.sendall(bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data)
                assert client.recv(4096)

    before = len((daemon.folder / "daemon.log").read_text())
    quit_after_the_start("/ws?after=0", "")
    quit_after_the_start("/api/colonies/hello/exec", '{"command": ["sh", "-c", "echo on; sleep 6000"]}')
    quit_after_the_start("/api/colonies/hello/exec", '{"command": ["yes"]}')
    ask(daemon, "POST", "/api/colonies/hello/services/talk/restart", expect=202)
    daemon.until_ready("hello")
    assert (daemon.folder / "daemon.log").read_text()[before:] == ""
