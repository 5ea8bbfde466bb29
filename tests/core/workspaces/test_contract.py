"""What holds for a workspace whichever program keeps it: each test runs with real git and with real jj."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from colony_core.errors import AlreadyExists, Invalid, NotFound, WrongState
from colony_core.views import CommitView, PushRequest, UndoRequest

from .conftest import Repo, Room, run_git


async def test_a_workspace_has_the_files_of_its_branch(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert (folder / "README").read_text() == "hello\n"
    view = room.workspaces.view("scout")
    assert view is not None
    assert (view.project, view.kind, view.state, view.target) == ("app", kind, "ready", "main")
    assert view.base == origin.git("rev-parse", "HEAD")


async def test_git_works_in_it(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    assert run_git(folder, "status", "--porcelain") == ""
    assert run_git(folder, "log", "--format=%s") == "First"
    (folder / "b.txt").write_text("by git\n")
    run_git(folder, "add", "b.txt")
    run_git(folder, "commit", "-qm", "By git")
    [commit] = await room.workspaces.history("scout")
    assert (commit.message, commit.author, commit.uncommitted) == ("By git", "Ada", False)


async def test_a_long_history_comes_in_pages(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    for number in range(5):
        run_git(folder, "commit", "-qm", f"Work {number}", "--allow-empty")
    (folder / "more.txt").write_text("not committed\n")
    whole = await room.workspaces.history("scout")
    assert [commit.message for commit in whole if not commit.uncommitted] == [f"Work {4 - each}" for each in range(5)]
    paged = [*await room.workspaces.history("scout", limit=2)]
    while page := await room.workspaces.history("scout", after=paged[-1].id, limit=2):
        paged += page
    assert told(paged) == told(whole)
    for nobody in (origin.git("rev-parse", "HEAD"), "0" * 40, "--all", "grün"):
        with pytest.raises(NotFound, match="no commit of the colony's own"):
            await room.workspaces.history("scout", after=nobody)


async def test_pages_go_on_behind_what_nobody_committed_also_when_it_is_another_by_then(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    run_git(folder, "commit", "-qm", "Work", "--allow-empty")
    (folder / "more.txt").write_text("not committed\n")
    [first] = await room.workspaces.history("scout", limit=1)
    (folder / "more.txt").write_text("nor is this\n")
    [second] = await room.workspaces.history("scout", after=first.id, limit=1)
    assert (first.uncommitted, second.message, second.uncommitted) == (True, "Work", False)
    assert await room.workspaces.history("scout", after=second.id) == ()


def told(commits: Sequence[CommitView]) -> list[CommitView]:
    """What does not depend on when it was looked at: what nobody has committed is written anew each time."""
    return [attrs.evolve(each, id="", at="") if each.uncommitted else each for each in commits]


async def test_what_nobody_committed_is_part_of_the_diff_and_stays_uncommitted(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "a.txt").write_text("one\n2\nthree\n")
    (folder / "new file.txt").write_text("new\n")
    (folder / "README").unlink()
    diff = await room.workspaces.diff("scout")
    assert [(f.path, f.status, f.added, f.removed) for f in diff.files] == [
        ("README", "D", 0, 1), ("a.txt", "M", 1, 1), ("new file.txt", "A", 1, 0),
    ]  # fmt: skip
    assert "-two\n+2\n" in diff.patch
    [entry] = await room.workspaces.history("scout")
    assert entry.uncommitted
    if kind == "git":
        assert run_git(folder, "status", "--porcelain").split("\n") == ["D README", " M a.txt", '?? "new file.txt"']


async def test_the_fingerprint_of_work_changes_with_its_files_and_with_nothing_else(
    room: Room, origin: Repo, kind: str
) -> None:
    """What was checked is still what is there when it was committed and merged meanwhile."""
    folder = await room.spawn("scout", origin.folder, kind=kind)
    begin = await room.workspaces.fingerprint("scout")
    (folder / "new.txt").write_text("work\n")
    worked = await room.workspaces.fingerprint("scout")
    assert worked not in (None, begin)
    await room.workspaces.describe("scout", "Work")
    assert await room.workspaces.fingerprint("scout") == worked
    await room.merge("scout")
    assert await room.workspaces.fingerprint("scout") == worked
    (folder / "new.txt").write_text("more work\n")
    assert await room.workspaces.fingerprint("scout") not in (worked, begin)


async def test_a_long_diff_is_cut_and_says_so(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "long.txt").write_text("x\n" * 10_000)
    diff = await room.workspaces.diff("scout", cut=1000)
    assert (len(diff.patch), diff.cut, diff.files[0].added) == (1000, True, 10_000)


async def test_a_merge_takes_everything_and_moves_the_target_forward(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("work\n")
    merged = await room.merge("scout", message="Add b")
    assert merged.outcome == "fast-forward"
    assert room.file("app", "main", "b.txt") == "work"
    assert room.shared("app", "log", "--format=%s", "main").split("\n") == ["Add b", "First"]
    again = await room.merge("scout")
    assert (again.outcome, again.commit) == ("nothing", merged.commit)
    assert (await room.workspaces.diff("scout")).files == ()


async def test_two_histories_are_joined_by_a_commit_of_both(room: Room, origin: Repo, kind: str) -> None:
    for name in ("one", "two"):
        folder = await room.spawn(name, origin.folder, kind=kind)
        (folder / f"{name}.txt").write_text(name)
    for name in ("one", "two"):
        await room.merge(name)
    assert room.shared("app", "log", "-1", "--format=%s", "main") == "Merge colony two"
    assert len(room.shared("app", "rev-list", "--parents", "-1", "main").split()) == 3
    assert room.file("app", "main", "one.txt") == "one"
    assert room.file("app", "main", "two.txt") == "two"


async def test_a_merge_commit_is_made_where_it_is_wanted_and_only_forward_where_that_is(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await room.spawn("one", origin.folder, kind=kind)
    (folder / "one.txt").write_text("1")
    assert (await room.merge("one", ff="never")).outcome == "merged"
    other = await room.spawn("two", origin.folder, kind=kind)
    (other / "two.txt").write_text("2")
    assert (await room.merge("two", ff="only")).outcome == "fast-forward"
    (folder / "one.txt").write_text("11")
    with pytest.raises(WrongState) as raised:
        await room.merge("one", ff="only")
    assert raised.value.code == "not-fast-forward"


async def test_a_dry_run_moves_and_commits_nothing(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("work\n")
    before = room.shared("app", "rev-parse", "main")
    assert (await room.merge("scout", dry_run=True)).outcome == "fast-forward"
    assert room.shared("app", "rev-parse", "main") == before
    [entry] = await room.workspaces.history("scout")
    assert entry.uncommitted


async def in_conflict(room: Room, origin: Repo, kind: str) -> Path:
    """The folder of colony `two`, whose work is in conflict with what colony `one` has merged."""
    for name in ("one", "two"):
        folder = await room.spawn(name, origin.folder, kind=kind)
        (folder / "a.txt").write_text(f"one\nby {name}\nthree\n")
    await room.merge("one")
    return folder


async def test_a_conflict_moves_nothing_and_is_shown(room: Room, origin: Repo, kind: str) -> None:
    await in_conflict(room, origin, kind)
    before = room.shared("app", "rev-parse", "main")
    assert (await room.merge("two", dry_run=True)).conflicts[0].path == "a.txt"
    with pytest.raises(WrongState) as raised:
        await room.merge("two")
    assert raised.value.code == "merge-conflict"
    [conflict] = raised.value.details["conflicts"]
    assert conflict["path"] == "a.txt"
    assert "by one" in conflict["text"]
    assert "by two" in conflict["text"]
    assert ("%%%%%%%" in conflict["text"]) is (kind == "jj")
    assert room.shared("app", "rev-parse", "main") == before
    assert (await room.workspaces.diff("two")).files[0].path == "a.txt"


async def test_a_conflict_that_is_resolved_with_git_in_the_workspace_merges(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await in_conflict(room, origin, kind)
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-qm", "By two")
    run_git(folder, "merge", "-q", "--no-commit", "-s", "ours", "main")
    (folder / "a.txt").write_text("one\nby both\nthree\n")
    run_git(folder, "add", "a.txt")
    run_git(folder, "commit", "-qm", "Resolve")
    assert (await room.merge("two")).outcome == "fast-forward"
    assert room.file("app", "main", "a.txt") == "one\nby both\nthree"


async def test_undo_takes_back_first_what_is_not_committed_then_commit_by_commit(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("1")
    await room.workspaces.describe("scout", "One")
    (folder / "b.txt").write_text("2")
    await room.workspaces.describe("scout", "Two")
    await room.workspaces.push("scout", PushRequest())  # so that jj begins another commit
    (folder / "b.txt").write_text("3")
    (folder / "c.txt").write_text("3")
    undone = await room.workspaces.undo("scout", UndoRequest())
    assert (undone.undone, (folder / "b.txt").read_text()) == ("what was not committed", "2")
    assert not (folder / "c.txt").exists()
    assert room.shared("app", "show", f"{undone.kept}:c.txt") == "3"
    undone = await room.workspaces.undo("scout", UndoRequest())
    assert undone.undone == "the last commit"
    assert not (folder / "b.txt").exists() or (folder / "b.txt").read_text() == "1"
    back = await room.workspaces.undo("scout", UndoRequest(to=undone.kept))
    assert (folder / "b.txt").read_text() == "2"
    assert back.commit == room.shared("app", "rev-parse", undone.kept)
    await room.workspaces.undo("scout", UndoRequest(all=True))
    assert sorted(each.name for each in folder.iterdir() if not each.name.startswith(".")) == ["README", "a.txt"]
    with pytest.raises(WrongState) as raised:
        await room.workspaces.undo("scout", UndoRequest())
    assert raised.value.code == "nothing-to-undo"


async def test_undo_refuses_what_cannot_be(room: Room, origin: Repo, kind: str) -> None:
    await room.spawn("scout", origin.folder, kind=kind)
    with pytest.raises(NotFound):
        await room.workspaces.undo("scout", UndoRequest(to="0" * 40))
    with pytest.raises(Invalid):
        await room.workspaces.undo("scout", UndoRequest(to="--hard"))
    with pytest.raises(Invalid):
        await room.workspaces.undo("scout", UndoRequest(to="main", all=True))


async def test_describe_gives_the_newest_change_its_message(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    with pytest.raises(WrongState) as raised:
        await room.workspaces.describe("scout", "Nothing")
    assert raised.value.code == "nothing-to-describe"
    (folder / "b.txt").write_text("work\n")
    await room.workspaces.describe("scout", "Wrd")
    view = await room.workspaces.describe("scout", "Word\n\nAnd why.")
    assert view.message == "Word\n\nAnd why."
    [entry] = await room.workspaces.history("scout")
    assert (entry.message, entry.uncommitted) == ("Word\n\nAnd why.", False)
    assert (entry.change_id is not None) is (kind == "jj")
    with pytest.raises(Invalid):
        await room.workspaces.describe("scout", " \n")


async def test_a_push_goes_to_a_branch_of_the_origin_and_may_replace_what_it_pushed(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("work\n")
    pushed = await room.workspaces.push("scout", PushRequest())
    assert (pushed.branch, pushed.url) == ("colony/scout", str(origin.folder))
    assert origin.git("show", "colony/scout:b.txt") == "work"
    await room.workspaces.undo("scout", UndoRequest(all=True))
    (folder / "c.txt").write_text("other\n")
    await room.workspaces.push("scout", PushRequest())
    assert origin.git("show", "colony/scout:c.txt") == "other"


async def test_a_push_replaces_nobody_elses_work(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    origin.git("branch", "colony/scout")
    origin.git("branch", "shared")
    (folder / "b.txt").write_text("work\n")
    with pytest.raises(WrongState) as raised:
        await room.workspaces.push("scout", PushRequest())
    assert raised.value.code == "push-rejected"
    with pytest.raises(WrongState) as raised:
        await room.workspaces.push("scout", PushRequest(branch="main"))
    assert raised.value.code == "origin-checked-out"
    await room.workspaces.push("scout", PushRequest(branch="shared"))
    assert origin.git("show", "shared:b.txt") == "work"


async def test_what_was_merged_is_pushed_on_request(room: Room, origin: Repo, kind: str) -> None:
    origin.git("switch", "-q", "--detach")
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("work\n")
    merged = await room.merge("scout", ff="never")
    pushed = await room.workspaces.push("scout", PushRequest(merged=True))
    assert (pushed.branch, pushed.commit) == ("main", merged.commit)
    assert origin.git("rev-parse", "main") == merged.commit


async def test_work_that_is_nowhere_else_is_asked_about_and_kept(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    await room.workspaces.check_loss("scout", confirm=None)
    (folder / "b.txt").write_text("1")
    await room.workspaces.describe("scout", "One")
    await room.merge("scout", target="main", dry_run=True)
    (folder / "c.txt").write_text("2")
    with pytest.raises(WrongState) as raised:
        await room.workspaces.check_loss("scout", confirm="scouts")
    assert raised.value.code == "work-would-be-lost"
    assert set(raised.value.details["files"]) == {"c.txt"}
    await room.workspaces.check_loss("scout", confirm="scout")
    ref = await room.workspaces.close("scout")
    assert ref.startswith("refs/colony/scout/20")
    assert room.shared("app", "show", f"{ref}:c.txt") == "2"
    assert room.shared("app", "show", f"{ref}:b.txt") == "1"
    assert not folder.exists()
    again = await room.spawn("scout", "app", kind=kind, branch=ref)
    assert (again / "c.txt").read_text() == "2"


async def test_work_that_was_merged_or_pushed_is_not_asked_about(room: Room, origin: Repo, kind: str) -> None:
    for name in ("one", "two"):
        folder = await room.spawn(name, origin.folder, kind=kind)
        (folder / f"{name}.txt").write_text("1")
    await room.merge("one")
    await room.workspaces.push("two", PushRequest())
    for name in ("one", "two"):
        await room.workspaces.check_loss(name, confirm=None)
        assert await room.workspaces.close(name) == ""
    assert room.workspaces.view("one") is None
    assert "worktrees" not in room.shared("app", "worktree", "list")


async def test_a_workspace_that_is_kept_stays_and_its_name_is_taken(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("1")
    await room.workspaces.set_kept("scout", True)
    assert await room.workspaces.close("scout") == ""
    assert (folder / "b.txt").read_text() == "1"
    with pytest.raises(AlreadyExists) as raised:
        await room.spawn("scout", origin.folder, kind=kind)
    assert raised.value.code == "workspace-taken"


async def test_a_workspace_deleted_by_hand_is_told_and_made_anew_from_its_last_commit(
    room: Room, origin: Repo, kind: str
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "b.txt").write_text("1")
    await room.workspaces.describe("scout", "One")
    shutil.rmtree(folder)
    with pytest.raises(WrongState) as raised:
        await room.workspaces.diff("scout")
    assert raised.value.code == "workspace-gone"
    with pytest.raises(WrongState) as raised:
        await room.workspaces.check_loss("scout", confirm=None)
    assert raised.value.code == "work-would-be-lost"
    await room.workspaces.open("scout", lambda _: None)
    assert (folder / "b.txt").read_text() == "1"
    view = room.workspaces.view("scout")
    assert view is not None
    assert "deleted by hand" in view.notes[0]
    shutil.rmtree(folder)
    ref = await room.workspaces.close("scout")
    assert room.shared("app", "show", f"{ref}:b.txt") == "1"


async def test_a_detached_head_or_another_branch_is_the_agents_own_affair(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    run_git(folder, "checkout", "-q", "--detach")
    (folder / "b.txt").write_text("1")
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-qm", "Detached")
    run_git(folder, "checkout", "-qb", "side")
    (folder / "c.txt").write_text("2")
    await room.merge("scout")
    assert room.file("app", "main", "b.txt") == "1"
    assert room.file("app", "main", "c.txt") == "2"


async def test_a_target_that_a_working_copy_has_checked_out_is_not_moved(room: Room, origin: Repo, kind: str) -> None:
    one = await room.spawn("one", origin.folder, kind="git")
    run_git(one, "checkout", "-q", "main")
    two = await room.spawn("two", origin.folder, kind=kind)
    (two / "b.txt").write_text("1")
    with pytest.raises(WrongState) as raised:
        await room.merge("two")
    assert raised.value.code == "target-checked-out"
    assert run_git(one, "status", "--porcelain") == ""


async def test_a_repository_without_a_commit_gets_its_first(room: Room, tmp_path: Path, kind: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    run_git(empty, "init", "-q", "-b", "trunk")
    for name in ("one", "two"):
        folder = await room.spawn(name, empty, kind=kind)
        (folder / f"{name}.txt").write_text(name)
    for name in ("one", "two"):
        await room.merge(name)
    view = room.workspaces.view("one")
    assert view is not None
    assert view.target == "trunk"
    assert room.file("empty", "trunk", "one.txt") == "one"
    assert room.file("empty", "trunk", "two.txt") == "two"


async def test_work_begins_where_it_is_told_to(room: Room, origin: Repo, kind: str) -> None:
    first = origin.git("rev-parse", "HEAD")
    origin.git("tag", "v1")
    origin.git("switch", "-qc", "feature/x")
    origin.commit("Feature", x="x")
    origin.git("switch", "-q", "main")
    origin.commit("Second", s="s")
    for name, branch, target, file in (
        ("branch", "feature/x", "feature/x", "x"), ("default", None, "main", "s"), ("tag", "v1", "main", "README"),
        ("commit", first, "main", "README"),
    ):  # fmt: skip
        folder = await room.spawn(name, origin.folder, kind=kind, branch=branch)
        view = room.workspaces.view(name)
        assert view is not None
        assert (view.target, (folder / file).is_file(), (folder / "s").exists()) == (target, True, name == "default")
    with pytest.raises(NotFound) as raised:
        await room.spawn("none", origin.folder, kind=kind, branch="nowhere")
    assert raised.value.code == "branch-not-found"


async def test_a_new_workspace_has_what_is_new_at_the_origin(room: Room, origin: Repo, kind: str) -> None:
    await room.spawn("one", origin.folder, kind=kind)
    origin.commit("Second", b__txt="2")
    folder = await room.spawn("two", origin.folder, kind=kind)
    assert (folder / "b.txt").read_text() == "2"
    origin.folder.rename(origin.folder.with_name("gone"))
    folder = await room.spawn("three", "app", kind=kind)
    view = room.workspaces.view("three")
    assert view is not None
    assert "begun without what is new" in view.notes[0]


async def test_a_large_file_is_work_like_any_other(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    (folder / "big.bin").write_bytes(b"\0" * 3_000_000)
    [changed] = (await room.workspaces.diff("scout")).files
    assert (changed.path, changed.added) == ("big.bin", None)
    await room.merge("scout")
    assert len(room.shared("app", "cat-file", "-s", "main:big.bin")) == 7
