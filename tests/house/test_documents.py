"""Every command that the documents show is one that exists, and every block of them is run or says why not."""

import re
import shlex
from pathlib import Path

import attrs
import click
import pytest

from colony_cli.root import root
from colony_core.config import Config, Folders, load_config

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_BY_THE_README_SCENE = {"README.md"}
"""tests/e2e/scenes.py types the shell blocks of these."""


def words(path: Path) -> list[list[str]]:
    """Every command of Colony in a document: the lines of its shell blocks, and what stands between backticks."""
    text = path.read_text()
    lines = [line for language, block in FENCE.findall(text) if language == "sh" for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    found = []
    for said in (*lines, *spans):
        for command in re.findall(r"(?:^|[\s(])(?:\.venv/bin/)?colony ([a-z][^|)#&]*)", said.strip()):
            own = command.partition(" -- ")[0]  # what follows is another program's
            found.append(shlex.split(own.replace("…", "")))
    return found


def spelled_out(word: str) -> list[str]:
    """`-it` is `-i -t`."""
    return [word] if word.startswith("--") else [f"-{letter}" for letter in word[1:]]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_flag_of_a_document_exists(path: Path) -> None:
    for said in words(path):
        command: click.Command = root()
        context = click.Context(command)
        rest = list(said)
        while isinstance(command, click.Group) and rest:
            word = rest.pop(0)
            inner = command.get_command(context, word)
            assert inner is not None, f"{path.name}: colony {' '.join(said)}"
            command = inner
        known = {name for param in command.params for name in param.opts} | {"-h", "--help"}
        flags = {flag for word in rest if word.startswith("-") for flag in spelled_out(word)}
        assert flags <= known, f"{path.name}: colony {' '.join(said)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_target_of_make_that_a_document_names_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_shell_blocks_stand_where_a_test_types_them(path: Path) -> None:
    languages = {language for language, _ in FENCE.findall(path.read_text())}
    assert languages <= {"", "sh", "toml", "python", "yaml", "ini"}
    assert path.name in RUN_BY_THE_README_SCENE or "sh" not in languages


def test_the_settings_that_the_documents_show_are_the_defaults(tmp_path: Path) -> None:
    [(_, text)] = FENCE.findall((ROOT / "docs/configuration.md").read_text())
    file = tmp_path / "config.toml"
    file.write_text(text)
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    shown = load_config({"COLONY_CONFIG": str(file)}, folders=folders)
    assert shown == load_config({"COLONY_CONFIG": "/dev/null"}, folders=folders)
    assert isinstance(shown, Config)
    for section in (
        "server", "routing", "isolation", "processes", "events", "terminals", "access", "workspaces", "agent", "log",
        "telemetry",
    ):  # fmt: skip
        values = getattr(shown, section)
        assert {name for name in values.__slots__ if not name.startswith("_")} == set(
            re.findall(r"^(\w+) =", text.partition(f"[{section}]\n")[2].partition("\n[")[0], re.MULTILINE)
        ), section


def test_the_guide_names_the_settings_that_a_reload_puts_in_force() -> None:
    [named] = re.findall(r"^In force at once.*?\n\n", (ROOT / "docs/running.md").read_text(), re.MULTILINE | re.DOTALL)
    sections, but, keys = (set(re.findall(r"`(.+?)`", part)) for part in re.split(" but for |, and ", named))
    live: dict[str, dict[str, bool]] = {
        section.name: {key.name: bool(key.metadata.get("live")) for key in attrs.fields(section.type)}
        for section in attrs.fields(attrs.resolve_types(Config))
        if section.name != "folders"
    }
    whole = {name for name in live if f"[{name}]" in sections}
    told = {f"{name}.{key}" for name in whole for key in live[name]} - but | keys
    assert told == {f"{name}.{key}" for name, those in live.items() for key, at_once in those.items() if at_once}
