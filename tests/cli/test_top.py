"""top: rates from two looks."""

import json
from typing import Any

from .conftest import Command
from .stand_in import StandIn


def view(name: str, second: int, **counters: Any) -> dict[str, Any]:
    zero = {
        "services": 1,
        "processes": 2,
        "cpu_seconds": 0.0,
        "memory_bytes": 0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "log_lines": 0,
    }
    who = {"colony": name, "colony_id": f"col_{name}", "state": "running", "at": f"2026-01-31T08:15:{second:02}.000Z"}
    return who | zero | counters


def test_counters_of_two_looks_are_told_as_rates_the_busiest_first(house: StandIn, colony: Command) -> None:
    house.usage = [
        [view("calm", 0, cpu_seconds=5.0), view("busy", 0, cpu_seconds=10.0, sent_bytes=1000)],
        [
            view("calm", 2, cpu_seconds=5.1),
            view("busy", 2, cpu_seconds=13.0, memory_bytes=3 * 2**20, sent_bytes=5000, log_lines=7),
        ],
    ]
    rows = colony("top", "-n", "1", "--interval", "1ms").out.splitlines()
    assert rows[0].split("\t") == ["COLONY", "STATE", "CPU", "MEMORY", "PROCS", "RECEIVED", "SENT", "LOG"]
    assert rows[1].split("\t") == ["busy", "running", "150.0 %", "3.0 MiB", "2", "0 B/s", "2.0 KiB/s", "3.5/s"]
    assert rows[2].split("\t")[:3] == ["calm", "running", "5.0 %"]


def test_a_colony_that_is_new_or_came_up_again_has_no_rate_yet(house: StandIn, colony: Command) -> None:
    house.usage = [
        [view("again", 0, cpu_seconds=50.0)],
        [view("again", 2, cpu_seconds=1.0), view("new", 2, cpu_seconds=7.0)],
    ]
    done = colony("top", "-n", "1", "--interval", "1ms", "--json", "--sort", "name")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["colony"], row["cpu_percent"]) for row in found] == [("again", 0.0), ("new", 0.0)]


def test_only_those_that_were_asked_for_are_shown(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.add("other")
    ids = {name: house.colonies[name]["id"] for name in ("hello", "other")}
    house.usage = [[view(name, 0) | {"colony_id": key} for name, key in ids.items()]]
    assert colony("top", "hello", "-n", "1", "--interval", "1ms", "-q").out == "hello\n"
    assert colony("top", "nobody", "-n", "1").code == 3
    assert colony("top", "--sort", "memroy").code == 2
