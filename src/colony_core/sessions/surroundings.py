"""Where an agent works: what it finds in its environment, and how its programs are started in the colony."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from colony_core.backends import Command, Program, Starter
from colony_core.colonies import PROXY_VARIABLES, Colony, Running, read_env_files, run_command
from colony_core.errors import ColonyError
from colony_core.processes import Output
from colony_core.views import ExecRequest

DOTENV = ".env"
KEYS = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CONFIG_DIR",
        "CODEX_HOME",
        "DISABLE_AUTOUPDATER",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOSE_MODEL",
        "GOOSE_PROVIDER",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENROUTER_API_KEY",
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
    }
)
"""What an agent may find of its user's environment besides what every process gets: its keys, and the ways to its model."""
CLOUDS: Mapping[str, frozenset[str]] = {
    "CLAUDE_CODE_USE_BEDROCK": frozenset(
        {
            "ANTHROPIC_BEDROCK_BASE_URL",
            "AWS_ACCESS_KEY_ID",
            "AWS_BEARER_TOKEN_BEDROCK",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
        }
    ),
    "CLAUDE_CODE_USE_VERTEX": frozenset(
        {
            "ANTHROPIC_VERTEX_BASE_URL",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "CLOUD_ML_REGION",
            "GOOGLE_APPLICATION_CREDENTIALS",
        }
    ),
}
"""What it may find as well where its model is at a cloud: those keys open much else, and are nobody's to hand out otherwise."""


def agent_environment(environ: Mapping[str, str], *, beneath: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is passed on to agents of an environment; everything else may be a secret that is none of theirs.

    Which cloud the model is at may also be said in what lies `beneath`, never the other way round: a project's file does not open
    the keys of whoever runs the daemon.
    """
    told = {**(beneath or {}), **environ}
    clouds = [names for flag, names in CLOUDS.items() if told.get(flag, "0").lower() not in ("", "0", "false")]
    return {name: value for name, value in environ.items() if name in KEYS.union(*clouds)}


async def environment_of(colony: Colony, base: Mapping[str, str]) -> dict[str, str]:
    """What a colony's agent finds: of the daemon's environment, and over it of the `.env` in its workspace, what agents may find.

    Read anew for each run and handed to the agent alone; nobody keeps it.
    """
    found = agent_environment(base)
    if colony.means.isolation.egress.proxied:  # the proxy of the daemon's own surroundings is not reached from inside
        found = {name: value for name, value in found.items() if name.lower() not in PROXY_VARIABLES}
    if await trio.Path(colony.source, DOTENV).is_file():
        with_dotenv = await trio.to_thread.run_sync(_dotenv, Path(colony.source))
        found |= agent_environment(with_dotenv, beneath=found)
    return found


def _dotenv(folder: Path) -> dict[str, str]:
    try:
        return read_env_files(folder, [DOTENV])
    except (ColonyError, OSError):
        return {}  # a file that others read in ways of their own


def asked_in(colony: Colony, base: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a backend is asked whether it works. The daemon asks, outside of every wall and in its own name.

    So nothing that a project says has a part in it: its PATH or LD_PRELOAD would decide what the daemon runs.
    """
    return dict(colony.means.base_environment) | agent_environment(base)


def starter(colony: Colony) -> Starter:
    """Starts an agent's programs in the colony: in its cell, its folder, its user's name."""

    @asynccontextmanager
    async def start(command: Command) -> AsyncIterator[Program]:
        request = ExecRequest(command=command.argv, env=dict(command.env))
        async with run_command(colony, request, label="agent") as running:
            yield _Started(running)

    return start


@attrs.frozen
class _Started:
    _running: Running

    @property
    def stdin(self) -> trio.abc.SendStream:
        return self._running.stdin

    @property
    def stdout(self) -> Output:
        return self._running.stdout

    @property
    def stderr(self) -> Output:
        return self._running.stderr

    async def wait(self) -> int:
        return await self._running.wait()

    async def signal(self, number: signal.Signals) -> None:
        await self._running.process.signal(number)
