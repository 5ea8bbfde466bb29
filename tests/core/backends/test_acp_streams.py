"""A client of ACP against an agent of memory streams: time as a test says it is, and whatever lines an agent may say."""

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from colony_core.backends import AgentConfig, Command, Ended, Happening, Job, Program, Text
from colony_core.backends.acp import AcpBackend
from colony_core.backends.telling import MOST_WAITING
from colony_core.processes import Output

from .test_jsonrpc import LINES

Act = Callable[["PaperAgent"], Awaitable[None]]


@attrs.define(eq=False)
class PaperAgent:
    """A process of paper: `act` is all it does; it ends when it is told to by a signal that it minds, or when `act` is over."""

    act: Act
    minds: frozenset[signal.Signals] = frozenset({signal.SIGTERM, signal.SIGKILL})
    signals: list[signal.Signals] = attrs.field(factory=list)
    ended: trio.Event = attrs.field(factory=trio.Event)
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None
    heard: Any = None
    says: Any = None
    last_words: bytes = b""
    """Where errors go; they come late, as a busy machine delivers them."""
    _read: bytes = b""

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    async def signal(self, number: signal.Signals) -> None:
        await trio.lowlevel.checkpoint()
        self.signals.append(number)
        if number in self.minds:
            self.ended.set()

    async def hear(self) -> dict[str, Any] | None:
        """The next message; None when our side hung up."""
        while b"\n" not in self._read:
            data = await self.heard.receive_some()
            if not data:
                return None
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return dict(json.loads(line))

    async def greet(self) -> None:
        """Plays the beginning, up to the prompt."""
        for result in ({"protocolVersion": 1}, {"sessionId": "s"}):
            message = await self.hear()
            if message is None:
                return
            await self.say({"id": message["id"], "result": result})
        await self.hear()

    async def say(self, message: dict[str, Any]) -> None:
        with suppress(trio.BrokenResourceError):
            await self.says.send_all(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    @asynccontextmanager
    async def start(self, command: Command) -> AsyncIterator[Program]:
        self.stdin, self.heard = trio.testing.memory_stream_one_way_pair()
        self.says, output = trio.testing.memory_stream_one_way_pair()
        errors, no_errors = trio.testing.memory_stream_one_way_pair()
        self.stdout, self.stderr = Output(output), Output(no_errors)

        async def live() -> None:
            await self.act(self)
            await self.says.aclose()
            self.ended.set()
            await trio.sleep(0.5)
            await errors.send_all(self.last_words)
            await errors.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            yield self
            nursery.cancel_scope.cancel()
        await errors.aclose()


def job(agent: PaperAgent) -> Job:
    config = AgentConfig(model=None, max_turns=None)
    return Job(colony="hello", instruction="go", workdir=Path("/"), config=config, start=agent.start)


BACKEND = AcpBackend(("/bin/true",))


async def for_ever(agent: PaperAgent) -> None:
    await trio.sleep_forever()


async def told(agent: PaperAgent) -> list[Happening]:
    async with BACKEND.run(job(agent)) as run:
        return [happening async for happening in run.happenings()]


async def test_an_agent_that_says_nothing_has_a_minute(autojump_clock: trio.abc.Clock) -> None:
    [ended] = await told(PaperAgent(for_ever))
    assert trio.current_time() >= 60
    assert isinstance(ended, Ended)
    assert (ended.outcome, ended.code) == ("failed", "protocol")


async def test_an_agent_that_does_not_heed_is_ended_by_force(autojump_clock: trio.abc.Clock) -> None:
    async def stubborn(agent: PaperAgent) -> None:
        await agent.greet()
        await agent.say({"method": "session/update", "params": {"sessionId": "s", "update": {}}})
        await trio.sleep_forever()

    agent = PaperAgent(stubborn, minds=frozenset({signal.SIGKILL}))
    async with BACKEND.run(job(agent)) as run:
        happenings = run.happenings()
        await anext(happenings)
        await trio.testing.wait_all_tasks_blocked()
        await run.interrupt()
        ended = [happening async for happening in happenings][-1]
        assert agent.signals == [signal.SIGTERM, signal.SIGKILL]
    assert ended == Ended(outcome="stopped", evidence=("it was asked to stop and ended by force",))


async def test_last_words_that_come_behind_the_death_are_evidence(autojump_clock: trio.abc.Clock) -> None:
    ended = (await told(PaperAgent(PaperAgent.greet, last_words=b"out of memory")))[-1]
    assert isinstance(ended, Ended)
    assert ended.code == "agent-died"
    assert "stderr: out of memory" in ended.evidence


async def test_a_slow_reader_makes_the_agent_wait_and_loses_nothing(autojump_clock: trio.abc.Clock) -> None:
    said = 0

    async def talker(agent: PaperAgent) -> None:
        nonlocal said
        await agent.greet()
        for number in range(3000):
            content = {"type": "text", "text": f"{number} "}
            update = {"sessionUpdate": "agent_message_chunk", "content": content, "messageId": str(number)}
            await agent.say({"method": "session/update", "params": {"sessionId": "s", "update": update}})
            said += 1
        await agent.say({"id": 2, "result": {"stopReason": "end_turn"}})
        await agent.hear()

    async with BACKEND.run(job(PaperAgent(talker))) as run:
        await trio.testing.wait_all_tasks_blocked()
        happenings = [happening async for happening in run.happenings()]
    texts = [happening.text for happening in happenings if isinstance(happening, Text)]
    assert texts == [f"{number} " for number in range(3000)]


async def test_a_slow_reader_loses_nothing_of_what_an_agent_said_before_it_died(
    autojump_clock: trio.abc.Clock,
) -> None:
    texts = [f"{number} " for number in range(2 * MOST_WAITING)]

    async def talker(agent: PaperAgent) -> None:
        await agent.greet()
        for text in texts:
            update = {
                "sessionUpdate": "agent_message_chunk",
                "content": {"type": "text", "text": text},
                "messageId": text,
            }
            await agent.say({"method": "session/update", "params": {"sessionId": "s", "update": update}})
        await agent.say({"id": 2, "result": {"stopReason": "end_turn"}})

    async with BACKEND.run(job(PaperAgent(talker))) as run:
        await trio.sleep(60)
        happenings = [happening async for happening in run.happenings()]
    assert [happening.text for happening in happenings if isinstance(happening, Text)] == texts
    assert isinstance(happenings[-1], Ended)
    assert happenings[-1].outcome == "done"


UPDATES = st.builds(
    lambda kind, fields: {
        "method": "session/update", "params": {"sessionId": "s", "update": {**fields, "sessionUpdate": kind}}
    },
    st.sampled_from(["agent_message_chunk", "agent_thought_chunk", "tool_call", "tool_call_update", "plan", "usage_update", "x"]),
    st.dictionaries(
        st.sampled_from(
            ["content", "messageId", "toolCallId", "status", "rawInput", "rawOutput", "entries", "cost", "kind", "locations", "_meta"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.sampled_from(["text", "a", "completed", "edit", "USD"]),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "text", "content", "status", "path", "amount", "currency", "claudeCode", "toolName"]),
                inner,
                max_size=3,
            ),
            max_leaves=8,
        ),
        max_size=6,
    ),
)  # fmt: skip
ASKS = st.builds(
    lambda number, call, options: {
        "id": number, "method": "session/request_permission", "params": {"toolCall": call, "options": options}
    },
    st.integers(0, 3),
    st.none() | st.fixed_dictionaries({"toolCallId": st.sampled_from(["a", "b"])}) | st.lists(st.integers(), max_size=1),
    st.none() | st.lists(st.fixed_dictionaries({"optionId": st.just("y"), "kind": st.just("allow_once")}), max_size=2),
)  # fmt: skip
SAID = st.one_of(
    LINES, UPDATES.map(lambda message: json.dumps(message).encode()), ASKS.map(lambda m: json.dumps(m).encode())
)


@settings(max_examples=200)
@given(
    before=st.lists(LINES, max_size=3),
    during=st.lists(SAID, max_size=15),
    cut=st.integers(0, 3000),
    stops=st.booleans(),
)
def test_whatever_an_agent_says_there_is_one_end_and_it_is_the_last(
    before: list[bytes], during: list[bytes], cut: int, stops: bool
) -> None:
    async def babbler(agent: PaperAgent) -> None:
        await agent.says.send_all(b"".join(line + b"\n" for line in before))
        with trio.move_on_after(1):
            await agent.greet()
        data = b"".join(line + b"\n" for line in during)
        with suppress(trio.BrokenResourceError):
            await agent.says.send_all(data[:cut] if cut else data)

    async def play() -> None:
        async with BACKEND.run(job(PaperAgent(babbler))) as run:
            if stops:
                await trio.testing.wait_all_tasks_blocked()
                await run.interrupt()
            happenings = [happening async for happening in run.happenings()]
        assert [isinstance(happening, Ended) for happening in happenings] == [False] * (len(happenings) - 1) + [True]
        ended = happenings[-1]
        assert isinstance(ended, Ended)
        assert ended.evidence

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
