"""What the daemon tells of itself: its own log, and the name of a request from the command to the log line."""

from pathlib import Path

import pytest

from colony_core.remote import calls

from .driver import Daemon, logged_lines

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def until_told(daemon: Daemon, words: str) -> None:
    """Returns when a whole line of the log has these words; a request's is written just after its answer."""
    daemon.until(lambda: words in (daemon.folder / "daemon.log").read_text().rpartition("\n")[0], words)


def test_a_request_bears_one_name_from_the_command_to_the_log(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_LOG__LEVEL"] = "info"
    with daemon.running():
        refused = daemon.cli("show", "ghost", "-v", check=3)
        (told,) = [line for line in refused.stderr.splitlines() if "request_id" in line]
        name = told.partition(": ")[2]
        assert "answered by: unix:" in refused.stderr
        until_told(daemon, name)
        (line,) = [line for line in logged_lines(daemon) if line.get("request_id") == name]
        assert line.pop("at").endswith("Z")
        assert line.pop("seconds") > 0
        assert line.pop("bytes") > 0
        assert line.pop("who")
        assert line == {
            "level": "info", "logger": "colony.access", "message": "request", "method": "GET", "route": "/api/colonies/<ref>",
            "status": 404, "role": "ape", "code": "colony-not-found", "request_id": name,
        }  # fmt: skip


def test_a_line_says_what_a_request_was_about_be_it_a_colony_or_not(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["COLONY_LOG__LEVEL"] = "info"
    with daemon.running():
        daemon.spawn("app", "[services]\n")
        key = daemon.send(calls.mint_token("laptop"))["id"]
        until_told(daemon, f"key {key}")
        until_told(daemon, '"target": "app"')
        told = {(line.get("route"), line["target"]) for line in logged_lines(daemon) if "target" in line}
        assert told == {("/api/colonies", "app"), ("/api/tokens", f"key {key}")}


def test_the_log_follows_the_settings_without_a_restart(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    settings = Path(daemon.environment["COLONY_CONFIG"])
    with daemon.running():
        daemon.send(calls.system())
        assert logged_lines(daemon) == []
        settings.write_text('[log]\nlevel = "info"\nformat = "text"\n')
        assert daemon.cli("reload").stdout == "in force: log.format, log.level\n"
        daemon.send(calls.system())
        until_told(daemon, " INFO colony.access: request method=GET route=/api/system status=200 seconds=")


def test_flags_go_before_settings_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment |= {"COLONY_LOG__LEVEL": "error", "COLONY_LOG__FORMAT": "json"}
    daemon.flags = ("--log-level", "info", "--log-format", "text")
    with daemon.running():
        daemon.send(calls.system())
        until_told(daemon, " INFO colony.access: request ")
    assert "none of auto, text, json" in daemon.cli("serve", "--log-format", "xml", check=2).stderr
    daemon.environment["COLONY_LOG__LEVEL"] = "loud"
    assert "log.level" in daemon.cli("serve", check=2).stderr
