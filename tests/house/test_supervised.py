"""Every long-lived task of ours is supervised; where else tasks and threads are started is listed here, with the reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
SPAWNING = {"start_soon", "open_nursery", "Thread"}

IN_A_CHILD = {
    "colony_core/processes/client.py _conversation": "keeper",
    "colony_core/routing/proxy.py serve_proxy": "previews",
    "colony_core/routing/caddy.py keep_site": "previews",
    "colony_core/colonies/service.py Service._hold": "owner",
    "colony_core/colonies/terminals.py Terminals.keep": "terminals",
    "colony_core/colonies/terminals.py Terminals._watch_for_ever": "terminals",
    "colony_core/colonies/terminals.py Terminals.open": "terminals",
    "colony_core/isolation/names.py serve_names": "names",
    "colony_core/isolation/names.py _serve": "names",
    "colony_core/isolation/names.py _serve_udp": "names",
    "colony_core/isolation/way_out.py _relay": "egress",
    "colony_core/sessions/session.py Session.work": "runs",
    "colony_core/sessions/run.py Watch.follow": "runs",
    "colony_core/sessions/receipts.py _run": "runs",
    "colony_web/serve.py serve_app": "web",
    "colony_web/serve.py _open_lifespan": "web",
    "colony_web/daemon.py _serve": "web",
}
"""Nurseries inside of a supervised child, that end with it: which child of the tree in ARCHITECTURE.md it is."""

LOCAL_TO_A_CALL = {
    "colony_core/backends/acp.py _Run.carry_out",
    "colony_core/backends/acp.py _introduced",
    "colony_core/backends/driver.py _DrivenRun.carry_out",
    "colony_core/backends/hld_run.py HldRun.carry_out",
    "colony_core/backends/jsonrpc.py Peer.run",
    "colony_core/backends/telling.py carrying_out",
    "colony_core/colonies/colonies.py Colonies.stop_all",
    "colony_core/sessions/sessions.py Sessions.backends",
    "colony_core/colonies/colony.py Colony._sweep_processes",
    "colony_core/colonies/colony.py Colony._take_down",
    "colony_core/colonies/environment.py check_requirements",
    "colony_core/colonies/terminals.py Terminals._end_all",
    "colony_core/colonies/service.py _cancelled_by",
    "colony_core/mycelium.py Mycelium.hurry",
    "colony_core/workspaces/programs.py run_program",
    "colony_web/drain.py drained",
}
"""Several things at once, or whichever is first; over when the call returns."""

OF_A_CONNECTION = {
    "colony_core/routing/connection.py Connection.run",
    "colony_core/tools/server.py converse",
    "colony_core/tools/server.py _Conversation._asked",
    "colony_core/routing/connection.py Connection._serve",
    "colony_web/connection.py Connection.run",
    "colony_web/connection.py Connection.spawn",
    "colony_web/connection.py Connection.spawn_app",
    "colony_web/api/audit.py list_audit",
    "colony_web/api/events.py _next",
    "colony_web/live/commands.py _attached",
    "colony_web/live/fanout.py EventSockets.tell",
    "colony_web/live/stream.py streamed.produce",
    "colony_web/live/sockets.py closed_on_drain",
    "colony_web/live/terminals.py show_terminal",
    "colony_web/live/stream.py EventStream.__init__",
    "colony_web/live/stream.py EventStream.__aenter__",
}
"""The pair of tasks that reads and writes one connection; both end with it, below the server that is a child."""

ELSEWHERE = {
    "colony_cli/commands/terminals.py run_in_colony": "the command's own process: a terminal's two directions",
    "colony_cli/terminal.py lend": "the same, with its keys, its size and its signals",
    "colony_core/remote/sockets.py open_socket": "a program that talks to a daemon: one connection, as long as its block",
    "colony_core/remote/sockets.py _Reader.start_soon": "the same: what trio-websocket starts",
    "colony_core/remote/streaming.py open_events": "a program that talks to a daemon: one stream, as long as its block",
    "colony_core/remote/streaming.py open_exec": "a program that talks to a daemon: one command, as long as its block",
    "colony_core/remote/terminals.py open_terminal": "a program that talks to a daemon: one terminal, as long as its block",
    "colony_core/remote/terminals.py _pinging": "the same: signs of life on its connection",
    "colony_web/daemon.py _main": "who hears signals: outside of the tree, because it is what ends the tree",
    "colony_core/isolation/kernel.py Kernel.__init__": "a thread in namespaces of its own; its owner joins it",
    "colony_core/store/writer.py GroupWriter.__init__": "the thread that writes; the store joins it",
    "colony_core/processes/inline.py run_inline_engine": "a keeper in a thread, for programs that want no second process",
    "colony_core/processes/starting.py _start": "reaps the keeper that was started",
    "colony_core/processes/starting.py _spawn_with_capabilities": "capabilities are a thread's: it is given them, spawns, and ends",
    "colony_core/processes/keeper/spawning.py Spawner._popen_inside": "namespaces are a thread's: it enters one, spawns, and ends",
}


def sites(path: Path) -> Iterator[str]:
    """The functions of a file that open nurseries or start tasks or threads."""

    def walk(node: ast.AST, inside: str) -> Iterator[str]:
        if isinstance(node, ast.Attribute) and (
            node.attr in SPAWNING or (node.attr == "start" and "nurser" in ast.unparse(node.value))
        ):
            yield f"{path.relative_to(SRC)} {inside}"
        body = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            body = f"{inside}.{node.name}".lstrip(".")
        for child in ast.iter_child_nodes(node):
            decorates = child in getattr(node, "decorator_list", ())
            yield from walk(child, inside if decorates else body)

    yield from walk(ast.parse(path.read_text()), "")


def test_tasks_are_started_by_supervisors_or_for_a_reason_that_stands_here() -> None:
    found = {
        site
        for path in sorted(SRC.rglob("*.py"))
        if path.parent != SRC / "colony_core/supervision"
        for site in sites(path)
    }
    assert found == {*IN_A_CHILD, *LOCAL_TO_A_CALL, *OF_A_CONNECTION, *ELSEWHERE}


def test_whoever_looks_for_sites_finds_each_way_of_writing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.SRC", tmp_path)
    (tmp_path / "it.py").write_text(
        "async def one():\n    async with trio.open_nursery() as n: pass\n"
        "class Two:\n    async def run(self):\n        await self._nursery.start(x)\n"
        "async def three(nursery):\n    @nursery.start_soon\n    async def inner(): pass\n"
        "def four():\n    threading.Thread(target=x).start()\n"
        "async def none():\n    process.start()\n"
    )
    assert list(sites(tmp_path / "it.py")) == ["it.py one", "it.py Two.run", "it.py three", "it.py four"]


def tree_of_the_architecture() -> str:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found = re.search(r"^## The supervision tree\n+```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("site", IN_A_CHILD)
def test_the_child_that_a_nursery_ends_with_stands_in_the_tree(site: str) -> None:
    assert re.search(rf"─ \(?{IN_A_CHILD[site]}\b", tree_of_the_architecture())


def test_every_child_that_the_house_starts_stands_in_the_tree() -> None:
    """Ids that are written in the source; those of colonies and services are their names."""
    tree = tree_of_the_architecture()
    for path in [
        SRC / "colony_core/mycelium.py",
        SRC / "colony_web/daemon.py",
        *SRC.glob("colony_core/isolation/*.py"),
    ]:
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).rsplit(".", 1)[-1]
            if name not in {"ChildSpec", "supervisor_spec", "dynamic_supervisor_spec", "open_supervisor"}:
                continue
            ids = [*call.args[:1], *(word.value for word in call.keywords if word.arg in ("id", "name"))]
            for value in ids:
                if isinstance(value, ast.Constant):
                    assert re.search(rf"\b{value.value}\b", tree), f"{value.value!r} of {path.name} is not in the tree"
