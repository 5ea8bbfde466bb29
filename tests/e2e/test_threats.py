"""The threats of docs/security.md, each tried against the running daemon; the numbers are the document's. See test_threats_previews."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from colony_core.naming import NAME_PATTERN
from colony_core.remote import calls

from .api import UPGRADE, Api, log_in
from .driver import Daemon, logged_lines

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

IDLE = '[services.idle]\ncommand = ["sleep", "600"]\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that keeps quiet about nothing: what is not in its log then is in no log."""
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_LOG__LEVEL"] = "debug"
    with daemon.running():
        yield daemon


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return Api(daemon)


def logged(daemon: Daemon, route: str) -> str:
    """The daemon's log, once it has told of requests for this route: it does so just after the answer."""
    daemon.until(lambda: route in {line.get("route") for line in logged_lines(daemon)}, route)
    return (daemon.folder / "daemon.log").read_text()


def audited(daemon: Daemon) -> list[dict[str, Any]]:
    """What was written down."""
    found: list[dict[str, Any]] = daemon.send(calls.audit(after=0, limit=1000))
    return found


# ---- 1: an agent calls the control API

KNOCK = """
import http.client, json, os, socket, sys
path, port, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
found = {"uid": os.getuid(), "token": None}
try:
    found["token"] = open(os.path.join(os.path.dirname(path), "token")).read().strip()
except OSError:
    pass
for address in addresses:
    try:
        socket.create_connection((address, port), 3).close()
        found[address] = "open"
    except OSError as error:
        found[address] = type(error).__name__
for key, headers in (("plain", {}), ("token", {"Authorization": f"Bearer {found['token']}"})):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(path)
        connection.request("POST", "/api/colonies/app/stop", headers=headers)
        answer = connection.getresponse()
        found[f"socket {key}"] = [answer.status, json.loads(answer.read())["code"]]
    except OSError as error:
        found[f"socket {key}"] = type(error).__name__
print(json.dumps(found))
"""


def test_1_from_inside_a_colony_the_api_is_reached_by_no_address_and_by_no_socket(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_SERVER__BIND"] = "0.0.0.0"  # so that only the walls stand in the way
    with daemon.running():
        daemon.spawn("app", IDLE)
        view = daemon.until_ready("app")
        api = Api(daemon)
        network = view["address"].rpartition(".")[0]
        addresses = ["127.0.0.1", *{f"{network}.{last}" for last in range(4)} - {view["address"]}, *host_addresses()]
        knock = daemon.cli(
            "exec", "app", "--", sys.executable, "-c", KNOCK, str(api.socket), str(api.port), ",".join(addresses)
        )
        found = json.loads(knock.stdout)
        assert found.pop("uid") == os.getuid()  # the same user, who may read the token, and is refused all the same
        assert found.pop("token")
        assert found.pop("socket plain") == [403, "socket-from-a-cell"]
        assert found.pop("socket token") == [403, "socket-from-a-cell"]
        assert set(found) == set(addresses)
        assert "open" not in found.values()
        assert daemon.colony("app")["state"] == "running"
        refused = [entry for entry in audited(daemon) if entry["code"] == "socket-from-a-cell"]
        assert [(entry["who"], entry["path"]) for entry in refused] == [(None, "/api/colonies/app/stop")] * 2


def host_addresses() -> list[str]:
    """Addresses of this machine that are not loopback."""
    listed = json.loads(subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True).stdout)
    return [
        info["local"]
        for link in listed
        if link["ifname"] != "lo" and not link["ifname"].startswith("vc-")
        for info in link["addr_info"]
    ][:5]


# ---- 2: an agent acts for another agent

TRY = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as tools:
    tools.connect("\\0colony")
    lines = tools.makefile("rw")
    for number, (name, arguments) in enumerate(json.loads(sys.argv[1])):
        call = {"name": name, "arguments": arguments}
        print(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}), file=lines, flush=True)
        result = json.loads(lines.readline() or '{"result": {"isError": true, "content": [{"text": "hung up"}]}}')["result"]
        print(json.dumps([result["content"][0]["text"], result["isError"]]))
