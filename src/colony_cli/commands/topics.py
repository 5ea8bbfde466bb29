"""`colony help`: what is true of every command."""

import click

from colony_cli.context import Run
from colony_cli.exits import EXCEPTIONS, TABLE
from colony_cli.forms import Nearest, command
from colony_cli.tables import Cell, Column
from colony_cli.tree import TOPICS

CONCEPTS = """\
colony     services from a folder's colony.toml, behind network walls of their own: a namespace, an address, routes.
           Two colonies may use the same ports. Each is seen at http://<service>.<name>.colony.localhost:8088.
service    a command of a colony. Its owner starts it again when it falls, up to a limit that is its own.
daemon     `colony serve`. It watches; it may be killed and started again, and everything goes on.
keeper     a small process that holds the services and their logs while the daemon is away.
event      something that happened; each has a number that never comes twice.

States of a colony: spawning, provisioning, building, running, stopping, stopped, failed.
States of a service: waiting, starting, ready, restarting, stopping, stopped, finished, failed.
"Stop" ends and keeps; "remove" deletes.

A name may be shortened to an unambiguous beginning on a terminal, but not for rm. An id works wherever a name does."""

ENVIRONMENT = """\
COLONY_SERVER    the daemon: unix:/path/colony.sock, http://127.0.0.1:8000 or, behind a front with TLS, https://colony.example.org
                 (default: the socket in the run folder)
COLONY_TOKEN     the key for an http:// or https:// server (default: for this machine the one that the local daemon left in its run folder)
COLONY_CA_FILE   for an https:// server: a file (PEM) of the authorities that its certificate is held to (default: the system's)
COLONY_CONFIG    the settings file (default: ~/.config/colony/config.toml)
COLONY_<SECTION>__<KEY>   one setting, such as COLONY_ROUTING__PORT=8090
COLONY_STATE     the state folder (default: ~/.local/state/colony); the run folder is then `run` in it
COLONY_RUN       the run folder (default: $XDG_RUNTIME_DIR/colony, /run/colony for root)
COLONY_HLD       the program of HumanLayer's daemon (default: hld on PATH)
COLONY_ASCII     1 draws without other characters
NO_COLOR         non-empty: no colours
FORCE_COLOR      non-empty: colours, also without a terminal
TERM=dumb        no colours, no moving lines"""

FORMATTING = """\
On a terminal results are tables, cut to its width; --wide does not cut.
Without one they are fields between tabs: never cut, no colours, states as bare words.

--json      one object or array per result; logs and events: one object per line. Fields are only ever added.
            Errors are {"error": {"code", "message", "hint"}} on stderr, and stdout stays empty.
-q          names only.
--format    such as '{name}\\t{state}'; {services.0.url} goes inside; {{ is a brace.
Times are relative for people, RFC 3339 in UTC in JSON.

Results go to stdout; progress, warnings, hints and errors to stderr."""


@command(
    "help",
    takes=frozenset({"json"}),
    examples=tuple(f"colony help {topic}" for topic in TOPICS),
    see=("colony COMMAND -h",),
)
@click.argument("topic", type=Nearest(TOPICS), required=False)
@click.pass_context
def help_command(ctx: click.Context, run: Run, topic: str | None) -> None:
    """Explain what holds for every command: concepts, environment, exit-codes, formatting."""
    if topic == "exit-codes":
        _exit_codes(run)
    elif run.output.json:
        run.output.value({"topic": topic, "text": _texts()[topic] if topic else "", "topics": list(TOPICS)})
    elif topic:
        run.output.line(_texts()[topic])
    else:
        run.output.line(ctx.find_root().get_help().rstrip())
        run.output.line(f"\nhelp topics: {', '.join(TOPICS)}")


def _exit_codes(run: Run) -> None:
    if run.output.json:
        run.output.value([row._asdict() for row in TABLE])
        return
    columns = [Column("CODE", right=True, whole=True), Column("WORD", whole=True), Column("WHEN")]
    run.output.table(columns, [[Cell(str(row.code)), Cell(row.word), Cell(row.meaning)] for row in TABLE])
    if run.output.terminal:
        run.output.lines(["", *EXCEPTIONS])


def _texts() -> dict[str, str]:
    return {"concepts": CONCEPTS, "environment": ENVIRONMENT, "formatting": FORMATTING}
