"""Agents at work in real cells under a real daemon: by the command, through kills of the daemon, and with the real Claude Code."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from colony_core.clock import parse_rfc3339

from .driver import COLONY, PATIENCE_SECONDS, Daemon, alive

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

MODEL = Path(__file__).parents[1] / "core/backends/fake_model.py"
SCRIPT = '[agent]\nbackend = "script"\npermissions = "all"\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path).running() as running:
        yield running


def agent_of(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.cli("why", name, "--json").stdout)
    return found


def rests(daemon: Daemon, name: str) -> dict[str, Any]:
    """The agent, once it has come to rest."""
    daemon.until(lambda: agent_of(daemon, name)["state"] in ("done", "failed", "idle"), f"the agent of {name} rests")
    return agent_of(daemon, name)


def feed_of(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    lines = daemon.cli("feed", name, "--after", "0", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_a_script_works_in_its_colonys_cell_and_folder_and_reaches_its_services(daemon: Daemon) -> None:
    """Two colonies with the same port: each agent meets its own service."""
    manifest = SCRIPT + '[services.web]\ncommand = "python3 -m http.server 3000"\nport = 3000\n'
    for name in ("one", "two"):
        daemon.spawn(name, manifest, **{"who.txt": name})
        daemon.until_ready(name)
        task = (
            "python3 -c \"import urllib.request as u; print(u.urlopen('http://localhost:3000/who.txt').read())\" >met"
        )
        done = daemon.cli("instruct", name, task, "-f")
        assert "completed" in done.stdout
        assert name in (daemon.folder / f"app-{name}/met").read_text()


def test_an_agent_that_fails_says_why_and_the_command_fails(daemon: Daemon) -> None:
    daemon.spawn("one", SCRIPT)
    daemon.until_ready("one")
    failed = daemon.cli("instruct", "one", "echo on the way; exit 3", "-f", check=1)
    assert "on the way" in failed.stdout
    assert "colony why one" in failed.stderr
    told = daemon.cli("why", "one").stdout
    assert "failed" in told
    assert "exit" in told


def test_an_agent_that_had_finished_when_its_budget_was_used_up_is_done_and_gets_no_more(daemon: Daemon) -> None:
    daemon.spawn("one", f'{SCRIPT}budget = {{ turns = 1 }}\n[checks]\nmade = "test -e made"\n')
    daemon.until_ready("one")
    assert (
        "used up: 1 of 1 turns; the agent had ended by then" in daemon.cli("instruct", "one", "touch made", "-f").stdout
    )
    found = agent_of(daemon, "one")
    assert (found["state"], found["receipt"]["verdict"]) == ("done", "verified")
    assert "used up" in daemon.cli("instruct", "one", "true", check=8).stderr
    daemon.cli("instruct", "one", "true", "--budget-turns", "2", "-f")
    assert "used up: 2 of 2 turns" in daemon.cli("instruct", "one", "true", check=8).stderr
    daemon.cli("instruct", "one", "true", "--budget-turns", "0", "--budget-minutes", "60", "--budget-tokens", "1", "-f")
    assert agent_of(daemon, "one")["budget"].endswith("of 60 minutes")


def test_an_instruction_comes_from_the_standard_input_and_names_may_be_listed(daemon: Daemon) -> None:
    daemon.spawn("one", SCRIPT)
    daemon.until_ready("one")
    assert daemon.cli("instruct", "one", "-", "-q", stdin="true\n").stdout == "one\n"
    assert rests(daemon, "one")["state"] == "done"
    assert "done" in daemon.cli("ls").stdout
    assert "done" in daemon.cli("show", "one").stdout


def test_the_end_of_an_agents_work_is_waited_for(daemon: Daemon) -> None:
    daemon.spawn("one", SCRIPT)
    daemon.until_ready("one")
    assert "not done, after" in daemon.cli("wait", "one", "--for", "done", "--timeout", "5s", check=7).stderr
    go = daemon.folder / "app-one/go"
    daemon.cli("instruct", "one", f"while [ ! -e {go} ]; do sleep 0.1; done")
    assert "is working, not done" in daemon.cli("wait", "one", "--for", "done", "--timeout", "5s", check=7).stderr
    go.touch()
    assert daemon.cli("wait", "one", "--for", "done").stdout == "the agent of one is done\n"
    daemon.cli("instruct", "one", "exit 3")
    assert "is failed, not done" in daemon.cli("wait", "one", "--for", "done", check=5).stderr


def test_whoever_waits_for_an_agent_is_told_what_it_asks_and_that_it_was_interrupted(daemon: Daemon) -> None:
    ask = {"id": "q", "tool": "Bash", "kind": "execute", "input": {"command": "rm -rf build"}}
    daemon.spawn("one", '[agent]\nbackend = "fake"\n')
    daemon.until_ready("one")
    daemon.cli("instruct", "one", json.dumps([{"approval_asked": ask}, {"ended": {"outcome": "done"}}]))
    line = [*COLONY, "wait", "one", "--for", "done"]
    with subprocess.Popen(line, env=daemon.environment, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "it asks: Bash: rm -rf build   colony approve one" in waiting.stderr.readline()
        daemon.cli("interrupt", "one")
        assert "interrupted" in waiting.stderr.readline()
        assert waiting.wait(PATIENCE_SECONDS) == 5


def test_what_an_agent_asks_is_approved_and_denied_by_the_command(daemon: Daemon) -> None:
    ask = {"id": "q", "tool": "Bash", "kind": "execute", "input": {"command": "rm -rf build \x1b[31m"}}
    part = json.dumps([{"approval_asked": ask}, {"ended": {"outcome": "done"}}])
    daemon.spawn("one", '[agent]\nbackend = "fake"\n')
    daemon.until_ready("one")
    assert "asks nothing" in daemon.cli("approve", "one", check=5).stderr
    for verb, word in (("approve", "allowed"), ("deny", "denied")):
        daemon.cli("instruct", "one", "--new", part)
        daemon.until(lambda: agent_of(daemon, "one")["state"] == "waiting", "it asks")
        assert "asks you" in daemon.cli("ls").stdout
        told = daemon.cli("why", "one").stdout
        assert "rm -rf build ^[[31m" in told
        assert daemon.cli(verb, "one").stdout.startswith(f"{word} Bash: rm -rf build")
        assert rests(daemon, "one")["state"] == "done"
    assert daemon.cli("interrupt", "one", check=5).stderr


def test_several_questions_at_once_are_answered_each_by_itself(daemon: Daemon) -> None:
    questions = [{"question": "Which colour?", "header": "Colour"}, {"question": "And why?", "header": "Why"}]
    ask = {"id": "q", "tool": "AskUserQuestion", "kind": "question", "input": {"questions": questions}}
    daemon.spawn("one", '[agent]\nbackend = "fake"\n')
    daemon.until_ready("one")
    daemon.cli("instruct", "one", json.dumps([{"approval_asked": ask}, {"ended": {"outcome": "done"}}]))
    daemon.until(lambda: agent_of(daemon, "one")["state"] == "waiting", "it asks")
    assert "colony answer one --to 1=TEXT --to 2=TEXT" in daemon.cli("why", "one").stderr
    assert "it asks 1 Colour, 2 Why" in daemon.cli("answer", "one", "--to", "size=1", check=2).stderr
    assert "question 2 has no answer" in daemon.cli("answer", "one", "--to", "colour=blue", check=2).stderr
    daemon.cli("answer", "one", check=2)
    daemon.cli("answer", "one", "--to", "why=it is\ncalm", "--to", "1=blue = green")
    assert rests(daemon, "one")["state"] == "done"
    [decision] = [line for line in feed_of(daemon, "one") if line["kind"] == "decision"]
    assert decision["data"]["message"] == "1: blue = green\n2: it is calm"


def test_an_interrupted_script_is_gone_with_all_that_it_started(daemon: Daemon) -> None:
    daemon.spawn("one", SCRIPT)
    daemon.until_ready("one")
    daemon.cli("instruct", "one", "setsid sh -c 'echo $$ >pid; exec sleep 600' & sleep 600")
    pid = daemon.folder / "app-one/pid"
    daemon.until(lambda: pid.exists() and pid.read_text().strip() != "", "it runs")
    daemon.cli("interrupt", "one")
    assert rests(daemon, "one")["state"] == "idle"
    daemon.until(lambda: not alive(int(pid.read_text())), "nothing is left")


def test_a_killed_daemon_leaves_no_agent_behind_and_the_next_one_goes_on(daemon: Daemon) -> None:
    """A script cannot be resumed in its midst: it is begun again, and its feed says so. What was told before is still there."""
    daemon.spawn("one", SCRIPT)
    daemon.until_ready("one")
    daemon.cli("instruct", "one", "echo $$ >>pids; echo begun; [ -e go ] || sleep 600")
    pids = daemon.folder / "app-one/pids"
    daemon.until(
        lambda: pids.exists() and any(line["content"] == "begun" for line in feed_of(daemon, "one")), "it works"
    )
    daemon.kill()
    (daemon.folder / "app-one/go").touch()
    daemon.start()
    assert rests(daemon, "one")["state"] == "done"
    first, second = map(int, pids.read_text().split())
    assert not alive(first)
    assert first != second
    contents = [line["content"] for line in feed_of(daemon, "one")]
    assert contents.count("begun") == 2
    assert any("started anew" in content for content in contents)


# ---- the real Claude Code against a model on loopback, in the colony's own network

CLAUDE = """
[services.model]
command = "python3 -u model.py --port 9999 --log asked"
port = 9999

