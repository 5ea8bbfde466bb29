"""Where the contract of the backends is played: each backend says how its agent is brought to do what a test wants."""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from colony_cli import hld_daemon
from colony_core.backends import (
    AgentConfig,
    ApprovalAsked,
    Backend,
    ClaudeBackend,
    Ended,
    FakeBackend,
    Graces,
    Happening,
    HldBackend,
    HldLine,
    Job,
    Pause,
    Run,
    ScriptBackend,
    Text,
    ToolResult,
    ToolUse,
    hld_place,
)
from colony_core.backends.acp import AcpBackend
from colony_core.backends.fake import Line

from . import claude_script as claude
from .fake_model import open_fake_model
from .programs import Programs

QUICK = Graces(interrupt=1.0, leave=1.0, terminate=1.0)
"""For agents that are deaf: to wait for them is in vain."""
PATIENT = Graces(interrupt=120.0, leave=120.0)
"""For agents that do as they are asked, on a machine that may be slow."""
DEADLINE_SECONDS = 300.0


@attrs.define
class Stage:
    """A backend with what it needs; `scenes` are instructions that make its agent do something by name:

    `speaks` says hello and is done; `speaks_on` speaks and does not end; `works_on` uses a tool that does not end; `asks` asks once,
    then is done; `begins` takes long before it tells anything; `dies` is killed after it said `boom` where errors go.
    """

    backend: Backend
    programs: Programs
    scenes: Mapping[str, str]
    tells_outcomes: bool = True
    """Whether the agent says if a tool succeeded."""
    tells_reasons: bool = True
    """Whether the agent hears why something was denied: not every protocol has a place for it."""

    def job(self, scene: str, **more: Any) -> Job:
        config = AgentConfig(permissions="ask")
        given = {"colony": "test", "workdir": self.programs.workdir, "config": config, "start": self.programs.start}
        return Job(instruction=self.scenes[scene], **{**given, **more})

    async def play(self, scene: str, act: "Act | None" = None, **more: Any) -> list[Happening]:
        """All that happens; `act` is done at each."""
        with trio.fail_after(DEADLINE_SECONDS):
            async with self.backend.run(self.job(scene, **more)) as run:
                return await follow(run, act)


Act = Callable[[Run, Happening], Any]
Opener = Callable[[Path], AbstractAsyncContextManager[Stage]]


async def follow(run: Run, act: Act | None = None) -> list[Happening]:
    found = []
    async for happening in run.happenings():
        found.append(happening)
        if act is not None:
            await act(run, happening)
    return found


def make_programs(folder: Path, variables: Mapping[str, str] | None = None) -> Programs:
    workdir, home = folder / "work", folder / "home"
    workdir.mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    return Programs(workdir, home, variables or {})


@contextlib.asynccontextmanager
async def open_fake(folder: Path) -> AsyncIterator[Stage]:
    asked = ApprovalAsked(id="q1", tool="Bash", input={"command": "ls"}, kind="execute", tool_use="t1")
    parts: dict[str, tuple[Line, ...]] = {
        "speaks": (Text(text="hello"), Ended(outcome="done", text="hello")),
        "speaks_on": (Text(text="well"), Pause(1000)),
        "works_on": (ToolUse(id="t1", name="Bash", input={}), Pause(1000)),
        "asks": (ToolUse(id="t1", name="Bash", input={}), asked, ToolResult(id="t1", text="a.txt", ok=True)),
        "begins": (Pause(1000),),
    }
    backend = FakeBackend(part=lambda job: parts[job.instruction])
    yield Stage(backend, make_programs(folder), {scene: scene for scene in parts})


@contextlib.asynccontextmanager
async def open_script(folder: Path) -> AsyncIterator[Stage]:
    scenes = {
        "speaks": "echo hello",
        "speaks_on": "echo well; exec sleep 1000",
        "works_on": "echo working; sleep 1000; echo worked",
        "begins": "sleep 1000",
        "dies": "echo boom >&2; kill -9 $$",
    }
    yield Stage(ScriptBackend(graces=PATIENT), make_programs(folder), scenes)


@contextlib.asynccontextmanager
async def open_scripted_claude(folder: Path) -> AsyncIterator[Stage]:
    scenes: dict[str, list[dict[str, Any]]] = {
        "speaks": [{"print": claude.text("hello")}, {"print": claude.result("hello")}],
        "speaks_on": [{"print": claude.text("well")}, {"listen": True}],
        "works_on": [{"print": claude.tool("Bash", {"command": "sleep 1000"})}, {"listen": True}],
        "asks": [{"print": claude.tool("Bash", {"command": "ls"})}, {"ask": "Bash"}],
        "begins": [{"sleep": 1000}],
        "dies": [{"stderr": "boom"}, {"die": signal.SIGKILL}],
    }
    backend = ClaudeBackend(program=scripted_claude(folder), graces=QUICK)
    yield Stage(backend, make_programs(folder), {scene: json.dumps(steps) for scene, steps in scenes.items()})


def scripted_claude(folder: Path) -> str:
    """An executable that runs `claude_script`."""
    program = folder / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {claude.__file__} "$@"\n')
    program.chmod(0o755)
    return str(program)


