"""Links between colonies and the names in their cells, with a real daemon, as colony.toml and `colony apply` have them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from colony_core.remote import calls

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ECHO = """
import os, socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(os.environ["COLONY_SERVICE"].encode() + b" " + line)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server((os.environ.get("BIND", "0.0.0.0"), int(os.environ["PORT"])), Echo).serve_forever()
"""
CHAT = """
import socket, sys, time
deadline = time.monotonic() + 120
while True:
    try:
        line = socket.create_connection((sys.argv[1], 4002), 30)
        break
    except OSError:
        assert time.monotonic() < deadline
        time.sleep(0.1)
file = line.makefile("rw")
for number in range(10**9):
    file.write(f"{number}\\n"); file.flush()
    print(file.readline().split()[1], flush=True)
    time.sleep(0.02)
"""
ASK = """
import json, socket, sys
def look(name):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, 4002, type=socket.SOCK_STREAM)})
    except socket.gaierror as error:
        return {socket.EAI_NONAME: "none", socket.EAI_AGAIN: "again"}.get(error.errno, str(error))
def call(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 30) as line:
            line.sendall(b"hello\\n")
            return line.makefile().readline().split()[0]
    except socket.gaierror:
        return "no name"
    except OSError as error:
        return type(error).__name__
print(json.dumps([(call if ":" in asked else look)(asked) for asked in sys.argv[1:]]))
"""
PAGE = ["python3", "-m", "http.server", "--bind", "127.0.0.1"]


def services(*names: str, first_port: int = 4002) -> str:
    tables = [
        f'[services.{name}]\ncommand = ["python3", "echo.py"]\nport = {port}\n'
        for port, name in enumerate(names, first_port)
    ]
    return "".join(tables)


def spawn(daemon: Daemon, name: str, manifest: str) -> dict[str, Any]:
    daemon.spawn(name, manifest, echo_py=ECHO, ask_py=ASK, chat_py=CHAT)
    return daemon.until_ready(name)


def ask(daemon: Daemon, colony: str, *what: str) -> list[Any]:
    """From inside a colony: where a name leads, and who answers at `host:port`."""
    found: list[Any] = json.loads(daemon.cli("exec", colony, "--", "python3", "ask.py", *what).stdout)
    return found


def link(daemon: Daemon, colony: str, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = daemon.colony(colony)["links"][number]
    return found


def edit(daemon: Daemon, colony: str, manifest: str) -> dict[str, Any]:
    (daemon.folder / f"app-{colony}" / "colony.toml").write_text(manifest)
    done: dict[str, Any] = json.loads(daemon.cli("apply", colony, "--json").stdout)
    return done


def test_siblings_are_found_by_name_by_every_program_that_asks_the_c_library(daemon: Daemon) -> None:
    web = f"[services.web]\ncommand = {json.dumps([*PAGE, '4001'])}\nport = 4001\n"
    spawn(daemon, "shop", web + services("api"))
    assert (
        ask(daemon, "shop", "api", "WEB", "shop", "api.shop.colony.internal", "shop.colony.internal")
        == [["127.0.0.1"]] * 5
    )
    assert ask(daemon, "shop", "api:4002", "api.shop.colony.internal:4002") == ["api", "api"]
    assert ask(daemon, "shop", "none.shop.colony.internal", "colony.internal", "x.y.z.colony.internal") == ["none"] * 3
    assert ask(daemon, "shop", "example.org", "apix") == ["again", "again"], "this daemon's colonies have no way out"
    if shutil.which("curl"):
        said = daemon.cli("exec", "shop", "--", "curl", "-sS", "--noproxy", "*", "http://web:4001/echo.py").stdout
        assert said == ECHO
    if shutil.which("node"):
        script = "fetch('http://web:4001/echo.py').then(r => r.text()).then(t => process.stdout.write(t))"
        assert daemon.cli("exec", "shop", "--", "node", "-e", script).stdout == ECHO
    assert daemon.cli("exec", "shop", "--", "getent", "ahosts", "api").stdout.split()[0] == "127.0.0.1"


def test_a_nameserver_of_the_colonys_own_has_port_53_to_itself(daemon: Daemon) -> None:
    spawn(daemon, "dns", services("dns", first_port=53))
    assert ask(daemon, "dns", "127.0.0.1:53") == ["dns"]


def test_a_link_works_one_way_and_says_why_it_does_not(daemon: Daemon) -> None:
    linked = '[network]\nlinks = ["data", "data:admin"]\n' + services("api")
    spawn(daemon, "shop", linked)
    assert link(daemon, "shop")["reason"] == "there is no colony “data”"
    assert ask(daemon, "shop", "data", "data.colony.internal") == ["none", "none"]
    address = spawn(daemon, "data", services("db", "admin"))["address"]
    assert link(daemon, "shop") == {
        "to": "data", "colony": "data", "service": None, "works": True, "reason": "",
        "name": "data.colony.internal", "address": address, "port": None,
    }  # fmt: skip
    assert link(daemon, "shop", 1) == {
        "to": "data:admin", "colony": "data", "service": "admin", "works": True, "reason": "",
        "name": "admin.data.colony.internal", "address": address, "port": 4003,
    }  # fmt: skip
    assert ask(daemon, "shop", "data", "db.data.colony.internal", "none.data.colony.internal") == [
        [address], [address], "none",
    ]  # fmt: skip
    assert ask(daemon, "shop", "data:4002", "admin.data.colony.internal:4003", "api:4002") == ["db", "admin", "api"]
    back = daemon.colony("shop")["address"]
    assert ask(daemon, "data", "shop.colony.internal", f"{back}:4002", "api.shop.colony.internal:4002") == [
        "none", "OSError", "no name",
    ]  # fmt: skip
    shown = daemon.cli("show", "shop").stdout
    assert "admin.data.colony.internal" in shown
    assert doctors_links(daemon) == [("ok", "2 between colonies")]

    done = edit(daemon, "shop", '[network]\nlinks = ["data:admin"]\n' + services("api"))
    assert (done["changes"], done["restarted"]) == (["unlinked from data"], [])
    assert ask(daemon, "shop", "data:4002", "data:4003", "db.data.colony.internal") == ["OSError", "admin", "none"]
    edit(daemon, "data", services("admin", "db"))
    daemon.until_ready("data")
    assert ask(daemon, "shop", "data:4002", "data:4003") == ["admin", "OSError"], "it follows the service to its port"
    edit(daemon, "data", services("db"))
    assert link(daemon, "shop")["reason"] == "colony “data” has no service “admin”"
    assert doctors_links(daemon) == [("warn", "shop to data:admin: colony “data” has no service “admin”")]
    assert ask(daemon, "shop", "data", f"{address}:4002") == ["none", "OSError"]


def doctors_links(daemon: Daemon) -> list[tuple[str, str]]:
    findings = json.loads(daemon.cli("doctor", "--json", check=None).stdout)
    return [(finding["state"], finding["found"]) for finding in findings if finding["check"] == "links"]


def test_a_link_follows_its_colonies_through_stops_removals_and_new_addresses(daemon: Daemon) -> None:
    spawn(daemon, "shop", '[network]\nlinks = ["data"]\n' + services("api"))
    old = spawn(daemon, "data", services("db"))["address"]
    daemon.cli("stop", "data")
    assert (link(daemon, "shop")["works"], link(daemon, "shop")["reason"]) == (False, "colony “data” is stopped")
    assert ask(daemon, "shop", "data") == ["none"]
    daemon.cli("rm", "data", "--yes")
    assert link(daemon, "shop")["reason"] == "there is no colony “data”"
    assert spawn(daemon, "stranger", services("db"))["address"] == old, "the address was free"
    assert ask(daemon, "shop", f"{old}:4002") == ["OSError"]
    shutil.rmtree(daemon.folder / "app-data")
    new = spawn(daemon, "data", services("db"))["address"]
    assert new != old
    assert ask(daemon, "shop", "data", "data:4002", f"{old}:4002") == [[new], "db", "OSError"]


def test_conversations_and_links_outlive_a_killed_daemon_and_are_set_right_by_the_next(daemon: Daemon) -> None:
    chat = '[services.chat]\ncommand = ["python3", "-u", "chat.py", "data"]\n'
    spawn(daemon, "shop", '[network]\nlinks = ["data"]\n' + chat)
    data = spawn(daemon, "data", services("db"))

    def heard() -> int:
        lines = daemon.send(calls.logs("shop", tail=1, services=["chat"]))["lines"]
        return int(lines[-1]["text"]) if lines else 0

    before = daemon.until(heard, "they talk")
    pid, where = daemon.service("shop", "chat")["pid"], f"{data['address']}:4002"
    daemon.kill()
    assert ask_beside(pid, where, daemon.folder / "app-shop") == ["db"]
    daemon.start()
    daemon.until_ready("shop")
    daemon.until(lambda: heard() > before + 50, "they talk on")
    assert daemon.service("shop", "chat")["pid"] == pid, "the same conversation"
    assert ask(daemon, "shop", "data:4002") == ["db"]

    manifest = daemon.folder / "app-shop" / "colony.toml"
    manifest.write_text(chat)
    daemon.cli("apply", "shop", "--no-wait")
    daemon.kill()
    assert ask_beside(pid, where, daemon.folder / "app-shop") == ["OSError"]
    daemon.start()
    assert ask(daemon, "shop", "data", f"{data['address']}:4002")[1] == "OSError"


def ask_beside(pid: int, what: str, folder: Path) -> list[Any]:
    """As `ask`, where no daemon answers: in the network of a process."""
    own = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", f"--target={pid}", *own, "--net", "python3", "ask.py", what]
    done = subprocess.run(enter, cwd=folder, capture_output=True, text=True, timeout=180, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("links", "code"),
    [('["shop"]', "link-to-itself"), ('["Shop"]', "invalid-name"), ('["a:b:c"]', "invalid-service-name")],
)
def test_a_link_that_cannot_be_is_refused_before_anything_is_made(daemon: Daemon, links: str, code: str) -> None:
    folder = daemon.folder / "app"
    folder.mkdir()
    (folder / "colony.toml").write_text(f"[network]\nlinks = {links}\n{services('api')}")
    done = daemon.cli("spawn", "shop", "--from", str(folder), "--json", check=None)
    assert json.loads(done.stderr)["error"]["code"] == code
    assert daemon.send(calls.colonies()) == []
