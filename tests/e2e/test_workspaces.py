"""Colonies on repositories, by the command and over a real daemon; and a daemon that is killed while it makes them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colony_core.errors import NotFound

from .driver import COLONY, PATIENCE_SECONDS, Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

LISTEN = '[services.web]\ncommand = ["python3", "-m", "http.server", "3000"]\nport = 3000\n'


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "maintenance.auto=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Somebody's repository, whose colony.toml has a service."""
    folder = tmp_path / "user" / "app"
    folder.mkdir(parents=True)
    (folder / "colony.toml").write_text(LISTEN)
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    return folder


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path).running() as running:
        yield running


@pytest.mark.jj
def test_three_colonies_of_one_repository_work_on_one_port_and_are_merged(daemon: Daemon, repo: Path) -> None:
    names = ("agent-frontend", "agent-backend", "agent-tests")
    assert daemon.cli("project", "add", str(repo)).stdout == "app is ready\n"
    for name in names:
        daemon.cli("spawn", name, "--repo", "app")
        assert "jj workspace on main" in daemon.cli("show", name).stdout
    for name in names:
        view = daemon.colony(name)
        daemon.cli(
            "exec", name, "--", "python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000')"
        )
        (Path(view["source"]) / f"{name}.txt").write_text("work\n")
        assert f"{name}.txt" in daemon.cli("diff", name).stdout
    listed = json.loads(daemon.cli("project", "ls", "--json").stdout)
    assert [each["colonies"] for each in listed] == [sorted(names)]
    daemon.cli("describe", names[0], "-m", "Frontend")
    assert "Frontend" in daemon.cli("history", names[0]).stdout
    for name in names:
        assert "merged into main" in daemon.cli("merge", name).stdout
    shared = daemon.state / "repos/app/repo.git"
    for name in names:
        assert git(shared, "show", f"main:{name}.txt") == "work"
    assert "is at together of" in daemon.cli("push", names[0], "--branch", "together", "--merged").stdout
    assert git(repo, "rev-parse", "together") == git(shared, "rev-parse", "main")
    daemon.cli("rm", *names, "--yes")
    assert list((daemon.state / "workspaces").iterdir()) == []
    daemon.cli("project", "rm", "app")


def test_a_conflict_is_shown_and_work_is_not_lost_by_a_slip(daemon: Daemon, repo: Path) -> None:
    for name in ("one", "two"):
        daemon.cli("spawn", name, "--repo", str(repo), "--workspace", "git")
        (Path(daemon.colony(name)["source"]) / "a.txt").write_text(f"one\nby {name}\nthree\n")
    daemon.cli("merge", "one")
    assert daemon.cli("merge", "two", "--dry-run", check=1).stdout.endswith("two and main are in conflict in 1 file\n")
    done = daemon.cli("merge", "two", check=5)
    assert "conflict in a.txt" in done.stdout
    assert "by one" in done.stdout
    assert "git merge main" in done.stderr
    lost = daemon.cli("rm", "two", "--yes", check=5)
    assert "1 commit that no branch has" in lost.stderr
    assert "colony rm two --discard two" in lost.stderr
    said = daemon.cli("undo", "two")
    assert said.stdout == "undone: the last commit\n"
    daemon.cli("undo", "two", "--to", said.stderr.split()[-1])
    assert (Path(daemon.colony("two")["source"]) / "a.txt").read_text() == "one\nby two\nthree\n"
    daemon.cli("rm", "two", "--yes", "--discard", "two")
    daemon.cli("rm", "one", "--yes")


