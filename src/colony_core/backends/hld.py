"""HumanLayer's daemon (hld), which runs Claude Code itself and tells about it over a Unix socket.

Its makers have given it up (docs/backends.md); what it does not tell is asked for. It, not we, holds the agent's process: a run that is
left is interrupted there.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from colony_core.errors import ColonyError

from .backend import Health, Job, Run
from .deeds import Graces
from .hld_line import HldLine, hld_place
from .hld_run import HldRun
from .hld_story import check_settings, model_of
from .jsonrpc import RpcError
from .loose import as_text
from .telling import carrying_out

CHECK_SECONDS = 5.0


class HldBackend:
    """The daemon behind `line`, else the one whose place our own environment names: it is of this user, whoever a colony's user is."""

    name = "hld"
    remembers = True
    uncounted = frozenset({"tokens"})

    def __init__(self, line: HldLine | None = None, *, graces: Graces | None = None) -> None:
        self._line = line
        self._graces = graces or Graces()

    async def check(self, environment: Mapping[str, str]) -> Health:
        """Asks the daemon for its health, which says nothing of Claude Code's. What colonies have in their environment moves no daemon."""
        line = self._line or HldLine(hld_place(os.environ).socket)
        try:
            said = await line.call("health", CHECK_SECONDS)
        except ColonyError as error:
            return Health(ready=False, detail=error.message, hint=error.hint)
        except RpcError as error:
            return Health(
                ready=False, detail=f"hld refused to tell its health: {error.message}", hint="look at its log"
            )
        if said.get("status") != "ok":
            return Health(
                ready=False,
                detail=f"hld says that it is {as_text(said.get('status')) or 'not well'}",
                hint="look at its log",
            )
        return Health(ready=True, detail=f"its daemon answers at {line.socket}", version=as_text(said.get("version")))

    @asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Run]:
        """As `Backend.run`. Raises Unreachable (`hld-not-running`), Invalid (`hld-model`, `setting-refused`)."""
        line = self._line or HldLine(hld_place(os.environ).socket)
        check_settings(job)
        model_of(job.config.model)
        health = await line.call("health", CHECK_SECONDS)
        run = HldRun(line, job, self._graces, as_text(health.get("version")))
        async with carrying_out(run):
            yield run
