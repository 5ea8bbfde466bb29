"""Workspaces of a repository with 20,000 files: how long one takes to make, of jj and of git, through the room as colonies get them.

Each is compared with the bare command on the same repository in the same run: `git worktree add`, `jj workspace add --colocate`.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import trio

from benchmarks.metric import Metric
from colony_core.bus import Bus
from colony_core.config import Folders, load_config
from colony_core.processes import Keeper, open_keeper
from colony_core.store import open_store
from colony_core.supervision import dynamic_supervisor_spec, open_supervisor
from colony_core.workspaces import Kind, Workspaces, find_tools, record_workspace

FILES = 20_000
FOLDERS = 200
TIMES = 5


def run() -> Iterator[Metric]:
    """Yields the figures; takes a minute or two."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        origin = _repository(folder / "origin")
        yield from trio.run(_measured, folder, origin)


async def _measured(folder: Path, origin: Path) -> list[Metric]:
    tools = find_tools(os.environ.get("PATH"))
    folders = Folders(state=folder / "state", run=folder / "run", templates=folder / "templates")
    config = load_config({}, folders=folders, overrides={"workspaces.fresh": "1h"})
    folders.state.mkdir()
    figures: list[Metric] = []
    async with (
        open_store(folders.store) as store,
        open_keeper(run_dir=folders.run, state_dir=folders.state) as keeper,
        open_supervisor([dynamic_supervisor_spec("projects", None)], name="bench") as root,
    ):

        async def get_keeper() -> Keeper:
            return keeper

        workspaces = Workspaces(
            config=lambda: config, store=store, bus=Bus(), get_keeper=get_keeper, environment=os.environ, tools=tools
        )
        await workspaces.restore(root.children()[0].value)
        kinds: tuple[Kind, ...] = ("git", "jj") if tools.jj else ("git",)
        for kind in kinds:
            count = 0

            async def make(kind: Kind = kind) -> None:
                nonlocal count
                count += 1
                name = f"{kind}-{count}"
                record = await workspaces.plan(name, name, repo=str(origin), branch=None, kind=kind, owner="bench")
                await store.write(lambda connection: record_workspace(connection, record))
                workspaces.planned(record)
                await workspaces.open(name, lambda _: None)

            await make()  # the clone, and jj's own first look
            ours = await _times(make)
            bare = await _times(_bare(kind, folder, folders.state / "repos" / "origin"))
            figures.append(_figure(f"workspace of {FILES} files, {kind}", ours, bare, kind))
            look = await _times(partial(workspaces.diff, f"{kind}-1"))
            figures.append(
                Metric(
                    metric=f"diff of it, nothing changed, {kind}", value=_ms(look), unit="ms", n=TIMES, better="lower"
                )
            )
        await keeper.shutdown()
    return figures


async def _times(work: Callable[[], Awaitable[object]]) -> list[float]:
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await work()
        found.append(time.perf_counter() - began)
    return found


def _bare(kind: Kind, folder: Path, repo: Path) -> Callable[[], Awaitable[object]]:
    """The command by hand, in the same shared repository."""
    count = 0

    async def make() -> None:
        nonlocal count
        count += 1
        place = folder / f"bare-{kind}-{count}"
        if kind == "git":
            command = [
                "git",
                "-C",
                str(repo / "repo.git"),
                "worktree",
                "add",
                "-q",
                "-b",
                place.name,
                str(place),
                "main",
            ]
        else:
            command = [
                "jj",
                "-R",
                str(repo),
                "workspace",
                "add",
                "--colocate",
                "--name",
                place.name,
                "-r",
                "main",
                str(place),
            ]
        await trio.run_process(command, capture_stderr=True, capture_stdout=True)

    return make


def _figure(what: str, ours: list[float], bare: list[float], kind: Kind) -> Metric:
    by_hand = "git worktree add" if kind == "git" else "jj workspace add --colocate"
    value, other = _ms(ours), _ms(bare)
    return Metric(
        metric=what, value=value, unit="ms", n=TIMES, baseline=f"{by_hand}: {other:.0f} ms", ratio=value / other,
        better="lower", goal="< 2x by hand", ok=value < 2 * other,
    )  # fmt: skip


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def _repository(folder: Path) -> Path:
    for number in range(FILES):
        place = folder / f"folder-{number % FOLDERS}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number}.txt").write_text(f"file {number}\n" * 20)
    git = shutil.which("git") or "git"
    who = ["-c", "user.name=Bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "Files"]):
        subprocess.run([git, *words], cwd=folder, check=True, capture_output=True)
    return folder
