"""The way out of a rootless daemon's colonies: there from the start, back with the next daemon after kill -9, and off when it is to be."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .driver import COLONY, Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ASKS = """
[services.asks]
command = ["python3", "-S", "-u", "ask.py"]
"""
ASK = """
import socket, time
said = ""
while True:
    try:
        with socket.create_connection(("127.0.0.1", 13128), 60) as proxy:
            proxy.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\\r\\n\\r\\n")
            heard = proxy.recv(100)[9:12].decode()
    except OSError as error:
        heard = "nobody"
    if heard != said:
        print("heard", heard, file=open("heard", "a"), flush=True)
        said = heard
    time.sleep(0.05)
"""


class OrdinaryDaemon(Daemon):
    """A daemon of an ordinary user, also where root runs the tests: `user` is what makes another number of root."""

    user: tuple[str, ...] = ()

    def start(self) -> None:
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.user, *COLONY, "serve"], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.until(self._answers, "the daemon answers")

    def heard(self, times: int, what: str) -> None:
        """Returns when the service has heard it so often; it is asked by a file, which is there without a daemon too."""
        file = self.folder / "app-app/heard"
        self.until(lambda: file.exists() and file.read_text().count(f"heard {what}\n") >= times, f"{what} is heard")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[OrdinaryDaemon]:
    daemon = OrdinaryDaemon(tmp_path)
    daemon.environment["COLONY_ISOLATION__EGRESS"] = "true"
    with ExitStack() as stack:
        if os.geteuid() == 0:
            holder = subprocess.Popen(
                ["unshare", "--user", "--map-user=1000", "--map-group=1000", "sh", "-c", "echo; exec sleep 1000"],
                stdout=subprocess.PIPE,
            )
            stack.enter_context(holder)
            stack.callback(holder.kill)
            assert holder.stdout is not None
            holder.stdout.readline()
            daemon.user = ("nsenter", f"--user=/proc/{holder.pid}/ns/user", "--preserve-credentials")
        stack.enter_context(daemon.running())
        yield daemon


def test_it_is_back_after_a_kill_and_gone_where_there_is_to_be_none(daemon: OrdinaryDaemon) -> None:
    system = daemon.send_system()
    assert system["mode"] == "rootless"
    assert "proxy" in system["egress"]
    daemon.spawn("app", ASKS, ask_py=ASK)
    pid = daemon.until_ready("app")["services"][0]["pid"]
    daemon.heard(1, "403")
    daemon.kill()
    daemon.heard(1, "nobody")
    daemon.start()
    daemon.heard(2, "403")
    assert daemon.until_ready("app")["services"][0]["pid"] == pid
    assert "HTTPS_PROXY=http://127.0.0.1:13128" in daemon.cli("exec", "app", "--", "env").stdout
    daemon.environment["COLONY_ISOLATION__EGRESS"] = "false"
    daemon.restart()
    daemon.heard(2, "nobody")
    assert daemon.send_system()["egress"] == "none, as configured"
    assert "PROXY" not in daemon.cli("exec", "app", "--", "env").stdout
