"""Completion receipts: whether work that an agent says is done is done. The daemon runs the colony's checks itself and writes down what
they showed, and of which state of the workspace."""

import logging
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from colony_core import clock
from colony_core.colonies import Check, Colony, run_command
from colony_core.errors import ColonyError
from colony_core.processes import KeeperLost
from colony_core.views import CheckView, ExecRequest, ReceiptView

logger = logging.getLogger("colony.sessions")

TAIL_BYTES = 8 * 2**10
MOST_TAIL_LINES = 40


Look = Callable[[Colony], Awaitable[str | None]]
"""The hash of what a colony's workspace differs in."""
Notice = Callable[[str, str], Awaitable[None]]
"""Told in words, with a code, what kept the workspace from being looked at."""


async def look_for_oneself(colony: Colony, checks: Sequence[Check], look: Look, notice: Notice) -> ReceiptView:
    """Runs the checks, and tells what they showed and of which state of the workspace; anew where the keeper is lost meanwhile."""
    while True:
        try:
            return await _looked(colony, checks, look, notice)
        except* KeeperLost:
            logger.warning("the keeper was lost under the checks of %s", colony.name)


async def _looked(colony: Colony, checks: Sequence[Check], look: Look, notice: Notice) -> ReceiptView:
    trouble = ""
    try:
        before = await look(colony)
        ran = await _run_checks(colony, checks)
        after = await look(colony) if checks else before
    except KeeperLost:
        raise
    except ColonyError as error:  # the work is done all the same
        trouble = f"what the workspace differs in cannot be told: {error.message}"
        await notice(trouble, error.code)
        before = after = None
        ran = await _run_checks(colony, checks)
    found = receipt(ran, before=before, after=after)
    if trouble and found.verdict == "verified":
        found = attrs.evolve(found, verdict="with-gaps", reason=trouble)
    return found


async def _run_checks(colony: Colony, checks: Sequence[Check]) -> tuple[CheckView, ...]:
    """Runs the checks one after the other in the colony, as its user; what one starts is gone before the next begins."""
    return tuple([await _run(colony, each) for each in checks])


def verdict(checks: Sequence[CheckView], *, before: str | None, after: str | None) -> tuple[str, str]:
    """What the checks show, and why. Pure.

    verified: every check passed. with-gaps: every required one passed, but another did not, or the workspace changed meanwhile.
    not-verified: a required one did not pass, or there are none.
    """
    if not checks:
        return "not-verified", "the colony has no [checks]"
    bad = [each.name for each in checks if each.required and each.outcome != "passed"]
    if bad:
        return "not-verified", f"{', '.join(bad)} did not pass"
    loose = [each.name for each in checks if each.outcome != "passed"]
    if loose:
        return "with-gaps", f"{', '.join(loose)} did not pass, which is not required"
    if before != after:
        return "with-gaps", "the workspace changed while it was checked"
    return "verified", f"all {len(checks)} checks passed" if len(checks) > 1 else "its check passed"


def receipt(checks: tuple[CheckView, ...], *, before: str | None, after: str | None) -> ReceiptView:
    """The receipt of checks that were run."""
    word, reason = verdict(checks, before=before, after=after)
    return ReceiptView(verdict=word, reason=reason, at=clock.rfc3339(clock.unix_now()), tree=before, checks=checks)


async def _run(colony: Colony, check: Check) -> CheckView:
    began, tail = trio.current_time(), deque[bytes]()
    code: int | None = None
    outcome = "too-slow"
    with trio.move_on_after(check.timeout):
        try:
            async with run_command(colony, ExecRequest(command=check.command), label="check") as running:
                await running.stdin.aclose()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_keep_tail, running.stdout, tail)
                    nursery.start_soon(_keep_tail, running.stderr, tail)
                    code = await running.wait()
            outcome = "passed" if code == 0 else "failed"
        except KeeperLost:
            raise  # says nothing of the check
        except ColonyError as error:
            outcome = "broken"
            tail.append(str(error).encode())
    return CheckView(
        name=check.name,
        command=check.command_text,
        required=check.required,
        outcome=outcome,
        code=code,
        seconds=trio.current_time() - began,
        tail=_text(tail) or (signal.Signals(-code).name if code is not None and code < 0 else ""),
    )


async def _keep_tail(stream: trio.abc.ReceiveStream, tail: deque[bytes]) -> None:
    async for data in stream:
        tail.append(bytes(data))
        while len(tail) > 1 and sum(map(len, tail)) - len(tail[0]) >= TAIL_BYTES:
            tail.popleft()


def _text(tail: deque[bytes]) -> str:
    text = b"".join(tail)[-TAIL_BYTES:].decode(errors="replace")
    return "\n".join(text.splitlines()[-MOST_TAIL_LINES:])