[agent]
backend = "claude"
"""


@pytest.fixture
def claude(daemon: Daemon) -> Daemon:
    """A daemon whose colonies find Claude Code, and a model of their own at localhost:9999."""
    program = os.environ.get("COLONY_TESTS_CLAUDE") or shutil.which("claude")
    assert program is not None
    bin_folder = daemon.folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "claude").symlink_to(program)
    daemon.destroy()
    daemon.environment["PATH"] = f"{bin_folder}:{daemon.environment['PATH']}"
    daemon.start()
    return daemon


def with_claude(daemon: Daemon, name: str, account: str = "") -> Path:
    """A colony whose agent is Claude Code, with a model that does what the instruction says; `account`: the same login as others."""
    config = daemon.folder / f"claude-{account or name}"
    dotenv = (
        "ANTHROPIC_API_KEY=dummy\nANTHROPIC_BASE_URL=http://127.0.0.1:9999\nCLAUDE_CODE_MAX_RETRIES=1\n"
        f"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\nDISABLE_AUTOUPDATER=1\nCLAUDE_CONFIG_DIR={config}\n"
    )
    config.mkdir(exist_ok=True)
    # Its shells read what lies in its home; that of whoever runs the tests is none of theirs.
    manifest = f'{CLAUDE}\n[colony.environment]\nHOME = "{config}"\n'
    daemon.spawn(name, manifest, **{"model.py": MODEL.read_text(), ".env": dotenv})
    daemon.until_ready(name)
    return daemon.folder / f"app-{name}"


def steps(*each: dict[str, Any]) -> str:
    return "FAKE:" + json.dumps(each)


@pytest.mark.claude
def test_claude_edits_the_workspace_from_inside_the_cell_and_its_cost_is_told(claude: Daemon) -> None:
    folder = with_claude(claude, "one")
    write = {"text": "I write.", "tool": "Write", "input": {"file_path": str(folder / "a.txt"), "content": "made"}}
    claude.cli("instruct", "one", steps(write, {"text": "It is done."}), "-f")
    assert (folder / "a.txt").read_text() == "made"
    agent = agent_of(claude, "one")
    assert (agent["state"], agent["backend"], agent["result"]) == ("done", "claude", "It is done.")
    assert agent["cost_usd"] > 0
    assert agent["turns"] >= 2


@pytest.mark.claude
def test_claude_asks_and_is_answered(claude: Daemon) -> None:
    folder = with_claude(claude, "one")
    task = steps({"tool": "Bash", "input": {"command": "curl -s localhost:9999; touch made"}}, {"text": "on"})
    for verb, made in (("deny", False), ("approve", True)):
        claude.cli("instruct", "one", "--new", task)
        claude.until(lambda: agent_of(claude, "one")["state"] == "waiting", "it asks")
        claude.cli(verb, "one", "-m", "says a test")
        assert rests(claude, "one")["state"] == "done"
        assert (folder / "made").exists() is made


@pytest.mark.claude
def test_claude_goes_on_in_its_session_after_the_daemon_was_killed(claude: Daemon) -> None:
    with_claude(claude, "one")
    waits = "[ -e go ] || { echo $$ >pid; exec sleep 600; }"
    sleeping = {"text": "long", "tool": "Bash", "input": {"command": waits, "timeout": 600000}}
    claude.cli("instruct", "one", "--permissions", "all", steps(sleeping, {"text": "at last"}))
    pid = claude.folder / "app-one/pid"
    claude.until(lambda: pid.exists() and pid.read_text().strip() != "", "its tool runs")
    before = agent_of(claude, "one")
    claude.kill()
    (pid.parent / "go").touch()
    claude.start()
    after = rests(claude, "one")
    assert (after["state"], after["session"]) == ("done", before["session"])
    assert after["result"] == "at last"  # it was told its instruction again
    assert not alive(int(pid.read_text()))


@pytest.mark.claude
def test_a_killed_claude_has_failed_and_can_be_instructed_again(claude: Daemon) -> None:
    with_claude(claude, "one")
    task = steps({"text": "long", "tool": "Bash", "input": {"command": "touch began; sleep 600", "timeout": 600000}})
    claude.cli("instruct", "one", "--permissions", "all", task)
    claude.until(lambda: (claude.folder / "app-one/began").exists(), "its tool runs")
    wanted = ["pgrep", "-u", str(os.getuid()), "-f", "input-format=stream-json"]
    listing = subprocess.run(wanted, capture_output=True, text=True, check=False)
    for pid in map(int, listing.stdout.split()):
        if os.path.realpath(f"/proc/{pid}/cwd") == str((claude.folder / "app-one").resolve()):
            with suppress(ProcessLookupError):  # a part of one that was killed before it
                os.kill(pid, signal.SIGKILL)
    failed = rests(claude, "one")
    assert (failed["state"], failed["code"]) == ("failed", "agent-died")
    assert failed["evidence"]
    claude.cli("instruct", "one", steps({"text": "here again"}), "-f")
    assert agent_of(claude, "one")["result"] == "here again"


@pytest.mark.claude
def test_a_rate_limit_pauses_the_account_and_the_work_goes_on_by_itself(claude: Daemon) -> None:
    """Another agent of that account waits with it; nobody asks the model meanwhile, and another account's agent works."""
    folders = [with_claude(claude, name, account="shared") for name in ("one", "two")]
    with_claude(claude, "three")
    limited = {"status": 429, "message": "slow down", "headers": {"retry-after": "3"}, "times": 3, "text": "through"}
    claude.cli("instruct", "one", steps(limited))
    claude.until(lambda: agent_of(claude, "one")["paused_until"] is not None, "its account is paused")
    until = agent_of(claude, "one")["paused_until"]
    for name in ("two", "three"):
        claude.cli("instruct", name, steps({"text": "let in"}))
    claude.until(lambda: agent_of(claude, "two")["paused_until"] is not None, "the other one waits too")
    waiting = agent_of(claude, "two")
    assert (waiting["state"], waiting["paused_until"]) == ("working", until)
    assert waiting["reason"] == "waits until its account may work again"
    assert rests(claude, "three")["paused_until"] is None
    assert agent_of(claude, "two")["state"] == "working"
    assert [rests(claude, name)["result"] for name in ("one", "two")] == ["through", "let in"]
    [paused] = [line for line in feed_of(claude, "one") if line["data"].get("code") == "paused"]
    assert paused["content"] == f"the account has reached a limit; the work goes on at {until}"
    began, over = parse_rfc3339(paused["at"]), parse_rfc3339(until)
    ones, twos = ([float(at) for at in (folder / "asked").read_text().split()] for folder in folders)
    assert [at < began for at in ones] == [True, True, *[False] * (len(ones) - 2)]
    assert min(*ones[2:], *twos) >= over


@pytest.mark.claude
def test_eight_agents_work_at_once(claude: Daemon) -> None:
    names = [f"a{number}" for number in range(8)]
    for name in names:
        with_claude(claude, name)
    for name in names:
        write = {"tool": "Write", "input": {"file_path": str(claude.folder / f"app-{name}/out"), "content": name}}
        claude.cli("instruct", name, steps(write, {"text": name}))
    for name in names:
        assert rests(claude, name)["result"] == name
        assert (claude.folder / f"app-{name}/out").read_text() == name