"""


def test_2_an_agent_that_names_another_colony_is_refused_and_it_is_written_down(daemon: Daemon) -> None:
    for name in ("ant", "bee"):
        daemon.spawn(name, IDLE)
        daemon.until_ready(name)
    ant, bee = daemon.colony("ant"), daemon.colony("bee")
    tries = [
        (tool, {"service": "idle", key: named} if "service" in tool else {key: named})
        for tool in ("stop_service", "restart_service", "apply", "services", "logs", "report")
        for key, named in (("colony", "bee"), ("colony_id", bee["id"]), ("agent", "bee"))
    ]
    tried = daemon.cli("exec", "ant", "--", sys.executable, "-c", TRY, json.dumps(tries)).stdout.splitlines()
    assert len(tried) == len(tries)
    assert all(json.loads(line)[0].startswith("not-your-colony") and json.loads(line)[1] for line in tried)
    rows = [entry for entry in audited(daemon) if entry["method"] == "TOOL"]
    assert [(entry["status"], entry["code"], entry["role"]) for entry in rows] == [
        (403, "not-your-colony", "agent")
    ] * len(tries)
    assert {(entry["who"], entry["name"]) for entry in rows} == {(f"colony:{ant['id']}", "ant")}
    assert {entry["target"] for entry in rows} == {"bee", bee["id"]}
    assert daemon.colony("bee")["services"] == bee["services"], "nothing has happened to it"
    own = [["services", {"colony": "ant"}], ["restart_service", {"service": "idle", "colony_id": ant["id"]}]]
    told = daemon.cli("exec", "ant", "--", sys.executable, "-c", TRY, json.dumps(own)).stdout.splitlines()
    assert [json.loads(line)[1] for line in told] == [False, False], "it may say who it is"


@pytest.mark.root
def test_2_who_is_not_in_the_colony_or_not_its_user_reaches_none_of_its_tools(daemon: Daemon) -> None:
    daemon.spawn("ant", IDLE)
    namespace = daemon.until_ready("ant")["namespace"]
    knock = [sys.executable, "-c", TRY, '[["services", {}]]']
    inside = ["nsenter", f"--net=/run/netns/{namespace}"]

    def try_as(*words: str) -> str:
        done = subprocess.run([*words, *knock], capture_output=True, text=True, check=False)
        return done.stdout or done.stderr

    assert '\\"name\\": \\"idle\\"' in try_as(*inside), "the way is open to whom it is for"
    assert "ConnectionRefusedError" in try_as(), "on the host nobody has that name"
    assert "ConnectionRefusedError" in try_as(*inside, "unshare", "--net"), "nor in a network of one's own"
    refused = try_as(*inside, "setpriv", "--reuid=65534", "--clear-groups")
    assert "hung up" in refused or "Error" in refused
    daemon.until(lambda: "socket-of-another-user" in {entry["code"] for entry in audited(daemon)}, "it is written down")
    (row,) = [entry for entry in audited(daemon) if entry["code"] == "socket-of-another-user"]
    assert (row["status"], row["path"], row["target"]) == (403, "/tools/connect", "ant")
    assert "uid 65534" in row["source"]


# ---- 6: agents reach each other

LISTENER = """
import os, socket, socketserver, threading
class Say(socketserver.BaseRequestHandler):
    def handle(self):
        if isinstance(self.request, tuple):
            self.request[1].sendto(b"here", self.client_address)
        else:
            self.request.sendall(b"here")
for kind in (socketserver.ThreadingUDPServer, socketserver.ThreadingTCPServer):  # ready is who listens on TCP
    class Both(kind):
        address_family, allow_reuse_address = socket.AF_INET6, True
        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()
    threading.Thread(target=Both(("::", int(os.environ["PORT"])), Say).serve_forever).start()
"""
PROBE = """
import json, socket, sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
def answers(asked):
    kind, address = asked
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = 0 if kind != "icmp" else socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
    try:
        with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM, protocol) as sock:
            sock.settimeout(2)
            sock.connect(socket.getaddrinfo(address, 4001)[0][4])
            if kind != "tcp":
                sock.send(bytes([128 if ":" in address else 8, 0, 0, 0, 0, 0, 0, 1]))
            return bool(sock.recv(100))
    except OSError:
        return False
asked = [[kind, address] for address in sys.argv[1:] for kind in ("tcp", "udp", "icmp")]
with ThreadPoolExecutor(len(asked)) as threads:  # most of them wait for an answer that never comes
    print(json.dumps([each for each, answered in zip(asked, threads.map(answers, asked)) if answered]))
