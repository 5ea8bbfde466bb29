"""config: show, check, path, edit, schema."""

import json
import stat
from pathlib import Path

import pytest

from colony_core.config import config_file

from .conftest import Command
from .stand_in import StandIn


def own(colony: Command, text: str) -> Path:
    file = config_file(colony.environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def editor(tmp_path: Path, *texts: str) -> str:
    """A program that writes the next of `texts` into the file, as a person would."""
    for number, text in enumerate(texts):
        (tmp_path / f"text-{number}").write_text(text)
    program = tmp_path / "editor of mine"
    program.write_text(
        f'#!/bin/sh\ncd "{tmp_path}"\nn=$(cat turn 2>/dev/null || echo 0)\ncat text-$n > "$2"\necho $((n + 1)) > turn\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"'{program}' --wait"


def test_a_setting_is_shown_with_who_said_so(colony: Command) -> None:
    file = own(colony, "[server]\nport = 2\n")
    done = colony("config", "show", "--origin", COLONY_ROUTING__PORT="3")
    assert f"server.port\t2\t{file}\n" in done.out
    assert "routing.port\t3\t$COLONY_ROUTING__PORT\n" in done.out
    assert 'routing.bind\t"127.0.0.1"\tdefault\n' in done.out
    assert "server.port\t2\n" in colony("config", "show").out
    (port,) = (each for each in colony("config", "show", "--json").json if each["name"] == "server.port")
    assert port == {
        "name": "server.port",
        "value": 2,
        "origin": str(file),
        "text": "port of the API; 0 takes any free one",
    }
    assert "server.port" in colony("config", "show", "-q").out.splitlines()


def test_a_value_that_may_hold_a_key_is_not_shown(colony: Command) -> None:
    own(colony, '[agent]\nacp_command = ["agent", "--key", "geheim"]\n')
    done = colony("config", "show")
    assert "agent.acp_command\t(not shown)\n" in done.out
    assert "geheim" not in done.out + colony("config", "show", "--json").out


def test_a_check_tells_every_mistake_and_ends_with_2(colony: Command) -> None:
    file = own(colony, "[server]\nprot = 1\n[sever]\n")
    done = colony("config", "check")
    assert (done.code, done.out) == (2, "")
    assert f"error: {file} [server]: unknown key 'prot'\n  did you mean port?\n" in done.err
    assert "  did you mean server?\n" in done.err
    told = [json.loads(line)["error"]["code"] for line in colony("config", "check", "--json").err.splitlines()]
    assert told == ["unknown-key", "unknown-key"]
    assert colony("config", "show").code == 2


def test_a_check_of_what_is_good_names_the_files(colony: Command) -> None:
    file = own(colony, "[server]\nport = 2\n")
    done = colony("config", "check")
    assert done.code == 0
    assert str(file) in done.out
    assert str(file) in colony("config", "check", "--json").json["files"]


def test_the_files_that_are_looked_at_are_named(colony: Command) -> None:
    file = own(colony, "")
    assert colony("config", "path", "-q").out.splitlines() == ["/etc/colony/config.toml", str(file)]
    assert colony("config", "path", "--json").json[1] == {"path": str(file), "found": True}


def test_the_schema_is_one_of_the_settings(colony: Command) -> None:
    assert "port" in colony("config", "schema").json["properties"]["server"]["properties"]
    assert "services" in colony("config", "schema", "--manifest").json["properties"]


def test_an_edit_begins_with_a_commented_file_and_the_daemon_reads_it_when_told_to(
    house: StandIn, colony: Command, tmp_path: Path
) -> None:
    done = colony("config", "edit", EDITOR="true")
    assert (done.code, done.err.splitlines()[-1]) == (0, "nothing changed")
    assert "# port = 8000" in config_file(colony.environ).read_text()
    done = colony("config", "edit", "--yes", EDITOR=editor(tmp_path, "[server]\nport = 2\n"))
    assert (done.code, done.out) == (0, "in force: processes.grace\n")
    assert config_file(colony.environ).read_text() == "[server]\nport = 2\n"


def test_without_a_terminal_the_daemon_is_left_alone(house: StandIn, colony: Command, tmp_path: Path) -> None:
    done = colony("config", "edit", VISUAL=editor(tmp_path, "[server]\nport = 2\n"), EDITOR="false")
    assert (done.code, done.out, done.err.splitlines()[-1]) == (0, "", "hint: colony reload")


def test_without_a_daemon_an_edit_is_for_the_next_one(colony: Command, tmp_path: Path) -> None:
    done = colony("config", "edit", "--yes", EDITOR=editor(tmp_path, "[server]\nport = 2\n"))
    assert done.code == 0
    assert "no daemon runs" in done.err


def test_a_mistake_made_in_the_editor_is_told_and_nothing_is_read(
    house: StandIn, colony: Command, tmp_path: Path
) -> None:
    done = colony("config", "edit", "--yes", EDITOR=editor(tmp_path, "[server]\nprot = 2\n"))
    assert (done.code, done.out) == (2, "")
    assert "did you mean port?" in done.err
    assert "keeps the settings that it has" in done.err


def test_on_a_terminal_a_mistake_may_be_mended_at_once(house: StandIn, colony: Command, tmp_path: Path) -> None:
    terminal = colony.terminal(
        "config", "edit", EDITOR=editor(tmp_path, "[server]\nprot = 2\n", "[server]\nport = 2\n")
    )
    terminal.until("Edit it again? [y/N] ")
    terminal.type("y\n")
    terminal.until("Have the daemon read it? [y/N] ")
    terminal.type("y\n")
    terminal.until("in force: processes.grace")
    assert terminal.end() == 0


@pytest.mark.parametrize(("program", "code"), [("there-is-none", "cannot be run"), ("false", "ended with 1")])
def test_an_editor_that_does_not_work_is_told(colony: Command, program: str, code: str) -> None:
    done = colony("config", "edit", EDITOR=program)
    assert done.code != 0
    assert code in done.err
