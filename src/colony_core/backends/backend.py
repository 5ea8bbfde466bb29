"""What a coding agent must do for us: take an instruction, tell what it does, be interrupted, ask and be answered.

One run is one instruction from its launch to its `Ended`. A conversation goes on in a new run that names the vendor's session
(`Job.resume`), so that nothing depends on a process that lived in between: neither a restart of the daemon nor a crash of the agent.
"""

import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

import attrs
import trio

from colony_core.processes import Output

from .happenings import Happening

Permissions = Literal["ask", "edits", "all"]
"""What goes without asking a person: what the agent itself thinks harmless, also edits in its workspace, everything."""


@attrs.frozen(kw_only=True)
class AgentConfig:
    """How an agent shall work. None means: as the backend does by itself."""

    model: str | None = "sonnet"
    max_turns: int | None = 50
    allowed_tools: tuple[str, ...] | None = None
    """Only these tools; None: all."""
    disallowed_tools: tuple[str, ...] = ()
    system_prompt: str | None = None
    append_system_prompt: str | None = None
    permissions: Permissions = "edits"


@attrs.frozen(kw_only=True)
class McpServer:
    """A tool server that the agent shall start, speaking MCP on its standard streams."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class Command:
    """A program to start in the colony: its words, and variables beside those that the colony's processes get anyway."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)


class Program(Protocol):
    """A program at work in the colony, with pipes. Its whole tree is gone when the block that started it ends."""

    @property
    def stdin(self) -> trio.abc.SendStream: ...

    @property
    def stdout(self) -> Output: ...

    @property
    def stderr(self) -> Output: ...

    async def wait(self) -> int:
        """The exit code; negative for a signal."""

    async def signal(self, number: signal.Signals) -> None:
        """Signals the main process; nothing when it has ended."""


Starter = Callable[[Command], AbstractAsyncContextManager[Program]]
"""Starts a program in the colony: in its cell, its workspace, its user's name, with an allow-listed environment. Raises ColonyError.

What is left of its tree when it ends is told to end, and gets a moment: an agent behind an adapter writes its session down then.
"""


@attrs.frozen(kw_only=True)
class Job:
    """One instruction for an agent."""

    colony: str
    instruction: str
    workdir: Path
    config: AgentConfig = attrs.field(factory=AgentConfig)
    start: Starter = attrs.field(repr=False)
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """What the agent's process gets besides the colony's own variables: keys of the user, addresses of models."""
    resume: str | None = None
    """The vendor's session to go on with."""
    mcp_servers: tuple[McpServer, ...] = ()
    cost_limit: float | None = None
    """USD that this run may cost, for backends that can stop by themselves; the daemon watches in any case."""


class Run(Protocol):
    """An agent at work."""

    def happenings(self) -> AsyncIterator[Happening]:
        """What it does, as it does it; the last one is `Ended`. For one reader. Cancelling the reader loses nothing but the reading."""

    async def interrupt(self) -> None:
        """Asks it to stop: returns when that is asked, `Ended` tells when it has. Twice is fine. A run that does not heed it is
        ended by force after a grace of the backend's."""

    async def answer(self, approval: str, *, allow: bool, message: str = "") -> None:
        """Answers a question of the agent's. Raises NotFound for one that is not open."""


@attrs.frozen(kw_only=True)
class Health:
    """Whether a backend can work on this machine, and what shows it."""

    ready: bool
    detail: str
    hint: str = ""
    version: str = ""


class Backend(Protocol):
    """A kind of coding agent."""

    @property
    def name(self) -> str: ...

    @property
    def remembers(self) -> bool:
        """Whether a session knows what was said in it. Where not, an instruction that was cut off is given again as it was."""
        return True

    @property
    def uncounted(self) -> frozenset[str]:
        """What it never tells, of `usd`, `tokens` and `turns`: no budget of that can hold."""
        return frozenset()

    async def check(self, environment: Mapping[str, str]) -> Health:
        """Whether it is here and answers, found out by asking it, within a few seconds. Never raises for what is missing."""

    def run(self, job: Job) -> AbstractAsyncContextManager[Run]:
        """Carries out an instruction. What the agent started is gone when the block ends, also when cancelled; a run that has not
        ended by then is stopped: first asked, then killed. Raises Missing, Unreachable, Invalid where it cannot even begin."""
