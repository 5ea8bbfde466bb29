"""Keys to the API for other machines and programs."""

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, Nearest, command
from colony_cli.tables import Cell, Column
from colony_cli.views import since
from colony_cli.words import clean


@command(
    "create",
    takes=ASKS | RESULT,
    examples=("colony token create laptop", "TOKEN=$(colony token create ci --role viewer)"),
    see=("colony token revoke",),
)
@click.argument("name")
@click.option(
    "--role", type=Nearest(("ape", "viewer")), default="ape", metavar="R", help="ape (all) or viewer (read only)"
)
def token_create_command(run: Run, name: str, *, role: str) -> None:
    """Make a key. The token is told this once; only its hash is kept."""
    view = run.ask(run.calls.mint_token(name, role=role))
    run.output.result(view, lambda: run.output.line(clean(view["token"])), name="token")
    if run.output.progress and run.tells_steps:
        run.output.note(f"this token is told once; it ends with: colony token revoke {clean(view['id'])}")


@command("ls", takes=ASKS | TABLE, examples=("colony token ls",), see=("colony token revoke",))
def token_ls_command(run: Run) -> None:
    """List the keys, without their secrets."""
    views = run.ask(run.calls.tokens())

    def table() -> None:
        if not views:
            run.output.note(
                "No keys. Programs of this user need none: they use the socket.\n  colony token create NAME"
            )
            return
        columns = [
            Column("ID", whole=True),
            Column("NAME"),
            Column("ROLE", whole=True),
            Column("AGE", right=True, whole=True),
        ]
        rows = [
            [Cell(clean(v["id"])), Cell(clean(v["name"])), Cell(clean(v["role"])), Cell(since(v["created_at"]))]
            for v in views
        ]
        run.output.table(columns, rows)

    run.output.results(views, table, name="id")


@command("revoke", takes=ASKS | RESULT, examples=("colony token revoke 4f0cKq81ZtWb",), see=("colony token ls",))
@click.argument("key", metavar="ID")
def token_revoke_command(run: Run, key: str) -> None:
    """End a key at once."""
    run.ask(run.calls.revoke_token(key))
    run.output.result({"id": key, "revoked": True}, lambda: run.output.line(f"{clean(key)} is revoked"), name="id")
