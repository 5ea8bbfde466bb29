"""Completion receipts: what checks show, and of which state of the workspace."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends import Ended
from colony_core.colonies import Check, Colony, read_manifest, run_command
from colony_core.errors import Broken, Invalid
from colony_core.sessions.receipts import verdict
from colony_core.views import CheckView

from .played import PATIENCE_SECONDS, PlayedBackend
from .test_sessions import house_at, instructed, lines_of, reached, spawned

OUTCOMES = ("passed", "failed", "too-slow", "broken")


def ran(outcome: str, *, required: bool = True, name: str = "tests") -> CheckView:
    return CheckView(name=name, command="x", required=required, outcome=outcome, code=0, seconds=0.1, tail="")


def test_work_is_verified_only_where_every_check_passed_and_nothing_moved() -> None:
    assert verdict([ran("passed")], before="a", after="a") == ("verified", "its check passed")
    assert verdict([ran("passed"), ran("passed")], before=None, after=None)[0] == "verified"
    assert verdict([], before="a", after="a") == ("not-verified", "the colony has no [checks]")


@pytest.mark.parametrize("outcome", OUTCOMES[1:])
def test_what_is_required_and_did_not_pass_leaves_the_work_unverified(outcome: str) -> None:
    assert verdict([ran("passed"), ran(outcome, name="lint")], before="a", after="a") == (
        "not-verified",
        "lint did not pass",
    )


def test_gaps_are_what_is_not_required_and_a_workspace_that_changed_meanwhile() -> None:
    assert verdict([ran("passed"), ran("failed", required=False)], before="a", after="a")[0] == "with-gaps"
    assert verdict([ran("passed")], before="a", after="b")[0] == "with-gaps"


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.booleans()), max_size=6), st.booleans())
def test_no_failed_requirement_is_ever_verified(checks: list[tuple[str, bool]], moved: bool) -> None:
    word, reason = verdict([ran(o, required=r) for o, r in checks], before="a", after="b" if moved else "a")
    assert reason
    if any(required and outcome != "passed" for outcome, required in checks):
        assert word == "not-verified"
    if word == "verified":
        assert not moved
        assert all(outcome == "passed" for outcome, _ in checks)


def test_checks_are_read_from_the_manifest_in_their_order() -> None:
    manifest = read_manifest(
        '[checks]\ntests = "make test"\nlint = { command = ["ruff", "check"], timeout = "5m", required = false }\n',
        templates={},
    )
    assert manifest.checks == (
        Check(name="tests", command=("/bin/sh", "-c", "make test"), command_text="make test"),
        Check(name="lint", command=("ruff", "check"), command_text="ruff check", timeout=300.0, required=False),
    )


@pytest.mark.parametrize(("text", "told"), [
    ("tests = 3", "expected text or a list"),
    ("tests = { timeout = 3 }", "the command is missing"),
    ('tests = { command = "x", retries = 3 }', "unknown key"),
    ('"a/b" = "x"', "no name of a check"),
])  # fmt: skip
def test_wrong_checks_are_told_with_their_line(text: str, told: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_manifest(f"[checks]\n{text}\n", templates={})
    assert told in str(caught.value)
    assert caught.value.details["line"] == 2


async def test_the_daemon_runs_the_checks_itself_when_the_agent_says_done(tmp_path: Path) -> None:
    agent = PlayedBackend()
    checks = 'tests = "test -e made && echo all good"\nlint = { command = "echo ill >&2; exit 3", required = false }\n'
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent=f"[checks]\n{checks}")
        for made, expected in ((False, "not-verified"), (True, "with-gaps")):
            if made:
                (tmp_path / "home-hello/made").touch()
            await instructed(house)
            scene = await agent.scene()
            await scene.say(Ended(outcome="done", text="I am done"))
            receipt = (await reached(house, "done")).receipt
            assert receipt is not None
            assert receipt.verdict == expected
        assert [(each.name, each.outcome, each.code, each.tail) for each in receipt.checks] == [
            ("tests", "passed", 0, "all good"),
            ("lint", "failed", 3, "ill"),
        ]
        assert ("receipt", "with-gaps: lint did not pass, which is not required") in await lines_of(house)


@pytest.fixture
def hasty_clock() -> trio.testing.MockClock:
    """Time as it is, until the test lets an hour go by."""
    return trio.testing.MockClock(rate=1.0)


async def test_a_check_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, hasty_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = trio.Event()

    @asynccontextmanager
    async def seen(*given: Any, **more: Any) -> AsyncIterator[Any]:
        async with run_command(*given, **more) as running:
            begun.set()
            yield running

    monkeypatch.setattr("colony_core.sessions.receipts.run_command", seen)
    agent = PlayedBackend()
    slow = '[checks]\nslow = { command = "echo $$ >pid; sleep 6000 & wait", timeout = "1h" }'
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent=slow)
        await instructed(house)
        await (await agent.scene()).say(Ended(outcome="done"))
        told = tmp_path / "home-hello/pid"
        with trio.fail_after(PATIENCE_SECONDS):
            await begun.wait()  # the keeper's answer would come an hour late
            while not (told.exists() and (pid := told.read_text().strip())):
                await trio.sleep(0.01)
        hasty_clock.jump(3600)
        receipt = (await reached(house, "done")).receipt
        assert receipt is not None
        assert (receipt.verdict, receipt.checks[0].outcome) == ("not-verified", "too-slow")
        assert not Path(f"/proc/{pid}").exists()


async def test_failed_and_interrupted_work_is_not_checked(tmp_path: Path) -> None:
    agent = PlayedBackend()
    async with house_at(tmp_path, agent) as house:
        await spawned(house, tmp_path, agent='[checks]\ntests = "touch checked"')
        await instructed(house)
        await (await agent.scene()).say(Ended(outcome="failed", text="no"))
        assert (await reached(house, "failed")).receipt is None
        assert not (tmp_path / "home-hello/checked").exists()


async def test_a_receipt_is_tied_to_the_state_of_the_workspace(tmp_path: Path) -> None:
    agent = PlayedBackend()
    seen: list[str] = []

    async def fingerprint(colony: Colony) -> str:
        await trio.lowlevel.checkpoint()
        seen.append(colony.name)
        return f"tree-{len(list(Path(colony.source).iterdir()))}"

    async with house_at(tmp_path, agent) as house:
        house.sessions.fingerprint = fingerprint
        await spawned(house, tmp_path, agent='[checks]\ntests = "touch left-behind"')
        await instructed(house)
        await (await agent.scene()).say(Ended(outcome="done"))
        receipt = (await reached(house, "done")).receipt
        assert receipt is not None
        assert (receipt.tree, receipt.verdict) == ("tree-1", "with-gaps")
        assert receipt.reason == "the workspace changed while it was checked"


@pytest.mark.parametrize(
    ("checks", "verdict"), [('tests = "true"', "with-gaps"), ('tests = "false"', "not-verified"), ("", "not-verified")]
)
async def test_work_that_is_done_has_not_failed_where_nobody_can_tell_what_it_changed(
    tmp_path: Path, checks: str, verdict: str
) -> None:
    """An agent may leave its workspace in a state that git or jj cannot read."""
    agent = PlayedBackend()

    async def fingerprint(colony: Colony) -> str:
        await trio.lowlevel.checkpoint()
        raise Broken("vcs-failed", "not a repository", "look at it")

    async with house_at(tmp_path, agent) as house:
        house.sessions.fingerprint = fingerprint
        await spawned(house, tmp_path, agent=f"[checks]\n{checks}" if checks else "")
        await instructed(house)
        await (await agent.scene()).say(Ended(outcome="done", text="It is done."))
        view = await reached(house, "done")
        assert view.result == "It is done."
        assert view.receipt is not None
        assert (view.receipt.verdict, view.receipt.tree) == (verdict, None)
        assert ("notice", "what the workspace differs in cannot be told: not a repository") in await lines_of(house)
