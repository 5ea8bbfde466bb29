"""A page that shows which colony it lives in, with the notes of the API beside it.

GET /    GET /about    GET /health    GET /clock (server-sent events)
"""
# ruff: noqa: N802, N815 - these names are the base class's

import html
import json
import os
import urllib.request
from datetime import UTC, datetime

from serving import COLONY, Handler, Server

API = os.environ.get("COLONY_SERVICE_API_URL", "http://127.0.0.1:4002")
GREETING = os.environ.get("GREETING", "Hello")
API_SECONDS = 2.0

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{colony}</title>
<style>
  :root {{ color-scheme: light dark; --ink: light-dark(#1d2021, #ece7d8); --paper: light-dark(#fbf8f0, #17181a);
    --card: light-dark(#fff, #202225); --line: light-dark(#e4dcc8, #34373b); --honey: light-dark(#b06c00, #f2b134); }}
  body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
    font: 1rem/1.5 system-ui, sans-serif; }}
  main {{ width: min(34rem, 90vw); padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: 1rem; }}
  h1 {{ margin: 0 0 1rem; font-size: 1.8rem; }} h1 b {{ color: var(--honey); }}
  dl {{ display: grid; grid-template-columns: auto 1fr; gap: .3rem 1.5rem; margin: 0; }} dt {{ opacity: .65; }}
  dd {{ margin: 0; font-variant-numeric: tabular-nums; }} nav {{ margin-top: 1.5rem; display: flex; gap: 1rem; }}
  a {{ color: var(--honey); }}
</style>
<main>{body}<nav><a href="/">home</a><a href="/about">about</a><a href="/health">health</a><a href="/clock">clock</a></nav></main>
</html>
"""

HOME = """<h1>{greeting} from <b>{colony}</b></h1>
<dl><dt>process</dt><dd>{pid}</dd><dt>port</dt><dd>{port}</dd><dt>clock</dt><dd id="clock">…</dd>{notes}</dl>
<script>
  new EventSource("/clock").onmessage = event => {{ document.getElementById("clock").textContent = event.data }}
</script>"""

ABOUT = """<h1>About</h1>
<p>This page is served on port {port} of <b>{colony}</b>. Every colony has that port to itself, because each lives in a network
namespace of its own. Kill process {pid}, reload, and see that another has taken its place.</p>"""


class Web(Handler):
    """Four routes."""

    def do_GET(self) -> None:
        """Answers a route, or that there is none."""
        path = self.path.partition("?")[0]
        if path == "/":
            self.page(HOME, notes=notes())
        elif path == "/about":
            self.page(ABOUT)
        elif path == "/health":
            self.health()
        elif path == "/clock":
            self.clock()
        else:
            self.answer(404, b"there is no such page\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET

    def page(self, body: str, **more: str) -> None:
        """Sends a page; `more` is HTML already."""
        facts = {"colony": html.escape(COLONY), "greeting": html.escape(GREETING)}
        text = body.format(pid=os.getpid(), port=self.owner.server_port, **facts, **more)
        self.answer(200, PAGE.format(body=text, **facts).encode(), "text/html; charset=utf-8")

    def clock(self) -> None:
        """Tells the time every second, until the client goes or this service stops."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        while self.command != "HEAD":
            self.wfile.write(f"data: {datetime.now(UTC):%H:%M:%S} UTC\n\n".encode())
            if self.owner.stopping.wait(1.0):
                return


def notes() -> str:
    """The notes of the API, as rows of the page."""
    try:
        with urllib.request.urlopen(f"{API}/notes", timeout=API_SECONDS) as answer:
            found = json.load(answer)["notes"]
    except (OSError, ValueError) as error:
        return f"<dt>api</dt><dd>does not answer: {html.escape(str(error))}</dd>"
    return "".join(f"<dt>note {note['id']}</dt><dd>{html.escape(note['text'])}</dd>" for note in found)


if __name__ == "__main__":
    Server(int(os.environ.get("PORT", "4001")), Web).serve()