@contextlib.asynccontextmanager
async def open_real_claude(folder: Path) -> AsyncIterator[Stage]:
    def said(*steps: dict[str, Any]) -> str:
        return f"FAKE:{json.dumps(steps)}"

    scenes = {
        "speaks": said({"text": "hello"}),
        "speaks_on": said({"text": "well, " * 10_000, "chunk_delay": 0.05}),
        "works_on": said({"tool": "Read", "input": {"file_path": "/dev/null"}}, {"delay": 1000}),
        "asks": said({"tool": "Bash", "input": {"command": "touch asked"}}, {"text": "done"}),
        "begins": said({"delay": 1000}),
    }
    with open_fake_model() as model:
        backend = ClaudeBackend(program=real_claude(), graces=PATIENT)
        yield Stage(backend, make_programs(folder, model_variables(model.url)), scenes)


@contextlib.asynccontextmanager
async def open_scripted_acp(folder: Path) -> AsyncIterator[Stage]:
    tool = {"toolCallId": "t1", "kind": "execute", "_meta": {"claudeCode": {"toolName": "Bash"}}}
    used = {"update": {"sessionUpdate": "tool_call", **tool}}
    scenes: dict[str, list[dict[str, Any]]] = {
        "speaks": [{"say": "hello"}],
        "speaks_on": [{"say": "well"}, {"wait_cancel": True}],
        "works_on": [used, {"orphan": True}, {"wait_cancel": True}],
        "asks": [{"ask": tool, "result": True}],
        "begins": [{"hang": True}],
        "dies": [{"stderr": "boom"}, {"signal": signal.SIGKILL}],
    }
    backend = AcpBackend((sys.executable, "-S", str(Path(__file__).with_name("fake_acp.py"))), graces=QUICK)
    said = {scene: json.dumps(steps) for scene, steps in scenes.items()}
    yield Stage(backend, make_programs(folder), said, tells_reasons=False)


@contextlib.asynccontextmanager
async def open_real_acp(folder: Path) -> AsyncIterator[Stage]:
    async with open_real_claude(folder) as stage:
        variables = {**stage.programs.variables, "CLAUDE_CODE_EXECUTABLE": real_claude()}
        programs = attrs.evolve(stage.programs, variables=variables)
        yield Stage(AcpBackend((real_adapter(),), graces=PATIENT), programs, stage.scenes, tells_reasons=False)


@contextlib.asynccontextmanager
async def open_real_hld(folder: Path) -> AsyncIterator[Stage]:
    async with open_real_claude(folder) as stage:
        environ = {**stage.programs.variables, "HOME": str(stage.programs.home), "HUMANLAYER_DAEMON_HTTP_PORT": "0"}
        place = hld_place(environ)
        hld_daemon.prepare(place)
        path = f"{os.environ['PATH']}:{place.folder / 'tools'}"
        variables = {**environ, "PATH": path, "HUMANLAYER_CLAUDE_PATH": real_claude()}
        backend = HldBackend(HldLine(place.socket))
        program = os.environ.get("COLONY_HLD") or shutil.which("hld") or "hld"

        def answers() -> bool:
            return place.socket.exists()

        process = await trio.to_thread.run_sync(partial(hld_daemon.start, program, place, variables, answers=answers))
        try:
            yield Stage(backend, stage.programs, stage.scenes, tells_outcomes=False)
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(process.wait)


def real_adapter() -> str:
    """The adapter between ACP and Claude Code; the mark `acp` sees to it that there is one."""
    return os.environ.get("COLONY_TESTS_ACP") or shutil.which("claude-agent-acp") or "claude-agent-acp"


def real_claude() -> str:
    """The Claude Code of this machine; the mark `claude` sees to it that there is one."""
    return os.environ.get("COLONY_TESTS_CLAUDE") or shutil.which("claude") or "claude"


def model_variables(url: str) -> dict[str, str]:
    """What makes Claude Code talk to a model of ours, and to nobody else."""
    return {
        "ANTHROPIC_API_KEY": "dummy",
        "ANTHROPIC_BASE_URL": url,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
    }


STAGES: dict[str, tuple[Opener, frozenset[str]]] = {
    "fake": (open_fake, frozenset({"speaks", "speaks_on", "works_on", "asks", "begins", "resume"})),
    "script": (open_script, frozenset({"speaks", "speaks_on", "works_on", "begins", "dies", "resume"})),
    "scripted-claude": (
        open_scripted_claude,
        frozenset({"speaks", "speaks_on", "works_on", "asks", "begins", "dies", "resume"}),
    ),
    "scripted-acp": (
        open_scripted_acp,
        frozenset({"speaks", "speaks_on", "works_on", "asks", "begins", "dies", "resume"}),
    ),
    "acp": (open_real_acp, frozenset({"speaks", "speaks_on", "works_on", "asks", "begins", "resume"})),
    # it tells whole blocks only, and gives each run a session of its own
    "hld": (open_real_hld, frozenset({"speaks", "works_on", "asks", "begins"})),
    "claude": (open_real_claude, frozenset({"speaks", "speaks_on", "works_on", "asks", "begins", "resume"})),
}
"""Each backend that the contract holds for, and the scenes that it has."""

MARKS: dict[str, tuple[pytest.MarkDecorator, ...]] = {
    "claude": (pytest.mark.claude,),
    "acp": (pytest.mark.acp,),
    "hld": (pytest.mark.hld, pytest.mark.claude),
}


def stages(*scenes: str) -> Any:
    """Runs a test on each stage that has these scenes."""
    names = [name for name, (_, has) in STAGES.items() if has.issuperset(scenes)]
    return pytest.mark.parametrize(
        "stage", [pytest.param(name, marks=MARKS.get(name, ())) for name in names], indirect=True
    )