"""


def test_6_colonies_reach_each_other_only_where_a_link_allows_it(daemon: Daemon) -> None:
    listen = '[services.all]\ncommand = ["python3", "listener.py"]\nport = 4001\n'
    names = ("ant", "bee", "cat")
    for name in names:
        daemon.spawn(name, listen, listener_py=LISTENER, probe_py=PROBE)
    address = {name: daemon.until_ready(name)["address"] for name in names}
    owner = {spelled: name for name in names for spelled in spellings(address[name])}

    def reached(wanted: set[tuple[str, str, str]]) -> None:
        """Who is to be reached is reached, by a second try where the first one was answered too late; and never anybody else."""
        found: set[tuple[str, str, str]] = set()
        daemon.until(lambda: found.update(once()) or not found < wanted, "who is to be reached")
        assert found == wanted

    def once() -> set[tuple[str, str, str]]:
        def by(name: str) -> set[tuple[str, str, str]]:
            there = [spelled for spelled, other in owner.items() if other != name]
            passed = json.loads(daemon.cli("exec", name, "--", "python3", "probe.py", *there).stdout)
            return {(name, kind, spelled) for kind, spelled in passed}

        with ThreadPoolExecutor(len(names)) as threads:
            return set().union(*threads.map(by, names))

    def link(name: str, *links: str) -> None:
        (daemon.folder / f"app-{name}" / "colony.toml").write_text(f"[network]\nlinks = {json.dumps(links)}\n" + listen)
        daemon.cli("apply", name)

    def by_ipv4(one: str, other: str, *kinds: str) -> set[tuple[str, str, str]]:
        spelled = (address[other], f"::ffff:{address[other]}")
        return {(one, kind, at) for kind in kinds for at in spelled if (kind, at) != ("icmp", spelled[1])}

    open_there = [[kind, address["ant"]] for kind in ("tcp", "udp", "icmp")]
    probe = ("exec", "ant", "--", "python3", "probe.py", address["ant"])
    daemon.until(lambda: json.loads(daemon.cli(*probe).stdout) == open_there, "the probe sees what is open")
    reached(set())
    link("ant", "bee")
    link("cat", "ant:all")
    reached(by_ipv4("ant", "bee", "tcp", "udp", "icmp") | by_ipv4("cat", "ant", "tcp", "udp"))
    daemon.kill()
    daemon.start()
    link("cat")
    reached(by_ipv4("ant", "bee", "tcp", "udp", "icmp"))
    link("ant")
    reached(set())


def spellings(address: str) -> list[str]:
    """An address, the same in IPv6's clothes, and what IPv6 would give that cable by itself; as seen from another cell."""
    parts = [int(part) for part in address.split(".")]
    local = f"fe80::c1:{parts[0]:x}ff:fe{parts[1]:02x}:{parts[2]:x}{parts[3]:02x}%eth0"
    return [address, f"::ffff:{address}", local]


# ---- 7: DNS rebinding


def test_7_a_host_that_is_not_exactly_ours_is_refused(api: Api) -> None:
    port = api.port
    assert api.ask("/api/system", api.bearer, host=f"127.0.0.1:{port}")[0] == 200
    for host in (
        "evil.com", f"evil.com:{port}", f"127.evil.com:{port}", f"localhost.evil:{port}", "localhost", f"localhost:{port + 1}",
        f"[::ffff:127.0.0.1]:{port}", f"127.1:{port}", f"2130706433:{port}", f"localhost.:{port}", f"a@localhost:{port}",
        f"localhost:{port}, evil.com", "web.app.colony.localhost",
    ):  # fmt: skip
        assert api.code("/api/system", api.bearer, host=host) == (421, "wrong-host"), host
    assert api.ask("/api/system", api.bearer, host=None)[0] in (400, 421, 422)
    double = api.ask("/api/system", api.bearer, f"Host: localhost:{port}")
    assert double[0] in (400, 421, 422)


# ---- 8: cross-site request forgery


