"""Keys to the API for other machines and programs."""

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, Duration, Nearest, command
from colony_cli.tables import Cell, Column
from colony_cli.views import since
from colony_cli.words import clean
from colony_core.errors import Invalid

ROLES = ("ape", "viewer", "agent", "garden")


@command(
    "create",
    takes=ASKS | RESULT,
    examples=(
        "colony token create laptop",
        "TOKEN=$(colony token create ci --role viewer --ttl 30d)",
        "colony token create helper --role agent --colony hello",
    ),
    see=("colony token revoke", "colony login"),
)
@click.argument("name")
@click.option(
    "--role", type=Nearest(ROLES), default="ape", metavar="R", help="ape (all), viewer (read only), agent, garden"
)
@click.option("--ttl", type=Duration(), metavar="T", help="how long it lasts: 12h, 30d (default: until it is revoked)")
@click.option("--colony", metavar="C", help="the only colony of an agent")
@click.option("--person", metavar="P", help="whose it is (default: yours)")
def token_create_command(
    run: Run, name: str, *, role: str, ttl: float | None, colony: str | None, person: str | None
) -> None:
    """Make a key. The token is told this once; only its hash is kept."""
    view = run.ask(run.calls.mint_token(name, role=role, seconds=ttl, colony=colony, person=person))
    run.output.result(view, lambda: run.output.line(clean(view["token"])), name="token")
    if run.output.progress and run.tells_steps:
        run.output.note(f"this token is told once; it ends with: colony token revoke {clean(view['id'])}")


@command(
    "ls", takes=ASKS | TABLE, examples=("colony token ls", "colony token ls --person ann"), see=("colony token revoke",)
)
@click.option("--person", metavar="P", help="only this person's")
def token_ls_command(run: Run, *, person: str | None) -> None:
    """List the keys, without their secrets."""
    views = run.ask_all(run.calls.tokens(person=person))

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
            Column("PERSON"),
            Column("AGE", right=True, whole=True),
            Column("ENDS", whole=True),
        ]
        rows = [
            [
                *(Cell(clean(v.get(key) or "–")) for key in ("id", "name", "role", "person")),
                Cell(since(v["created_at"])),
                Cell(clean(v.get("expires_at") or "–")),
            ]
            for v in views
        ]
        run.output.table(columns, rows)

    run.output.results(views, table, name="id")


@command(
    "revoke",
    takes=ASKS | RESULT,
    examples=("colony token revoke 4f0cKq81ZtWb", "colony token revoke --person ann"),
    see=("colony token ls",),
)
@click.argument("key", metavar="[ID]", required=False)
@click.option("--person", metavar="P", help="every key of this person instead")
def token_revoke_command(run: Run, key: str | None, *, person: str | None) -> None:
    """End a key, or all of a person's, at once: browsers' sessions that it opened, and whatever is open by it, end too."""
    if (key is None) is (person is None):
        raise Invalid("wrong-use", "name one key, or a person", "colony token revoke -h")
    if person is not None:
        run.ask(run.calls.revoke_tokens(person))
        view = {"person": person, "revoked": True}
        run.output.result(view, lambda: run.output.line(f"{clean(person)} has no key any more"), name="person")
        return
    run.ask(run.calls.revoke_token(key))
    run.output.result({"id": key, "revoked": True}, lambda: run.output.line(f"{clean(key)} is revoked"), name="id")
