"""The first files: a commented colony.toml and a commented settings file. Overwrites nothing."""

import json
import re
from pathlib import Path

import click

from colony_cli.context import Run
from colony_cli.forms import RESULT, command
from colony_cli.words import clean
from colony_core.errors import Invalid, NotAllowed, NotFound

MANIFEST = """\
# What this colony runs. `colony spawn {name} --from {path}` makes one; after an edit, `colony apply {name}`.

[colony]
name = "{name}"
description = ""
# template = "web-app"            # or api-service, full-stack, or a file of yours in the templates folder

# [colony.environment]            # variables for every service
# LOG_LEVEL = "info"

# [setup]                         # commands that run first, in the building state
# commands = ["npm install"]

[services.web]
command = "python3 -m http.server 4001"   # a string, or a list of arguments
port = 4001                               # seen at http://web.{name}.colony.localhost:8088
# env = {{ DEBUG = "1" }}
# env_file = ".env"
# cwd = "site"
# depends_on = ["api"]
# restart = "always"              # or "on-failure", "never"
# ready = {{ http = "/" }}          # or {{ log = "listening" }}; without it the port has to answer
# grace = "10s"                   # between SIGTERM and SIGKILL
# autostart = true
"""


@command(
    "init", takes=RESULT, examples=("colony init", "colony init ~/code/site"), see=("colony doctor", "colony spawn")
)
@click.argument("path", default=".")
def init_command(run: Run, path: str) -> None:
    """Write a commented colony.toml in a folder that has none, and a commented settings file. Nothing is overwritten."""
    from colony_core.config import config_file

    folder = Path(path).absolute()
    if not folder.is_dir():
        raise NotFound("folder-not-found", f"{path} is no folder", f"mkdir -p {path}")
    name = _name(folder.resolve().name)
    texts = {folder / "colony.toml": MANIFEST.format(name=name, path=path), config_file(run.environ): settings_text()}
    written = [file for file, text in texts.items() if write_new(file, text)]

    def show() -> None:
        for file in texts:
            run.output.line(f"{'wrote' if file in written else 'kept '}  {clean(file)}")
        tries = ("colony doctor", "colony serve", f"colony spawn {name} --from {clean(path)}")
        run.output.lines(["", "to try:", *(f"  {line}" for line in tries)])

    view = {"name": name, "written": [str(f) for f in written], "kept": [str(f) for f in texts if f not in written]}
    run.output.result(view, show)


def _name(folder: str) -> str:
    from colony_core.naming import check_colony_name

    text = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:32].strip("-")
    try:
        return check_colony_name(text)
    except Invalid:
        return "hello"


def settings_text() -> str:
    """The settings file with every default in a comment."""
    import attrs

    from colony_core.config import SECTIONS
    from colony_core.settings import written

    lines = ["# Settings of Colony. Each line shows a default; take the # away to change it.", ""]
    for section, kind in SECTIONS.items():
        lines += [f"# {(kind.__doc__ or '').strip()}", f"[{section}]"]
        for field in attrs.fields(kind):
            lines.append(f"# {field.name} = {in_toml(written(field, field.default)):<24} # {field.metadata['text']}")
        lines.append("")
    return "\n".join(lines)


def in_toml(value: object) -> str:
    """A setting's value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(in_toml, value))}]"
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def write_new(file: Path, text: str) -> bool:
    """Writes a file where there is none; whether it did. Raises NotAllowed where it may not."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise NotAllowed("not-writable", f"{file}: {error.strerror}", "choose a folder of yours") from error
    return True
