"""Which repository is meant, and what does not fit together."""

import os
from pathlib import Path

import pytest

from colony_cli.commands.projects import repository

from .conftest import Command
from .stand_in import StandIn


def test_a_folder_is_told_from_its_root_and_everything_else_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "user" / "app" / ".git").mkdir(parents=True)
    (tmp_path / "plain" / "app").mkdir(parents=True)
    for text in ("user/app", "./user/app", "~/user/app", f"{tmp_path}/user/app"):
        assert repository(text) == f"{tmp_path}/user/app"
    for text in ("plain/app", "other/app", "https://example.org/a/b", "git@example.org:a/b", "--upload-pack=x"):
        assert repository(text) == text


def test_spawn_sends_what_was_asked_for(house: StandIn, colony: Command) -> None:
    colony("spawn", "scout", "--repo", "user/app", "--branch", "main", "--workspace", "jj", "--no-wait")
    body = house.bodies[house.asked.index("POST /api/colonies")]
    assert {key: body.get(key) for key in ("repo", "branch", "workspace", "path")} == {
        "repo": "user/app", "branch": "main", "workspace": "jj", "path": None,
    }  # fmt: skip


def test_what_belongs_to_a_repository_is_refused_without_one(house: StandIn, colony: Command) -> None:
    for words, told in (
        (["--branch", "main"], "--branch is for --repo"),
        (["--workspace", "git"], "--workspace is for --repo"),
        (["--repo", "user/app", "--from", os.curdir], "two places to work in"),
        (["--repo", "user/app", "--workspace", "gti"], "did you mean git?"),
    ):
        done = colony("spawn", "scout", *words)
        assert (done.code, told in done.err) == (2, True), done.err
    assert house.asked == []
