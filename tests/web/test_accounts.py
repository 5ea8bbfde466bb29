"""Every request has a name, and one line in the daemon's log."""

import logging
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from colony_core.access.keys import mint
from colony_web.accounts import request_id

from .house import CardboardHouse


def lines(caplog: Any) -> list[dict[str, Any]]:
    return [each.fields for each in caplog.records if each.name == "colony.access"]


@pytest.mark.parametrize("name", ["abcdefgh", "0195f3c2-7b1e-7c3a-9a52-3f1d2b4c5d6e", "A.b_c-d.", "x" * 64])
async def test_a_request_keeps_the_name_that_its_caller_gave_it(client: Any, name: str) -> None:
    answer = await client.get("/api/colonies/ghost", headers={"X-Request-Id": name})
    assert answer.headers.getlist("X-Request-Id") == [name]
    assert (await answer.get_json(force=True))["request_id"] == name


@pytest.mark.parametrize(
    "name",
    ["", "short", "x" * 65, "with space", "new\x7fline", "-leading", 'quo"te123', "grün12345", f"{mint()[0][:60]}"],
)
async def test_a_name_that_is_none_is_replaced(client: Any, name: str) -> None:
    answer = await client.get("/api/colonies", headers={"X-Request-Id": name})
    assert answer.status_code == 200
    assert answer.headers["X-Request-Id"].startswith("req_")


def test_two_names_are_none() -> None:
    given = (b"X-Request-Id", b"abcdefgh")
    assert request_id([given]) == "abcdefgh"
    assert request_id([given, given]).startswith("req_")
    assert request_id([]) != request_id([])


async def test_one_line_tells_what_was_asked_by_whom_and_how_it_ended(
    client: Any, house: CardboardHouse, caplog: Any
) -> None:
    with caplog.at_level(logging.INFO, "colony.access"):
        answer = await client.get("/api/colonies/hello?x=secret", headers={"X-Request-Id": "asked-for-hello"})
        body = await answer.get_data()
        good = await client.get("/api/colonies/hello")
        size = len(await good.get_data())
    refused, found = lines(caplog)
    assert refused.pop("seconds") >= 0
    assert refused == {
        "method": "GET", "route": "/api/colonies/<ref>", "status": 422, "bytes": len(body), "who": refused["who"], "role": "ape",
        "request_id": "asked-for-hello", "target": "hello", "code": "unknown-parameter",
    }  # fmt: skip
    assert (found["status"], found["bytes"], "code" in found) == (200, size, False)
    assert "secret" not in caplog.text


async def test_a_stranger_has_no_name_and_an_unknown_path_stands_in_no_line(app: QuartTrio, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "colony.access"):
        await app.test_client().get("/api/password=hunter2?token=hunter2", headers={"Host": "localhost"})
    (line,) = lines(caplog)
    assert (line["who"], line["role"], line["route"]) == (None, None, "other")
    assert "hunter2" not in str(line)


async def test_a_failure_of_the_daemon_is_a_warning_and_the_rest_is_information(
    client: Any, house: CardboardHouse, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING, "colony.access"):
        await client.get("/api/colonies/ghost")
        house.trouble = RuntimeError("broken")
        await client.get("/api/colonies/hello")
    assert [line["status"] for line in lines(caplog)] == [500]


async def test_a_caller_that_left_is_told_as_such(
    client: Any, house: CardboardHouse, caplog: Any, autojump_clock: trio.testing.MockClock
) -> None:
    with caplog.at_level(logging.INFO, "colony.access"), trio.move_on_after(1):
        await client.get(f"/api/events?after={house.journal.last}&wait_seconds=60")
    (line,) = lines(caplog)
    assert (line["status"], line["route"]) == (499, "/api/events")
