"""Ten colonies on one repository, all at once: nothing is lost."""

from typing import Any

import pytest
import trio

from colony_core.errors import WrongState
from colony_core.views import PushRequest

from .conftest import Repo, Room, run_git

TEN = [f"scout-{number}" for number in range(10)]


@pytest.mark.slow
async def test_ten_edit_at_once_and_are_merged_one_after_another(room: Room, origin: Repo, kind: str) -> None:
    """Each writes a file of its own and a line of a common one; two of them the same line: that conflict is resolved by hand."""
    origin.commit("Lines", lines__txt="".join(f"line {number}\n\n\n" for number in range(10)))
    tips: dict[str, str] = {}

    async def work(number: int, name: str) -> None:
        folder = await room.spawn(name, origin.folder, kind=kind)
        (folder / f"{name}.txt").write_text(f"by {name}\n")
        lines = (folder / "lines.txt").read_text().splitlines()
        at = 3 * (0 if number == 9 else number)
        lines[at] = f"line {number} by {name}"
        (folder / "lines.txt").write_text("\n".join(lines) + "\n")
        if number % 2:
            run_git(folder, "add", "-A")
            run_git(folder, "commit", "-qm", f"Work of {name}")
        else:
            await room.workspaces.describe(name, f"Work of {name}")
        tips[name] = (await room.workspaces.history(name))[0].id

    async with trio.open_nursery() as nursery:
        for number, name in enumerate(TEN):
            nursery.start_soon(work, number, name)
    outcomes: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:

        async def merge(name: str) -> None:
            try:
                outcomes[name] = (await room.merge(name)).outcome
            except WrongState as error:
                outcomes[name] = error.code

        for name in TEN:
            nursery.start_soon(merge, name)
    [loser] = [name for name, outcome in outcomes.items() if outcome == "merge-conflict"]
    assert loser in ("scout-0", "scout-9")
    folder = room.root / "workspaces" / loser
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "--allow-empty", "-m", "Before the merge")
    run_git(folder, "merge", "-q", "--no-commit", "-s", "ours", "main")
    text = room.file("app", "main", "lines.txt").splitlines()
    text[0] = "line 0 by both"
    (folder / "lines.txt").write_text("\n".join(text) + "\n")
    for name in TEN:
        if name != loser:
            (folder / f"{name}.txt").write_text(f"by {name}\n")
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-qm", "Resolve")
    assert (await room.merge(loser)).outcome == "fast-forward"

    lines = room.file("app", "main", "lines.txt")
    assert "line 0 by both" in lines
    assert all(f"line {number} by scout-{number}" in lines for number in range(1, 9))
    for name in TEN:
        assert room.file("app", "main", f"{name}.txt") == f"by {name}"
        assert room.shared("app", "merge-base", "--is-ancestor", tips[name], "main") == ""
    assert run_git(folder, "fsck", "--no-dangling") == ""
    await room.workspaces.push(loser, PushRequest(merged=True, branch="together"))
    assert origin.git("rev-parse", "together") == room.shared("app", "rev-parse", "main")
    for name in TEN:
        assert await room.workspaces.close(name) == ""
    assert room.shared("app", "worktree", "list").count("\n") == 0