def test_8_a_page_of_another_site_changes_nothing(daemon: Daemon, api: Api) -> None:
    daemon.spawn("app", IDLE)
    daemon.until_ready("app")
    cookie = f"Cookie: {log_in(daemon, api)}"
    stop, form = "/api/colonies/app/stop", "Content-Type: application/x-www-form-urlencoded"
    evil, site = "Origin: http://evil.com", "Sec-Fetch-Site: cross-site"
    for lines, refused in (
        ((cookie, evil, form), (403, "foreign-origin")),
        ((cookie, site, form), (403, "foreign-origin")),
        ((cookie, form), (403, "header-required")),
        ((cookie, "Content-Type: text/plain"), (403, "header-required")),
        ((cookie, "Colony-Request: 1", "Content-Type: text/plain"), (415, "unsupported-media-type")),
    ):
        assert api.code(stop, *lines, method="POST", body=b'{"grace": 0}') == refused
    assert api.code("/api/colonies", cookie, site) == (403, "foreign-origin")
    status, _, said = api.ask(stop, evil, "Access-Control-Request-Method: POST", method="OPTIONS")
    assert status == 403
    assert "access-control" not in said.lower()
    for target in (stop, "/api/system/shutdown", "/api/colonies/app/restart"):
        assert api.ask(target, api.bearer)[0] == 405  # to look is never to change
    assert daemon.colony("app")["state"] == "running"


# ---- 9: cross-site WebSockets


def test_9_a_page_of_another_site_opens_no_websocket(daemon: Daemon, api: Api) -> None:
    cookie = f"Cookie: {log_in(daemon, api)}"
    upgrade = [f"{name}: {value}" for name, value in UPGRADE.items()]
    ours = f"http://localhost:{api.port}"
    for origin in ("null", "http://evil.com", f"http://localhost:{api.port + 1}", f"https://localhost:{api.port}", "x"):
        for who in (api.bearer, cookie):
            assert api.code("/ws", *upgrade, who, f"Origin: {origin}") == (403, "foreign-origin"), origin
    assert api.code("/ws", *upgrade, cookie) == (403, "origin-required")
    assert api.code("/ws", *upgrade, f"Origin: {ours}") == (401, "token-required")
    assert api.ask("/ws", *upgrade, cookie, f"Origin: {ours}")[0] == 101
    assert api.ask("/ws", *upgrade, api.bearer)[0] == 101


# ---- 10: a token in an address, a history, a log


def test_10_a_login_link_is_good_once_and_no_secret_is_in_an_address_or_a_log(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_LOG__LEVEL"] = "debug"
    with daemon.running():
        api = Api(daemon)
        link = daemon.cli("login", "-q").stdout.strip()
        target = link.partition(str(api.port))[2]
        status, _, said = api.ask(target)
        assert status == 303
        lower = said.lower()
        assert "httponly" in lower
        assert "samesite=strict" in lower
        assert "domain=" not in lower
        assert api.code(target) == (401, "login-code-unknown")
        cookie = re.findall(r"set-cookie: ([^;]+)", said, re.IGNORECASE)[0]
        assert api.ask("/api/colonies", f"Cookie: {cookie}")[0] == 200
        assert api.code("/api/colonies", f"Cookie: colony_session=x; {cookie}") == (401, "cookie-doubled")
        for name in ("token", "access_token", "code", "key"):
            assert api.code(f"/api/colonies?{name}={api.token}") == (401, "token-required")
        assert api.code(f"/ws?token={api.token}", *(f"{n}: {v}" for n, v in UPGRADE.items())) == (401, "token-required")
        assert api.ask("/api/logout", f"Cookie: {cookie}", "Colony-Request: 1", method="POST")[0] == 204
        assert api.code("/api/colonies", f"Cookie: {cookie}") == (401, "session-unknown")
        secrets = [api.token, target.partition("code=")[2], cookie.partition("=")[2]]
        told = daemon.cli("audit", "--after", "0").stdout
        assert "/api/logins" in told
        told += logged(daemon, "/login")
    kept = b"".join(file.read_bytes() for file in daemon.state.rglob("*") if file.is_file() and file.name != "token")
    for secret in secrets:
        assert secret not in told
        assert secret.encode() not in kept
        assert secret.rpartition("_")[0].rpartition("_")[2].encode() not in kept or "_" not in secret


# ---- 13: paths in names


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.text(min_size=1, max_size=40)
    | st.sampled_from(["..", ".", "../x", "a/../b", "/etc", "a\x00b", "~root", "A", "con."])
)
def test_13_a_name_that_could_be_a_path_makes_nothing(api: Api, name: str) -> None:
    assume(not re.fullmatch(NAME_PATTERN, name))
    body = json.dumps({"name": name, "path": str(api.daemon.folder)}).encode()
    before = {str(file) for file in api.daemon.folder.rglob("*")}
    status, problem, _ = api.ask(
        "/api/colonies", api.bearer, "Content-Type: application/json", method="POST", body=body
    )
    assert (status, problem["code"]) == (422, "invalid-name")
    assert {str(file) for file in api.daemon.folder.rglob("*")} - before == set()


