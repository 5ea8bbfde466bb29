"""The scene that the project began with: several colonies of one repository, each with a workspace, a preview and an agent of its own."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NAMES = ("agent-frontend", "agent-backend", "agent-tests")
SERVER = """
const http = require("http"), fs = require("fs");
http.createServer((_, answer) => answer.end(fs.readFileSync("page.txt"))).listen(3000);
"""
MANIFEST = """
[services.web]
command = "npm start"
port = 3000

[agent]
backend = "script"

[checks]
page = "test -s page.txt"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path).running() as running:
        yield running


def repository(folder: Path) -> Path:
    """An application of somebody's, under git."""
    app = folder / "user/app"
    app.mkdir(parents=True)
    (app / "package.json").write_text(json.dumps({"name": "app", "scripts": {"start": "node server.js"}}))
    (app / "server.js").write_text(SERVER)
    (app / "page.txt").write_text("the first page\n")
    (app / "colony.toml").write_text(MANIFEST)
    run = {"cwd": app, "check": True, "env": os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"}, "capture_output": True}
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "maintenance.auto=false"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "begin"]):
        subprocess.run(["git", *words], **run)  # type: ignore[call-overload]
    return app


def page_of(daemon: Daemon, host: str) -> str:
    port = daemon.send_system()["preview_port"]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=180) as answer:
        return str(answer.read().decode())


def agent_of(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.cli("why", name, "--json").stdout)
    return found


@pytest.mark.parametrize("kind", ["git", pytest.param("jj", marks=pytest.mark.jj)])
def test_three_agents_of_one_repository_work_beside_each_other_on_the_same_port(tmp_path: Path, kind: str) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_WORKSPACES__KIND"] = kind
    with daemon.running():
        app = repository(tmp_path)
        for name in NAMES:
            task = f"echo the page of {name} >page.txt"
            daemon.cli("spawn", name, "--repo", str(app), "--task", task)
        for name in NAMES:
            daemon.until_ready(name)
            daemon.until(lambda who=name: agent_of(daemon, who)["state"] == "done", f"{name} is done")  # type: ignore[misc]
        folders = {daemon.colony(name)["source"] for name in NAMES}
        assert len(folders) == 3
        for name in NAMES:
            for host in (f"{name}.colony.localhost", f"{name}-3000.colony.localhost"):
                assert page_of(daemon, host) == f"the page of {name}\n"
            assert f"+the page of {name}" in daemon.cli("diff", name).stdout
        assert (app / "page.txt").read_text() == "the first page\n"
        # what was checked is tied to the workspace as it was
        receipt = agent_of(daemon, NAMES[0])["receipt"]
        assert (receipt["verdict"], receipt["current"]) == ("verified", True)
        Path(daemon.colony(NAMES[0])["source"], "page.txt").write_text("another\n")
        assert agent_of(daemon, NAMES[0])["receipt"]["current"] is False
        # one is merged: it is in the shared repository, and the folder that the project came from is left alone
        daemon.cli("merge", NAMES[1])
        [shared] = (daemon.state / "repos").glob("*/repo.git")
        show = ["git", "--git-dir", str(shared), "-c", "safe.directory=*", "show", "main:page.txt"]
        merged = subprocess.run(show, capture_output=True, text=True, check=True)
        assert merged.stdout == "the page of agent-backend\n"
        assert (app / "page.txt").read_text() == "the first page\n"
