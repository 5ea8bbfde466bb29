"""A request that is sent again gets the first answer, and is not carried out again."""

import pytest
import trio
from sqlalchemy import text

from colony_core import clock
from colony_core.access import Idempotency, Stored, fingerprint
from colony_core.access.answers import MAX_BODY_BYTES
from colony_core.errors import ColonyError, Invalid, LimitReached, WrongState
from colony_core.store import Store

ANSWER = Stored(status=201, body=b'{"name": "hello"}', headers={"Location": "/api/colonies/hello"})


async def finish(answers: Idempotency, key: str = "k", caller: str = "ape", answer: Stored = ANSWER) -> None:
    await answers.finish(key, caller, answer.status, answer.body, answer.headers)


async def refused(answers: Idempotency, kind: type[ColonyError], code: str, print_: str = "f") -> None:
    with pytest.raises(kind) as caught:
        await answers.begin("k", "ape", print_)
    assert caught.value.code == code


async def test_the_first_answer_is_given_again_also_after_a_restart(store: Store) -> None:
    answers = Idempotency(store)
    assert await answers.begin("k", "ape", "f") is None
    await finish(answers)
    assert await answers.begin("k", "ape", "f") == ANSWER
    assert await answers.begin("k", "ape", "f") == ANSWER
    assert await Idempotency(store).begin("k", "ape", "f") == ANSWER


async def test_keys_belong_to_their_callers(store: Store) -> None:
    answers = Idempotency(store)
    await answers.begin("k", "ape", "f")
    await finish(answers)
    assert await answers.begin("k", "other", "g") is None
    assert await answers.begin("k2", "ape", "g") is None


async def test_another_request_under_the_same_key_is_refused(store: Store) -> None:
    answers = Idempotency(store)
    await answers.begin("k", "ape", "f")
    await refused(answers, Invalid, "idempotency-key-reused", "g")
    await finish(answers)
    await refused(answers, Invalid, "idempotency-key-reused", "g")
    assert await answers.begin("k", "ape", "f") == ANSWER


async def test_of_many_that_ask_at_once_one_is_let_through(store: Store) -> None:
    answers = Idempotency(store)
    told: list[str] = []

    async def ask() -> None:
        try:
            told.append("begun" if await answers.begin("k", "ape", "f") is None else "answered")
        except WrongState as error:
            told.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert sorted(told) == ["begun"] + ["idempotency-in-progress"] * 9


async def test_what_was_abandoned_may_begin_again(store: Store) -> None:
    answers = Idempotency(store)
    await answers.begin("k", "ape", "f")
    answers.abandon("k", "ape")
    answers.abandon("k", "ape")
    assert await answers.begin("k", "ape", "f") is None


async def test_what_was_under_way_when_the_daemon_died_counts_as_never_begun(store: Store) -> None:
    await Idempotency(store).begin("k", "ape", "f")
    assert await Idempotency(store).begin("k", "ape", "f") is None


async def test_asking_that_is_cancelled_leaves_nothing_under_way(store: Store) -> None:
    answers = Idempotency(store)
    with trio.CancelScope() as scope:
        scope.cancel()
        await answers.begin("k", "ape", "f")
    assert scope.cancelled_caught
    assert await answers.begin("k", "ape", "f") is None


async def test_an_answer_is_kept_although_the_caller_hung_up(store: Store) -> None:
    answers = Idempotency(store)
    await answers.begin("k", "ape", "f")
    with trio.CancelScope() as scope:
        scope.cancel()
        await finish(answers)
    assert await answers.begin("k", "ape", "f") == ANSWER


async def test_after_a_day_the_answer_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Idempotency(store)
    await answers.begin("k", "ape", "f")
    await finish(answers)
    now = clock.unix_now()
    monkeypatch.setattr(clock, "unix_now", lambda: now + 24 * 3600 - 60)
    await answers.prune()
    assert await answers.begin("k", "ape", "f") == ANSWER
    monkeypatch.setattr(clock, "unix_now", lambda: now + 24 * 3600 + 60)
    assert await answers.begin("k", "ape", "f") is None
    await finish(answers, answer=Stored(status=200, body=b"second", headers={}))
    assert await store.read(lambda c: c.scalar(text("SELECT count(*) FROM idempotency"))) == 1
    monkeypatch.setattr(clock, "unix_now", lambda: now + 3 * 24 * 3600)
    await answers.prune()
    assert await store.read(lambda c: c.scalar(text("SELECT count(*) FROM idempotency"))) == 0


async def test_of_an_answer_that_is_too_large_it_is_kept_that_there_was_one(store: Store) -> None:
    answers = Idempotency(store)
    largest = Stored(status=200, body=b"x" * MAX_BODY_BYTES, headers={})
    await answers.begin("k", "ape", "f")
    await finish(answers, answer=largest)
    assert await answers.begin("k", "ape", "f") == largest
    await answers.begin("k2", "ape", "f")
    await finish(answers, key="k2", answer=Stored(status=200, body=b"x" * (MAX_BODY_BYTES + 1), headers={}))
    with pytest.raises(WrongState) as caught:
        await answers.begin("k2", "ape", "f")
    assert caught.value.code == "idempotency-answer-not-kept"
    assert caught.value.details == {"status": 200}


async def test_where_the_store_fails_the_request_counts_as_never_begun(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Idempotency(store)

    async def full(fn: object) -> None:
        raise LimitReached("store-full", "no room")

    await answers.begin("k", "ape", "f")
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        with pytest.raises(LimitReached):
            await finish(answers)
    assert await answers.begin("k", "ape", "f") is None
    answers.abandon("k", "ape")
    with monkeypatch.context() as patch:
        patch.setattr(store, "read", full)
        with pytest.raises(LimitReached):
            await answers.begin("k", "ape", "f")
    assert await answers.begin("k", "ape", "f") is None


def test_a_fingerprint_tells_requests_apart() -> None:
    prints = {
        fingerprint("POST", "/a", b"{}"),
        fingerprint("POST", "/a", b"{ }"),
        fingerprint("POST", "/b", b"{}"),
        fingerprint("PUT", "/a", b"{}"),
    }
    assert len(prints) == 4
    assert fingerprint("POST", "/a", b"{}") in prints
