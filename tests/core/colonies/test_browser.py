"""Previews in a real browser, of real development servers: what people see while they work."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.core.routing.caddies import Caddy, free_port, running_caddy

from .browsers import Page, open_page
from .homes import PATIENCE_SECONDS, Home, kill, of, open_home, service

pytestmark = [pytest.mark.kernel, pytest.mark.browser, pytest.mark.slow]

MODULES = Path(os.environ.get("COLONY_TESTS_NODE_MODULES", "/nowhere"))
VITE = MODULES / "vite/bin/vite.js"
NEXT_PAGE = """
"use client";
import { useEffect, useState } from "react";
export default function Page() {
  const [mounted, setMounted] = useState(false);
  useEffect(() => { window.loads = (window.loads || 0) + 1; setMounted(true); }, []);
  return <main><p id="said">WORD</p><p id="mounted">{String(mounted)}</p></main>;
}
"""
NEXT_LAYOUT = "export default function Layout({ children }) { return <html><body>{children}</body></html>; }"
NEXT_CONFIG = "export default { devIndicators: false, allowedDevOrigins: ALLOWED };"
INDEX = '<!doctype html><title>t</title><p id="said"></p><script type="module" src="/main.js"></script>'
MAIN = """
import { word } from "./word.js";
window.loads = (window.loads || 0) + 1;
document.getElementById("said").textContent = word;
if (import.meta.hot) import.meta.hot.accept("./word.js", (found) => {
  document.getElementById("said").textContent = found.word;
});
"""
SERVER = """
import base64, hashlib, http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def page(self, body, kind="text/html", status=200, **fields):
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | fields).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/":
            self.page(b"<p id=pid>%d</p>" % os.getpid())
        elif self.path == "/login":
            cookie = "mine=1"
            self.page(b"", status=302, Location=f"http://localhost:{os.environ['PORT']}/home", Set_Cookie=cookie)
        elif self.path == "/home":
            self.page(b"<p id=home>%s</p>" % self.headers.get("Cookie", "none").encode())
        elif self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number in range(3):
                self.wfile.write(b"data: %d\\n\\n" % number)
                self.wfile.flush()
            time.sleep(600)
        elif self.path == "/echo":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_response(101)
            for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
                self.send_header(name, value)
            self.end_headers()
            _, size = self.rfile.read(2)
            mask, body = self.rfile.read(4), self.rfile.read(size & 127)
            body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
            self.wfile.write(bytes([0x82, len(body)]) + body[::-1])
            self.close_connection = True
    def log_message(self, *said):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(params=["direct", pytest.param("caddy", marks=pytest.mark.caddy)])
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    """A house whose previews are seen directly, or through Caddy."""
    if request.param == "direct":
        async with open_home(tmp_path) as home:
            yield home
        return
    (tmp_path / "caddy").mkdir()
    with running_caddy(tmp_path / "caddy") as caddy:
        async with open_home(tmp_path, **_settings(caddy)) as home:
            await home.until_told("caddy_serves")
            yield home


def _settings(caddy: Caddy) -> dict[str, object]:
    listen = f"127.0.0.1:{free_port()}"
    return {"caddy__enabled": True, "caddy__admin": str(caddy.admin), "caddy__listen": listen, "caddy__tls": "off"}


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    profile = tmp_path / "profile"
    profile.mkdir()
    async with open_page(profile) as page:
        yield page


async def serve(home: Home, *, preview: str = "keep") -> str:
    manifest = service(
        "web", json.dumps(["python3", "-S", "-c", SERVER]), port="4001", preview=f'{{ host = "{preview}" }}'
    )
    view = await home.up("app", manifest)
    assert view.url is not None
    return view.url


