"""The event log against the running daemon: killed in the middle of a storm, it goes on exactly behind what a reader saw."""

import json
import subprocess
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from colony_core.errors import ColonyError
from colony_core.remote import calls

from .driver import COLONY, Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SERVICES = "".join(
    f"""
[services.s{number}]
command = ["sleep", "600"]
"""
    for number in range(4)
)
ROUNDS = 3


def test_a_reader_goes_on_exactly_behind_what_it_saw_whenever_the_daemon_is_killed(daemon: Daemon) -> None:
    daemon.spawn("busy", SERVICES)
    daemon.until_ready("busy")
    seen: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        seen += storm(daemon, after=seen[-1]["seq"] if seen else 0)
        daemon.start()
    after = seen[-1]["seq"]
    assert [event["seq"] for event in seen] == list(range(1, after + 1))
    assert (
        len({event["message"] for event in seen if event["type"] == "house" and event["what"] == "started"}) == ROUNDS
    )
    kept: list[dict[str, Any]] = []
    while len(kept) < len(seen):
        kept += daemon.send(calls.events(after=len(kept), limit=1000))
    assert kept[: len(seen)] == seen
    [one] = json_lines(daemon.cli("events", "--json", "--colony", "busy", "--kind", "colony_created").stdout)
    assert one in seen
    services = json_lines(daemon.cli("events", "--json", "--service", "s1", "--after", "5").stdout)
    assert {(event["colony"], event["service"]) for event in services} == {("busy", "s1")}
    assert [event for event in seen if event.get("service") == "s1" and event["seq"] > 5] == [
        event for event in services if event["seq"] <= after
    ]


def test_one_follower_sees_each_event_once_though_daemons_are_killed_and_restarted(daemon: Daemon) -> None:
    command = [*COLONY, "events", "-f", "--json", "--after", "0"]
    with subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        lines = map(json.loads, reader.stdout)
        seen = list(until_started(lines))
        for end in (daemon.kill, daemon.terminate):
            end()
            daemon.start()
            seen += until_started(lines)
        assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
        reader.terminate()


def test_one_who_follows_the_writes_sees_each_once_though_daemons_are_killed_and_restarted(daemon: Daemon) -> None:
    daemon.spawn("app", '[services.idle]\ncommand = ["sleep", "600"]\n')
    command = [*COLONY, "audit", "-f", "--json", "--after", "0"]
    with subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        lines = map(json.loads, reader.stdout)
        seen = [next(lines)]
        for end in (daemon.kill, daemon.terminate):
            end()
            daemon.start()
            daemon.until_ready("app")
            daemon.send(calls.service("app", "idle", "restart"))
            seen.append(next(lines))
        assert [(entry["seq"], entry["path"].rpartition("/")[2]) for entry in seen] == [
            (1, "colonies"), (2, "restart"), (3, "restart"),
        ]  # fmt: skip
        reader.terminate()


def test_a_watched_list_goes_on_under_the_next_daemon(daemon: Daemon) -> None:
    with subprocess.Popen([*COLONY, "ls", "-w", "--json"], env=daemon.environment, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        lists = map(json.loads, reader.stdout)
        assert next(lists) == []
        for number, end in enumerate((daemon.terminate, daemon.kill, daemon.terminate), 1):
            end()
            daemon.start()
            daemon.spawn(f"app-{number}", '[services.idle]\ncommand = ["sleep", "600"]\n')
            next(found for found in lists if len(found) == number)
        reader.terminate()


def until_started(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is told up to the next start of a daemon."""
    for event in events:
        yield event
        if event.get("what") == "started":
            return


def storm(daemon: Daemon, *, after: int) -> list[dict[str, Any]]:
    """What a follower behind `after` saw until the daemon was killed in the middle of restarts."""
    command = [*COLONY, "events", "-f", "--json", "--after", str(after)]
    with subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        restarting = Thread(target=restarts, args=(daemon,))
        restarting.start()
        assert reader.stdout is not None
        seen = [json.loads(reader.stdout.readline()) for _ in range(60)]
        daemon.kill()
        reader.terminate()
        rest = reader.stdout.read()
        restarting.join()
    return seen + json_lines(rest.decode())


def restarts(daemon: Daemon) -> None:
    """Restarts services until nobody answers."""
    try:
        while True:
            for number in range(4):
                daemon.send(calls.service("busy", f"s{number}", "restart"))
    except ColonyError as error:
        if error.code not in ("daemon-unreachable", "connection-lost"):
            restarts(daemon)


def json_lines(text: str) -> list[dict[str, Any]]:
    """One object per whole line."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
