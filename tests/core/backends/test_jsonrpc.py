"""JSON-RPC in both directions: numbers of two sides, deaths, garbage, and a side that does not read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from colony_core.backends.jsonrpc import OUTBOX_LINES, LineLost, Peer, Request, RpcError, line_of, result_of


@attrs.define
class OtherSide:
    """What the other side hears and says, and what our side heard."""

    peer: Peer
    stream: Any
    asked: list[Request] = attrs.field(factory=list)
    told: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    over: trio.Event = attrs.field(factory=trio.Event)
    _buffer: bytes = b""

    async def hear(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = await self.stream.receive_some()
            assert data, "our side hung up"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    async def say(self, **message: Any) -> None:
        await self.stream.send_all(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


@asynccontextmanager
async def conversation(limit: int = 1000) -> AsyncIterator[OtherSide]:
    ours, theirs = trio.testing.memory_stream_pair()

    async def asked(request: Request) -> bool:
        side.asked.append(request)
        await trio.lowlevel.checkpoint()
        return request.method == "known"

    async def told(method: str, params: dict[str, Any]) -> None:
        side.told.append((method, params))
        await trio.lowlevel.checkpoint()

    async def run() -> None:
        await side.peer.run()
        side.over.set()

    side = OtherSide(Peer(ours, ours, asked=asked, told=told, limit=limit), theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield side
        nursery.cancel_scope.cancel()


async def test_answers_are_told_apart_by_number_in_any_order() -> None:
    results: dict[str, Any] = {}
    async with conversation() as side, trio.open_nursery() as nursery:

        async def call(method: str) -> None:
            results[method] = await side.peer.call(method, {"for": method})

        for method in ("one", "two", "three"):
            nursery.start_soon(call, method)
        heard = [await side.hear() for _ in range(3)]
        for message in reversed(heard):
            await side.say(id=message["id"], result={"to": message["method"]})
    assert results == {method: {"to": method} for method in ("one", "two", "three")}


async def test_both_sides_begin_with_number_0() -> None:
    async with conversation() as side, trio.open_nursery() as nursery:
        results = []

        async def call() -> None:
            results.append(await side.peer.call("ours", {}))

        nursery.start_soon(call)
        assert (await side.hear())["id"] == 0
        await side.say(id=0, method="known", params={"x": 1})
        await trio.testing.wait_all_tasks_blocked()
        assert results == []
        side.peer.answer(side.asked[0], {"y": 2})
        assert await side.hear() == {"jsonrpc": "2.0", "id": 0, "result": {"y": 2}}
        await side.say(id=0, result={"z": 3})
    assert results == [{"z": 3}]
    assert side.asked == [Request(id=0, method="known", params={"x": 1})]


async def test_what_nobody_answers_is_refused_and_what_has_no_number_is_told() -> None:
    async with conversation() as side:
        await side.say(id="a", method="unknown")
        refusal = await side.hear()
        await side.say(method="news", params=[1])
        await side.say(method="news", id=None, params={"a": 1})
        await trio.testing.wait_all_tasks_blocked()
    assert (refusal["id"], refusal["error"]["code"]) == ("a", -32601)
    assert side.told == [("news", {}), ("news", {"a": 1})]


async def test_an_error_is_raised_with_code_words_and_data() -> None:
    async with conversation() as side, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(RpcError) as raised:
                await side.peer.call("x", {})
            assert (raised.value.code, raised.value.message, raised.value.data) == (-32000, "no", {"why": 1})

        nursery.start_soon(call)
        number = (await side.hear())["id"]
        await side.say(id=number, result={"both": 1}, error={"code": -32000, "message": "no", "data": {"why": 1}})


@pytest.mark.parametrize("error", ["words", 7, {"code": "x"}, {"message": None}, []])
def test_an_error_of_any_shape_is_an_error(error: Any) -> None:
    with pytest.raises(RpcError):
        result_of({"error": error})


@pytest.mark.parametrize("result", [None, 7, "x", [1]])
def test_a_result_that_is_no_object_is_an_empty_one(result: Any) -> None:
    assert result_of({"result": result}) == {}


async def test_every_open_call_fails_when_the_other_side_hangs_up() -> None:
    failed = 0
    async with conversation() as side, trio.open_nursery() as nursery:

        async def call() -> None:
            nonlocal failed
            with pytest.raises(LineLost, match="it hung up"):
                await side.peer.call("x", {})
            failed += 1

        for _ in range(3):
            nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        await side.stream.aclose()
        await side.over.wait()
        with pytest.raises(LineLost):
            await side.peer.call("x", {})
        with pytest.raises(LineLost):
            await side.peer.notify("x", {})
        with pytest.raises(LineLost):
            side.peer.answer(Request(id=1, method="x", params={}), {})
    assert failed == 3


async def test_a_late_answer_to_a_call_that_was_given_up_is_dropped() -> None:
    async with conversation() as side:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(side.peer.call, "x", {})
                number = (await side.hear())["id"]
                scope.cancel()
        await side.say(id=number, result={})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side.peer.call, "y", {})
            second = (await side.hear())["id"]
            assert second != number
            await side.say(id=second, result={})


async def test_a_side_that_asks_and_never_reads_is_hung_up_on() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    said = b"".join(line_of({"id": number, "method": "unknown"}) for number in range(OUTBOX_LINES + 10))

    async def nothing(*_: Any) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    peer = Peer(ours, ours, asked=nothing, told=nothing)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, said)
        await peer.run()
    with pytest.raises(LineLost, match="without reading our answers"):
        await peer.call("x", {})


async def test_the_last_words_of_a_side_that_is_gone_are_read_but_not_for_ever(autojump_clock: trio.abc.Clock) -> None:
    async with conversation() as side:
        await side.say(method="news", params={})
        side.peer.end_soon()
        await side.over.wait()
    assert [method for method, _ in side.told] == ["news"]


async def test_a_line_beyond_the_limit_is_the_end() -> None:
    async with conversation(limit=100) as side:
        await side.stream.send_all(b"x" * 101 + b"\n")
        await side.over.wait()
        with pytest.raises(LineLost, match="longer than we read"):
            await side.peer.call("x", {})


MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "id": st.one_of(
            st.integers(-2, 3), st.booleans(), st.floats(), st.text(max_size=2), st.none(), st.lists(st.integers())
        ),
        "method": st.sampled_from(["known", "unknown", "news", "session/update", 7, None, {}]),
        "params": st.recursive(
            st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=5
        ),
        "result": st.none() | st.dictionaries(st.text(), st.integers()) | st.integers(),
        "error": st.none() | st.dictionaries(st.sampled_from(["code", "message", "data"]), st.integers() | st.text()),
    },
)
LINES = st.one_of(
    MESSAGES.map(lambda message: json.dumps(message).encode()),
    st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ")),
    st.just(b'{"id":0,"result":'), st.just(b"[" * 3000), st.just(b'{"a":' * 3000), st.just(b"x" * 2000), st.just(b'{"id":1e999}'),
)  # fmt: skip


@settings(max_examples=200)
@given(lines=st.lists(LINES, max_size=12), cuts=st.lists(st.integers(1, 50), max_size=6), end=st.integers(0, 400))
def test_whatever_is_said_each_call_has_one_end_and_nothing_hangs(
    lines: list[bytes], cuts: list[int], end: int
) -> None:
    """Garbage, answers to any number, frames split anywhere, an end anywhere."""
    data = b"\n".join(lines)[:end] if end else b"\n".join([*lines, b""])

    async def play() -> None:
        ends = 0
        async with conversation(limit=1500) as side, trio.open_nursery() as nursery:

            async def call() -> None:
                nonlocal ends
                with suppress(RpcError, LineLost):
                    assert isinstance(await side.peer.call("x", {}), dict)
                ends += 1

            for _ in range(3):
                nursery.start_soon(call)
            rest = data
            for cut in cuts:
                await side.stream.send_all(rest[:cut])
                rest = rest[cut:]
                await trio.testing.wait_all_tasks_blocked()
            await side.stream.send_all(rest)
            await side.stream.aclose()
            await side.over.wait()
        assert ends == 3
        assert side.peer._pending == {}

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0.5))
