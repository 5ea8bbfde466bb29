"""Claude Code without a head: one process per run, in dialogue mode, so that it can be interrupted and asks before it acts."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping

import attrs
import trio

from colony_core import wire
from colony_core.errors import Invalid

from .backend import AgentConfig, Command, Health, Job, McpServer, Permissions, Run
from .claude_lines import ClaudeDialogue, kind_of
from .deeds import Graces
from .driver import open_run
from .lines import JsonLines

INSTALL = "npm install -g @anthropic-ai/claude-code"
PLACES = (".local/bin", ".claude/local", ".npm-global/bin", ".bun/bin")
"""Where its installers put it, below a home; login shells look there, services of a machine do not."""
VERSION_SECONDS = 30.0
"""On a machine that is busy with other agents a program takes long to be there."""
LEAST_USD = 0.000_001
"""A budget of nothing is refused by Claude Code; this one ends with the first answer."""
ARGUMENT_BYTES = 120 * 1024
"""The kernel takes no longer words than 128 KiB (MAX_ARG_STRLEN)."""

_MODES: Mapping[Permissions, str] = {"ask": "default", "edits": "acceptEdits", "all": "default"}


@attrs.frozen(kw_only=True)
class ClaudeBackend:
    """Claude Code, found as `program` on the colony's PATH."""

    program: str = "claude"
    graces: Graces = attrs.field(factory=Graces)
    name: str = "claude"
    remembers: bool = True
    uncounted: frozenset[str] = frozenset()

    async def check(self, environment: Mapping[str, str]) -> Health:
        found = shutil.which(self.program, path=environment.get("PATH", ""))
        if found is None:
            return self._missing(environment.get("HOME", "/"))
        said, code = b"", None
        with trio.move_on_after(VERSION_SECONDS):
            try:
                done = await trio.run_process(
                    [found, "--version"], env=environment, capture_stdout=True, capture_stderr=True, check=False
                )
            except OSError as error:
                return Health(ready=False, detail=f"{found} cannot be started: {error.strerror}", hint=INSTALL)
            said, code = done.stdout or done.stderr, done.returncode
        text = said.decode(errors="replace").strip()[:200]
        if code is None:
            return Health(
                ready=False, detail=f"{found} did not tell its version within {VERSION_SECONDS:.0f} s", hint=INSTALL
            )
        if code != 0:
            return Health(ready=False, detail=f"{found} --version ended with code {code}: {text}", hint=INSTALL)
        return Health(ready=True, detail=found, version=text.split(" ")[0])

    def _missing(self, home: str) -> Health:
        for place in PLACES:
            if shutil.which(self.program, path=os.path.join(home, place)):
                where = os.path.join(home, place)
                return Health(
                    ready=False,
                    detail=f"{self.program} is in {where}, which is not on PATH",
                    hint=f"PATH={where}:$PATH",
                )
        return Health(ready=False, detail=f"no {self.program} on PATH", hint=INSTALL)

    @contextlib.asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Run]:
        dialogue = ClaudeDialogue(job.instruction, may=permit(job.config, job.mcp_servers))
        async with (
            job.start(command_of(job, self.program)) as program,
            open_run(program, dialogue, JsonLines, self.graces) as run,
        ):
            yield run


def command_of(job: Job, program: str = "claude") -> Command:
    """How Claude Code is started for a job. Nothing secret stands in its words: what tool servers shall know goes by variables.

    Raises Invalid for a prompt that is too long for a command line.
    """
    config = job.config
    servers, variables = _servers(job.mcp_servers)
    tools = tools_of(config.allowed_tools)
    granted = [*tools.patterns, *(f"mcp__{server.name}" for server in job.mcp_servers)]
    options = {
        "--permission-mode": _MODES[config.permissions],
        "--model": config.model,
        "--max-turns": str(config.max_turns) if config.max_turns else None,
        "--max-budget-usd": f"{max(job.cost_limit, LEAST_USD):.6f}" if job.cost_limit is not None else None,
        "--tools": ",".join(tools.names) if tools.only else None,
        "--allowedTools": ",".join(granted) or None,
        "--disallowedTools": ",".join(config.disallowed_tools) or None,
        "--system-prompt": config.system_prompt,
        "--append-system-prompt": config.append_system_prompt,
        "--mcp-config": servers,
        "--resume": job.resume,
    }
    words = [f"{option}={value}" for option, value in options.items() if value is not None]
    for word in words:
        if len(word.encode()) > ARGUMENT_BYTES:
            name = word.split("=", 1)[0].removeprefix("--")
            raise Invalid(
                "argument-too-long", f"the {name} is longer than {ARGUMENT_BYTES} bytes", "put it into CLAUDE.md"
            )
    argv = (program, "-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose")
    always = ("--include-partial-messages", "--permission-prompt-tool=stdio")
    return Command(argv=(*argv, *always, *words), env={"DISABLE_AUTOUPDATER": "1", **job.environment, **variables})


def permit(config: AgentConfig, servers: tuple[McpServer, ...] = ()) -> Callable[[str], bool | None]:
    """Answers for a person, where Claude Code asks and the configuration has the answer: None where a person must be asked."""
    tools = tools_of(config.allowed_tools)
    ours = tuple(f"mcp__{server.name}__" for server in servers)

    def may(tool: str) -> bool | None:
        if tool.startswith(ours):
            return True
        if tools.only and tool not in tools.whole:
            return False
        if kind_of(tool) == "question":
            return None
        return True if config.permissions == "all" else None

    return may


@attrs.frozen
class Tools:
    """A list of allowed tools. `Bash(git *)` is a pattern: the tool is there, but may no more than that."""

    only: bool
    names: tuple[str, ...] = ()
    whole: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()


def tools_of(allowed: tuple[str, ...] | None) -> Tools:
    """A list of allowed tools, taken apart; None: there is none."""
    if allowed is None:
        return Tools(only=False)
    names = tuple(dict.fromkeys(tool.split("(", 1)[0] for tool in allowed))
    return Tools(
        only=True,
        names=names,
        whole=frozenset(tool for tool in allowed if "(" not in tool),
        patterns=tuple(tool for tool in allowed if "(" in tool),
    )


def _servers(servers: tuple[McpServer, ...]) -> tuple[str | None, dict[str, str]]:
    """The tool servers as `--mcp-config` wants them, and variables for what shall not be read as its words are.

    Values may be secret, and Claude Code puts variables in place of `${…}` anywhere; once, so that a variable protects what it holds.
    """
    variables: dict[str, str] = {}

    def held(value: str) -> str:
        name = f"COLONY_MCP_{len(variables)}"
        variables[name] = value
        return f"${{{name}}}"

    found = {
        server.name: {
            "command": server.command[0],
            "args": [held(word) if "${" in word else word for word in server.command[1:]],
            "env": {name: held(value) for name, value in server.env.items()},
        }
        for server in servers
    }
    return (wire.dump_json({"mcpServers": found}).decode() if found else None), variables
