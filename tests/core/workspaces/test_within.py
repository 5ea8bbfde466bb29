"""Repositories within a workspace, and what else its user may leave there that no commit holds."""

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colony_core.errors import WrongState

from .conftest import KINDS, Repo, Room, run_jj
from .test_extras import open_folder as open_folder


def begun(folder: Path) -> Repo:
    folder.mkdir(parents=True)
    repo = Repo(folder)
    repo.git("init", "-q", "-b", "main")
    return repo


async def lost(room: Room) -> Any:
    """What is told of the loss when `scout` is to be removed; None where nobody asks."""
    try:
        await room.workspaces.check_loss("scout", confirm=None)
    except WrongState as error:
        return error.details if error.code == "work-would-be-lost" else error
    return None


async def test_work_in_a_repository_within_is_asked_about(room: Room, origin: Repo, kind: str) -> None:
    """Neither jj nor git takes it into a commit of the workspace's, so it is gone with the folder."""
    folder = await room.spawn("scout", origin.folder, kind=kind)
    within = begun(folder / "lib" / "odd name\n")
    within.commit("Inner", x="work")
    assert (await lost(room))["repositories"] == ["lib/odd name\n"]
    await room.workspaces.check_loss("scout", confirm="scout")
    await room.workspaces.close("scout")
    assert not folder.exists()


async def test_a_submodule_is_asked_about_only_where_it_holds_work(
    room: Room, origin: Repo, tmp_path: Path, kind: str
) -> None:
    library = begun(tmp_path / "user" / "library")
    library.commit("Library", l__txt="1")
    origin.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.folder), "libs")
    origin.commit("With the library")
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert await lost(room) is None
    (folder / "libs/l.txt").write_text("2")
    assert (await lost(room))["repositories"] == ["libs"]


async def test_a_clone_within_or_an_ignored_repository_is_not_asked_about(
    room: Room, origin: Repo, tmp_path: Path, kind: str
) -> None:
    origin.commit("Ignore", __gitignore="deps/\nclone/\n")
    folder = await room.spawn("scout", origin.folder, kind=kind)
    begun(folder / "deps" / "x").commit("Inner", x="work")
    origin.git("clone", "-q", str(origin.folder), str(folder / "clone"))
    assert await lost(room) is None


async def test_nothing_that_is_planted_in_a_repository_within_runs(
    room: Room, origin: Repo, tmp_path: Path, kind: str
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    within = begun(folder / "lib")
    within.commit("Inner", x="work", __gitattributes="* filter=trap diff=trap\n")
    trap = f"touch {tmp_path}/sprung; cat"
    for key in ("core.fsmonitor", "filter.trap.clean", "filter.trap.process", "diff.trap.textconv", "core.pager"):
        within.git("config", key, trap)
    (folder / "lib/x").write_text("more")
    assert (await lost(room))["repositories"] == ["lib"]
    assert not (tmp_path / "sprung").exists()


async def test_a_repository_that_was_only_begun_keeps_nobody_from_the_rest(room: Room, origin: Repo, kind: str) -> None:
    """git would add no file at all."""
    folder = await room.spawn("scout", origin.folder, kind=kind)
    for name in ("one", "two"):
        begun(folder / name)
        (folder / name / "x").write_text("inner")
    (folder / "b.txt").write_text("1")
    assert [each.path for each in (await room.workspaces.diff("scout")).files] == ["b.txt"]
    assert (await lost(room))["repositories"] == ["one", "two"]
    await room.merge("scout")
    assert room.file("app", "main", "b.txt") == "1"


async def test_a_file_where_the_workspace_was_is_removed(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    await room.workspaces.close("scout")
    assert not folder.exists()


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
async def test_a_user_who_is_shut_out_of_the_workspace_loses_it_all_the_same(
    open_room: Callable[..., Any], settings: dict[str, Any], open_folder: Path, kind: str
) -> None:
    nobody = pwd.getpwnam("nobody")
    theirs = open_folder / "theirs"
    begun(theirs).commit("First", a="1")
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    settings["workspaces.root"] = str(open_folder)
    async with open_room() as room:
        folder = await room.spawn("scout", theirs, kind=kind)
        folder.chmod(0)
        assert await lost(room) is not None
        await room.workspaces.close("scout")
        assert not folder.exists()


async def test_a_project_with_a_commit_that_is_called_begin_asks_for_its_name(
    room: Room, origin: Repo, kind: str
) -> None:
    """So is the first commit of an empty repository, which is no work of anybody's."""
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("1")
    await room.workspaces.describe("scout", "Begin")
    await room.merge("scout")
    await room.workspaces.close("scout")
    with pytest.raises(WrongState) as raised:
        await room.workspaces.remove_project("app", confirm=None)
    assert len(raised.value.details["commits"]) == 1


async def test_an_empty_project_asks_for_nothing(room: Room, tmp_path: Path, kind: str) -> None:
    begun(tmp_path / "user" / "app")
    await room.spawn("scout", tmp_path / "user" / "app", kind=kind)
    await room.workspaces.close("scout")
    await room.workspaces.remove_project("app", confirm=None)


@pytest.mark.jj
async def test_a_project_with_a_commit_that_somebody_left_aside_asks_for_its_name(room: Room, origin: Repo) -> None:
    """jj keeps such commits without a branch, also when the workspace is gone."""
    folder = await room.spawn("scout", origin.folder, kind="jj")
    (folder / "b.txt").write_text("1")
    run_jj(folder, "commit", "-m", "Aside")
    run_jj(folder, "new", "main")
    await room.workspaces.close("scout")
    with pytest.raises(WrongState) as raised:
        await room.workspaces.remove_project("app", confirm=None)
    assert [line.split(" ", 1)[1] for line in raised.value.details["commits"]] == ["Aside"]
