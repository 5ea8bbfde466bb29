"""Stands where `claude` stands for HumanLayer's daemon: runs the real one inside the colony whose folder this is.

`python -m colony_cli.inside TOOLS ARGUMENTS…`. Its output, input and exit code pass through; when this process is interrupted or dies, the
colony's keeper ends the agent with everything that it started. Questions about versions are answered outside, for they have no colony.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from colony_core.errors import ColonyError, Missing

from .context import Run
from .output import standard_output

PASSED_ON = ("ANTHROPIC_", "CLAUDE_", "HUMANLAYER_", "DISABLE_", "IS_SANDBOX", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""How the variables begin that an agent gets of the daemon's environment; its own paths and secrets of others stay outside."""
IN_COLONY = 'PATH="$PATH:$0"; export PATH; exec claude "$@"'
"""Tools of ours come last on the colony's PATH, so that an `hlyr` that is installed is taken."""


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs Claude Code with `words`, of which the first is the folder of our tools."""
    tools, *arguments = words
    if arguments == ["--version"]:
        return _outside(arguments, environ)
    run = Run(standard_output(environ), environ)
    try:
        name = run.here()
        view = run.ask(run.calls.colony(name))
        import trio

        from colony_core.views import ExecRequest

        from .commands.terminals import run_in_colony

        request = ExecRequest(
            command=("/bin/sh", "-c", IN_COLONY, tools, *arguments), cwd=os.getcwd(), env=passed_on(environ)
        )
        code = trio.run(partial(run_in_colony, run, view["id"], request))
    except ColonyError as error:
        print(f"colony: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code if code >= 0 else 128 - code


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What the agent gets of the daemon's environment; which program is Claude Code is the colony's affair."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(PASSED_ON) and name != "HUMANLAYER_CLAUDE_PATH"
    }


def _outside(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    import shutil

    found = shutil.which("claude", path=environ.get("PATH"))
    if found is None:
        print(f"colony: {Missing('claude-missing', 'there is no claude on PATH')}", file=sys.stderr)
        return 127
    # It takes our place, so that hld's signals reach it; a shell between would read its words again.
    return os.execve(found, [found, *arguments], dict(environ))  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
