"""The threats of docs/security.md that come by previews and by logs, each tried against the running daemon."""

import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.core.colonies.browsers import Page, open_page

from colony_core.remote import calls

from .api import Api, log_in
from .driver import COLONY, PATIENCE_SECONDS, Daemon, logged_lines

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ECHO = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        page = self.path == "/page"
        body = b"<title>p</title>" if page else self.raw_requestline + bytes(self.headers)
        to = self.headers.get("X-To")
        self.send_response(302 if to else 200)
        if to:
            self.send_header("Location", to)
        if page:
            for above in ("colony.localhost", ".localhost", "localhost"):
                self.send_header("Set-Cookie", f"colony_session=evil; Path=/; Domain={above}")
        self.send_header("Content-Type", "text/html" if page else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do_OPTIONS = do_CONNECT = answer
    def log_message(self, *said):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
WEB = f"[services.web]\ncommand = {json.dumps([sys.executable, '-S', '-c', ECHO])}\nport = 4001\n"
HOST = "web.app.colony.localhost"


class Previews:
    """The proxy of a daemon with one colony, app, asked byte by byte."""

    def __init__(self, daemon: Daemon) -> None:
        daemon.spawn("app", WEB)
        daemon.until_ready("app")
        self.port = int(daemon.send(calls.system())["preview_port"])

    def ask(self, line: str, host: str | None = HOST, *lines: str) -> tuple[int, str]:
        """Status, and everything that was said, for a request line and its fields."""
        head = [line, *([] if host is None else [f"Host: {host}"]), *lines, "Connection: close", "", ""]
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as stream:
            stream.sendall("\r\n".join(head).encode("latin-1"))
            said = b""
            while more := stream.recv(65536):
                said += more
        text = said.decode("latin-1")
        return int(text.split()[1]), text

    def echoed(self, *lines: str, target: str = "/", host: str = HOST) -> str:
        """What the service was sent."""
        status, said = self.ask(f"GET {target} HTTP/1.1", host, *lines)
        assert status == 200, said
        return said.partition("\r\n\r\n")[2]


@pytest.fixture
def previews(daemon: Daemon) -> Previews:
    return Previews(daemon)


@pytest.fixture
def bait() -> Iterator[socket.socket]:
    """Something that listens on the host's loopback, where no preview may lead."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def untouched(bait: socket.socket) -> bool:
    try:
        bait.accept()
    except BlockingIOError:
        return True
    return False


# ---- 11: the preview proxy as a way to other places


def test_11_a_host_leads_into_a_colony_or_nowhere(daemon: Daemon, previews: Previews, bait: socket.socket) -> None:
    api, port = Api(daemon).port, bait.getsockname()[1]
    for number in (port, api, previews.port):  # the cell's own loopback is asked, where nobody listens
        assert previews.ask("GET / HTTP/1.1", f"app-{number}.colony.localhost")[0] == 502
    for host in (
        f"127.0.0.1:{port}", f"localhost:{port}", f"127.0.0.1:{api}", f"[::1]:{port}", f"[::ffff:127.0.0.1]:{port}",
        "169.254.169.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "2852039166", "0x7f000001", "0", "127.1",
        "169.254.169.254.app.colony.localhost", "localhost.colony.localhost", "app.colony.localhost.evil.example",
        f"{HOST}@169.254.169.254", f"169.254.169.254@{HOST}", f"127.0.0.1:{port}@{HOST}", f"{HOST}:80@127.0.0.1:{port}",
        f"{HOST}#@127.0.0.1", f"{HOST}/../127.0.0.1", f"{HOST}?127.0.0.1", f"{HOST}\\@127.0.0.1", f"{HOST}:99999",
        f"{HOST}:-1", f"{HOST}, 127.0.0.1", f"{HOST} 127.0.0.1", "app-0.colony.localhost", "app-65536.colony.localhost",
        "app-04001.colony.localhost", "app-4001@127.0.0.1.colony.localhost", "app%2ecolony.localhost", "colony.localhost",
        "..colony.localhost", ".app.colony.localhost", "", "*", f"\x7f{HOST}", f"{HOST}\xa0",
    ):  # fmt: skip
        status, said = previews.ask("GET /api/system HTTP/1.1", host)
        assert status in (400, 404, 421), (host, said)
        assert "colony-version" not in said.lower(), host
    assert previews.ask("GET / HTTP/1.1", None)[0] == 400
    assert previews.ask("GET / HTTP/1.1", HOST, f"Host: 127.0.0.1:{port}")[0] == 400
    assert untouched(bait)


def test_11_a_target_leads_to_the_same_place_as_its_host_or_nowhere(previews: Previews, bait: socket.socket) -> None:
    elsewhere = f"127.0.0.1:{bait.getsockname()[1]}"
    for line in (
        f"CONNECT {elsewhere} HTTP/1.1", "CONNECT 169.254.169.254:80 HTTP/1.1", f"CONNECT {HOST}:80 HTTP/1.1",
        f"GET http://{elsewhere}/ HTTP/1.1", "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1",
        f"GET http://{HOST}@{elsewhere}/ HTTP/1.1", f"GET http://{elsewhere}@{HOST}/ HTTP/1.1", f"GET https://{HOST}/ HTTP/1.1",
        f"GET @{elsewhere}/ HTTP/1.1", f"GET {elsewhere} HTTP/1.1", f"GET ftp://{HOST}/ HTTP/1.1", "GET file:///etc/passwd HTTP/1.1",
        f"GET \\\\{elsewhere}/ HTTP/1.1", f"GET http:{elsewhere}/ HTTP/1.1", f"GET http://{HOST} http://{elsewhere}/ HTTP/1.1",
        "GET * HTTP/1.1",
    ):  # fmt: skip
        status, said = previews.ask(line)
        assert status in (400, 405), (line, said)
    assert previews.ask(f"GET http://{elsewhere}/ HTTP/1.1", elsewhere)[0] in (404, 421)
    # What looks like another place but is a path is the service's own business; it comes to the service as it is.
    for target in (f"//{elsewhere}/", f"/@{elsewhere}", f"/http://{elsewhere}/", f"/../..//{elsewhere}"):
        assert previews.echoed(target=target).startswith(f"GET {target} HTTP/1.1")
    assert previews.echoed(target=f"http://{HOST}/in").startswith("GET /in HTTP/1.1")
    assert untouched(bait)


def test_11_a_redirect_is_handed_on_and_not_followed(previews: Previews, bait: socket.socket) -> None:
    for to in (
        f"http://127.0.0.1:{bait.getsockname()[1]}/x",
        "http://169.254.169.254/",
        f"//[::1]:{bait.getsockname()[1]}/",
    ):
        status, said = previews.ask("GET / HTTP/1.1", HOST, f"X-To: {to}")
        assert status == 302
        assert f"\r\nlocation: {to}\r\n" in said.replace("\r\nLocation:", "\r\nlocation:")
    assert untouched(bait)


def test_11_our_cookie_and_token_are_taken_out_and_others_stay(daemon: Daemon, previews: Previews) -> None:
    api = Api(daemon)
    cookie = log_in(daemon, api)
    for sent, arrives in (
        (f"Cookie: {cookie}", None),
        (f"Cookie: a=1; {cookie}; b=2", "a=1; b=2"),
        (f"Cookie: __Host-{cookie};theirs=colony_session", "theirs=colony_session"),
        ("Cookie: colony_session_of_mine=1", "colony_session_of_mine=1"),
        (f"{api.bearer}", None),
        (f"authorization: bEaReR   {api.token}", None),
        ("Authorization: Bearer theirs", "Bearer theirs"),
        ("Authorization: Basic dTpw", "Basic dTpw"),
    ):
        said = previews.echoed(sent)
        assert api.token not in said
        assert cookie.partition("=")[2] not in said
        found = re.findall(rf"(?im)^{sent.partition(':')[0]}: *([^\r\n]*)", said)
        assert found == ([] if arrives is None else [arrives]), sent


def test_11_no_preview_on_the_apis_port_and_no_api_on_the_previews_port(daemon: Daemon, previews: Previews) -> None:
    api = Api(daemon)
    for host in (
        HOST,
        f"{HOST}:{api.port}",
        f"app.colony.localhost:{api.port}",
        f"app-4001.colony.localhost:{api.port}",
    ):
        assert api.code("/", host=host) == (421, "wrong-host")
    for host in (
        "localhost",
        "127.0.0.1",
        f"localhost:{previews.port}",
        f"127.0.0.1:{api.port}",
        f"localhost:{api.port}",
    ):
        status, said = previews.ask("GET /api/system HTTP/1.1", host, api.bearer)
        assert status in (404, 421)
        assert "colony-version" not in said.lower()
    assert previews.echoed(target="/api/system").startswith("GET /api/system")  # a service's own path, of whatever name


# ---- 12: a preview's page against Colony's own


@pytest.mark.browser
def test_12_no_page_of_ours_may_be_framed_or_taken_into_another(api_pages: Api) -> None:
    for target in ("/", "/docs", "/openapi.json", "/login?code=x", "/api/colonies", "/metrics", "/nothing"):
        for lines in ((), (api_pages.bearer,)):
            said = api_pages.ask(target, *lines)[2].lower()
            assert "frame-ancestors 'none'" in said
            for header in (
                "x-frame-options: deny", "x-content-type-options: nosniff", "cross-origin-opener-policy: same-origin",
                "cross-origin-resource-policy: same-origin",
            ):  # fmt: skip
                assert header in said, (target, header)
            assert "access-control-" not in said


@pytest.fixture
def api_pages(daemon: Daemon) -> Api:
    return Api(daemon)


FETCH = (
    "fetch(API + '/api/colonies', {0}).then((a) => a.type + ' ' + a.status + ' ' + document.cookie, (e) => 'refused')"
)
SOCKET = (
    "new Promise((done) => {{ const line = new WebSocket(API.replace('http', 'ws') + '{0}');"
    " line.onopen = () => done('open'); line.onerror = () => done('refused'); }})"
)
WINDOW = """
new Promise((done) => {
  const other = window.open(API + '/docs');
  if (!other) return done('no window');
  const look = () => {
    let seen = 'apart';
    try { seen = other.document.documentElement.outerHTML.includes('Colony') ? 'seen' : 'waiting'; } catch (e) {}
    if (seen == 'seen') done('seen'); else if (other.closed) done('apart'); else setTimeout(look, 20);
  };
  setTimeout(() => done('still open'), 20000);
  look();
})
"""
FRAME = """
new Promise((done) => {
  const frame = document.createElement('iframe');
  frame.onload = () => { try { done('seen ' + frame.contentDocument.body.innerHTML); } catch (e) { done('apart'); } };
  frame.src = API + '/docs';
  document.body.append(frame);
})
"""


@pytest.mark.browser
async def test_12_a_preview_page_gets_at_nothing_of_the_api(tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_LOG__LEVEL"] = "info"
    with daemon.running():
        api, previews = Api(daemon), Previews(daemon)
        for host in ("127.0.0.1", "localhost"):
            async with open_page(tmp_path / "profile") as page:
                await attack(page, daemon, f"http://{host}:{api.port}", f"http://{HOST}:{previews.port}")
            (tmp_path / "profile/DevToolsActivePort").unlink(missing_ok=True)
        assert daemon.colony("app")["state"] == "running"


async def attack(page: Page, daemon: Daemon, api: str, preview: str) -> None:
    link = daemon.cli("login", "-q").stdout.strip()
    await page.goto(f"{api}/login?{link.partition('?')[2]}")
    await page.until(f"location.href == '{api}/'")
    await page.goto(f"{preview}/page")  # which sets cookies for all above it, by fields and by script
    await page.until("document.title == 'p'")
    await page.run(f"globalThis.API = '{api}'")
    for above in ("colony.localhost", ".localhost", "localhost", "127.0.0.1", ""):
        for path in ("/", "/api"):
            await page.run(f"document.cookie = 'colony_session=evil; Path={path}; Domain={above}'")
    await page.run("document.cookie = '__Host-colony_session=evil; Path=/'")
    assert "cut_1_" not in str(await page.run("document.cookie"))
    told = str(await page.run("fetch('/told', {credentials: 'include'}).then((a) => a.text())"))
    assert "Sec-Fetch" in told
    assert "colony_session" not in told  # neither its own, which the proxy takes out, nor ours, which it is never sent
    assert await page.run(FETCH.format("{credentials: 'include'}")) == "refused"
    assert await page.run(FETCH.format("{credentials: 'include', headers: {'Colony-Request': '1'}}")) == "refused"
    assert await page.run(FETCH.format("{credentials: 'include', mode: 'no-cors'}")) == "refused"
    stop = "{method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}'}"
    await page.run(f"fetch(API + '/api/colonies/app/stop', {stop}).catch(() => null)")
    for path in ("/ws", "/api/colonies/app/exec"):
        assert await page.run(SOCKET.format(path)) == "refused"
    assert await page.run(FRAME) == "apart"
    assert await page.run(WINDOW) == "apart"
    refused = [line for line in logged_lines(daemon) if line["message"] == "request"]
    writes = [
        line for line in refused if line["method"] == "POST" and line["route"] == "other" and line["status"] == 403
    ]
    assert {line["code"] for line in writes} == {"foreign-origin"}
    # And the session goes on: nothing that the page set stands beside its cookie.
    await page.goto(f"{api}/api/colonies")
    await page.until("document.body.innerText.includes('\"app\"')")


# ---- 18: terminal escapes in logs

ESCAPES = (
    b"\x1b]52;c;cm0gLXJm\x07", b"\x1b]52;c;?\x1b\\", b"\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\", b"\x1b]50;#1\x07",
    b"\x1b]0;title\x07", b"\x1b]4;1;?\x07", b"\x1b]1337;File=name=eA==:AAAA\x07", b"\x1b]11;?\x1b\\", b"\x1bP+q544e\x1b\\",
    b"\x1bP$q\"p\x1b\\", b"\x1b_Gf=24;AAAA\x1b\\", b"\x1b^private\x1b\\", b"\x1bXstring\x1b\\", b"\x9b2J", b"\x9d0;t\x9c", b"\x90q\x9c",
    "\x9b2J".encode(), "\x9d52;c;QQ==\x9c".encode(), "\x90+q\x9c".encode(), b"\x1b[2J", b"\x1b[H", b"\x1b[6n", b"\x1b[c", b"\x1b[>c",
    b"\x1b[21t", b"\x1b[?1049h", b"\x1b[?1000h", b"\x1b[8m\x1b[2K", b"\x1b[1;1r", b"\x1b[4i", b"\x1b[!p", b"\x1b[31;2$m", b"\x1b[>4;1m",
    b"\x1b[?4m", b"\x1b[31 m", b"\x1bc", b"\x1b#8", b"\x1b(0", b"\x1bN", b"\x1bZ", b"\x1b", b"\x1b\x1b[31mx", b"\x07", b"abc\x08\x08x",
    b"safe\rforged", b"\x0e\x0f", b"\x0b\x0c", b"\x05", b"\x7f", b"\x1a\x18", "\u202egnp.exe\u2066".encode(), "\u2028forged".encode(),
    b"\x1b[31mred\x1b[0m", b"\x1b[38;5;200mpink", b"\x1b[38:2::1:2:3mtrue",
)  # fmt: skip
SGR = re.compile(rb"\x1b\[[0-9;:]*m")
STEERING = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def at_terminal(daemon: Daemon, *words: str) -> bytes:
    """Every byte that a command writes to a terminal."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 200, 0, 0))
    mode = termios.tcgetattr(slave)
    mode[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    environment = daemon.environment | {"TERM": "xterm-256color", "FORCE_COLOR": ""}
    process = subprocess.Popen([*COLONY, *words], env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
        if not more:
            break
        said += more
    os.close(master)
    assert process.wait(PATIENCE_SECONDS) == 0, said
    return said


SHOUT = f"""
import sys, time
for line in {ESCAPES!r}:
    sys.stdout.buffer.write(b"[" + line + b"]\\n")
sys.stdout.flush()
time.sleep(600)
"""


@pytest.fixture
def shouting(daemon: Daemon) -> Daemon:
    """A daemon with a service that has said them all."""
    daemon.spawn("app", f"[services.shout]\ncommand = {json.dumps([sys.executable, '-S', '-c', SHOUT])}\n")
    page = calls.logs("app", services=["shout"])
    daemon.until(lambda: len(daemon.send(page)["lines"]) >= len(ESCAPES), "every line")
    return daemon


def test_18_of_what_a_service_says_only_colours_reach_a_terminal(shouting: Daemon) -> None:
    for words in (("logs", "app"), ("logs", "app", "shout", "-t"), ("logs", "app", "--tail", "50")):
        said = SGR.sub(b"", at_terminal(shouting, *words))
        assert not STEERING.search(said), words
        assert b"\r" not in said
    shown = at_terminal(shouting, "logs", "app", "shout").split(b"\n")
    assert len(shown) == len(ESCAPES) + 1
    assert b"[\x1b[31mred\x1b[0m]\x1b[0m" in shown
    assert b"\x1b" not in at_terminal(shouting, "logs", "app", "shout", "--no-color")
    raw = at_terminal(shouting, "logs", "app", "shout", "--raw").split(b"\n")
    for line in ESCAPES:
        kept = line.decode(
            "utf-8", "backslashreplace"
        ).encode()  # bytes that are no text are kept as what they are called
        assert b"[" + kept + b"]" in raw, line


def test_18_json_tells_every_escape_and_holds_none(shouting: Daemon) -> None:
    said = at_terminal(shouting, "logs", "app", "shout", "--json")
    assert not STEERING.search(said)
    texts = [json.loads(line)["text"] for line in said.splitlines()]
    assert texts == [f"[{line.decode('utf-8', 'backslashreplace')}]" for line in ESCAPES]