def test_who_does_not_wait_for_a_merge_or_a_push_hears_of_its_end(daemon: Daemon, repo: Path) -> None:
    daemon.cli("spawn", "one", "--repo", str(repo), "--workspace", "git")
    (Path(daemon.colony("one")["source"]) / "b.txt").write_text("work\n")
    assert "colony events -f --colony one" in daemon.cli("merge", "one", "--no-wait").stderr
    shared = daemon.state / "repos/app/repo.git"
    daemon.until(lambda: "b.txt" in git(shared, "ls-tree", "--name-only", "main"), "it is merged")
    assert daemon.cli("push", "one", "--no-wait", "-q", "--branch", "elsewhere").stdout == "one\n"
    daemon.until(lambda: "elsewhere" in git(repo, "branch", "--list", "elsewhere"), "it is pushed")
    daemon.until(lambda: "pushed" in daemon.cli("events", "--kind", "workspace").stdout, "the push is told")
    told = daemon.cli("events", "--kind", "workspace").stdout
    assert (told.count("merged"), told.count("pushed")) == (1, 1)
    assert "leave --dry-run or --no-wait away" in daemon.cli("merge", "one", "--no-wait", "--dry-run", check=2).stderr
    daemon.cli("rm", "one", "--yes", "--discard", "one")


def slow_git(folder: Path) -> Path:
    """A folder with a git that takes its time wherever a file says so."""
    program = folder / "bin" / "git"
    program.parent.mkdir()
    real = shutil.which("git")
    program.write_text(
        f'#!/bin/sh\nfor word; do if [ -e {folder}/hang-$word ]; then touch {folder}/hangs; sleep 1000; fi; done\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    return program.parent


@pytest.mark.parametrize("where", ["ls-remote", "fetch", "update-ref", "config", "worktree", "add"])
def test_a_daemon_killed_at_any_moment_of_the_making_is_followed_by_one_that_goes_on(
    tmp_path: Path, repo: Path, where: str
) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["PATH"] = f"{slow_git(tmp_path)}:{os.environ['PATH']}"
    with daemon.running():
        mark = tmp_path / f"hang-{where}"
        if where in ("worktree", "add"):
            daemon.cli("project", "add", str(repo))
        mark.touch()
        daemon.cli("spawn", "scout", "--repo", str(repo), "--workspace", "git", "--no-wait")
        daemon.until(lambda: (tmp_path / "hangs").exists(), "it is at it")
        daemon.kill()
        mark.unlink()
        daemon.start()
        daemon.until(lambda: daemon.colony("scout")["state"] == "running", "it is up after all")
        view = daemon.until_ready("scout")
        assert git(Path(view["source"]), "status", "--porcelain") == ""
        assert [each.name for each in (daemon.state / "repos").iterdir()] == ["app"]
        daemon.cli("rm", "scout", "--yes")
        assert list((daemon.state / "workspaces").iterdir()) == []


def test_a_daemon_killed_while_a_workspace_is_removed_is_followed_by_one_that_removes_it(
    tmp_path: Path, repo: Path
) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["PATH"] = f"{slow_git(tmp_path)}:{os.environ['PATH']}"
    with daemon.running():
        daemon.cli("spawn", "scout", "--repo", str(repo), "--workspace", "git")
        view: dict[str, Any] = daemon.colony("scout")
        (Path(view["source"]) / "b.txt").write_text("1\n")
        (tmp_path / "hang-for-each-ref").touch()
        command = subprocess.Popen(
            [*COLONY, "rm", "scout", "--yes", "--discard", "scout"],
            env=daemon.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        daemon.until(lambda: (tmp_path / "hangs").exists(), "it is at it")
        daemon.kill()
        command.wait(PATIENCE_SECONDS)
        (tmp_path / "hang-for-each-ref").unlink()
        daemon.start()
        daemon.until(lambda: gone(daemon, "scout"), "it is gone")
        assert not Path(view["source"]).exists()
        shared = daemon.state / "repos/app/repo.git"
        [kept] = git(shared, "for-each-ref", "--format=%(refname)", "refs/colony").splitlines()
        assert git(shared, "show", f"{kept}:b.txt") == "1"


def gone(daemon: Daemon, name: str) -> bool:
    try:
        daemon.colony(name)
    except NotFound:
        return True
    return False
