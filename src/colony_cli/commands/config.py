"""The settings: what is in force and who said so, and how to change it without stopping a daemon."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, TABLE, command
from colony_cli.prompts import confirm
from colony_cli.tables import Cell, Column
from colony_cli.words import clean
from colony_core.errors import Broken, Missing, Unreachable

from .init import in_toml, settings_text, write_new
from .server import tell_reloaded

HIDDEN = "(not shown)"
LOOK_SECONDS = 2.0


def _read(run: Run) -> tuple[Path, Path]:
    from colony_core.config import SYSTEM_CONFIG, config_file

    return SYSTEM_CONFIG, config_file(run.environ)


@command(
    "show",
    takes=TABLE,
    examples=("colony config show", "colony config show --origin", "colony config show --format '{name}={value}'"),
    see=("colony config check", "colony serve"),
)
@click.option("--origin", is_flag=True, help="which file or variable said so")
def config_show_command(run: Run, *, origin: bool) -> None:
    """Show every setting that a daemon started here would have. Flags of colony serve go before them."""
    from colony_core.settings import settings

    views = [attrs.asdict(each) for each in settings(run.environ)]

    def table() -> None:
        columns = [Column("SETTING", whole=True), Column("VALUE"), *([Column("ORIGIN", whole=True)] if origin else [])]
        rows = []
        for view in views:
            value = HIDDEN if view["value"] is None else in_toml(view["value"])
            rows.append([Cell(clean(text)) for text in (view["name"], value, *([view["origin"]] if origin else []))])
        run.output.table(columns, rows)

    run.output.results(views, table)


@command(
    "check",
    takes=frozenset({"json"}),
    examples=("colony config check", "COLONY_CONFIG=new.toml colony config check"),
    see=("colony config show", "colony reload"),
)
def config_check_command(run: Run) -> int:
    """Say everything that is wrong in the settings files and in the environment; the exit code is 2 then."""
    code = _tell_mistakes(run)
    if code == 0:
        files = [str(path) for path in _read(run) if path.exists()]
        words = ", ".join(map(clean, files)) or "no file, so defaults"
        run.output.result({"files": files}, lambda: run.output.line(f"good: {words}"))
    return code


@command(
    "path",
    takes=TABLE,
    examples=("colony config path", "colony config path -q"),
    see=("colony config show", "colony config edit"),
)
def config_path_command(run: Run) -> None:
    """Say which files settings are read from; later ones win, and the environment goes before them all."""
    views = [{"path": str(path), "found": path.exists()} for path in _read(run)]

    def table() -> None:
        columns = [Column("PATH", whole=True), Column("FOUND", whole=True)]
        run.output.table(columns, [[Cell(clean(v["path"])), Cell("yes" if v["found"] else "no")] for v in views])

    run.output.results(views, table, name="path")


@command(
    "schema",
    takes=frozenset({"json"}),
    examples=("colony config schema > settings.schema.json", "colony config schema --manifest > colony.schema.json"),
    see=("colony config edit", "colony init"),
)
@click.option("--manifest", is_flag=True, help="that of colony.toml instead")
def config_schema_command(run: Run, *, manifest: bool) -> None:
    """Print the JSON schema of the settings file, or of colony.toml, with which editors complete and check it."""
    from colony_cli.manifest_schema import manifest_schema
    from colony_core.settings import schema

    run.output.value(manifest_schema() if manifest else schema())


@command(
    "edit",
    takes=ASKS | {"yes"},
    examples=("colony config edit", "EDITOR=nano colony config edit"),
    see=("colony config check", "colony reload"),
)
def config_edit_command(run: Run) -> int:
    """Open your settings file in $VISUAL or $EDITOR, check it, and offer a running daemon to read it.

    Where there is no file yet, the commented one of colony init is written first.
    """
    file = _read(run)[1]
    if write_new(file, settings_text()):
        run.output.note(f"wrote {clean(str(file))}")
    before = file.read_bytes()
    while True:
        _edit(run.environ, file)
        code = _tell_mistakes(run)
        if code == 0:
            break
        if not sys.stdin.isatty() or run.yes or not confirm("Edit it again?", yes=False, ask=run.output.ask):
            run.output.note("a running daemon keeps the settings that it has; a new one does not start with these")
            return code
    if file.read_bytes() == before:
        run.output.note("nothing changed")
    else:
        _offer_reload(run)
    return 0


def _tell_mistakes(run: Run) -> int:
    from colony_core.settings import mistakes

    return max([0, *(run.failed_softly(error) for error in mistakes(run.environ))])


def _edit(environ: Mapping[str, str], file: Path) -> None:
    chosen = environ.get("VISUAL") or environ.get("EDITOR") or shutil.which("editor") or "vi"
    try:
        code = subprocess.run([*shlex.split(chosen), os.fspath(file)], check=False).returncode
    except (OSError, ValueError) as error:
        raise Missing(
            "editor-missing", f"{chosen} cannot be run: {error}", "set EDITOR, such as EDITOR=nano"
        ) from error
    if code:
        raise Broken("editor-failed", f"{chosen} ended with {code}", "colony config check says what stands in the file")


def _offer_reload(run: Run) -> None:
    try:
        run.client(patience=LOOK_SECONDS).send_raw(run.calls.system())
    except Unreachable:
        run.output.note("no daemon runs; the next one starts with these settings")
        return
    if not run.yes and not (sys.stdin.isatty() and run.output.progress):
        run.output.note("hint: colony reload")
    elif confirm("Have the daemon read it?", yes=run.yes, ask=run.output.ask):
        tell_reloaded(run, run.ask(run.calls.reload()))
