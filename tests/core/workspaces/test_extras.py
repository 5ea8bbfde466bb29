"""What a workspace gets besides its commit, whose it is, and what is done where a program is missing or old."""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from colony_core.errors import Missing, NotAllowed
from colony_core.views import PushRequest
from colony_core.workspaces import Tools, find_tools
from colony_core.workspaces.tools import COLOCATING_GIT

from .conftest import KINDS, Repo, Room, run_git, run_jj


async def test_ignored_files_that_are_named_are_copied_and_no_others(room: Room, origin: Repo, kind: str) -> None:
    origin.write(".gitignore", ".env*\nsecrets/\nnode_modules/\n*.log\n")
    origin.write(".worktreeinclude", "# what agents need\n.env*\n!.env.production\nsecrets/\nREADME\nstray.txt\n")
    origin.commit("Ignore")
    for name, text in ((".env", "A=1"), (".env.production", "A=2"), ("secrets/deep/key", "k"), ("build.log", "l"),
                       ("node_modules/x", "x"), ("README", "changed"), ("stray.txt", "untracked")):  # fmt: skip
        origin.write(name, text)
    (origin.folder / "secrets" / "deep" / "key").chmod(0o600)
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert (folder / ".env").read_text() == "A=1"
    assert stat.S_IMODE((folder / "secrets" / "deep" / "key").stat().st_mode) == 0o600
    for name in (".env.production", "build.log", "node_modules", "stray.txt"):
        assert not (folder / name).exists(), name
    assert (folder / "README").read_text() == "hello\n"
    assert (await room.workspaces.diff("scout")).files == ()


async def test_nothing_is_copied_through_a_link(room: Room, origin: Repo, kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    origin.write(".gitignore", "conf/\n")
    origin.write(".worktreeinclude", "conf/\n")
    (origin.folder / "conf").symlink_to(outside)
    origin.git("add", "-f", "conf")
    origin.commit("A link")
    (origin.folder / "conf").unlink()
    origin.write("conf/key", "k")
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert (folder / "conf").is_symlink()
    assert list(outside.iterdir()) == []


@pytest.fixture
def library(origin: Repo, tmp_path: Path) -> Repo:
    """A submodule of the origin, at `lib`."""
    folder = tmp_path / "user" / "library"
    folder.mkdir()
    repo = Repo(folder)
    repo.git("init", "-q", "-b", "main")
    repo.commit("Library", lib__txt="lib\n")
    origin.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(folder), "lib")
    origin.commit("With a library")
    return repo


async def test_submodules_are_checked_out_and_are_no_change(room: Room, origin: Repo, library: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert (folder / "lib" / "lib.txt").read_text() == "lib\n"
    assert (await room.workspaces.diff("scout")).files == ()
    (folder / "b.txt").write_text("1")
    await room.merge("scout")
    assert "160000" in room.shared("app", "ls-tree", "main", "lib")
    await room.workspaces.close("scout")
    assert not folder.exists()


async def test_a_submodule_that_may_not_be_fetched_is_told_and_left(room: Room, origin: Repo, library: Repo) -> None:
    marker = library.folder.parent / "marker"
    urls = (f"ext::sh -c 'touch% {marker}'", "--upload-pack=x", f"-oProxyCommand=touch {marker}")
    for number, url in enumerate(urls):
        origin.git("config", "--file", ".gitmodules", "submodule.lib.url", url)
        origin.commit("Elsewhere")
        name = f"scout-{number}"
        await room.spawn(name, origin.folder, kind="git")
        view = room.workspaces.view(name)
        assert view is not None
        assert "submodules are not checked out" in view.notes[0]
    assert not marker.exists()


async def test_pointers_of_lfs_are_left_alone_with_a_word(room: Room, origin: Repo, kind: str) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    origin.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    origin.write("big.bin", pointer)
    origin.git("-c", "filter.lfs.required=false", "add", "-A")
    origin.commit("Large")
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert (folder / "big.bin").read_text() == pointer
    view = room.workspaces.view("scout")
    assert view is not None
    assert "git lfs pull" in view.notes[-1]
    assert (await room.workspaces.diff("scout")).files == ()


# ---- programs


async def test_without_jj_a_workspace_is_gits_and_one_of_jj_is_refused(
    open_room: Callable[..., Any], origin: Repo, tools: Tools
) -> None:
    import attrs

    async with open_room(attrs.evolve(tools, jj=None, jj_version=())) as room:
        await room.spawn("scout", origin.folder)
        assert room.workspaces.view("scout").kind == "git"
        with pytest.raises(Missing) as raised:
            await room.plan("other", "app", kind="jj")
        assert raised.value.code == "jj-missing"


async def test_without_git_nothing_is_cloned(open_room: Callable[..., Any], origin: Repo) -> None:
    async with open_room(Tools(git_version=(2, 30))) as room:
        with pytest.raises(Missing) as raised:
            await room.plan("scout", origin.folder)
    assert raised.value.message == "git is 2.30, and 2.38 is needed"


@pytest.mark.jj
async def test_where_there_is_jj_it_is_taken(room: Room, origin: Repo) -> None:
    await room.spawn("scout", origin.folder)
    view = room.workspaces.view("scout")
    assert view is not None
    assert (view.kind, view.colocated, view.notes) == ("jj", True, ())


def old_git() -> str | None:
    """A git of this machine that cannot read what jj makes."""
    found = find_tools("/usr/bin:/bin")
    return found.git if found.git_version < COLOCATING_GIT else None


@pytest.mark.jj
async def test_with_an_older_git_a_workspace_of_jj_is_not_colocated_and_says_why(
    open_room: Callable[..., Any], origin: Repo, tools: Tools, tmp_path: Path
) -> None:
    git = old_git()
    if git is None:  # this machine's own is new enough: what the room decides is the same
        old = Tools(git=tools.git, git_version=(2, 39), jj=tools.jj, jj_version=tools.jj_version, path=tools.path)
    else:
        links = tmp_path / "bin"
        links.mkdir()
        (links / "git").symlink_to(git)
        (links / "jj").symlink_to(shutil.which("jj") or "")
        old = find_tools(f"{links}:/usr/bin:/bin")
        assert old.git_version < COLOCATING_GIT
    async with open_room(old) as room:
        folder = await room.spawn("scout", origin.folder)
        view = room.workspaces.view("scout")
        assert (view.kind, view.colocated) == ("jj", False)
        assert "only jj works in the workspace" in view.notes[0]
        assert not (folder / ".git").exists()
        (folder / "b.txt").write_text("1\n")
        run_jj(folder, "describe", "-m", "By jj")
        [commit] = await room.workspaces.history("scout")
        assert commit.message == "By jj"
        beside = await room.spawn("beside", origin.folder, kind="git")
        (beside / "c.txt").write_text("2\n")
        await room.merge("scout")
        await room.merge("beside")
        await room.workspaces.push("scout", PushRequest())
        assert room.file("app", "main", "b.txt") == "1"
        assert room.file("app", "main", "c.txt") == "2"
        for name in ("scout", "beside"):
            assert await room.workspaces.close(name) == ""


async def test_the_oldest_git_here_does_all_of_it(open_room: Callable[..., Any], origin: Repo) -> None:
    async with open_room(find_tools("/usr/bin:/bin")) as room:
        for name in ("one", "two"):
            folder = await room.spawn(name, origin.folder, kind="git")
            (folder / f"{name}.txt").write_text(name)
        assert (await room.merge("one")).outcome == "fast-forward"
        assert (await room.merge("two")).outcome == "merged"
        await room.workspaces.push("two", PushRequest())
        await room.workspaces.close("one")


def test_a_program_that_is_not_there_or_says_nonsense_is_none(tmp_path: Path) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "git").chmod(0o755)
    assert find_tools(str(tmp_path)) == Tools(path=str(tmp_path))
    assert find_tools("/nowhere") == Tools(path="/nowhere")


