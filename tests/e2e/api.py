"""The API of a daemon, asked byte by byte: what no client would send is sent as well."""

import json
import re
import socket
from typing import Any

from colony_core.remote import calls

from .driver import Daemon

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class Api:
    """The API of a daemon, asked byte by byte: what no client would send is sent as well."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        view = daemon.send(calls.system())
        self.port = int(view["api_url"].rpartition(":")[2])
        self.socket = view["socket"]
        self.token = str(daemon.send(calls.mint_token("threats"))["token"])

    def ask(
        self,
        target: str,
        *lines: str,
        method: str = "GET",
        host: str | None = "",
        body: bytes = b"",
        unix: bool = False,
    ) -> tuple[int, dict[str, Any], str]:
        """Status, problem (or empty) and all that was said; `host` is localhost with the port unless it is given, None leaves it out."""
        sent = [f"{method} {target} HTTP/1.1", *lines, "Connection: close"] if not any("Upgrade" in x for x in lines) else [
            f"{method} {target} HTTP/1.1", *lines
        ]  # fmt: skip
        if host is not None:
            sent.append(f"Host: {host or ('localhost' if unix else f'localhost:{self.port}')}")
        if body:
            sent.append(f"Content-Length: {len(body)}")
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as stream:
            stream.settimeout(60)
            stream.connect(self.socket if unix else ("127.0.0.1", self.port))
            stream.sendall("\r\n".join([*sent, "", ""]).encode("latin1") + body)
            said = b""
            while b"\r\n\r\n" not in said or b" 101 " not in said[:20]:
                more = stream.recv(65536)
                if not more:
                    break
                said += more
        text = said.decode("latin1")
        head, _, document = text.partition("\r\n\r\n")
        problem = json.loads(document) if "application/problem+json" in head else {}
        return int(text.split()[1]), problem, text

    @property
    def bearer(self) -> str:
        return f"Authorization: Bearer {self.token}"

    def code(self, *args: Any, **more: Any) -> tuple[int, str]:
        status, problem, _ = self.ask(*args, **more)
        return status, problem.get("code", "")


def log_in(daemon: Daemon, api: Api) -> str:
    """A browser's cookie, by the link that the command prints."""
    link = daemon.cli("login", "-q").stdout.strip()
    status, _, said = api.ask(link.partition(str(api.port))[2])
    assert status == 303
    return re.findall(r"set-cookie: ([^;]+)", said, re.IGNORECASE)[0]
