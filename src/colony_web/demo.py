"""What `colony serve --demo` shows: colonies behind walls of cardboard, and agents that only play. It needs no rights and no key."""

import json
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from colony_core.backends import Backend, FakeBackend, Job, Line, instructed_part, read_part
from colony_core.config import Config, Folders
from colony_core.mycelium import Mycelium
from colony_core.views import NewColony

_WEB = """import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>A page of the demonstration</h1>")
http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Page).serve_forever()
"""
_TICKING = "i=0; while :; do i=$((i+1)); echo built $i; sleep 2; done"
_LOOK = {"tool_use": {"id": "a", "name": "Read", "kind": "read", "input": {"file_path": "src/login.ts"}}}
_LOOKED = {"tool_result": {"id": "a", "ok": True, "text": "export function login() {}"}}
_EDIT = {"tool_use": {"id": "b", "name": "Edit", "kind": "edit", "input": {"file_path": "src/login.ts"}}}
_EDITED = {"tool_result": {"id": "b", "ok": True, "text": "edited"}}
_ASK = {"approval_asked": {"id": "q", "tool": "Bash", "kind": "execute", "input": {"command": "rm -rf build/"}}}


def _pause(seconds: float) -> dict[str, Any]:
    return {"pause": {"seconds": seconds}}


def _used(dollars: float, turns: int) -> dict[str, Any]:
    return {"usage": {"cost_usd": dollars, "input_tokens": turns * 4000, "output_tokens": turns * 300, "turns": turns}}


_WORKING = [
    each
    for turn in range(1, 200)
    for each in (
        {"text": {"text": f"Round {turn}: I look at the form, then I change it."}},
        _pause(2), _LOOK, _pause(1), _LOOKED, _pause(1), _EDIT, _pause(2), _EDITED, _used(turn * 0.02, turn),
    )
]  # fmt: skip
_ASKING = [{"text": {"text": "The build is stale."}}, _pause(1), _used(0.11, 2), _ASK, {"text": {"text": "Clean."}}]
_DONE = [_LOOK, _LOOKED, _used(0.42, 9), {"ended": {"outcome": "done", "text": "All 41 tests pass."}}]
_PARTS = {
    "agent-frontend": ("Build the login form", _WORKING),
    "agent-backend": ("Add JWT auth with refresh tokens", _ASKING),
    "agent-tests": ("Cover the login flow with tests", _DONE),
}


@contextmanager
def demo_folders(config: Config) -> Iterator[Config]:
    """The settings with folders of their own, which are gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="colony-demo-") as name:
        state = Path(name)
        folders = Folders(state=state, run=state / "run", templates=state / "templates")
        yield attrs.evolve(config, folders=folders)


def demo_backends() -> dict[str, Backend]:
    """Agents that play a part in the colonies of the demonstration, and elsewhere what they are told to."""

    def part(job: Job) -> Sequence[Line]:
        task, lines = _PARTS.get(job.colony, ("", []))
        return read_part(json.dumps(lines)) if job.instruction == task else instructed_part(job)

    return {"fake": FakeBackend(part=part)}


async def populate(house: Mycelium) -> None:
    """Three colonies of one project, each with services, and an agent at its part."""
    for name, (task, _) in _PARTS.items():
        folder = house.config.folders.state / "demo" / name
        folder.mkdir(parents=True)
        port = _free_port()
        (folder / "web.py").write_text(_WEB.format(port=port))
        (folder / "colony.toml").write_text(
            f'[services.web]\ncommand = ["python3", "web.py"]\nport = {port}\n\n[services.build]\ncommand = "{_TICKING}"\n'
            '[agent]\nbackend = "fake"\n'
        )
        await house.spawn(NewColony(name=name, path=str(folder), task=task), owner="demo")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
