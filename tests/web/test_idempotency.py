"""The same key and the same body get the same answer, and the change is made once."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from colony_core.errors import LimitReached
from colony_web.routes import COMPLETE_SECONDS

from .house import CardboardHouse

NEW = {"name": "new", "path": "/src"}
KEY = {"Idempotency-Key": "abc"}


async def test_a_repetition_gets_the_first_answer_and_changes_nothing(client: Any, house: CardboardHouse) -> None:
    first = await client.post("/api/colonies", json=NEW, headers=KEY)
    again = await client.post("/api/colonies", json=NEW, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert await first.get_data() == await again.get_data()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert len(house.calls) == 1


async def test_what_was_done_is_answered_so_although_the_answer_cannot_be_remembered(
    client: Any, house: CardboardHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: Any) -> None:
        raise LimitReached("store-full", "no room left", "free space")

    monkeypatch.setattr(house.idempotency, "finish", full)
    assert (await client.post("/api/colonies", json=NEW, headers=KEY)).status_code == 201
    assert (await client.post("/api/colonies", json=NEW, headers={"Idempotency-Key": "b"})).status_code == 409
    assert "an answer is not remembered" in caplog.text


async def test_a_refusal_is_repeated_too(client: Any, house: CardboardHouse) -> None:
    answers = [await client.post("/api/colonies", json=NEW | {"name": "hello"}, headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [409, 409]
    assert answers[1].content_type == "application/problem+json"
    assert len(house.calls) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("/api/colonies", NEW | {"start": False}), ("/api/tokens", NEW), ("/api/colonies?x", NEW)]
)
async def test_a_key_is_for_one_request_only(client: Any, path: str, body: dict[str, Any]) -> None:
    await client.post("/api/colonies", json=NEW, headers=KEY)
    answer = await client.post(path, json=body, headers=KEY)
    assert answer.status_code == 422


async def test_without_a_key_nothing_is_remembered(client: Any, house: CardboardHouse) -> None:
    assert (await client.post("/api/colonies", json=NEW)).status_code == 201
    assert (await client.post("/api/colonies", json=NEW)).status_code == 409
    assert not house.idempotency.kept


async def test_a_malformed_request_does_not_use_its_key(client: Any, house: CardboardHouse) -> None:
    await client.post("/api/colonies", json={"name": 1}, headers=KEY)
    assert (await client.post("/api/colonies", json=NEW, headers=KEY)).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
async def test_a_key_must_be_visible_and_short(client: Any, house: CardboardHouse, key: str) -> None:
    answer = await client.post("/api/colonies", json=NEW, headers={"Idempotency-Key": key})
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (400, "invalid-idempotency-key")
    assert not house.calls


async def test_two_at_once_are_told_apart(client: Any, house: CardboardHouse) -> None:
    house.pause = trio.Event()
    statuses = []

    async def post() -> None:
        statuses.append((await client.post("/api/colonies", json=NEW, headers=KEY)).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post)
        await trio.testing.wait_all_tasks_blocked()
        await post()
        house.pause.set()
    assert statuses == [409, 201]


async def test_a_secret_is_not_remembered(client: Any, house: CardboardHouse) -> None:
    first = await client.post("/api/tokens", json={"name": "ci"}, headers=KEY)
    again = await client.post("/api/tokens", json={"name": "ci"}, headers=KEY)
    secret = (await first.get_json())["token"]
    assert (await again.get_json()) == (await first.get_json()) | {"token": None}
    [(_, stored)] = house.idempotency.kept.values()
    assert stored is not None
    assert secret.encode() not in stored.body
    assert len(house.keys.made) == 1


async def test_a_change_is_carried_through_although_the_caller_hangs_up(
    serving: Callable[..., Any], house: CardboardHouse
) -> None:
    house.pause = trio.Event()
    served = await serving()
    async with await served.unix() as stream:
        head = b"POST /api/colonies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        body = b'{"name": "new", "path": "/src"}'
        await stream.send_all(head + b"Idempotency-Key: abc\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with trio.fail_after(120):
            while not house.calls:
                await trio.sleep(0.01)
    await trio.testing.wait_all_tasks_blocked(0.05)
    house.pause.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert [view.name for view in house.colonies()] == ["hello", "new"]
    again = await served.ask(
        "/api/colonies", method="POST", body=body, content_type="application/json", idempotency_key="abc"
    )
    assert (again.status, again.headers["idempotency-replayed"]) == (201, "true")


async def test_a_change_that_never_ends_is_given_up(client: Any, house: CardboardHouse, autojump_clock: Any) -> None:
    house.pause = trio.Event()
    began = trio.current_time()
    answer = await client.post("/api/colonies", json=NEW, headers=KEY)
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (504, "change-too-slow")
    assert trio.current_time() - began == pytest.approx(COMPLETE_SECONDS, abs=1)
    again = await client.post("/api/colonies", json=NEW, headers=KEY)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (504, "true")


async def test_a_defect_is_not_begun_anew(client: Any, house: CardboardHouse) -> None:
    async def break_off(ref: str) -> None:
        raise RuntimeError("half way")

    house.start = break_off  # type: ignore[method-assign,assignment]
    first = await client.post("/api/colonies/hello/start", headers=KEY)
    del house.start
    again = await client.post("/api/colonies/hello/start", headers=KEY)
    assert first.status_code == 500
    assert (again.status_code, (await again.get_json(force=True))["code"]) == (500, "outcome-unknown")
    assert not house.calls
