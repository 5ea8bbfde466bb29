"""`colony serve --demo`, as somebody would look at it who has just installed Colony."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .driver import COLONY

pytestmark = pytest.mark.slow


def test_the_demonstration_needs_no_rights_shows_agents_at_work_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COLONY_")}
    environment |= {"COLONY_CONFIG": "/dev/null", "TMPDIR": str(tmp_path)}
    serve = [*COLONY, "serve", "--demo", "--port", "0", "--preview-port", "0"]
    with subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        told = ""
        while "ready in" not in told:
            told += (line := daemon.stdout.readline())
            assert line, told
        found = re.search(r"unix:\S+", told)
        assert found is not None

        def ask(*words: str) -> Any:
            done = subprocess.run(
                [*COLONY, "--server", found[0], *words, "--json"],
                env=environment, capture_output=True, text=True, timeout=180, check=True,
            )  # fmt: skip
            return json.loads(done.stdout)

        agents: dict[str, str] = {}
        while agents.get("agent-backend") != "waiting" or agents.get("agent-tests") != "done":
            agents = {view["name"]: view["agent"]["state"] for view in ask("ls")}
        assert agents["agent-frontend"] == "working"
        assert ask("approve", "agent-backend")["decision"] == "allowed"
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(180) == 0
    assert not list(tmp_path.glob("colony-demo-*"))
