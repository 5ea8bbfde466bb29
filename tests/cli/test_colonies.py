"""spawn, ls, show, open."""

import json
import stat
from pathlib import Path

from .conftest import Command
from .stand_in import StandIn, service


def test_ls_without_a_terminal_is_fields_between_tabs_without_colour(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("ls")
    header, line = done.out.splitlines()
    assert header.split("\t") == ["NAME", "STATE", "SERVICES", "URL", "START", "AGE"]
    assert line.split("\t")[:5] == ["hello", "running", "2/2", "http://hello.colony.localhost:8088", "210 ms"]
    assert (done.code, done.err) == (0, "")


def test_ls_on_a_terminal_is_a_table_cut_to_its_width(house: StandIn, colony: Command) -> None:
    house.add("a-rather-long-name-of-a-colony")
    code, shown = colony.shown("ls", width=70, NO_COLOR="1")
    assert code == 0
    assert all(len(line) <= 70 for line in shown.splitlines())
    assert "● running" in shown
    assert "…" in shown
    assert "…" not in colony.shown("ls", "--wide", width=70)[1]


def test_ls_leaves_out_stopped_ones_and_says_so(house: StandIn, colony: Command) -> None:
    house.add("on")
    house.add("off", state="stopped")
    assert colony("-q", "ls").out == "on\n"
    assert colony("ls", "-qa").out == "off\non\n"
    assert colony("ls", "--state", "stopped", "-q").out == "off\n"
    assert "1 more: colony ls -a" in colony.shown("ls")[1]


def test_ls_has_words_for_nothing_yet_and_for_nothing_that_matches(house: StandIn, colony: Command) -> None:
    assert "No colonies yet" in colony("ls").err
    assert colony("ls", "--json").out == "[]\n"
    house.add("off", state="stopped")
    assert "None of 1 match" in colony("ls").err


def test_json_is_the_views_as_the_daemon_gave_them(house: StandIn, colony: Command) -> None:
    view = house.add("hello", reason="\x1b]0;\x9b", description="„ü“")
    done = colony("ls", "--json")
    assert json.loads(done.out) == [view]
    assert not set(done.out) & set("\x1b\x9b")
    assert json.loads(colony("--json", "show", "hello").out) == view


def test_a_format_replaces_the_table(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert colony("ls", "--format", r"{name}\t{state}").out == "hello\trunning\n"
    done = colony("ls", "--format", "{stat}")
    assert (done.code, done.out) == (2, "")
    assert "did you mean state?" in done.err


def test_what_a_colony_says_of_itself_cannot_steer_the_terminal(house: StandIn, colony: Command) -> None:
    house.add(
        "hello",
        reason="\x1b[2J\x1b]0;x\x07",
        description="\x1b[31m",
        services=[service("web", "hello", reason="\x1b[H")],
    )
    for words in (("show", "hello"), ("ls",), ("service", "ls", "hello")):
        _, shown = colony.shown(*words, NO_COLOR="1")
        assert "\x1b" not in shown


def test_colour_follows_the_terminal_and_the_environment(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert "\x1b[32m" in colony.shown("ls")[1]
    assert "\x1b" not in colony.shown("ls", NO_COLOR="1")[1]
    assert "\x1b" not in colony.shown("ls", "--no-color")[1]
    assert "\x1b" not in colony.shown("ls", TERM="dumb")[1]
    assert "\x1b[32m" in colony("ls", FORCE_COLOR="1").out
    assert "\x1b[32m" in colony("ls", FORCE_COLOR="1", NO_COLOR="1").out


def test_ascii_draws_without_other_characters(house: StandIn, colony: Command) -> None:
    house.add("hello", state="failed")
    code, shown = colony.shown("ls", COLONY_ASCII="1")
    assert code == 0
    assert "x failed" in shown
    assert shown.isascii()


def test_an_encoding_without_shapes_is_served_with_letters(house: StandIn, colony: Command) -> None:
    house.add("hello", description="ü→")
    code, shown = colony.shown("show", "hello", PYTHONIOENCODING="ascii")
    assert code == 0
    assert "* running" in shown
    assert "\\xfc\\u2192" in shown


def test_ls_watches_by_events(house: StandIn, colony: Command) -> None:
    view = house.add("hello", state="provisioning")
    terminal = colony.terminal("ls", "-w")
    terminal.until("provisioning")
    house.enter(view, "running")
    terminal.until("● running")
    terminal.type("\x03")
    assert terminal.end() == 130


def test_a_watched_list_in_json_is_one_array_per_line(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("ls", "-w", "--json", "--timeout", "0.3s")
    assert done.code == 7
    assert all(json.loads(line)[0]["name"] == "hello" for line in done.out.splitlines())


def test_an_unambiguous_beginning_is_enough_on_a_terminal_and_only_there(house: StandIn, colony: Command) -> None:
    house.add("frontend")
    house.add("backend-1")
    house.add("backend-2")
    code, shown = colony.shown("show", "fro")
    assert code == 0
    assert "frontend" in shown
    code, shown = colony.shown("show", "back")
    assert code == 3
    assert "“back” may be backend-1, backend-2" in shown
    assert colony("show", "fro").code == 3


def test_a_wrong_name_is_told_the_nearest(house: StandIn, colony: Command) -> None:
    house.add("agent-frontend")
    done = colony("show", "agent-fronted")
    assert done.code == 3
    assert done.err == "error: colony “agent-fronted” not found\n  did you mean agent-frontend?\nhint: colony ls\n"
    done = colony("show", "agent-fronted", "--json")
    assert (done.code, done.out) == (3, "")
    assert done.error["code"] == "colony-not-found"
    assert done.error["message"] == "colony “agent-fronted” not found"


def test_spawn_waits_tells_its_steps_and_ends_with_the_address(house: StandIn, colony: Command) -> None:
    done = colony("spawn", "hello", "--from", "/somewhere")
    assert (done.code, done.out) == (0, "hello is running   http://hello.colony.localhost:8088\n")
    steps = [line.split() for line in done.err.splitlines()]
    assert steps[0][:2] == ["✓", "namespace"]
    assert steps[0][-2:] == ["0.4", "ms"]
    assert steps[1][:2] == ["✓", "veth"]
    assert [line[1] for line in steps[2:]] == ["web", "api"]
    assert house.bodies[1] == {"name": "hello", "path": "/somewhere", "start": True, "dry_run": False}


def test_spawn_measures_services_by_their_events(house: StandIn, colony: Command) -> None:
    house.start_states = ["provisioning"]
    process = colony.begin("spawn", "hello", "--from", "/x")
    house.until(lambda: "hello" in house.colonies and house.colonies["hello"]["state"] == "provisioning")
    names = {"colony": "hello", "colony_id": "col_hello", "service": "web"}
    rest = {"type": "service_state", "reason": "", "pid": 1, "restarts": 0, **names}
    house.publish(**rest, state="starting", before="stopped", at="2026-01-31T08:15:00.000Z")
    house.publish(**rest, state="ready", before="starting", at="2026-01-31T08:15:00.250Z")
    house.enter(house.colonies["hello"], "running")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "250 ms" in next(line for line in err.decode().splitlines() if " web " in line)


def test_spawn_without_waiting_answers_at_once(house: StandIn, colony: Command) -> None:
    house.stalled = True
    done = colony("spawn", "hello", "--from", "/x", "--no-wait")
    assert (done.code, done.out, done.err) == (0, "hello is spawning\n", "")
    assert colony("spawn", "later", "--from", "/x", "--no-start").out == "later is stopped\n"
    assert house.colonies["later"]["state"] == "stopped"


def test_spawn_on_trial_makes_nothing(house: StandIn, colony: Command) -> None:
    done = colony("spawn", "hello", "--from", "/x", "--dry-run")
    assert done.code == 0
    assert done.out.splitlines()[0] == "would spawn hello from /x as ape"
    assert [line.split(maxsplit=2)[1:] for line in done.out.splitlines()[1:]] == [
        ["namespace", "would make ns-hello"],
        ["veth", "would lay a cable and take a free address"],
        ["web", "would run python3 server.py on :4001, seen at http://web.hello.colony.localhost:8088"],
        ["api", "would run python3 server.py on :4002, seen at http://api.hello.colony.localhost:8088"],
    ]
    assert house.colonies == {}


def test_spawn_that_fails_says_why_and_where_to_look(house: StandIn, colony: Command) -> None:
    house.start_states = ["provisioning", "failed"]
    done = colony("spawn", "hello", "--from", "/x")
    assert (done.code, done.out) == (1, "")
    assert "error: colony “hello” failed: command not found: nope\nhint: colony logs hello\n" in done.err


def test_spawn_with_a_failed_service_shows_the_colony_and_fails(house: StandIn, colony: Command) -> None:
    house.start_states = []
    process = colony.begin("spawn", "hello", "--from", "/x", "--json")
    house.until(lambda: "hello" in house.colonies)
    house.colonies["hello"]["services"][0] |= {"state": "failed", "reason": "gave up"}
    house.enter(house.colonies["hello"], "running", "web failed")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert json.loads(out)["state"] == "running"
    assert json.loads(err)["error"]["code"] == "service-failed"


def test_spawn_takes_this_folder_or_says_that_it_holds_no_manifest(
    house: StandIn, colony: Command, tmp_path: Path
) -> None:
    done = colony("spawn", "hello")
    assert done.code == 2
    assert "colony init" in done.err
    assert house.asked == []
    (tmp_path / "colony.toml").write_text("")
    assert colony("spawn", "hello", "--no-wait").code == 0
    assert house.colonies["hello"]["source"] == str(tmp_path)
    assert colony("spawn", "again", "--from", "colony.toml", "--no-wait").code == 0
    assert house.colonies["again"]["source"] == str(tmp_path)


def test_a_taken_name_is_a_wrong_state(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("spawn", "hello", "--from", "/x", "--json")
    assert (done.code, done.error["code"]) == (5, "colony-exists")


def test_open_prints_the_address_of_a_colony_a_service_and_a_port(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.add("quiet", url=None)
    assert colony("open", "hello").out == "http://hello.colony.localhost:8088\n"
    assert colony("open", "hello", "api").out == "http://api.hello.colony.localhost:8088\n"
    assert colony("open", "hello", "4002").out == "http://api.hello.colony.localhost:8088\n"
    assert colony("open", "hello", "9999").out == "http://hello-9999.colony.localhost:8088\n"
    assert colony("open", "hello", "--json").json == {"name": "hello", "url": "http://hello.colony.localhost:8088"}
    assert "did you mean web?" in colony("open", "hello", "wob").err
    assert colony("open", "quiet").code == 3


def test_open_starts_a_browser_where_there_is_a_display(house: StandIn, colony: Command, tmp_path: Path) -> None:
    house.add("hello")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/visited\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    opened = {"BROWSER": f"{browser} %s", "DISPLAY": ":9"}
    assert colony("open", "hello", "--print", **opened).code == 0
    assert colony("open", "hello", BROWSER=opened["BROWSER"]).code == 0
    assert not (tmp_path / "visited").exists()
    assert colony("open", "hello", "web", **opened).code == 0
    assert (tmp_path / "visited").read_text() == "http://web.hello.colony.localhost:8088\n"
