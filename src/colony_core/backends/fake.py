"""An agent that plays a part: happenings from a list, with pauses. For tests, and for houses that only show what Colony looks like.

It starts no program, takes no time but Trio's, and costs nothing. A part ends with `Ended`, or is ended as done behind its last line. A
question waits for its answer; a result of the tool use that was denied becomes the denial.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import trio

from colony_core import wire
from colony_core.errors import Invalid, NotFound, did_you_mean

from . import happenings
from .backend import Health, Job, Run
from .happenings import ApprovalAsked, ApprovalVoided, Ended, Happening, Started, Text, ToolResult, ToolUse, Usage
from .telling import Telling, carrying_out

_WORDS: Mapping[str, type[Any]] = {
    "started": Started,
    "text_delta": happenings.TextDelta,
    "text": Text,
    "thinking": happenings.Thinking,
    "tool_use": ToolUse,
    "tool_result": ToolResult,
    "approval_asked": ApprovalAsked,
    "approval_voided": ApprovalVoided,
    "notice": happenings.Notice,
    "limit_reached": happenings.LimitReached,
    "usage": Usage,
    "ended": Ended,
}


@attrs.frozen
class Pause:
    """Nothing happens for some seconds."""

    seconds: float


Line = Happening | Pause


def read_part(data: bytes | str) -> tuple[Line, ...]:
    """A part from JSON: `[{"text": {"text": "Reading."}}, {"pause": {"seconds": 0.5}}, …]`. Raises Invalid for what is none."""
    lines = wire.parse_json(data)
    if not isinstance(lines, list):
        raise Invalid("bad-part", "a part is a list", 'like [{"text": {"text": "Hello."}}]')
    return tuple(_read_line(line) for line in lines)


def instructed_part(job: Job) -> tuple[Line, ...]:
    """The part that the instruction itself is, where it is a list in JSON; else what is played where nothing was given."""
    return read_part(job.instruction) if job.instruction.lstrip().startswith("[") else demo_part(job)


def demo_part(job: Job) -> tuple[Line, ...]:
    """What is played where nothing else was given: some reading, some work, a result that names the instruction."""
    return (
        Text(text="I look at what is here."),
        Pause(1.0),
        ToolUse(id="look", name="Read", input={"file_path": "README.md"}, kind="read"),
        Pause(1.0),
        ToolResult(id="look", text="# README", ok=True),
        Pause(1.0),
        Usage(cost_usd=0.0, turns=2),
        Ended(outcome="done", text=f"This was only played: {job.instruction}"),
    )


@attrs.define
class FakeBackend:
    """Plays `part(job)` for each job; `jobs` tells what it was asked to do. Sessions are called fake-1, fake-2, …"""

    part: Callable[[Job], Sequence[Line]] = instructed_part
    name: str = "fake"
    remembers: bool = True
    uncounted: frozenset[str] = frozenset()
    jobs: list[Job] = attrs.field(factory=list)
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), repr=False)

    async def check(self, environment: Mapping[str, str]) -> Health:
        await trio.lowlevel.checkpoint()
        return Health(ready=True, detail="plays a part")

    @contextlib.asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Run]:
        self.jobs.append(job)
        lines = self.part(job)
        if not any(isinstance(line, Started) for line in lines):
            lines = (Started(session=job.resume or f"fake-{next(self._numbers)}"), *lines)
        run = _FakeRun(lines)
        async with carrying_out(run):
            yield run


class _FakeRun:
    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._telling = Telling()
        self._playing = trio.CancelScope()
        self._open: dict[str, tuple[ApprovalAsked, trio.Event]] = {}
        self._denied: dict[str, str] = {}

    def happenings(self) -> AsyncIterator[Happening]:
        return self._telling

    async def interrupt(self) -> None:
        self._playing.cancel()
        await trio.lowlevel.checkpoint()

    async def answer(self, approval: str, *, allow: bool, message: str = "") -> None:
        await trio.lowlevel.checkpoint()
        if approval not in self._open:
            raise NotFound(
                "approval-not-found", f"no open question {approval!r}", "it may have been answered, or be void"
            )
        asked, answered = self._open.pop(approval)
        if not allow:
            self._denied[asked.tool_use] = message or "denied"
        answered.set()

    async def carry_out(self) -> None:
        """As `Carried.carry_out`."""
        end = Ended(outcome="done", evidence=("the part ends here",))
        with self._playing:
            for line in self._lines:
                if isinstance(line, Ended):
                    end = line if line.evidence else attrs.evolve(line, evidence=end.evidence)
                    break
                await self._play(line)
        if self._playing.cancelled_caught:
            end = Ended(outcome="stopped", evidence=("we asked it to stop",))
        for approval in self._open:
            self._telling.tell_now(ApprovalVoided(id=approval))
        self._telling.end(end)

    async def leave(self) -> None:
        """As `Carried.leave`."""
        self._telling.leave()
        await self.interrupt()

    async def _play(self, line: Line) -> None:
        if isinstance(line, Pause):
            await trio.sleep(line.seconds)
            return
        if isinstance(line, ApprovalAsked):
            answered = trio.Event()
            self._open[line.id] = line, answered
            await self._telling.tell(line)
            await answered.wait()
            return
        if isinstance(line, ToolResult) and line.id in self._denied:
            line = attrs.evolve(line, ok=False, text=self._denied[line.id])
        await self._telling.tell(line)


def _read_line(line: Any) -> Line:
    if not isinstance(line, dict) or len(line) != 1:
        raise Invalid(
            "bad-part", f"a line of a part is an object with one key: {line!r}", 'like {"text": {"text": "Hello."}}'
        )
    [(word, fields)] = line.items()
    if word == "pause":
        return wire.load(fields, Pause)
    if word not in _WORDS:
        near = did_you_mean(word, list(_WORDS))
        raise Invalid(
            "bad-part", f"nothing is called {word!r}", f"did you mean {near}?" if near else "see docs/agents.md"
        )
    found: Line = wire.load(fields, _WORDS[word])
    return found
