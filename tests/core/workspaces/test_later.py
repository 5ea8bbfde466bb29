"""Work that goes on without whoever asked for it: events tell its end, also where that is a failure."""

from functools import partial

import pytest
import trio
import trio.testing

from colony_core.errors import LimitReached, WrongState
from colony_core.events import Event, WorkspaceChanged, WorkspaceFailed
from colony_core.views import MergeRequest
from colony_core.workspaces.workspaces import MOST_LATER

from .conftest import PATIENCE_SECONDS, Repo, Room


async def told(room: Room, number: int) -> list[Event]:
    """What the room has told behind its first `number` events, as soon as there is something."""
    with trio.fail_after(PATIENCE_SECONDS):
        while len(room.told) <= number:
            await trio.sleep(0.01)
    return room.told[number:]


async def test_it_is_done_although_nobody_waits_and_told(room: Room, origin: Repo) -> None:
    folder = await room.spawn("scout", origin.folder, kind="git")
    (folder / "b.txt").write_text("work\n")
    before = len(room.told)
    merge = partial(room.workspaces.merge, "scout", MergeRequest())
    await room.workspaces.later("scout", "merge", merge, seconds=60)
    assert len(room.told) == before, "it has only begun"
    (event,) = await told(room, before)
    assert isinstance(event, WorkspaceChanged)
    assert (event.colony, event.what) == ("scout", "merged")
    assert room.file("app", "main", "b.txt") == "work"


async def test_a_failure_is_told_with_the_words_of_the_problem(room: Room, origin: Repo) -> None:
    for name in ("one", "two"):
        folder = await room.spawn(name, origin.folder, kind="git")
        (folder / "a.txt").write_text(f"by {name}\n")
    await room.merge("one")
    merge = partial(room.workspaces.merge, "two", MergeRequest())
    with pytest.raises(WrongState) as caught:
        await merge()
    before = len(room.told)
    await room.workspaces.later("two", "merge", merge, seconds=60)
    problem = caught.value
    assert problem.code == "merge-conflict"
    assert await told(room, before) == [
        WorkspaceFailed(
            colony="two", colony_id="two", owner="test", verb="merge", code=problem.code, message=problem.message,
            hint=problem.hint,
        )
    ]  # fmt: skip


async def test_a_defect_is_told_without_its_words(room: Room, origin: Repo) -> None:
    await room.spawn("scout", origin.folder, kind="git")
    before = len(room.told)

    async def fall() -> None:
        raise ZeroDivisionError("secret")

    await room.workspaces.later("scout", "merge", fall, seconds=60)
    (event,) = await told(room, before)
    assert isinstance(event, WorkspaceFailed)
    assert event.code == "internal-error"
    assert "secret" not in str(event)


async def test_what_takes_too_long_is_given_up(room: Room, origin: Repo) -> None:
    await room.spawn("scout", origin.folder, kind="git")
    before = len(room.told)
    await room.workspaces.later("scout", "push", trio.sleep_forever, seconds=0)
    (event,) = await told(room, before)
    assert isinstance(event, WorkspaceFailed)
    assert (event.verb, event.code) == ("push", "given-up")
    assert "within 0 s" in event.message


async def test_what_can_never_begin_is_refused_at_once(room: Room) -> None:
    with pytest.raises(WrongState, match="works in a folder of yours"):
        await room.workspaces.later("nobody", "merge", trio.sleep_forever, seconds=60)


async def test_so_much_waits_and_no_more_and_the_end_of_the_house_is_told(room: Room, origin: Repo) -> None:
    await room.spawn("scout", origin.folder, kind="git")
    before = len(room.told)
    for _ in range(MOST_LATER):
        await room.workspaces.later("scout", "push", trio.sleep_forever, seconds=60)
    with pytest.raises(LimitReached, match=f"{MOST_LATER} pieces of work"):
        await room.workspaces.later("scout", "push", trio.sleep_forever, seconds=60)
    for child in room.workspaces._supervisor.children():
        await room.workspaces._supervisor.stop_child(child)
    codes = [each.code for each in await told(room, before) if isinstance(each, WorkspaceFailed)]
    assert codes == ["given-up"] * MOST_LATER
    await room.workspaces.later("scout", "push", trio.lowlevel.checkpoint, seconds=60)
