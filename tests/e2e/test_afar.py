"""A daemon seen from afar, as docs/previews.md says: over a real SSH, the previews, the API and the command."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.core.routing.caddies import free_port

from colony_core.remote import calls

from .driver import COLONY, Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.sshd, pytest.mark.slow]

PATIENCE_SECONDS = 120.0
HERE, THERE = "127.0.0.2", "127.0.0.1"
"""The same numbers of ports are free at another address of this machine, which stands for another machine."""
SERVICE = """
[services.web]
command = ["python3", "-m", "http.server", "4001", "--bind", "127.0.0.1"]
port = 4001
"""


class Machine:
    """An SSH server for this user alone, and how one gets there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "key.pub", folder / "authorized")
        settings = {
            "Port": self.port,
            "ListenAddress": THERE,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
        }
        (folder / "sshd").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        user = pwd.getpwuid(os.getuid()).pw_name
        known = (
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={folder}/known",
            "ExitOnForwardFailure=yes",
            "BatchMode=yes",
        )
        self.ssh = ["ssh", "-F", "none", "-q", "-p", str(self.port), "-i", str(folder / "key")]
        self.ssh += [word for option in known for word in ("-o", option)]
        self.name = f"{user}@{THERE}"

    def run(self, environment: dict[str, str], *command: str) -> str:
        """What a command says there."""
        given = [f"{key}={value}" for key, value in environment.items() if key.startswith("COLONY_")]
        words = [*self.ssh, self.name, "env", *given, *command]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS).stdout

    @contextmanager
    def forwarding(self, *forwards: str) -> Iterator[None]:
        """`ssh -N -L ...` as long as the block lasts."""
        asked = [word for forward in forwards for word in ("-L", forward)]
        with subprocess.Popen([*self.ssh, "-N", *asked, self.name], cwd=self.folder) as process:
            try:
                until_there(lambda: all(map(self._is_open, forwards)))
                yield
            finally:
                process.terminate()

    def _is_open(self, forward: str) -> bool:
        first = forward.split(":")[:2]
        if "sock" in first[0]:
            return (self.folder / first[0]).exists()
        with socket.socket() as probe:
            return probe.connect_ex((first[0], int(first[1]))) == 0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """The machine that the daemon runs on, for those who are elsewhere."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    machine = Machine(folder)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    sshd = shutil.which("sshd")
    assert sshd is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd")], stderr=log, stdin=subprocess.DEVNULL)
    try:
        until_there(lambda: answers(machine.port))
        yield machine
    finally:
        process.terminate()
        process.wait()


def until_there(ask: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ask():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((THERE, port)) == 0


def get(address: str, port: int, host: str, path: str = "/", token: str = "") -> str:
    """An answer, head and all."""
    with socket.create_connection((address, port), timeout=PATIENCE_SECONDS) as stream:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return b"".join(iter(lambda: stream.recv(65536), b"")).decode()


def test_previews_and_the_api_are_seen_over_ssh_under_their_own_numbers(daemon: Daemon, machine: Machine) -> None:
    daemon.spawn("hello", SERVICE, word="from afar")
    daemon.until_ready("hello")
    system = daemon.send(calls.system())
    previews, api = int(system["preview_port"]), int(system["api_url"].rpartition(":")[2])
    token = daemon.send(calls.mint_token("afar"))["token"]
    colony = str(Path(COLONY[0]).parent / "colony")
    url = machine.run(daemon.environment, colony, "open", "hello", "web", "--print").strip()
    name = url.removeprefix("http://").rstrip("/")
    assert name == f"web.hello.colony.localhost:{previews}"
    wrong = free_port()
    with machine.forwarding(
        f"{HERE}:{previews}:{THERE}:{previews}", f"{HERE}:{api}:{THERE}:{api}", f"{HERE}:{wrong}:{THERE}:{api}"
    ):
        assert get(HERE, previews, name, "/word").endswith("from afar")
        assert '"hello"' in get(HERE, api, f"localhost:{api}", "/api/colonies", token)
        assert get(HERE, wrong, f"localhost:{wrong}", "/api/colonies", token).startswith("HTTP/1.1 421 ")


def test_the_command_works_over_a_forwarded_socket(daemon: Daemon, machine: Machine) -> None:
    daemon.spawn("hello", SERVICE)
    daemon.until_ready("hello")
    with machine.forwarding(f"./far.sock:{daemon.send(calls.system())['socket']}"):
        elsewhere = {key: value for key, value in daemon.environment.items() if not key.startswith("COLONY_")}
        said = subprocess.run(
            [*COLONY, "ls", "-q"],
            env=elsewhere
            | {"COLONY_SERVER": f"unix:{machine.folder}/far.sock", "COLONY_STATE": str(machine.folder / "other")},
            capture_output=True,
            text=True,
            check=False,
            cwd=machine.folder,
            timeout=PATIENCE_SECONDS,
        )
        assert (said.stdout.split(), said.stderr) == (["hello"], "")
