"""A real daemon behind a real Caddy: the API under a name of its own, as docs/previews.md says, and previews whoever is killed."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import pytest
from tests.core.routing.caddies import Caddy, free_port, running_caddy

from colony_core.remote import calls

from .api import UPGRADE
from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.caddy, pytest.mark.slow]

NAME = "colony.example.test"


def front(port: int, api: int) -> dict[str, object]:
    """What the guide's Caddyfile means to Caddy, with a certificate of its own and on a port that anybody may have."""
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{api}"}]}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable_redirects": True},
        "routes": [{"match": [{"host": [NAME]}], "handle": [proxy]}],
    }
    issuers = {"automation": {"policies": [{"subjects": [NAME], "issuers": [{"module": "internal"}]}]}}
    return {"apps": {"http": {"servers": {"api": server}}, "tls": issuers}}


@contextmanager
def reached(caddy: Caddy, port: int, come_from: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
    """A line to the front over TLS, whose certificate is held to the front's own authority."""
    trust = ssl.create_default_context(cafile=str(caddy.folder / "data/caddy/pki/authorities/local/root.crt"))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=180, source_address=(come_from, 0)) as stream,
        trust.wrap_socket(stream, server_hostname=NAME) as line,
    ):
        yield line


@contextmanager
def fronted(daemon: Daemon, port: int) -> Iterator[Caddy]:
    """A Caddy in front of the daemon's API, which has got itself its certificate: it begins to listen before that."""
    api = int(daemon.send(calls.system())["api_url"].rpartition(":")[2])
    folder = daemon.folder / "caddy"
    folder.mkdir()

    def certified() -> bool:
        with suppress(OSError), reached(caddy, port):
            return True
        return False

    with running_caddy(folder, front(port, api)) as caddy:
        daemon.until(certified, "the front has a certificate")
        yield caddy


def ask(
    caddy: Caddy, port: int, target: str, *lines: str, method: str = "GET", come_from: str = "127.0.0.1"
) -> tuple[int, str]:
    """Status, and the cookie that is set."""
    with reached(caddy, port, come_from) as line:
        line.sendall("\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {NAME}:{port}", *lines, "", ""]).encode())
        with HTTPResponse(line, method=method) as answer:
            answer.begin()
            return answer.status, answer.headers.get("Set-Cookie", "")


def test_a_browser_logs_in_looks_and_changes_things_under_the_name_of_the_front(tmp_path: Path) -> None:
    port = free_port()
    ours = f"https://{NAME}:{port}"
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_SERVER__ORIGINS"] = ours
    with daemon.running():
        daemon.spawn("app", '[services.idle]\ncommand = ["sleep", "600"]\n')
        daemon.until_ready("app")
        with fronted(daemon, port) as caddy:
            link = daemon.cli("login", "-q").stdout.strip()
            assert link.startswith(f"{ours}/login?code=")
            status, said = ask(caddy, port, link.removeprefix(ours))
            assert status == 303
            assert said.startswith("__Host-colony_session=")
            assert said.endswith("; Secure")
            cookie, upgrade = (
                f"Cookie: {said.partition(';')[0]}",
                [f"{name}: {value}" for name, value in UPGRADE.items()],
            )
            assert ask(caddy, port, "/api/colonies", cookie)[0] == 200
            assert ask(caddy, port, "/ws", cookie, f"Origin: {ours}", *upgrade)[0] == 101
            assert ask(caddy, port, "/ws", cookie, f"Origin: http://{NAME}:{port}", *upgrade)[0] == 403
            stop = ("/api/colonies/app/stop", cookie, f"Origin: {ours}")
            assert ask(caddy, port, *stop, method="POST")[0] == 403
            assert ask(caddy, port, *stop, "Colony-Request: 1", method="POST")[0] == 202
            daemon.until(lambda: daemon.colony("app")["state"] == "stopped", "it is stopped")
            token = daemon.send(calls.mint_token("afar"))["token"]
            assert ask(caddy, port, "/api/system", f"Authorization: Bearer {token}")[0] == 200
            (entry,) = [
                each
                for each in daemon.send(calls.audit(after=0))
                if each["path"].endswith("/stop") and each["status"] == 202
            ]
            assert (entry["source"], entry["target"]) == ("127.0.0.1", "app")


def test_two_clients_of_a_trusted_front_are_told_apart(tmp_path: Path) -> None:
    port = free_port()
    daemon = Daemon(tmp_path)
    daemon.environment |= {
        "COLONY_SERVER__ORIGINS": f"https://{NAME}:{port}",
        "COLONY_SERVER__TRUSTED_PROXIES": "127.0.0.1",
    }
    with daemon.running(), fronted(daemon, port) as caddy:

        def stranger(address: str) -> int:
            forged = ("Authorization: Bearer wrong", "X-Forwarded-For: 192.0.2.66")
            return ask(caddy, port, "/api/colonies/app/stop", *forged, method="POST", come_from=address)[0]

        assert [stranger("127.0.0.2") for _ in range(11)] == [401] * 10 + [429]
        assert stranger("127.0.0.3") == 401, "another one's failures are not theirs"
        sources = [each["source"] for each in daemon.send(calls.audit(after=0)) if each["path"].endswith("/stop")]
        assert sources == ["127.0.0.2"] * 11 + ["127.0.0.3"]


SERVICE = """
[services.web]
command = ["python3", "-m", "http.server", "4001", "--bind", "127.0.0.1"]
port = 4001
"""


def test_previews_come_back_through_caddy_by_themselves_whoever_is_killed(tmp_path: Path) -> None:
    (tmp_path / "caddy").mkdir()
    caddy, port = Caddy(tmp_path / "caddy", {}), free_port()
    daemon = Daemon(tmp_path)
    settings = {"ENABLED": "true", "ADMIN": str(caddy.admin), "LISTEN": f"127.0.0.1:{port}", "TLS": "off"}
    daemon.environment |= {f"COLONY_CADDY__{key}": value for key, value in settings.items()}

    def word() -> str:
        """What the service shows through Caddy; empty where it shows nothing."""
        line = HTTPConnection("127.0.0.1", port, timeout=180)
        with closing(line), suppress(OSError, HTTPException):
            line.request("GET", "/word", headers={"Host": f"web.app.colony.localhost:{port}"})
            answer = line.getresponse()
            return answer.read().decode() if answer.status == 200 else ""
        return ""

    def caddy_dies() -> None:
        caddy.end()
        caddy.start()

    def daemon_dies() -> None:
        daemon.kill()
        daemon.start()

    def both_die() -> None:
        caddy.end()
        daemon_dies()
        caddy.start()

    try:
        caddy.start()
        with daemon.running():
            daemon.spawn("app", SERVICE, word="from inside")
            pid = daemon.until_ready("app")["services"][0]["pid"]
            for die in (caddy_dies, daemon_dies, both_die):
                daemon.until(lambda: word() == "from inside", f"before {die.__name__}")
                die()
            daemon.until(lambda: word() == "from inside", "in the end")
            assert daemon.service("app", "web")["pid"] == pid
        assert word() == "", "an orderly end takes the site away"
    finally:
        caddy.end()
