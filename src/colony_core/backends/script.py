"""A shell script as an agent: deterministic, and free.

The instruction is the script, so that `./scripts/build.sh --fast` runs a file of the workspace.
"""

import contextlib
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

import attrs
from trio.abc import ReceiveStream

from colony_core.errors import Invalid, NotFound

from .backend import Command, Health, Job, Run
from .deeds import Death, Deed, Graces, Hush
from .deeds import Signal as SignalDeed
from .driver import open_run
from .happenings import Ended, Happening, Notice, Started, Text, Usage
from .lines import Lines, Skipped, Tail

LINE_BYTES = 1024 * 1024
SCRIPT_BYTES = 120 * 1024
"""The kernel takes no longer words than 128 KiB (MAX_ARG_STRLEN)."""


@attrs.frozen(kw_only=True)
class ScriptBackend:
    """Runs instructions with `sh -e`: the first command that fails ends it, and its exit code decides."""

    graces: Graces = attrs.field(factory=lambda: Graces(interrupt=5.0))
    name: str = "script"
    remembers: bool = False
    uncounted: frozenset[str] = frozenset()
    """It uses none of them, and tells that by saying nothing."""

    async def check(self, environment: Mapping[str, str]) -> Health:
        found = shutil.which("sh", path=environment.get("PATH", ""))
        if found is None:
            return Health(ready=False, detail="no sh on PATH", hint="set PATH")
        return Health(ready=True, detail=found)

    @contextlib.asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Run]:
        if len(job.instruction.encode()) > SCRIPT_BYTES or "\0" in job.instruction:
            raise Invalid(
                "bad-script",
                f"a script holds no null and at most {SCRIPT_BYTES} bytes",
                "put it into a file and run that",
            )
        command = Command(argv=("sh", "-e", "-c", job.instruction, "script"), env=job.environment)
        dialogue = ScriptDialogue(session=job.resume or f"script-{uuid.uuid4()}")
        async with job.start(command) as program, open_run(program, dialogue, _lines, self.graces) as run:
            yield run


class ScriptDialogue:
    """A script has nothing to ask and nothing to be told: its lines are texts, its exit code is its end."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._stopping = False
        self._last = Tail()

    def open(self) -> Sequence[Deed]:
        return [Hush(), Started(session=self._session)]

    def hear(self, line: bytes | Skipped) -> Sequence[Deed]:
        if isinstance(line, Skipped):
            return [Notice(text=f"a line was too long: {line.start}", code="too-long")]
        self._last.feed(line + b"\n")
        return [Text(text=line.decode(errors="replace"))]

    def overhear(self, line: str) -> Sequence[Deed]:
        return [Notice(text=line, code="stderr")]

    def interrupt(self) -> Sequence[Deed]:
        number = signal.SIGTERM if self._stopping else signal.SIGINT
        self._stopping = True
        return [SignalDeed(number)]

    def answer(self, approval: str, *, allow: bool, message: str) -> Sequence[Deed]:
        raise NotFound("approval-not-found", f"no open question {approval!r}", "a script asks nothing")

    def lose(self, death: Death) -> Sequence[Happening]:
        return [Usage(cost_usd=0.0, turns=1), self._ended(death)]

    def _ended(self, death: Death) -> Ended:
        if self._stopping or death.code is None or death.code < 0:
            return death.ended("the script", stopping=self._stopping)
        evidence = (f"the script {death.how}",)
        if death.code == 0:
            return Ended(outcome="done", text=self._last.text, evidence=evidence)
        text = death.stderr or self._last.text or f"the script {death.how}"
        return Ended(outcome="failed", text=text, code="exit-code", evidence=evidence)


def _lines(stream: ReceiveStream) -> Lines:
    return Lines(stream, limit=LINE_BYTES)