@pytest.mark.vite
@pytest.mark.parametrize("host", ["keep", "rewrite"])
async def test_an_edited_module_changes_under_an_open_page(home: Home, page: Page, host: str) -> None:
    """Vite tells the page over its WebSocket; nothing is loaded anew."""
    command = json.dumps(["node", str(VITE), "--port", "4001", "--strictPort", "--host", "127.0.0.1"])
    manifest = service("web", command, port="4001", preview=f'{{ host = "{host}" }}')
    files = {"index.html": INDEX, "main.js": MAIN, "word.js": 'export const word = "before";'}
    view = await home.up("app", manifest, **files)
    await page.goto(str(view.url))
    await page.until("document.getElementById('said')?.textContent == 'before'")
    await page.run("window.mark = 'still here'")
    # Its eyes open a moment after its port: we write until it has seen something.
    with trio.fail_after(PATIENCE_SECONDS):
        number = 0
        while not str(await page.run("document.getElementById('said').textContent")).startswith("after"):
            number += 1
            (home.folder / "app-app/word.js").write_text(f'export const word = "after {number}";')
            await trio.sleep(0.5)
    assert await page.run("window.mark") == "still here"
    assert await page.run("window.loads") == 1


@pytest.mark.next
@pytest.mark.parametrize("host", ["keep", "rewrite"])
async def test_an_edited_page_of_next_changes_under_an_open_page(home: Home, page: Page, host: str) -> None:
    """Next refuses its hot updates to origins it does not know: it is told ours, or sees localhost."""
    allowed = json.dumps(["app.colony.localhost", "web.app.colony.localhost"] if host == "keep" else [])
    command = json.dumps(["node", str(MODULES / "next/dist/bin/next"), "dev", "-p", "4001", "-H", "127.0.0.1"])
    setup = f"[setup]\ncommands = ['mkdir -p app', 'ln -s {MODULES} node_modules', 'mv page.js layout.js app']\n"
    manifest = setup + service("web", command, port="4001", preview=f'{{ host = "{host}" }}')
    manifest += 'env = { NEXT_TELEMETRY_DISABLED = "1" }\n'
    files = {"page.js": NEXT_PAGE, "layout.js": NEXT_LAYOUT, "next.config.mjs": NEXT_CONFIG.replace("ALLOWED", allowed)}
    view = await home.up("app", manifest, **files)
    await page.goto(str(view.url))
    await page.until("document.getElementById('mounted')?.textContent == 'true'")
    await page.run("window.mark = 'still here'")
    (home.folder / "app-app/app/page.js").write_text(NEXT_PAGE.replace("WORD", "after"))
    await page.until("document.getElementById('said')?.textContent == 'after'")
    assert await page.run("window.mark") == "still here"
    assert await page.run("window.loads") == 1


async def test_a_page_of_a_service_that_restarts_waits_and_comes_back(home: Home, page: Page) -> None:
    url = await serve(home)
    await page.goto(url)
    await page.until("document.getElementById('pid') != null")
    for _ in range(3):
        before = of(home.house.colony("app"), "web").pid
        kill(before)
        await page.goto(url)  # refused, a page that waits, or already the new one
        await page.until(f"document.getElementById('pid') && document.getElementById('pid').textContent != '{before}'")


async def test_a_login_leads_home_and_its_cookie_stays_with_its_service(home: Home, page: Page) -> None:
    url = await serve(home)
    await page.goto(f"{url}login")
    await page.until("document.getElementById('home') != null")
    assert await page.run("location.href") == f"{url}home"
    assert await page.run("document.getElementById('home').textContent") == "mine=1"
    await page.goto(url.replace("app.colony", "app-4001.colony") + "home")
    await page.until("document.getElementById('home')?.textContent == 'none'")


async def test_events_and_binary_messages_reach_the_page(home: Home, page: Page) -> None:
    url = await serve(home, preview="rewrite")
    await page.goto(url)
    await page.until("document.getElementById('pid') != null")
    told = await page.run(
        "new Promise((done) => { const told = []; new EventSource('/events').onmessage = (event) => {"
        " told.push(event.data); if (told.length == 3) done(told.join()); }; })"
    )
    assert told == "0,1,2"
    echoed = await page.run(
        "new Promise((done, failed) => { const line = new WebSocket(location.href.replace('http', 'ws') + 'echo');"
        " line.binaryType = 'arraybuffer'; line.onerror = failed; line.onopen = () => line.send(new Uint8Array([0, 255, 7]));"
        " line.onmessage = (event) => done(Array.from(new Uint8Array(event.data)).join()); })"
    )
    assert echoed == "7,255,0"
