"""logs and events."""

import json
import signal

from .conftest import Command
from .stand_in import AT, StandIn


def test_lines_name_their_service_unless_one_was_asked_for(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", "one", "two")
    house.log("hello", "up", service="api")
    assert colony("logs", "hello").out == "web | one\nweb | two\napi | up\n"
    assert colony("logs", "hello", "web").out == "one\ntwo\n"
    assert colony("logs", "hello", "web", "api", "-t").out.splitlines()[0] == f"{AT} web | one"


def test_tail_since_and_until_choose_lines(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", *"abcd")
    for number, line in enumerate(house.lines["hello"]):
        line["at"] = f"2026-01-31T08:0{number}:00.000Z"
    assert colony("logs", "hello", "web", "--tail", "2").out == "c\nd\n"
    assert colony("logs", "hello", "web", "--tail", "0").out == ""
    assert colony("logs", "hello", "web", "--since", "2026-01-31T08:02:00Z").out == "c\nd\n"
    assert colony("logs", "hello", "web", "--until", "2026-01-31T08:01:00Z", "-n1").out == "b\n"
    assert colony("logs", "hello", "web", "--since", "1s").out == ""
    assert colony("logs", "hello", "--since", "yesterday").code == 2


def test_a_log_longer_than_a_page_comes_whole(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", *(str(number) for number in range(12_345)))
    assert colony("logs", "hello", "web").out.splitlines() == [str(number) for number in range(12_345)]


def test_a_page_may_be_shorter_than_was_asked_for(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", *"abcde")
    house.page_lines = 2
    assert colony("logs", "hello", "web").out == "a\nb\nc\nd\ne\n"


def test_following_goes_on_where_the_page_ended(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", "before")
    process = colony.begin("logs", "hello", "web", "-f")
    assert process.stdout is not None
    assert process.stdout.readline() == b"before\n"
    house.until(lambda: any("stream" in asked for asked in house.asked))
    house.log("hello", "after")
    assert process.stdout.readline() == b"after\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_has_seen_enough_is_no_error(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", *("a long line of text" * 20 for _ in range(5000)))
    process = colony.begin("logs", "hello")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"web | a long")
    process.stdout.close()
    assert process.wait(120) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_escape_sequences_are_made_visible_and_raw_passes_them(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", "\x1b]0;title\x07\x1b[31mred\x1b[2J")
    assert colony("logs", "hello", "web").out == "^[]0;title^Gred^[[2J\n"
    assert "^[]0;title^G\x1b[31mred^[[2J\x1b[0m" in colony.shown("logs", "hello", "web")[1]
    assert colony("logs", "hello", "web", "--raw").out == "\x1b]0;title\x07\x1b[31mred\x1b[2J\n"


def test_json_is_one_object_per_line(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.log("hello", "\x1b[2J", "b")
    lines = [json.loads(line) for line in colony("logs", "hello", "--json").out.splitlines()]
    assert lines == house.lines["hello"]


def test_wrong_services_and_ends_without_end_are_refused(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("logs", "hello", "wep")
    assert done.code == 3
    assert "did you mean web?" in done.err
    assert colony("logs", "hello", "colony").code == 0
    assert colony("logs", "hello", "-f", "--until", "5m").code == 2
    assert colony("logs", "ghost").code == 3


def test_events_tell_what_happened_and_to_whom(house: StandIn, colony: Command) -> None:
    view = house.add("hello")
    house.enter(view, "failed", "setup failed")
    house.publish(type="house", what="keeper_lost", message="the keeper died")
    house.publish(type="colony_applied", colony="hello", colony_id="col_hello", changes=["web: port 1 → 2"])
    assert colony("events").out.splitlines() == [
        f"{AT}       1  hello  running → failed  setup failed",
        f"{AT}       2  house  keeper lost  the keeper died",
        f"{AT}       3  hello  colony applied  web: port 1 → 2",
    ]
    assert [json.loads(line)["seq"] for line in colony("events", "--after", "1", "--json").out.splitlines()] == [2, 3]


def test_events_are_followed_from_now_on_or_from_a_number(house: StandIn, colony: Command) -> None:
    house.publish(type="house", what="started", message="old")
    process = colony.begin("events", "-f", "--json")
    house.until(lambda: any("wait_seconds" in asked for asked in house.asked))
    house.publish(type="house", what="started", message="new")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["message"] == "new"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    done = colony("events", "-f", "--json", "--after", "0", "--timeout", "5s")
    assert [json.loads(line)["message"] for line in done.out.splitlines()] == ["old", "new"]
    assert done.code == 7


def test_a_daemon_that_does_not_wait_for_news_is_not_asked_in_a_rush(house: StandIn, colony: Command) -> None:
    house.patient = False
    colony("events", "-f", "--timeout", "1s")
    assert sum("wait_seconds" in asked for asked in house.asked) <= 7


def test_holes_are_told(house: StandIn, colony: Command) -> None:
    house.events.append({"seq": 9, "type": "missed", "first": 5, "last": 9})
    assert colony("events", "--after", "4").err == "… events up to number 9 are no longer kept\n"
    assert colony("events").err == ""
