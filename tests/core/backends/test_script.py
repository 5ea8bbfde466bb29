"""A shell script as an agent: lines are texts, errors are notices, the exit code is the end."""

import json
from pathlib import Path

import pytest
import trio

from colony_core.backends import Ended, Graces, Happening, Job, Notice, Run, ScriptBackend, Started, Text, Usage
from colony_core.backends.script import SCRIPT_BYTES
from colony_core.errors import Invalid

from .contract import DEADLINE_SECONDS, PATIENT, QUICK, Act, follow, make_programs


async def play(
    folder: Path, script: str, act: Act | None = None, graces: Graces = PATIENT, **environment: str
) -> list[Happening]:
    programs = make_programs(folder)
    job = Job(colony="c", instruction=script, workdir=programs.workdir, start=programs.start, environment=environment)
    with trio.fail_after(DEADLINE_SECONDS):
        async with ScriptBackend(graces=graces).run(job) as run:
            found = await follow(run, act)
    assert programs.living() == []
    return found


def texts(happenings: list[Happening]) -> list[str]:
    return [happening.text for happening in happenings if isinstance(happening, Text)]


async def test_lines_are_texts_errors_notices_and_it_costs_nothing(tmp_path: Path) -> None:
    happenings = await play(tmp_path, "echo one; echo aside >&2; printf 'tw\\303\\266'")
    assert isinstance(happenings[0], Started)
    assert texts(happenings) == ["one", "twö"]
    assert [happening for happening in happenings if isinstance(happening, Notice)] == [
        Notice(text="aside", code="stderr")
    ]
    assert happenings[-2:] == [
        Usage(cost_usd=0.0, turns=1),
        Ended(outcome="done", text="one\ntwö", evidence=("the script ended with code 0",)),
    ]


async def test_the_first_command_that_fails_ends_it(tmp_path: Path) -> None:
    happenings = await play(tmp_path, "echo before\necho why >&2\nsh -c 'exit 7'\necho behind")
    assert texts(happenings) == ["before"]
    assert happenings[-1] == Ended(
        outcome="failed", text="why", code="exit-code", evidence=("the script ended with code 7",)
    )


async def test_a_file_of_the_workspace_is_run_in_the_workspace(tmp_path: Path) -> None:
    programs = make_programs(tmp_path)
    script = programs.workdir / "it.sh"
    script.write_text('#!/bin/sh\npwd; echo "$1 $KEY"\n')
    script.chmod(0o755)
    assert texts(await play(tmp_path, "./it.sh --fast", KEY="k")) == [str(programs.workdir), "--fast k"]


async def test_a_script_that_reads_finds_nothing_to_read(tmp_path: Path) -> None:
    assert texts(await play(tmp_path, "cat; echo read")) == ["read"]


async def test_an_interrupt_is_ctrl_c_for_a_script_that_hears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colony_core.backends.driver.REPEAT_SECONDS", DEADLINE_SECONDS)

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text) and happening.text == "ready":
            await run.interrupt()

    happenings = await play(tmp_path, "trap 'echo tidied; exit 130' INT; echo ready; while :; do sleep 0.1; done", act)
    assert texts(happenings) == ["ready", "tidied"]
    end = happenings[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.evidence) == ("stopped", ("we asked it to stop", "the script ended with code 130"))


async def test_a_script_that_hears_nothing_is_killed(tmp_path: Path) -> None:
    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, Text):
            await run.interrupt()

    happenings = await play(tmp_path, "trap '' INT TERM; echo deaf; while :; do sleep 0.1; done", act, QUICK)
    end = happenings[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.evidence[1]) == ("stopped", "the script was killed by SIGKILL")


async def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    happenings = await play(tmp_path, "sleep 1000 & echo " + json.dumps("started"))
    assert texts(happenings) == ["started"]


@pytest.mark.parametrize("script", ["x" * (SCRIPT_BYTES + 1), "echo a\0b"])
async def test_what_no_command_line_takes_is_refused(tmp_path: Path, script: str) -> None:
    with pytest.raises(Invalid):
        await play(tmp_path, script)
