"""Caddy in front of the same service, where it is installed."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

CADDY_SECONDS = 20.0
CADDYFILE = """{
	admin off
}
http://:PORT {
	bind 127.0.0.1
	reverse_proxy 127.0.0.1:SERVICE
}
"""


@attrs.frozen
class Way:
    """One way to the service: where it is asked, and whose CPU time that costs."""

    port: int
    pid: int


@contextmanager
def open_caddy(service: int) -> Iterator[Way]:
    """A Caddy that does nothing but hand everything to the service."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = CADDYFILE.replace("PORT", str(port)).replace("SERVICE", str(service))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Caddyfile"
        file.write_text(text)
        command = ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
        homes = {"XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | homes)
        try:
            _until_open(port)
            yield Way(port, process.pid)
        finally:
            process.kill()
            process.wait()


def _until_open(port: int) -> None:
    deadline = time.monotonic() + CADDY_SECONDS
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"Caddy does not listen on {port}")
        time.sleep(0.05)
