"""`colony` from afar through a real Caddy with TLS, as docs/previews.md says: lists, streams, commands, terminals, and what is refused."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest
from tests.core.routing.caddies import Caddy, free_port, running_caddy

from colony_core.remote import calls

from .driver import COLONY, PATIENCE_SECONDS, Daemon
from .screen import open_tmux

pytestmark = [pytest.mark.kernel, pytest.mark.caddy, pytest.mark.slow]

MANIFEST = """
[services.clock]
command = ["sh", "-c", "while :; do echo tick; sleep 0.2; done"]

[terminal]
command = ["env", "PS1=inner$ ", "bash", "--norc", "--noprofile"]
"""


@attrs.frozen
class Afar:
    """A daemon behind a Caddy, and the settings of somebody who has nothing of its machine but an address, a key and an authority."""

    daemon: Daemon
    environment: dict[str, str]
    port: int
    plain: int

    def colony(self, *words: str, stdin: str = "", check: int = 0, **changed: str) -> str:
        """What `colony` says; of a failure the error, as JSON."""
        done = subprocess.run(
            [*COLONY, *words],
            env=self.environment | changed,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == check, done.stdout + done.stderr
        return done.stderr if check else done.stdout

    def error(self, exit_code: int, **changed: str) -> dict[str, str]:
        """The error that `colony ls` ends with."""
        found: dict[str, str] = json.loads(self.colony("ls", "--json", check=exit_code, **changed))["error"]
        return found


def front(port: int, plain: int, api: int) -> dict[str, object]:
    """A Caddy for localhost with a certificate of its own authority, that also answers with it whoever names nobody; and its plain port."""
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{api}"}]}
    elsewhere = {"Location": [f"https://localhost:{port}{{http.request.uri}}"]}
    away = {"handler": "static_response", "status_code": 308, "headers": elsewhere}
    secure = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable_redirects": True},
        "routes": [{"match": [{"host": ["localhost"]}], "handle": [proxy]}],
        "tls_connection_policies": [{"default_sni": "localhost"}],
    }
    servers = {"api": secure, "plain": {"listen": [f"127.0.0.1:{plain}"], "routes": [{"handle": [away]}]}}
    issuers = {"automation": {"policies": [{"subjects": ["localhost"], "issuers": [{"module": "internal"}]}]}}
    return {"apps": {"http": {"servers": servers}, "tls": issuers}}


def authority(caddy: Caddy) -> str:
    return str(caddy.folder / "data/caddy/pki/authorities/local/root.crt")


def certified(caddy: Caddy, port: int) -> bool:
    """Whether the front has a certificate that holds."""
    with suppress(OSError):
        trust = ssl.create_default_context(cafile=authority(caddy))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as stream,
            trust.wrap_socket(stream, server_hostname="localhost"),
        ):
            return True
    return False


@pytest.fixture(scope="module")
def afar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Afar]:
    folder = tmp_path_factory.mktemp("afar")
    port, plain, api = free_port(), free_port(), free_port()
    daemon = Daemon(folder)
    daemon.environment |= {"COLONY_SERVER__ORIGINS": f"https://localhost:{port}", "COLONY_SERVER__PORT": str(api)}
    (folder / "caddy").mkdir()
    with daemon.running(), running_caddy(folder / "caddy", front(port, plain, api)) as caddy:
        daemon.spawn("den", MANIFEST)
        daemon.until_ready("den")
        daemon.until(lambda: certified(caddy, port), "the front has got itself its certificate: it listens before that")
        own = {key: value for key, value in daemon.environment.items() if not key.startswith("COLONY_")}
        own |= {
            "COLONY_STATE": str(folder / "elsewhere"),
            "COLONY_SERVER": f"https://localhost:{port}",
            "COLONY_TOKEN": daemon.send(calls.mint_token("afar"))["token"],
            "COLONY_CA_FILE": authority(caddy),
        }
        yield Afar(daemon, own, port, plain)


def test_questions_and_changes(afar: Afar) -> None:
    assert afar.colony("ls", "-q").split() == ["den"]
    assert json.loads(afar.colony("status", "--json"))["server"] == f"https://localhost:{afar.port}"
    afar.colony("service", "restart", "den", "clock")
    (entry,) = [each for each in afar.daemon.send(calls.audit(after=0)) if each["path"].endswith("/restart")]
    assert (entry["source"], entry["status"]) == ("127.0.0.1", 202)


def test_the_flag_says_it_as_well_as_the_variable(afar: Afar) -> None:
    said = afar.colony("ls", "-q", "--server", f"https://localhost:{afar.port}", COLONY_SERVER="unix:/nowhere.sock")
    assert said.split() == ["den"]


@contextmanager
def following(afar: Afar, *words: str) -> Iterator[Iterator[str]]:
    """The lines of a command that does not end."""
    command = subprocess.Popen([*COLONY, *words], env=afar.environment, stdout=subprocess.PIPE, text=True)
    patience = threading.Timer(PATIENCE_SECONDS, command.kill)
    patience.start()
    with command:
        assert command.stdout is not None
        try:
            yield command.stdout
        finally:
            patience.cancel()
            command.kill()


def test_what_does_not_end_comes_as_it_happens(afar: Afar) -> None:
    with following(afar, "logs", "-f", "--tail", "1", "den", "clock") as lines:
        ticks = (line for line in lines if "tick" in line)  # that it was restarted by an earlier test is a line too
        assert len([next(ticks) for _ in range(5)]) == 5
    with following(afar, "events", "-f", "--after", "0", "--json") as lines:
        next(lines)
        newest = afar.daemon.send_system()["last_event"]
        afar.colony("service", "restart", "den", "clock")
        assert any(json.loads(line)["seq"] > newest for line in lines)


def test_a_command_gets_its_input_and_gives_its_output_and_its_code(afar: Afar) -> None:
    much = "".join(f"line {number}\n" for number in range(100_000))
    assert afar.colony("exec", "den", "--", "cat", stdin=much) == much
    said = afar.colony("exec", "den", "--", "sh", "-c", "echo trouble >&2; exit 3", check=3)
    assert said == "trouble\n"


@pytest.mark.tmux
def test_a_terminal_is_attached_to_and_outlives_the_daemon_behind_the_front(afar: Afar) -> None:
    with open_tmux(afar.environment) as tmux:
        tmux.line("colony attach den")
        tmux.until("inner$")
        tmux.line("echo one-$((40 + 2))")
        tmux.until("one-42")
        afar.daemon.kill()
        tmux.until("the daemon is away")  # what is typed before that may have been under way to it
        afar.daemon.start()
        tmux.line("echo two-$((40 + 3))")
        tmux.until("two-43")
        tmux.press("C-q")
        tmux.until("detached; again: colony attach den")
        tmux.line("clear; colony exec -it den -- sh -c 'stty size; read word; echo got $word'")
        tmux.until("30 100")
        tmux.line("it")
        tmux.until("got it")


def test_a_certificate_that_does_not_hold_ends_it_with_the_reason_and_what_to_do(afar: Afar, tmp_path: Path) -> None:
    key = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Another", "-keyout", "key", "-out", "crt")
    subprocess.run(["openssl", *key], cwd=tmp_path, check=True, capture_output=True)
    for elsewhere in ("", str(tmp_path / "crt")):
        error = afar.error(6, COLONY_CA_FILE=elsewhere)
        assert error["code"] == "certificate-refused"
        assert "unable to get local issuer certificate" in error["message"]
        assert "COLONY_CA_FILE" in error["hint"]
        for words in (["exec", "den", "--", "true"], ["logs", "-f", "den"], ["events", "-f"]):
            assert "certificate" in afar.colony(*words, check=6, COLONY_CA_FILE=elsewhere)
    error = afar.error(6, COLONY_SERVER=f"https://127.0.0.1:{afar.port}")
    assert error["code"] == "certificate-refused"
    assert "127.0.0.1" in error["message"]
    assert error["hint"] == "call it by a name in its certificate"
    assert afar.error(2, COLONY_CA_FILE=str(tmp_path / "none"))["code"] == "invalid-ca-file"


def test_the_plain_port_leads_to_the_other_one_and_says_so(afar: Afar) -> None:
    error = afar.error(1, COLONY_SERVER=f"http://127.0.0.1:{afar.plain}")
    assert error["code"] == "unexpected-answer"
    assert f"leads to https://localhost:{afar.port}/api/colonies" in error["message"]


def test_a_front_without_its_daemon_is_told_as_such(afar: Afar) -> None:
    afar.daemon.terminate()
    try:
        error = afar.error(6)
        assert error["code"] == "daemon-unreachable"
        assert "behind" in error["message"]
    finally:
        afar.daemon.start()
