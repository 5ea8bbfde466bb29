"""Colonies on repositories: spawned, their manifest read from the workspace, gone on with by the next daemon, removed."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_core.errors import AlreadyExists, Invalid, NotFound, WrongState
from colony_core.events import WorkspaceChanged
from colony_core.views import MergeRequest, NewColony

from .homes import PATIENCE_SECONDS, Home, all_ready, open_home, service

KINDS = ["git", pytest.param("jj", marks=pytest.mark.jj)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def git(folder: Path, *words: str) -> str:
    env = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip
    return subprocess.run(
        ["git", "-c", "maintenance.auto=false", *words], cwd=folder, env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


def repository(folder: Path, **files: str) -> Path:
    """A repository with these files in its one commit; `__` in a name is a dot."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First", "--allow-empty")
    return folder


def fetch_waits_for(home: Home, tmp_path: Path, condition: str) -> None:
    """Has the house use a git which fetches nothing before a command of a shell's succeeds."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    real = shutil.which("git")
    wait = f'case " $* " in *" fetch "*) until {condition}; do sleep 0.02; done;; esac'
    program.write_text(f'#!/bin/sh\n{wait}\nexec {real} "$@"\n')
    program.chmod(0o755)
    projects = home.house.workspaces.projects
    projects.tools = attrs.evolve(projects.tools, git=str(program))


async def spawn(home: Home, name: str, repo: Path | str, **more: Any) -> None:
    await home.house.spawn(NewColony(name=name, repo=str(repo), **more), owner="test")


async def test_a_colony_of_a_repository_runs_in_a_workspace_of_its_own(tmp_path: Path, kind: str) -> None:
    manifest = service("web", "exec sleep 1000") + '[colony]\ndescription = "It"\n'
    repo = repository(tmp_path / "user" / "app", colony__toml=manifest)
    async with open_home(tmp_path, fake=True) as home:
        fetch_waits_for(home, tmp_path, f"test -e {tmp_path}/go")
        await spawn(home, "scout", repo, workspace=kind)
        await home.until("scout", lambda view: view.reason.startswith("clones app"))
        (tmp_path / "go").touch()
        view = await home.until("scout", lambda view: view.state == "running" and all_ready(view))
        assert view.workspace is not None
        assert (view.description, view.source) == ("It", view.workspace.path)
        assert view.source == str(tmp_path / "house" / "state" / "workspaces" / "scout")
        assert (view.workspace.project, view.workspace.kind, view.workspace.target) == ("app", kind, "main")
        assert view.steps[0].name == "workspace"
        assert view.steps[0].detail == f"{kind} workspace on main"
        code, out, _ = await home.run("scout", "pwd")
        assert (code, out.decode().strip()) == (0, view.source)
        await home.house.stop("scout")
        await home.until_state("scout", "stopped")
        await home.house.start("scout")
        assert [step.name for step in (await home.until("scout", all_ready)).steps][:1] != ["workspace"]


async def test_a_repository_without_a_manifest_is_a_colony_without_services_or_a_template_s(tmp_path: Path) -> None:
    repo = repository(tmp_path / "app", README="hello")
    async with open_home(tmp_path, fake=True) as home:
        await spawn(home, "bare", repo)
        assert (await home.until_state("bare", "running")).services == ()
        await spawn(home, "shaped", "app", template="api-service", start=False)
        await home.house.start("shaped")
        view = await home.until("shaped", lambda view: view.state in ("running", "failed"))
        assert [each.name for each in view.services] == ["api"]
        (Path(view.source) / "colony.toml").write_text(service("web", "exec sleep 1000"))
        assert (await home.house.apply("bare")).changes == ()
        with pytest.raises(Invalid):
            await spawn(home, "wrong", repo, template="none")


async def test_a_wrong_manifest_fails_the_start_and_a_mended_one_is_read(tmp_path: Path) -> None:
    repo = repository(tmp_path / "app", colony__toml="[services.web]\n")
    async with open_home(tmp_path, fake=True, workspaces__fresh="0s") as home:
        await spawn(home, "scout", repo)
        view = await home.until_state("scout", "failed")
        assert "the command is missing" in view.reason
        (repo / "colony.toml").write_text(service("web", "exec sleep 1000"))
        git(repo, "commit", "-qam", "Mended")
        await home.house.start("scout")
        await home.until("scout", all_ready)


async def test_what_does_not_fit_together_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    repo = repository(tmp_path / "app")
    async with open_home(tmp_path, fake=True) as home:
        for request, kind, code in (
            ({"path": str(repo), "repo": str(repo)}, Invalid, "two-sources"),
            ({"path": str(repo), "branch": "main"}, Invalid, "no-repository"),
            ({"repo": "ext::sh -c x"}, Invalid, "invalid-repository"),
            ({"repo": str(repo), "branch": "--x"}, Invalid, "invalid-ref"),
            ({"repo": "/nowhere"}, NotFound, "folder-not-found"),
        ):  # fmt: skip
            with pytest.raises(kind) as raised:
                await home.house.spawn(NewColony(name="scout", **request), owner="test")
            assert raised.value.code == code
        dry = await home.house.spawn(NewColony(name="scout", repo=str(repo), dry_run=True), owner="test")
        assert dry.source.endswith("/workspaces/scout")
        assert home.house.colonies() == ()
        assert home.house.workspaces.project_views() == ()
        left = home.house.config.workspaces_root / "workspaces" / "scout"
        left.mkdir(parents=True)
        (left / "x").write_text("x")
        with pytest.raises(AlreadyExists) as raised:
            await spawn(home, "scout", repo)
        assert raised.value.code == "workspace-taken"


async def test_work_goes_from_the_colony_to_its_branch_and_removing_it_asks_for_the_rest(
    tmp_path: Path, kind: str
) -> None:
    repo = repository(tmp_path / "app", README="hello")
    async with open_home(tmp_path, fake=True) as home:
        await spawn(home, "scout", repo, workspace=kind)
        view = await home.until_state("scout", "running")
        code, _, _ = await home.run("scout", "sh", "-c", "echo work > work.txt")
        assert code == 0
        work = home.house.workspaces
        assert [each.path for each in (await work.diff(view.id)).files] == ["work.txt"]
        assert (await work.merge(view.id, MergeRequest())).outcome == "fast-forward"
        await home.run("scout", "sh", "-c", "echo more > more.txt")
        with pytest.raises(WrongState) as raised:
            await home.house.remove("scout")
        assert raised.value.code == "work-would-be-lost"
        assert raised.value.details["files"] == ["more.txt"]
        assert home.house.colony("scout").state == "running"
        await home.house.remove("scout", discard="scout")
        assert not Path(view.source).exists()
        told = [event.what for event in home.told if isinstance(event, WorkspaceChanged)]
        assert told == ["made", "merged", "removed"]
        kept = git(
            home.house.config.workspaces_root / "repos/app/repo.git",
            "for-each-ref",
            "--format=%(refname)",
            "refs/colony",
        )
        assert kept.startswith("refs/colony/scout/")


async def test_a_workspace_may_outlive_its_colony(tmp_path: Path) -> None:
    repo = repository(tmp_path / "app", README="hello")
    async with open_home(tmp_path, fake=True) as home:
        await spawn(home, "scout", repo)
        view = await home.until_state("scout", "running")
        (Path(view.source) / "more.txt").write_text("1")
        await home.house.remove("scout", keep_workspace=True)
        assert (Path(view.source) / "more.txt").read_text() == "1"
        assert home.house.colonies() == ()


async def test_a_workspace_deleted_by_hand_is_made_anew_at_the_next_start(tmp_path: Path) -> None:
    repo = repository(tmp_path / "app", README="hello")
    async with open_home(tmp_path, fake=True) as home:
        await spawn(home, "scout", repo)
        view = await home.until_state("scout", "running")
        await home.house.stop("scout")
        await home.until_state("scout", "stopped")
        shutil.rmtree(view.source)
        await home.house.start("scout")
        await home.until_state("scout", "running")
        assert (Path(view.source) / "README").read_text() == "hello"


async def test_a_stop_while_it_is_cloned_is_a_stop_and_a_removal_leaves_nothing(tmp_path: Path) -> None:
    repo = repository(tmp_path / "app", README="hello")
    async with open_home(tmp_path, fake=True) as home:
        fetch_waits_for(home, tmp_path, "false")
        await spawn(home, "scout", repo)
        await home.until("scout", lambda view: view.reason.startswith("clones app"))
        await home.house.stop("scout")
        await home.until_state("scout", "stopped")
        with trio.fail_after(PATIENCE_SECONDS):
            await home.house.remove("scout")
        await home.house.workspaces.remove_project("app", confirm=None)
        root = home.house.config.workspaces_root
        assert list((root / "repos").iterdir()) == list((root / "workspaces").iterdir()) == []