# ---- 17: the rights of the Unix socket


@pytest.mark.root
def test_17_another_user_is_refused_by_the_file_and_by_the_daemon(daemon: Daemon, api: Api) -> None:
    path = Path(api.socket)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    found = subprocess.run(["find", str(daemon.state), "-perm", "/077"], capture_output=True, text=True, check=True)
    assert [line for line in found.stdout.splitlines() if "/logs" not in line] == []
    knock = f"import os,socket; os.setuid(65534); s=socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
    refused = subprocess.run([sys.executable, "-c", knock], capture_output=True, text=True, check=False)
    assert "PermissionError" in refused.stderr
    # And where the file would let everybody in, the kernel's word on who asks does not.
    ask = (
        f"import os, socket; s = socket.socket(socket.AF_UNIX); os.chdir({str(path.parent)!r}); os.setuid(65534);"
        f"s.connect({path.name!r}); s.sendall(b'GET /api/system HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n');"
        "print(s.recv(65536).decode())"
    )
    path.chmod(0o666)
    path.parent.chmod(0o711)
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert "socket-of-another-user" in asked.stdout, asked.stderr


# ---- 19: forged lines in logs; 20: secrets in logs and errors


FORGED = 'x\n2026-01-01T00:00:00Z  1  root (ape)  socket  POST /api/system/shutdown  202\r\n{"level": "info"}\x1b[2J'


def test_19_what_an_agent_says_forges_no_line_of_a_log(daemon: Daemon, api: Api) -> None:
    command = [sys.executable, "-c", f"print({FORGED!r}, flush=True); import time; time.sleep(600)"]
    shout = f"[services.shout]\ncommand = {json.dumps(command)}\n"
    daemon.spawn("app", shout)
    daemon.until_ready("app")
    daemon.until(lambda: daemon.send(calls.logs("app", services=["shout"]))["lines"], "a line")
    lines = daemon.cli("logs", "app", "--json").stdout.splitlines()
    assert all(isinstance(json.loads(line), dict) and "seq" in json.loads(line) for line in lines)
    assert "\x1b[2J" not in daemon.cli("logs", "app").stdout
    quoted = "/api/" + "".join(f"%{byte:02x}" for byte in FORGED.encode())
    assert api.ask(quoted, api.bearer, method="POST")[0] == 404
    told = daemon.cli("audit", "--after", "0").stdout
    assert "\x1b" not in told
    assert [line for line in told.splitlines() if line.startswith("2026-01-01T00:00:00Z")] == []
    assert len(told.splitlines()) == len(audited(daemon))
    log = logged(daemon, "other")
    assert "2026-01-01T00:00:00Z  1  root" not in log
    assert "\x1b" not in log


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(["path", "query", "header", "body", "name", "cookie", "id"]),
    st.sampled_from(["GET", "POST", "DELETE"]),
)
def test_20_no_answer_and_no_log_holds_a_token_that_was_sent(api: Api, place: str, method: str) -> None:
    token = api.token
    target, lines, body = "/api/colonies", [api.bearer], b""
    if place == "path":
        target = f"/api/{token}"
    elif place == "id":
        target = f"/api/tokens/{token}"
    elif place == "query":
        target = f"/api/colonies?{token}={token}"
    elif place == "header":
        lines = [f"Authorization: Basic {token}"]
    elif place == "cookie":
        lines = [f"Cookie: colony_session={token}"]
    else:
        lines.append("Content-Type: application/json")
        body = json.dumps({"name": token, "path": token} if place == "name" else {token: token}).encode()
    _, _, said = api.ask(target, *lines, method=method, body=body)
    secret = token.split("_")[3]
    assert secret not in said
    assert secret not in logged(api.daemon, "/api/tokens")
    assert not any(secret in json.dumps(entry) for entry in audited(api.daemon))
