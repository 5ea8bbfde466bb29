"""An agent that speaks ACP at work in a real cell: the real adapter over the real Claude Code, against a model in the colony."""

import os
import shutil

import pytest

from .driver import Daemon, alive
from .test_agents import agent_of, claude, daemon, feed_of, rests, steps, with_claude

__all__ = ["claude", "daemon"]

pytestmark = [pytest.mark.kernel, pytest.mark.acp, pytest.mark.slow]


@pytest.fixture
def acp(claude: Daemon) -> Daemon:
    """A daemon whose colonies find the adapter; everybody's agent is one that speaks ACP."""
    program = os.environ.get("COLONY_TESTS_ACP") or shutil.which("claude-agent-acp")
    assert program is not None
    claude.destroy()
    (claude.folder / "bin/claude-agent-acp").symlink_to(program)
    claude.start()
    return claude


def test_an_agent_edits_asks_and_is_answered_from_inside_the_cell(acp: Daemon) -> None:
    folder = with_claude(acp, "one")
    write = {"text": "I write.", "tool": "Write", "input": {"file_path": str(folder / "a.txt"), "content": "made"}}
    acp.cli("instruct", "one", "--backend", "acp", steps(write, {"text": "It is done."}), "-f")
    assert (folder / "a.txt").read_text() == "made"
    agent = agent_of(acp, "one")
    assert (agent["state"], agent["backend"], agent["result"]) == ("done", "acp", "It is done.")
    assert agent["cost_usd"] > 0
    task = steps({"tool": "Bash", "input": {"command": "readlink /proc/self/ns/net >net"}}, {"text": "on"})
    acp.cli("instruct", "one", "--backend", "acp", "--permissions", "ask", task)
    acp.until(lambda: agent_of(acp, "one")["state"] == "waiting", "it asks")
    acp.cli("approve", "one")
    assert rests(acp, "one")["state"] == "done"
    assert (folder / "net").read_text() == acp.cli("exec", "one", "--", "readlink", "/proc/self/ns/net").stdout
    assert agent_of(acp, "one")["session"] == agent["session"]


def test_a_killed_daemon_leaves_no_agent_and_the_next_one_goes_on(acp: Daemon) -> None:
    with_claude(acp, "one")
    sleeping = {
        "text": "long",
        "tool": "Bash",
        "input": {"command": "[ -e go ] || { echo $$ >pid; exec sleep 600; }", "timeout": 600000},
    }
    acp.cli("instruct", "one", "--backend", "acp", "--permissions", "all", steps(sleeping, {"text": "at last"}))
    pid = acp.folder / "app-one/pid"
    acp.until(lambda: pid.exists() and pid.read_text().strip() != "", "its tool runs")
    before = agent_of(acp, "one")
    acp.kill()
    (acp.folder / "app-one/go").touch()
    acp.start()
    after = rests(acp, "one")
    assert (after["state"], after["session"]) == ("done", before["session"])
    assert not alive(int(pid.read_text()))
    assert "status" in {line["kind"] for line in feed_of(acp, "one")}


def test_an_agent_whose_session_is_gone_begins_another_and_its_feed_says_so(acp: Daemon) -> None:
    with_claude(acp, "one")
    acp.cli("instruct", "one", "--backend", "acp", steps({"text": "first"}), "-f")
    before = agent_of(acp, "one")
    shutil.rmtree(acp.folder / "claude-one/projects")
    acp.cli("instruct", "one", steps({"text": "second"}), "-f")
    after = agent_of(acp, "one")
    assert (after["state"], after["result"]) == ("done", "second")
    assert after["session"] != before["session"]
    assert any(line["content"].startswith("the conversation is lost") for line in feed_of(acp, "one"))


def test_an_agent_has_its_colonys_tools_and_needs_no_leave_for_them(acp: Daemon) -> None:
    with_claude(acp, "one")
    look = {"tool": "mcp__colony__services", "input": {}}
    report = {"tool": "mcp__colony__report", "input": {"text": "I looked"}}
    acp.cli("instruct", "one", "--backend", "acp", "--permissions", "ask", steps(look, report, {"text": "done"}), "-f")
    feed = [(line["kind"], line["content"]) for line in feed_of(acp, "one")]
    assert ("report", "I looked") in feed
    assert any(kind == "tool_result" and '"name": "model"' in content for kind, content in feed)
    assert "approval" not in {kind for kind, _ in feed}