@pytest.mark.jj
async def test_jj_and_git_both_work_in_one_workspace(room: Room, origin: Repo) -> None:
    folder = await room.spawn("scout", origin.folder, kind="jj")
    (folder / "b.txt").write_text("1\n")
    run_jj(folder, "commit", "-m", "By jj")
    run_git(folder, "commit", "--allow-empty", "-qm", "By git")
    (folder / "c.txt").write_text("2\n")
    messages = [commit.message for commit in await room.workspaces.history("scout")]
    assert messages[1:] == ["By git", "By jj"]
    await room.merge("scout", message="The rest")
    assert room.shared("app", "log", "--format=%s", "main").split("\n") == ["The rest", "By git", "By jj", "First"]


@pytest.mark.jj
async def test_conflicts_that_jj_keeps_in_commits_are_not_merged(room: Room, origin: Repo) -> None:
    folder = await room.spawn("scout", origin.folder, kind="jj")
    (folder / "a.txt").write_text("here\n")
    run_jj(folder, "commit", "-m", "Here")
    other = await room.spawn("other", origin.folder, kind="jj")
    (other / "a.txt").write_text("there\n")
    await room.merge("other")
    run_jj(folder, "rebase", "-s", "@-", "-d", "main")
    from colony_core.errors import WrongState

    with pytest.raises(WrongState) as raised:
        await room.merge("scout")
    assert raised.value.code == "workspace-conflicted"
    (folder / "a.txt").write_text("both\n")
    run_jj(folder, "squash")
    assert (await room.merge("scout")).outcome == "fast-forward"
    assert room.file("app", "main", "a.txt") == "both"


# ---- whose it is


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="colony-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
async def test_a_repository_of_another_user_is_cloned_kept_and_worked_on_in_their_name(
    open_room: Callable[..., Any], settings: dict[str, Any], open_folder: Path, kind: str
) -> None:
    nobody = pwd.getpwnam("nobody")
    theirs = open_folder / "theirs"
    theirs.mkdir()
    repo = Repo(theirs)
    repo.git("init", "-q", "-b", "main")
    repo.write(".gitignore", ".env\n")
    repo.commit("First", __worktreeinclude=".env\n")
    repo.write(".env", "A=1")
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    settings["workspaces.root"] = str(open_folder)
    async with open_room() as room:
        folder = await room.spawn("scout", theirs, kind=kind)
        assert {each.lstat().st_uid for each in (folder, *folder.rglob("*"))} == {nobody.pw_uid}
        assert {each.lstat().st_uid for each in (open_folder / "repos" / "theirs").rglob("*")} == {nobody.pw_uid}
        assert (folder / ".env").read_text() == "A=1"
        assert (open_folder / "workspaces").stat().st_uid == 0
        (folder / "b.txt").write_text("1")
        os.chown(folder / "b.txt", nobody.pw_uid, nobody.pw_gid)
        await room.workspaces.push("scout", PushRequest())
        await room.workspaces.close("scout")
        assert not folder.exists()


@pytest.mark.root
async def test_a_user_who_cannot_come_in_is_told_where_they_could(
    open_room: Callable[..., Any], open_folder: Path, tmp_path: Path
) -> None:
    theirs = open_folder / "theirs"
    theirs.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    (tmp_path / "state").mkdir(mode=0o700)
    async with open_room() as room:
        await room.plan("scout", theirs)
        with pytest.raises(Exception, match="cannot enter") as raised:
            await room.workspaces.open("scout", lambda _: None)
        assert not isinstance(raised.value, NotAllowed)  # it is the clone's reason
