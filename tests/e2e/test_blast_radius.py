"""Ten thousand crashes of real processes in fifty colonies of a real daemon: nobody else notices."""

import http.client
import time
from contextlib import closing

import pytest

from colony_core.remote import calls

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

COLONIES = 50
CRASHES_EACH = 200
AT_MOST_SECONDS = 1800.0
CRASHER = f"""
[services.bad]
command = ["false"]
restart = {{ policy = "always", count = {CRASHES_EACH - 1}, window = "1h", backoff = "1ms", backoff_most = "1ms" }}
"""
CALM = '[services.web]\ncommand = ["python3", "-u", "web.py"]\nport = 4001\n'
WEB = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"calm")
http.server.HTTPServer(("127.0.0.1", 4001), Handler).serve_forever()
"""


def test_ten_thousand_crashes_in_fifty_colonies_touch_nobody_else(daemon: Daemon) -> None:
    daemon.spawn("calm", CALM, web_py=WEB)
    calm = daemon.until_ready("calm")
    system = daemon.send(calls.system())
    host = f"calm.colony.localhost:{system['preview_port']}"
    names = [f"loop-{number}" for number in range(COLONIES)]
    for name in names:
        daemon.spawn(name, CRASHER)
    deadline = time.monotonic() + AT_MOST_SECONDS
    with closing(http.client.HTTPConnection("127.0.0.1", system["preview_port"], timeout=60)) as preview:
        over = False
        while not over:  # each look asks the API, and the calm colony on one connection all along
            found = {colony["name"]: colony for colony in daemon.send(calls.colonies())}
            preview.request("GET", "/", headers={"Host": host})
            assert preview.getresponse().read() == b"calm"
            assert found["calm"] == calm
            over = all(found[name]["services"][0]["state"] == "failed" for name in names)
            assert time.monotonic() < deadline, "the crashers go on for too long"
            time.sleep(0.05)
    assert [daemon.service(name, "bad")["restarts"] for name in names] == [CRASHES_EACH - 1] * COLONIES
    assert {daemon.colony(name)["state"] for name in names} == {"running"}
    after = daemon.send(calls.system())
    assert (after["pid"], after["keeper_pid"]) == (system["pid"], system["keeper_pid"])
    assert "Traceback" not in (daemon.folder / "daemon.log").read_text()
