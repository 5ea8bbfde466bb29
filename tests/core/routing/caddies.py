"""Real Caddies for tests: configured by nobody but us, and without touching the machine's trust store."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

START_SECONDS = 120.0


class Caddy:
    """A Caddy in a folder of its own; `config` is what its owner gives it."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.admin = folder / "admin.sock"
        self.file = folder / "config.json"
        own = {"admin": {"listen": f"unix/{self.admin}"}, "logging": {"logs": {"default": {"level": "ERROR"}}}}
        pki = {"pki": {"certificate_authorities": {"local": {"install_trust": False}}}}
        self.file.write_text(json.dumps(own | config | {"apps": pki | config.get("apps", {})}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when its admin API answers."""
        environ = os.environ | {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "data")}
        environ["XDG_CONFIG_HOME"] = str(self.folder / "settings")
        with (self.folder / "log").open("ab") as log:
            command = ["caddy", "run", "--config", str(self.file)]
            self._process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            if time.monotonic() > until or self._process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.01)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(str(self.admin))
            except OSError:
                return False
            return True

    def most_memory(self) -> int:
        """The most bytes that it has ever held."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

    def end(self, number: int = signal.SIGKILL) -> None:
        """Ends it with a signal, and waits."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


@contextmanager
def running_caddy(folder: Path, config: dict[str, Any] | None = None) -> Iterator[Caddy]:
    """A Caddy that runs until the end of the block."""
    caddy = Caddy(folder, config or {})
    try:
        caddy.start()
        yield caddy
    finally:
        caddy.end()


def free_port() -> int:
    """A port, of TCP and of UDP, that nobody holds at this moment, and that the kernel gives to nobody who asks for any."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(min(10_000, first - 1), first)
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, suppress(OSError):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port
