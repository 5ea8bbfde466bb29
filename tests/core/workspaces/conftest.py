"""Real repositories, a real keeper, and a room of workspaces; each test that takes `kind` runs with git and with jj."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.bus import Bus
from colony_core.config import Config, Folders, load_config
from colony_core.events import Event
from colony_core.processes import Keeper, open_inline_keeper
from colony_core.store import open_store
from colony_core.supervision import dynamic_supervisor_spec, open_supervisor
from colony_core.views import MergeRequest, MergeView
from colony_core.workspaces import Tools, Workspaces, find_tools, record_workspace

PATIENCE_SECONDS = 300.0
GITS = [path for path in ("/usr/bin/git", "/usr/local/bin/git") if os.access(path, os.X_OK)]
KINDS = ["git", pytest.param("jj", marks=pytest.mark.jj)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What keeps the working copies."""
    return str(request.param)


class Repo:
    """A repository of somebody's, with git as they would use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str, **env: str) -> str:
        return run_git(self.folder, *words, **env)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message: str, **files: str) -> str:
        for name, text in files.items():
            self.write(name.replace("__", "."), text)
        self.git("add", "-A")
        self.git("commit", "-qm", message, "--allow-empty")
        return self.git("rev-parse", "HEAD")


def run_git(folder: Path, *words: str, **env: str) -> str:
    """What git says, as an ordinary user runs it."""
    own = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "-c", "maintenance.auto=false", *words],
        cwd=folder,
        env=own | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {words}: {done.stderr}"
    return done.stdout.strip()


def run_jj(folder: Path, *words: str) -> str:
    """What jj says, as an ordinary user runs it."""
    home = folder.parent / f".home-{folder.name}"
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "JJ_USER": "Ada", "JJ_EMAIL": "ada@example.org"}
    done = subprocess.run(
        ["jj", "--no-pager", "--color=never", *words], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"jj {words}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Repo:
    """A repository with one commit on `main`."""
    folder = tmp_path / "user" / "app"
    folder.mkdir(parents=True)
    repo = Repo(folder)
    repo.git("init", "-q", "-b", "main")
    repo.commit("First", README="hello\n", a__txt="one\ntwo\nthree\n")
    return repo


@attrs.define
class Room:
    """A room of workspaces on real folders, and what it has told."""

    workspaces: Workspaces
    keeper: Keeper
    config: Config
    store: Any
    told: list[Event]
    colonies: int = 0

    @property
    def root(self) -> Path:
        return self.config.workspaces_root

    async def spawn(self, name: str, repo: str | Path, *, kind: str = "auto", branch: str | None = None) -> Path:
        """The folder of a new colony's workspace, as soon as it is made."""
        await self.plan(name, repo, kind=kind, branch=branch)
        with trio.fail_after(PATIENCE_SECONDS):
            await self.workspaces.open(name, lambda _: None)
        return self.root / "workspaces" / name

    async def plan(self, name: str, repo: str | Path, *, kind: str = "auto", branch: str | None = None) -> None:
        """As a colony's record would be written. Ids are names here."""
        plan: Any = self.workspaces.plan
        record = await plan(name, name, repo=str(repo), branch=branch, kind=kind, owner="test")
        await self.store.write(lambda connection: record_workspace(connection, record))
        self.workspaces.planned(record)

    async def merge(self, name: str, **request: Any) -> MergeView:
        return await self.workspaces.merge(name, MergeRequest(**request))

    def shared(self, project: str, *words: str) -> str:
        """git in the shared repository of a project."""
        return run_git(self.root / "repos" / project / "repo.git", *words)

    def file(self, project: str, branch: str, name: str) -> str:
        """A file as it is on a branch of the shared repository."""
        return self.shared(project, "show", f"{branch}:{name}")


@pytest.fixture
def settings() -> dict[str, Any]:
    """Settings of the room; a test may replace this."""
    return {"workspaces.fresh": "0s"}


@pytest.fixture
def tools() -> Tools:
    """git and jj as they are here; a test may replace this."""
    return find_tools(os.environ["PATH"])


@pytest.fixture
def open_room(tmp_path: Path, settings: dict[str, Any], tools: Tools) -> Callable[..., Any]:
    """Opens a room on the folders of this test; a second time it is the next daemon's."""

    @asynccontextmanager
    async def opened(tools: Tools = tools) -> AsyncIterator[Room]:
        folders = Folders(state=tmp_path / "state", run=tmp_path / "run", templates=tmp_path / "templates")
        config = load_config({}, folders=folders, overrides=settings)
        folders.state.mkdir(exist_ok=True)
        bus = Bus()
        told: list[Event] = []
        bus.on_publish(lambda numbered: told.append(numbered.event))
        async with (
            open_store(folders.store) as store,
            open_inline_keeper(state_dir=folders.state) as keeper,
            open_supervisor([dynamic_supervisor_spec("projects", None)], name="test") as root,
        ):

            async def get_keeper() -> Keeper:
                return keeper

            workspaces = Workspaces(
                config=lambda: config, store=store, bus=bus, get_keeper=get_keeper,
                environment={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}, tools=tools,
            )  # fmt: skip
            await workspaces.restore(root.children()[0].value)
            yield Room(workspaces, keeper, config, store, told)

    return opened


@pytest.fixture
async def room(open_room: Callable[..., Any]) -> AsyncIterator[Room]:
    """A room, open for the test."""
    async with open_room() as opened:
        yield opened
