"""The line to HumanLayer's daemon: whatever comes over it, each question has one end; and a real Unix socket."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from colony_core.backends import Ended, HldBackend
from colony_core.backends.hld_line import HldLine
from colony_core.backends.hld_story import Rows
from colony_core.backends.jsonrpc import RpcError
from colony_core.errors import ColonyError, Unreachable

from .fake_hld import FakeHld
from .test_hld import job, play
from .test_jsonrpc import LINES


class Babbler:
    """A daemon that says the same to everybody, then hangs up, or not."""

    def __init__(self, nursery: trio.Nursery, data: bytes, *, cut: int, hangs_up: bool) -> None:
        self.nursery = nursery
        self.pieces = (data[:cut], data[cut:])
        self.hangs_up = hangs_up

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.babble, ours)
        return theirs

    async def babble(self, stream: trio.abc.Stream) -> None:
        for piece in self.pieces:
            try:
                await stream.send_all(piece)
            except trio.BrokenResourceError:
                return
            await trio.testing.wait_all_tasks_blocked()
        if self.hangs_up:
            await stream.aclose()


@settings(max_examples=200)
@given(lines=st.lists(LINES, max_size=6), cut=st.integers(0, 200), hangs_up=st.booleans())
def test_whatever_the_daemon_says_a_question_and_a_subscription_have_one_end(
    lines: list[bytes], cut: int, hangs_up: bool
) -> None:
    ends: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            babbler = Babbler(nursery, b"".join(line + b"\n" for line in lines), cut=cut, hangs_up=hangs_up)
            line = HldLine(Path("/s"), babbler.connect)
            try:
                assert isinstance(await line.call("health"), dict)
            except (ColonyError, RpcError):
                ends.append("refused")
            try:
                async with line.events() as events:
                    async for event in events:
                        assert set(event) == {"type", "data"}
            except (ColonyError, RpcError):
                ends.append("over")
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert ends[-1] == "over"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from(["session-1", "message", "assistant", "tool_call", "{", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "events", "status", "session"]), inner)
    ),
    max_leaves=6,
)
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["id", "session_id", "event_type", "role", "content", "tool_input_json", "tool_name", "parent_tool_use_id"]
        ),
        VALUES,
    ),
    max_size=6,
)


@given(answers=st.lists(st.one_of(ROWS, VALUES), max_size=4))
def test_rows_of_any_shape_are_told_once_or_passed_over(answers: list[Any]) -> None:
    rows = Rows("session-1")
    for answer in answers:
        told = rows.new({"events": answer})
        assert rows.new({"events": answer}) == [] or not told


@settings(max_examples=60)
@given(
    method=st.sampled_from(["getSessionState", "getConversation", "fetchApprovals", "listSessions", "launchSession"]),
    result=VALUES,
)
def test_whatever_one_answer_holds_the_run_has_one_end(method: str, result: Any) -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\n"

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            hld = FakeHld(nursery, answers={method: line})
            backend = HldBackend(HldLine(Path("/s"), hld.connect))
            async with backend.run(job("hello")) as run:
                with trio.move_on_after(5):
                    await trio.sleep_forever()
                await run.interrupt()
                happenings = [happening async for happening in run.happenings()]
            assert [isinstance(happening, Ended) for happening in happenings].count(True) == 1
            assert isinstance(happenings[-1], Ended)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_it_speaks_over_a_real_socket_and_says_when_it_was_lost(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    hld = FakeHld(nursery)
    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(str(path))
        listener.listen()
        server = trio.SocketListener(listener)
        nursery.start_soon(trio.serve_listeners, hld.serve, [server])
        line = HldLine(path)
        assert (await line.call("health"))["status"] == "ok"
        with pytest.raises(RpcError, match="Method not found: nothing"):
            await line.call("nothing")
        hld.answers = {"getSessionState": b""}
        with pytest.raises(Unreachable, match="hung up"):
            await line.call("getSessionState")
        nursery.cancel_scope.cancel()


async def test_a_request_is_not_understood_without_its_version(nursery: trio.Nursery) -> None:
    hld = FakeHld(nursery)
    stream = await hld.connect()
    await stream.send_all(b'{"id":1,"method":"health"}\nnot json\n\n')
    said = b""
    while said.count(b"\n") < 2:
        said += await stream.receive_some()
    assert [json.loads(line)["error"]["code"] for line in said.splitlines()] == [-32600, -32700]


async def test_a_long_conversation_is_pulled_whole(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    hld = FakeHld(nursery)
    happenings = await play(hld, job({"say": "x" * 2**20}, {"say": "y" * 2**20}))
    assert [len(getattr(happening, "text", "")) for happening in happenings][1:3] == [2**20, 2**20]
