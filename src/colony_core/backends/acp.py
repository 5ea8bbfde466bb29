"""Any agent that speaks the Agent Client Protocol, version 1, on its standard streams."""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from colony_core.errors import ColonyError, Missing

from .acp_agents import AGENTS
from .acp_ends import failure_of
from .acp_talk import Hello, Talk, initialize
from .backend import Command, Health, Job, Program, Run
from .deeds import Graces
from .happenings import Ended, Happening
from .jsonrpc import Peer, Request, RpcError
from .lines import Tail
from .telling import Telling, carrying_out

EXIT_SECONDS = 2.0
CHECK_SECONDS = 30.0
"""On a machine that is busy with other agents a program takes long to be there."""
_BY_HAND = "run it by hand and see what it says"


class AcpBackend:
    """Runs the agent of `command`, or else the first that is installed of those that we know."""

    name = "acp"
    remembers = True
    uncounted = frozenset({"turns"})

    def __init__(self, command: Sequence[str] = (), *, graces: Graces | None = None) -> None:
        self._command = tuple(command)
        self._graces = graces or Graces()

    async def check(self, environment: Mapping[str, str]) -> Health:
        """Starts the agent and lets it introduce itself; the process is gone when this returns."""
        try:
            argv = self._found(environment.get("PATH"))
        except Missing as error:
            return Health(ready=False, detail=error.message, hint=error.hint)
        what = " ".join((os.path.basename(argv[0]), *argv[1:]))
        try:
            with trio.fail_after(CHECK_SECONDS):
                hello = await _introduced(argv, environment)
        except trio.TooSlowError:
            trouble = f"did not introduce itself in {CHECK_SECONDS:.0f} s"
        except OSError as error:
            trouble = f"does not start: {error.strerror}"
        except ColonyError as error:
            trouble = error.message
        except RpcError as error:
            trouble = failure_of(error).text
        else:
            return Health(ready=True, detail=f"{what} ({hello.agent} {hello.version})", version=hello.version)
        return Health(ready=False, detail=f"{what}: {trouble}", hint=_BY_HAND)

    @asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Run]:
        """As `Backend.run`. Raises Missing where no agent is installed."""
        argv = self._found(job.environment.get("PATH") or os.environ.get("PATH"))
        async with job.start(Command(argv=argv, env=job.environment)) as program:
            run = _Run(job, program, self._graces)
            async with carrying_out(run):
                yield run

    def _found(self, path: str | None) -> tuple[str, ...]:
        """The command, with the place where its program lies."""
        for argv in (self._command,) if self._command else AGENTS.values():
            place = shutil.which(argv[0], path=path)
            if place is not None:
                return (place, *argv[1:])
        if self._command:
            raise Missing(
                "agent-missing", f"there is no {self._command[0]} on PATH", "install it, or mend agent.acp_command"
            )
        known = ", ".join(argv[0] for argv in AGENTS.values())
        raise Missing(
            "agent-missing",
            f"no agent that speaks ACP is on PATH ({known})",
            "npm install -g @agentclientprotocol/claude-agent-acp, or name your agent's command in agent.acp_command",
        )


class _Run:
    """One process, one session, one prompt."""

    def __init__(self, job: Job, program: Program, graces: Graces) -> None:
        self._program = program
        self._graces = graces
        self._telling = Telling()
        self._errors = Tail()
        self._errors_read = trio.Event()
        self._talk = Talk(job, self._telling, program.stdout, program.stdin)
        self._heeding = trio.CancelScope()
        self._asked_to_stop = False
        self._over = False

    def happenings(self) -> AsyncIterator[Happening]:
        """As `Run.happenings`."""
        return self._telling

    async def interrupt(self) -> None:
        """As `Run.interrupt`. Before the prompt there is nobody to ask, and the agent is let go at once."""
        if self._asked_to_stop or self._over:
            return
        self._asked_to_stop = True
        if not self._talk.prompting:
            self._heeding.cancel()
            return
        self._heeding.deadline = trio.current_time() + self._graces.interrupt
        with trio.move_on_after(self._graces.interrupt):
            await self._talk.stop()

    async def answer(self, approval: str, *, allow: bool, message: str = "") -> None:
        """As `Run.answer`; the protocol has no place for the message. Raises Invalid where the agent left no such choice."""
        self._talk.answer(approval, allow=allow)
        await trio.lowlevel.checkpoint()

    async def carry_out(self) -> None:
        """As `Carried.carry_out`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_errors)
            nursery.start_soon(self._talk.peer.run)
            nursery.start_soon(self._notice_death)
            ended: Ended | None = None
            with self._heeding:
                ended = await self._talk.converse()
            self._over = True
            if ended is None:
                await self._see_off()
            self._telling.end(await self._judged(ended))
            await self._see_off()
            nursery.cancel_scope.cancel()

    async def leave(self) -> None:
        """As `Carried.leave`."""
        self._telling.leave()
        await self.interrupt()

    async def _read_errors(self) -> None:
        await self._errors.drain(self._program.stderr)
        self._errors_read.set()

    async def _notice_death(self) -> None:
        """Others may hold on to the output of an agent that is dead. What it said is heeded however long a slow reader takes."""
        await self._program.wait()
        self._program.stdout.end_soon()
        self._program.stderr.end_soon()

    async def _judged(self, ended: Ended | None) -> Ended:
        """The end as it counts: what we asked for is `stopped`, and a death is shown with its last words."""
        if ended is None:
            return Ended(outcome="stopped", evidence=("it was asked to stop and ended by force",))
        if self._asked_to_stop:
            return attrs.evolve(ended, outcome="stopped", code="", evidence=("it was asked to stop", *ended.evidence))
        if ended.code != "agent-died":
            return ended
        evidence = list(ended.evidence)
        with trio.move_on_after(EXIT_SECONDS):
            code = await self._program.wait()
            evidence.append(f"exit {code}" if code >= 0 else f"killed by {_signal_name(-code)}")
            await self._errors_read.wait()  # others may hold on to it
        evidence += [f"stderr: {self._errors.text[-500:]}"] if self._errors.text else []
        evidence += [f"stdout: {line}" for line in self._talk.peer.noise]
        return attrs.evolve(ended, evidence=tuple(evidence))

    async def _see_off(self) -> None:
        """Lets the agent go: its input ends, and what does not leave is told to, and made to."""
        with trio.move_on_after(self._graces.leave):
            await self._program.stdin.aclose()
            await self._program.wait()
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            await self._program.signal(number)
            with trio.move_on_after(self._graces.terminate):
                await self._program.wait()
                return


async def _introduced(argv: Sequence[str], environment: Mapping[str, str]) -> Hello:
    """What the agent says of itself; its processes are gone afterwards. Raises OSError, Invalid, LineLost, RpcError."""

    async def deaf(request: Request) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def ignoring(method: str, params: object) -> None:
        await trio.lowlevel.checkpoint()

    process = await trio.lowlevel.open_process(
        argv,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        peer = Peer(process.stdout, process.stdin, asked=deaf, told=ignoring)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            try:
                hello = await initialize(peer)
            except (ColonyError, RpcError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # it holds this frame
        return hello
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
