"""The examples are run as a reader runs them, and seen from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from .driver import alive
from .world import ROOT, Shown, until

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
EXAMPLES = ROOT / "examples"


def run(name: str, folder: Path) -> str:
    """What an example prints until it ends by itself; nothing is left in the folder for temporary files."""
    env = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return done.stdout


def test_a_killed_service_is_brought_back(tmp_path: Path) -> None:
    said = run("01_restart_a_service.py", tmp_path)
    first, second = map(int, re.findall(r"process (\d+)", said))
    assert first != second
    assert "after 1 restart: killed by SIGKILL" in said
    assert not alive(first)
    assert not alive(second)


def test_three_colonies_answer_for_themselves_on_one_port(tmp_path: Path) -> None:
    lines = run("02_three_colonies.py", tmp_path).splitlines()
    answers = {name: json.loads(answer) for name, _, answer in (line.partition(": ") for line in lines)}
    assert {name: answer["colony"] for name, answer in answers.items()} == {n: n for n in ("alpha", "beta", "gamma")}
    assert len({answer["pid"] for answer in answers.values()}) == 3
    assert not any(alive(answer["pid"]) for answer in answers.values())


def test_a_program_of_the_users_own_serves_colony_beside_its_page(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    shown = Shown([sys.executable, str(EXAMPLES / "03_in_your_quart_app.py"), "0"], folder, dict(os.environ))
    try:
        base = shown.until(r"serving on (http://\S+)\s")[1]
        token = shown.until(r"token (\S+)\s")[1]
        assert ask(f"{base}/") == "hello is running\n"
        [colony] = json.loads(ask(f"{base}/colony/api/colonies", Authorization=f"Bearer {token}"))
        assert [service["state"] for service in colony["services"]] == ["ready", "ready"]
        refused = subprocess.run(
            ["curl", "-s", f"{base}/colony/api/colonies"], capture_output=True, text=True, check=True
        ).stdout
        assert json.loads(refused)["code"] == "token-required"
        os.kill(shown.process.pid, signal.SIGINT)
        assert shown.process.wait(180) == 0, shown.text
        assert "Traceback" not in shown.text
        until(lambda: not any(alive(service["pid"]) for service in colony["services"]), "its services are gone")
    finally:
        if shown.process.poll() is None:
            shown.kill()


def ask(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        text: str = answer.read().decode()
        return text
