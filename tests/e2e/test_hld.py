"""HumanLayer's real daemon, started as `colony backend hld start` does: it starts the agent, and the agent works in its colony's cell."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .driver import Daemon, alive
from .test_agents import CLAUDE, MODEL, agent_of, claude, daemon, feed_of, rests, steps

__all__ = ["claude", "daemon"]

pytestmark = [pytest.mark.kernel, pytest.mark.hld, pytest.mark.claude, pytest.mark.slow]


@pytest.fixture
def hld(claude: Daemon) -> Iterator[Daemon]:
    """A daemon beside which hld runs; its agents find a model only at their own colony's localhost."""
    home = claude.folder / "home"
    home.mkdir()
    claude.destroy()
    claude.environment |= {
        "HOME": str(home),
        "COLONY_HLD": os.environ.get("COLONY_HLD", ""),
        "HUMANLAYER_DAEMON_HTTP_PORT": "0",
        "ANTHROPIC_API_KEY": "dummy",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9999",
        "CLAUDE_CODE_MAX_RETRIES": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CONFIG_DIR": str(home / "config"),
        "DATABASE_URL": "postgres://canary",
    }
    claude.start()
    try:
        claude.cli("backend", "hld", "start")
        yield claude
    finally:
        end_hld(home)


def end_hld(home: Path) -> None:
    wanted = f"HUMANLAYER_DAEMON_SOCKET={home}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and wanted in environment_of(folder):
            with suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGTERM)


def environment_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def colony_of(daemon: Daemon, name: str) -> Path:
    daemon.spawn(name, CLAUDE.replace('"claude"', '"auto"'), **{"model.py": MODEL.read_text()})
    daemon.until_ready(name)
    return daemon.folder / f"app-{name}"


def test_an_agent_that_hld_starts_works_inside_its_colony(hld: Daemon) -> None:
    folder = colony_of(hld, "one")
    script = "readlink /proc/self/ns/net >net; env >agent.env; curl -s -o /dev/null localhost:9999 && touch met"
    task = steps({"text": "I look.", "tool": "Bash", "input": {"command": script}}, {"text": "It is done."})
    hld.cli("instruct", "one", "--permissions", "all", task, "-f")
    agent = agent_of(hld, "one")
    assert (agent["state"], agent["backend"], agent["result"]) == ("done", "hld", "It is done.")
    inside = hld.cli("exec", "one", "--", "readlink", "/proc/self/ns/net").stdout
    assert (folder / "net").read_text() == inside
    assert (folder / "met").exists()
    assert "canary" not in (folder / "agent.env").read_text()
    assert agent["cost_usd"] > 0
    kinds = [line["kind"] for line in feed_of(hld, "one")]
    assert {"tool_use", "tool_result", "text"} <= set(kinds)


def test_what_it_asks_is_answered_and_it_goes_on_in_its_session(hld: Daemon) -> None:
    folder = colony_of(hld, "one")
    task = steps({"tool": "Bash", "input": {"command": "touch made"}}, {"text": "on"})
    for verb, made in (("deny", False), ("approve", True)):
        hld.cli("instruct", "one", task)
        hld.until(lambda: agent_of(hld, "one")["state"] == "waiting", "it asks")
        hld.cli(verb, "one", "-m", "says a test")
        assert rests(hld, "one")["state"] == "done"
        assert (folder / "made").exists() is made


def test_an_interrupt_ends_the_agent_with_all_that_it_started(hld: Daemon) -> None:
    folder = colony_of(hld, "one")
    sleeping = {"tool": "Bash", "input": {"command": "echo $$ >pid; exec sleep 600", "timeout": 600000}}
    hld.cli("instruct", "one", "--permissions", "all", steps(sleeping, {"text": "never"}))
    pid = folder / "pid"
    hld.until(lambda: pid.exists() and pid.read_text().strip() != "", "its tool runs")
    hld.cli("interrupt", "one")
    assert rests(hld, "one")["state"] == "idle"
    hld.until(lambda: not alive(int(pid.read_text())), "nothing is left")


def test_a_killed_daemon_of_ours_leaves_a_session_that_is_gone_on_with(hld: Daemon) -> None:
    folder = colony_of(hld, "one")
    waits = "[ -e go ] || { echo $$ >pid; exec sleep 600; }"
    sleeping = {"text": "long", "tool": "Bash", "input": {"command": waits, "timeout": 600000}}
    hld.cli("instruct", "one", "--permissions", "all", steps(sleeping, {"text": "at last"}))
    pid = folder / "pid"
    hld.until(lambda: pid.exists() and pid.read_text().strip() != "", "its tool runs")
    hld.kill()
    (pid.parent / "go").touch()
    hld.start()
    after = rests(hld, "one")
    assert (after["state"], after["backend"]) == ("done", "hld")
    assert after["result"] == "at last"  # it was told its instruction again
    assert not alive(int(pid.read_text()))


def test_the_script_of_the_seeds_runs_it_in_the_foreground(hld: Daemon) -> None:
    """A second one of another place, on a shell or under a service manager."""
    home = hld.folder / "other"
    home.mkdir()
    environment = hld.environment | {"HOME": str(home)}
    script = Path(__file__).parents[2] / "scripts/run-hld.sh"
    with subprocess.Popen(
        [script, "--foreground"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as own:
        hld.until(lambda: (home / ".humanlayer/colony/daemon.sock").exists(), "it listens")
        own.terminate()
    assert own.returncode in (0, -signal.SIGTERM)


def test_an_agent_outside_of_every_colony_does_not_start(hld: Daemon) -> None:
    wrapper = Path(hld.environment["HOME"]) / ".humanlayer/colony/bin/claude"
    done = subprocess.run(
        [wrapper, "--print", "--", "hello"],
        cwd="/",
        env=hld.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1
    assert "which colony?" in done.stderr
    version = json.loads(hld.cli("backend", "hld", "status", "--json").stdout)
    assert version["socket"].startswith(hld.environment["HOME"])
