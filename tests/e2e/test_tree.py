"""`colony tree` prints the tree that ARCHITECTURE.md draws."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"^([│├└─ ]*)(\S+)")
IDLE = """
[services.idle]
command = ["python3", "-c", "import time; time.sleep(600)"]
"""


def drawn(text: str) -> list[tuple[int, str]]:
    """Depth and name of each line of a tree."""
    found = [LINE.match(line) for line in text.splitlines()]
    return [(len(match[1]) // 3, match[2]) for match in found if match]


def in_the_architecture() -> list[tuple[int, str]]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    tree = text[text.index("\nmycelium  ") + 1 :].partition("\n```")[0]
    names = {"<colony>": "hello", "<service>": "idle"}
    return [(depth, names.get(name, name)) for depth, name in drawn(tree)]


def told(node: dict[str, Any], depth: int = 0) -> list[tuple[int, str]]:
    """The same of the serialised tree."""
    below = (line for child in node["children"] for line in told(child, depth + 1))
    return [(depth, node["id"]), *below]


def test_the_tree_of_a_daemon_is_the_one_in_the_architecture(daemon: Daemon) -> None:
    daemon.spawn("hello", IDLE)
    daemon.until_ready("hello")
    text = daemon.cli("tree").stdout
    tree = json.loads(daemon.cli("tree", "--json").stdout)
    printed = drawn(text)
    assert told(tree) == printed
    here = {name for _, name in printed}
    # where the host's resolver is reached, nobody needs to answer for it; the others are there for a Caddy and a service manager, for
    # projects, and while agents work
    optional = {"(names)", "resolver", "(egress)", "forwarder", "caddy", "systemd", "<project>", "<run>"} - here
    assert sorted(printed) == sorted(line for line in in_the_architecture() if line[1] not in optional)
    assert all(": up for" in line for line in text.splitlines())
    owner = next(child for child in tree["children"] if child["id"] == "keeper")
    assert (owner["kind"], owner["state"], owner["restarts"]) == ("worker", "up", 0)
