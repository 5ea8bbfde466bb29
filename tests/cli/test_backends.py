"""Which coding agents can work, and an instance of HumanLayer's daemon that is not there."""

import json
import os
import socket
from pathlib import Path

import pytest

from colony_cli import hld_daemon
from colony_cli.complete import candidates
from colony_core.backends import hld_place
from colony_core.errors import Missing, NotAllowed

from .conftest import Command
from .stand_in import StandIn


def test_agents_are_listed_and_the_one_that_works_is_marked(house: StandIn, colony: Command) -> None:
    done = colony("backend", "ls")
    assert done.out.splitlines() == [
        "BACKEND\tREADY\tVERSION\tDETAIL",
        "hld\tno\t-\thld daemon not running",
        "claude *\tyes\t2.1.197\t/usr/bin/claude",
    ]
    assert "* auto: /usr/bin/claude (hld: hld daemon not running)" in done.err
    assert [view["name"] for view in json.loads(colony("backend", "ls", "--json").out)] == ["hld", "claude"]


def test_a_check_is_of_the_one_that_works_or_of_one_by_name(house: StandIn, colony: Command) -> None:
    assert colony("backend", "check").out.startswith("claude 2.1.197 is ready: auto: /usr/bin/claude")
    done = colony("backend", "check", "hld")
    assert done.code == 1
    assert done.out == "hld is not ready: hld daemon not running\n"
    assert done.err == "error: hld: hld daemon not running\nhint: make hld-start, or colony backend hld start\n"
    done = colony("backend", "check", "claud")
    assert (done.code, "did you mean claude?" in done.err) == (3, True)
    house.backends = house.backends[:1]
    done = colony("backend", "check")
    assert (done.code, "no coding agent is ready: hld: hld daemon not running" in done.err) == (1, True)


def test_a_daemon_that_does_not_run_says_how_to_start_it(colony: Command, tmp_path: Path) -> None:
    done = colony("backend", "hld", "status", HOME=str(tmp_path))
    assert done.code == 6
    assert "hld daemon not running: nobody answers at" in done.err
    assert "hint: make hld-start, or colony backend hld start" in done.err


def test_without_its_program_it_says_how_to_build_it(colony: Command, tmp_path: Path) -> None:
    done = colony("backend", "hld", "start", HOME=str(tmp_path), PATH="/usr/bin", COLONY_HLD="")
    assert "there is no hld on PATH" in done.err
    assert "scripts/get-hld" in done.err
    with pytest.raises(Missing, match="/no/such"):
        hld_daemon.hld_program({"COLONY_HLD": "/no/such"})


def test_its_environment_is_the_callers_and_its_claude_is_ours_unless_named(tmp_path: Path) -> None:
    place = hld_place({"HOME": str(tmp_path)})
    hld_daemon.prepare(place)
    found = hld_daemon.environment(place, {"ANTHROPIC_API_KEY": "k", "HUMANLAYER_SOCKET_PATH": "/mine/daemon.sock"})
    assert found == {
        "ANTHROPIC_API_KEY": "k",
        "HUMANLAYER_DAEMON_SOCKET": str(tmp_path / ".humanlayer/colony/daemon.sock"),
        "HUMANLAYER_DATABASE_PATH": str(tmp_path / ".humanlayer/colony/daemon.db"),
        "HUMANLAYER_DAEMON_HTTP_PORT": "7779",
        "HUMANLAYER_CLAUDE_PATH": str(tmp_path / ".humanlayer/colony/bin/claude"),
    }
    assert hld_daemon.environment(place, {"HUMANLAYER_CLAUDE_PATH": "/mine"})["HUMANLAYER_CLAUDE_PATH"] == "/mine"
    assert (place.folder.stat().st_mode & 0o777, hld_daemon.claude_of(place).stat().st_mode & 0o777) == (0o700, 0o700)


def test_a_socket_in_a_folder_of_many_draws_no_program_and_no_log_there(colony: Command, tmp_path: Path) -> None:
    """Whoever may write there could put another program in the place of what agents are started by."""
    program = tmp_path / "hld"
    program.write_text('#!/bin/sh\necho "claude is $HUMANLAYER_CLAUDE_PATH" >&2\nexit 3\n')
    program.chmod(0o755)
    many, home = tmp_path / "many", tmp_path / "home"
    many.mkdir()
    many.chmod(0o777)
    (home / ".humanlayer/colony").mkdir(parents=True, mode=0o755)
    done = colony(
        "backend",
        "hld",
        "start",
        HOME=str(home),
        COLONY_HLD=str(program),
        HUMANLAYER_DAEMON_SOCKET=str(many / "x.sock"),
    )
    own = home / ".humanlayer/colony"
    assert f"claude is {own}/bin/claude" in done.err
    assert list(many.iterdir()) == []
    assert many.stat().st_mode & 0o777 == 0o777
    assert sorted(each.name for each in own.iterdir()) == ["bin", "daemon.log", "tools"]
    assert {each.stat().st_mode & 0o777 for each in (own, own / "bin", own / "tools")} == {0o700}


@pytest.mark.root  # nobody else can give a folder away
def test_a_folder_of_somebody_else_is_not_taken_for_programs(tmp_path: Path) -> None:
    place = hld_place({"HOME": str(tmp_path)})
    hld_daemon.prepare(place)
    os.chown(place.folder / "bin", 65534, 65534)
    with pytest.raises(NotAllowed, match="belongs to somebody else"):
        hld_daemon.prepare(place)


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "hld"
    program.write_text("#!/bin/sh\necho no database >&2\nexit 3\n")
    program.chmod(0o755)
    place = hld_place({"HOME": str(tmp_path)})
    hld_daemon.prepare(place)
    with pytest.raises(Exception, match="hld ended with 3: no database"):
        hld_daemon.start(str(program), place, {}, answers=lambda: False)


def test_nobody_at_the_port_is_no_health(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        place = hld_place({"HOME": str(tmp_path), "HUMANLAYER_DAEMON_HTTP_PORT": str(port)})
        assert hld_daemon.http_health(place) is None


def test_the_tab_key_knows_branches_of_branches() -> None:
    assert candidates(["backend", ""], {}) == ["ls", "check", "hld"]
    assert candidates(["backend", "hld", ""], {}) == ["start", "status"]
    assert "--foreground" in candidates(["backend", "hld", "start", "--"], {})
