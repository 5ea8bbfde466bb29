"""Projects: cloned once, seen while they are, given up, failed, tried again, found by what people call them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from colony_core.config import Access
from colony_core.errors import AlreadyExists, Broken, Invalid, NotFound, WrongState
from colony_core.events import ProjectStateChanged
from colony_core.workspaces.projects import _Progress

from .conftest import PATIENCE_SECONDS, Repo, Room


async def until(room: Room, name: str, state: str) -> str:
    """The reason of a project, as soon as it is in that state."""
    with trio.fail_after(PATIENCE_SECONDS):
        while room.workspaces.projects.find(name).state != state:
            await trio.sleep(0.01)
    return room.workspaces.projects.find(name).reason


def told(room: Room) -> list[tuple[str, str]]:
    return [(event.state, event.reason) for event in room.told if isinstance(event, ProjectStateChanged)]


async def test_a_project_is_cloned_and_tells_how_far_it_is(room: Room, origin: Repo) -> None:
    for number in range(200):
        origin.write(f"{number}.txt", f"{number}\n")
    origin.commit("Many")
    record = await room.workspaces.projects.add(str(origin.folder), name=None, owner="ada")
    assert (record.name, record.state) == ("app", "cloning")
    await until(room, "app", "ready")
    [view] = room.workspaces.project_views()
    assert (view.url, view.owner, view.colonies, view.state) == (str(origin.folder), "ada", (), "ready")
    assert Path(view.folder) == room.root / "repos" / "app"
    states = told(room)
    assert states[0] == ("cloning", "")
    assert ("cloning", "receiving objects 100 %") in states
    assert states[-1] == ("ready", "")


def test_progress_is_told_in_steps_of_ten_whatever_the_chunks() -> None:
    said: list[str] = []
    hear = _Progress(said.append)
    text = (
        b"remote: Counting objects:  50% (1/2)\rReceiving objects:   9% (9/100)\rReceiving objects:  12% \rnoise 50%\r"
    )
    for at in range(0, len(text), 7):
        hear(text[at : at + 7])
    assert said == ["counting objects 50 %", "receiving objects 0 %", "receiving objects 10 %"]


async def test_a_clone_that_fails_leaves_nothing_says_why_and_may_be_tried_again(room: Room, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    folder.mkdir()
    await room.workspaces.projects.add(str(folder), name=None, owner="ada")
    reason = await until(room, "later", "failed")
    assert "does not appear to be a git repository" in reason
    assert list((room.root / "repos").iterdir()) == []
    await room.plan("scout", "later")
    with pytest.raises(Broken) as raised:
        await room.workspaces.open("scout", lambda _: None)
    assert raised.value.code == "clone-failed"
    repo = Repo(folder)
    repo.git("init", "-q", "-b", "main")
    repo.commit("First")
    await room.workspaces.open("scout", lambda _: None)
    assert (room.root / "workspaces" / "scout").is_dir()


def slow_git(folder: Path) -> Path:
    """A git whose fetch never ends, and the file that it makes meanwhile."""
    program = folder / "bin" / "git"
    program.parent.mkdir()
    began = folder / "began"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" fetch "*) touch {began}; sleep 1000;; esac\nexec {shutil.which("git")} "$@"\n'
    )
    program.chmod(0o755)
    return program


async def appears(path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not path.exists():
            await trio.sleep(0.01)


async def test_a_clone_that_is_given_up_leaves_nothing(room: Room, origin: Repo, tmp_path: Path) -> None:
    import attrs

    projects = room.workspaces.projects
    projects.tools = attrs.evolve(projects.tools, git=str(slow_git(tmp_path)))
    await projects.add(str(origin.folder), name=None, owner="ada")
    await appears(tmp_path / "began")
    assert [each.name for each in (room.root / "repos").iterdir()] == [".new-app"]
    await room.workspaces.remove_project("app", confirm=None)
    assert list((room.root / "repos").iterdir()) == []
    assert room.workspaces.project_views() == ()
    assert told(room)[-1] == ("removed", "")
    assert [each.label for each in room.keeper.processes()] == []


async def test_a_clone_that_a_killed_daemon_left_half_is_cleared_and_begun_anew(
    open_room: Callable[..., Any], origin: Repo, tmp_path: Path
) -> None:
    import attrs

    async with open_room() as room:
        projects = room.workspaces.projects
        projects.tools = attrs.evolve(projects.tools, git=str(slow_git(tmp_path)))
        await projects.add(str(origin.folder), name=None, owner="ada")
        await appears(tmp_path / "began")
        shutil.copytree(room.root / "repos" / ".new-app", tmp_path / "half")
    shutil.copytree(tmp_path / "half", tmp_path / "state" / "repos" / ".new-app", dirs_exist_ok=True)
    (tmp_path / "state" / "repos" / ".new-app" / "rubbish").write_text("1")
    async with open_room() as room:
        await until(room, "app", "ready")
        assert [each.name for each in (room.root / "repos").iterdir()] == ["app"]
        assert not (room.root / "repos" / "app" / "rubbish").exists()


async def test_many_that_want_the_same_repository_share_one_clone(room: Room, origin: Repo) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(room.spawn, f"scout-{number}", origin.folder)
    assert [state for state, reason in told(room) if not reason].count("cloning") == 1
    [view] = room.workspaces.project_views()
    assert view.colonies == tuple(f"scout-{number}" for number in range(5))


async def test_a_project_is_found_by_its_name_its_address_and_its_short_form(room: Room, origin: Repo) -> None:
    projects = room.workspaces.projects
    record = await projects.add(str(origin.folder), name="user-app", owner="ada")
    for text in ("user-app", "user/app", str(origin.folder), f"{origin.folder}/"):
        assert projects.known_as(text) == record
        assert await projects.find_or_add(text, owner="ada") == record
    assert projects.known_as("other/app") is None
    with pytest.raises(AlreadyExists) as raised:
        await projects.add(str(origin.folder), name="user-app", owner="ada")
    assert raised.value.code == "project-exists"


@pytest.mark.parametrize(("others", "told"), [("look", True), ("nothing", False)])
async def test_whose_name_is_taken_hears_the_address_only_where_they_may_look(
    room: Room, origin: Repo, others: str, told: bool
) -> None:
    object.__setattr__(room.config, "access", Access(others=others))
    await room.workspaces.projects.add(str(origin.folder), name="app", owner="ada")
    for owner, hears in (("ada", True), ("bob", told)):
        with pytest.raises(AlreadyExists) as raised:
            await room.workspaces.projects.add(str(origin.folder), name="app", owner=owner)
        assert (str(origin.folder) in raised.value.message) is hears


async def test_what_is_no_project_is_refused_and_recorded_nowhere(room: Room, tmp_path: Path) -> None:
    projects = room.workspaces.projects
    for text, kind in (
        ("/nowhere/at/all", NotFound), ("ext::sh -c x", Invalid), ("--upload-pack=x", Invalid), ("app", Invalid)
    ):  # fmt: skip
        with pytest.raises(kind):
            await projects.add(text, name=None, owner="ada")
    with pytest.raises(Invalid):
        await projects.add(str(tmp_path), name="../x", owner="ada")
    with pytest.raises(NotFound) as raised:
        projects.find("nothing")
    assert raised.value.code == "project-not-found"
    assert room.workspaces.project_views() == ()
    with pytest.raises(Invalid):
        await room.plan("scout", "app")


async def test_a_project_at_work_stays_and_one_with_unpushed_work_asks_for_its_name(room: Room, origin: Repo) -> None:
    folder = await room.spawn("scout", origin.folder, kind="git")
    with pytest.raises(WrongState) as raised:
        await room.workspaces.remove_project("app", confirm="app")
    assert raised.value.code == "project-in-use"
    (folder / "b.txt").write_text("1")
    await room.merge("scout")
    await room.workspaces.close("scout")
    with pytest.raises(WrongState) as raised:
        await room.workspaces.remove_project("app", confirm=None)
    assert raised.value.code == "work-would-be-lost"
    assert len(raised.value.details["commits"]) == 1
    await room.workspaces.remove_project("app", confirm="app")
    assert list((room.root / "repos").iterdir()) == []
    await room.spawn("scout", origin.folder, kind="git")


async def test_what_was_made_is_known_to_the_next_daemon(
    open_room: Callable[..., Any], origin: Repo, kind: str
) -> None:
    async with open_room() as room:
        folder = await room.spawn("scout", origin.folder, kind=kind)
        (folder / "b.txt").write_text("1")
        await room.plan("planned", "app", kind=kind)
        before = room.workspaces.view("scout")
    async with open_room() as room:
        assert room.workspaces.view("scout") == before
        assert await room.workspaces.open("scout", lambda _: None) == ""
        assert [each.path for each in (await room.workspaces.diff("scout")).files] == ["b.txt"]
        assert await room.workspaces.open("planned", lambda _: None) == f"{kind} workspace on main"


async def test_a_workspace_that_was_half_made_is_made_anew(
    open_room: Callable[..., Any], origin: Repo, kind: str
) -> None:
    """As a daemon leaves it that is killed between the working copy and the record of it."""
    async with open_room() as room:
        folder = await room.spawn("scout", origin.folder, kind=kind)
        (folder / "rubbish").write_text("1")
        record = room.workspaces._record("scout")
        import attrs

        await room.workspaces._change(attrs.evolve(record, state="planned", kind=kind))
    async with open_room() as room:
        await room.workspaces.open("scout", lambda _: None)
        assert not (folder / "rubbish").exists()
        assert (await room.workspaces.diff("scout")).files == ()
        await room.workspaces.close("scout")
        assert not folder.exists()


@pytest.mark.root
async def test_a_root_that_others_may_write_in_is_refused(room: Room, origin: Repo) -> None:
    from colony_core.errors import NotAllowed

    room.root.mkdir(exist_ok=True)
    os.chown(room.root, 12345, 12345)
    with pytest.raises(NotAllowed) as raised:
        await room.workspaces.projects.add(str(origin.folder), name=None, owner="ada")
    assert raised.value.code == "workspaces-root-unsafe"
    os.chown(room.root, 0, 0)
