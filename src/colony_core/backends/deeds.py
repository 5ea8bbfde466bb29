"""What there is to do for an agent that speaks lines, in values: deeds, and the dialogue that gives them. Decides nothing, does nothing."""

import signal
from collections.abc import Sequence
from typing import Protocol, TypeVar

import attrs

from .happenings import Ended, Happening

Heard = TypeVar("Heard", contravariant=True)


@attrs.frozen
class Say:
    """Deed: bytes for the agent's standard input."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Hush:
    """Deed: nothing more will be said; closes the agent's standard input."""


@attrs.frozen
class Signal:
    """Deed: a signal for the agent's main process."""

    number: signal.Signals


Deed = Say | Hush | Signal | Happening


@attrs.frozen
class Death:
    """How the program ended: its exit code (None where nobody knows), what it said on stderr last, and why we could not tell more."""

    code: int | None
    stderr: str = ""
    trouble: str = ""

    def ended(self, program: str, *, stopping: bool) -> Ended:
        """The end of a run whose program said nothing of an end itself."""
        stderr = (f"it said last: {self.stderr}",) if self.stderr else ()
        trouble = (self.trouble,) if self.trouble else ()
        if stopping:
            return Ended(
                outcome="stopped", evidence=("we asked it to stop", f"{program} {self.how}", *trouble, *stderr)
            )
        text = _telling_line(self.stderr) or f"{program} {self.how}"
        evidence = (f"{program} {self.how}", "it told no result", *trouble, *stderr)
        return Ended(outcome="failed", text=text, code="agent-died", evidence=evidence)

    @property
    def how(self) -> str:
        if self.code is None:
            return "closed its output and could not be ended"
        if self.code >= 0:
            return f"ended with code {self.code}"
        known = -self.code in set(signal.Signals)
        return f"was killed by {signal.Signals(-self.code).name if known else f'signal {-self.code}'}"


def _telling_line(stderr: str) -> str:
    """The last line that calls itself an error, else the last."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [""])[-1].strip()


@attrs.frozen(kw_only=True)
class Graces:
    """Seconds that an agent gets: to heed an interrupt, to leave by itself once it is done, to heed SIGTERM."""

    interrupt: float = 10.0
    leave: float = 5.0
    terminate: float = 3.0


class Dialogue(Protocol[Heard]):
    """What an agent's lines mean and what is to be said. Its last happening is `Ended`; what it hears afterwards means nothing."""

    def open(self) -> Sequence[Deed]: ...

    def hear(self, line: Heard) -> Sequence[Deed]: ...

    def overhear(self, line: str) -> Sequence[Deed]:
        """A line of its standard error."""

    def interrupt(self) -> Sequence[Deed]:
        """Asked to stop; called again while the agent does not heed it."""

    def answer(self, approval: str, *, allow: bool, message: str) -> Sequence[Deed]:
        """Raises NotFound."""

    def lose(self, death: Death) -> Sequence[Happening]:
        """The program is gone before the dialogue was over."""
