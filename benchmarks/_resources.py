"""What a daemon, its keeper and the kernel hold for them at a moment, as an outsider counts it."""

import http.client
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from colony_core.remote import Target

STORE = "colony.db"
"""Its readers are made when they are first needed, and are four at the most."""
TABLE = "colony_"
"""How the names of our tables begin; other daemons on this machine are counted too, and had better rest."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def held(target: Target, daemon: int, keeper: int, prefix: str) -> dict[str, float]:
    """By name: memory in MB, everything else in numbers. Colonies are those whose names are `prefix` and a number."""
    found: dict[str, float] = {}
    for who, pid in (("daemon", daemon), ("keeper", keeper)):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found[f"{who}'s memory"] = int(status["RssAnon"].split()[0]) / 1024
        found[f"{who}'s descriptors"] = sum(not link.startswith(STORE) for link in _descriptors(pid))
        found[f"{who}'s threads"] = int(status["Threads"])
    found["daemon's tasks"] = _tasks(target)
    return found | _of_the_kernel(prefix)


def _descriptors(pid: int) -> Iterator[str]:
    """What each leads to; of files the name alone."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield link.readlink().name


def _tasks(target: Target) -> float:
    assert target.socket is not None
    connection = _UnixConnection(target.socket)
    connection.request("GET", "/metrics", headers={"Connection": "close"})
    text = connection.getresponse().read().decode()
    connection.close()
    line = re.search(r"^colony_tasks (.*)$", text, re.MULTILINE)
    assert line is not None, text
    return float(line[1])


def _of_the_kernel(prefix: str) -> dict[str, float]:
    """Of this network namespace; without root there is nothing of cells in it."""
    if os.geteuid() != 0:
        return {}
    names = [path.name for path in Path("/run/netns").glob("ns-*")]
    links = [name for link in json.loads(_said("ip", "-j", "link")) for name in link.get("altnames", ())]
    return {
        "namespaces": sum(bool(re.fullmatch(rf"ns-{prefix}\d+", name)) for name in names),
        "cables": sum(bool(re.fullmatch(rf"veth-{prefix}\d+-host", name)) for name in links),
        "nft entries": sum(_entries(each) for each in json.loads(_said("nft", "-j", "list", "ruleset"))["nftables"]),
    }


def _said(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def _entries(entry: dict[str, Any]) -> int:
    """One for a table, chain, rule, set or map of ours, and one for each element."""
    kind, body = next(iter(entry.items()))
    ours = str(body.get("name" if kind == "table" else "table", "")).startswith(TABLE)
    return 1 + len(body.get("elem", ())) if ours else 0
