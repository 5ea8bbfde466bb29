"""The threats of docs/security.md that come from agents, each tried against the running daemon; the numbers are the document's."""

import pytest

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SCRIPT = '[agent]\nbackend = "script"\npermissions = "all"\n'


def test_5_keys_reach_the_agent_alone_and_stand_nowhere_else(daemon: Daemon) -> None:
    """An allow-list. A canary in the daemon's environment reaches no agent; the key of the `.env` reaches it
    and no log, store or view, not even where the agent prints it."""
    secret = "sk-ant-canary-0123456789"
    daemon.destroy()
    daemon.environment["DATABASE_URL"] = "postgres://canary"
    daemon.environment["ANTHROPIC_API_KEY"] = "sk-of-the-user"
    daemon.start()
    daemon.spawn(
        "one",
        SCRIPT + '[services.web]\ncommand = "env >service.env; echo told; sleep 600"\nready = { log = "told" }\n',
        **{".env": f"ANTHROPIC_API_KEY={secret}\n"},
    )
    daemon.until_ready("one")
    daemon.cli("instruct", "one", "env >agent.env; env; env >&2", "-f")
    folder = daemon.folder / "app-one"
    found = (folder / "agent.env").read_text()
    assert f"ANTHROPIC_API_KEY={secret}" in found
    assert "canary" not in found.replace(secret, "")
    assert "sk-" not in (folder / "service.env").read_text()
    assert "ANTHROPIC_API_KEY=‹ANTHROPIC_API_KEY›" in daemon.cli("feed", "one", "--after", "0").stdout
    for view in (
        daemon.cli("why", "one", "--json"),
        daemon.cli("show", "one", "--json"),
        daemon.cli("feed", "one", "--after", "0", "--json"),
    ):
        assert "sk-" not in view.stdout
    kept = [path for path in daemon.state.rglob("*") if path.is_file() and b"sk-" in path.read_bytes()]
    assert kept == []
    assert b"sk-" not in (daemon.folder / "daemon.log").read_bytes()
