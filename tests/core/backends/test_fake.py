"""A part is played in time, waits for answers, and is read from JSON."""

import json
from pathlib import Path

import pytest
import trio
import trio.testing

from colony_core.backends import (
    ApprovalAsked,
    Ended,
    FakeBackend,
    Happening,
    Job,
    LimitReached,
    Pause,
    Run,
    Started,
    Text,
    ToolResult,
    read_part,
)
from colony_core.errors import Invalid

from .contract import follow, make_programs


def job(folder: Path, instruction: str = "do it", resume: str | None = None) -> Job:
    return Job(colony="c", instruction=instruction, workdir=folder, start=make_programs(folder).start, resume=resume)


async def test_it_takes_the_time_that_its_pauses_say(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    backend = FakeBackend(part=lambda job: (Text(text="one"), Pause(2.5), Text(text="two")))
    began, times = trio.current_time(), []

    async def act(run: Run, happening: Happening) -> None:
        times.append(trio.current_time() - began)

    async with backend.run(job(tmp_path)) as run:
        happenings = await follow(run, act)
    assert happenings[1:3] == [Text(text="one"), Text(text="two")]
    assert times == [0, 0, 2.5, 2.5]


async def test_each_run_has_a_session_and_one_that_goes_on_keeps_its_own(tmp_path: Path) -> None:
    backend, found = FakeBackend(part=lambda job: ()), []
    for resume in (None, None, "mine"):
        async with backend.run(job(tmp_path, resume=resume)) as run:
            found.extend(happening.session for happening in await follow(run) if isinstance(happening, Started))
    assert found == ["fake-1", "fake-2", "mine"]
    assert [played.resume for played in backend.jobs] == [None, None, "mine"]


async def test_a_question_waits_as_long_as_it_takes(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    asked = ApprovalAsked(id="q", tool="Bash", input={}, tool_use="t")
    backend = FakeBackend(
        part=lambda job: (asked, ToolResult(id="t", text="ran", ok=True), ToolResult(id="u", text="other"))
    )

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await trio.sleep(3600)
            await run.answer("q", allow=False)

    async with backend.run(job(tmp_path)) as run:
        happenings = await follow(run, act)
    assert happenings[2:4] == [ToolResult(id="t", text="denied", ok=False), ToolResult(id="u", text="other")]


async def test_where_no_part_is_given_one_is_played_that_names_the_instruction(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with FakeBackend().run(job(tmp_path, "paint it")) as run:
        end = (await follow(run))[-1]
    assert isinstance(end, Ended)
    assert end.outcome == "done"
    assert "paint it" in end.text


def test_a_part_is_read_from_json() -> None:
    part = [
        {"text": {"text": "Hello."}},
        {"pause": {"seconds": 0.5}},
        {"limit_reached": {"text": "enough", "until": 5}},
        {"ended": {"outcome": "failed", "code": "limit", "evidence": ["so"]}},
    ]
    assert read_part(json.dumps(part)) == (
        Text(text="Hello."),
        Pause(0.5),
        LimitReached(text="enough", until=5.0),
        Ended(outcome="failed", code="limit", evidence=("so",)),
    )


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("{}", "a part is a list"),
        ("[3]", "an object with one key"),
        ('[{"txt": {}}]', "did you mean text"),
        ('[{"text": {"txet": "x"}}]', "txet"),
        ('[{"pause": {"seconds": "long"}}]', "seconds"),
        ('[{"ended": {"outcome": "fine"}}]', "outcome"),
        ("[", "not JSON"),
    ],
)
def test_what_is_no_part_is_refused_with_what_is_wrong(part: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_part(part)
