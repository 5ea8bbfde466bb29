"""What an agent gets for its calls, over a real conversation with a real house whose walls are cardboard."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from colony_core.access import AuditRecord
from colony_core.mycelium import Mycelium
from colony_core.testing import fake_walls, open_test_house, wait_for
from colony_core.tools import Caller, Desk, converse
from colony_core.views import NewColony

MANIFEST = (
    '[colony]\ndescription = "one"\n\n[services.idle]\ncommand = "echo here; exec sleep 600"\nautostart = false\n'
)
CALLER = Caller(pid=1, uid=0)


class Agent:
    """The agent's side of a conversation."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._rest = b""

    async def say(self, **message: Any) -> None:
        await self.stream.send_all(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(120):
            while b"\n" not in self._rest:
                data = await self.stream.receive_some()
                assert data, "it hung up"
                self._rest += bytes(data)
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, method: str, **params: Any) -> Any:
        await self.say(id="a", method=method, params=params)
        answer = await self.hear()
        assert answer["id"] == "a"
        return answer.get("result", answer.get("error"))

    async def line(self, service: str) -> str:
        """The only line of a service's log, as soon as it is there: what runs need not have said its first word."""
        with trio.fail_after(120):
            while (text := (await self.call("logs", service=service))[0]) == "no lines":
                await trio.sleep(0.01)
        (line,) = text.splitlines()
        return line

    async def call(self, name: str, **arguments: Any) -> tuple[str, bool]:
        result = await self.ask("tools/call", name=name, arguments=arguments)
        (part,) = result["content"]
        return part["text"], not result["isError"]


@asynccontextmanager
async def at_work(tmp_path: Path) -> AsyncIterator[tuple[Mycelium, Agent]]:
    async with open_test_house(tmp_path, walls=fake_walls(tmp_path / "run")) as house:
        for name, owner in (("one", "ann"), ("two", "ann"), ("other", "bob")):
            folder = tmp_path / f"home-{name}"
            folder.mkdir()
            (folder / "colony.toml").write_text(MANIFEST)
            await house.spawn(NewColony(name=name, path=str(folder)), owner=owner)
            await wait_for(house, name, lambda view: view.state == "running", timeout=120)
        ours, theirs = trio.testing.lockstep_stream_pair()
        desk = Desk(house, house._colonies.find("one"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, desk, theirs, CALLER)
            yield house, Agent(ours)
            nursery.cancel_scope.cancel()


async def audited(house: Mycelium) -> list[AuditRecord]:
    return [each for each in await house.audit.page(after=0, limit=1000) if each.method == "TOOL"]


async def test_it_introduces_itself_in_the_version_that_is_asked_for_or_its_newest(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, agent):
        for asked, told in (("2024-11-05", "2024-11-05"), ("1999-01-01", "2025-11-25")):
            said = await agent.ask("initialize", protocolVersion=asked, capabilities={})
            assert said["protocolVersion"] == told
            assert said["serverInfo"]["name"] == "colony"
            assert "colony.toml" in said["instructions"]
        await agent.say(method="notifications/initialized")
        assert await agent.ask("ping") == {}
        assert (await agent.ask("resources/list"))["code"] == -32601


async def test_every_tool_says_what_it_takes_and_takes_nothing_else(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (house, agent):
        tools = (await agent.ask("tools/list"))["tools"]
        for tool in tools:
            assert len(tool["description"]) > 40
            assert tool["inputSchema"]["additionalProperties"] is False
            needed = dict.fromkeys(tool["inputSchema"]["required"], "x")
            text, good = await agent.call(tool["name"], **needed, nonsense=1)
            assert (text.startswith("invalid-argument: "), good) == (True, False), tool["name"]
            for name, schema in tool["inputSchema"]["properties"].items():
                wrong: Any = "seven" if schema["type"] == "integer" else 7
                text, good = await agent.call(tool["name"], **{**needed, name: wrong})
                assert (text.startswith("invalid-argument: "), good) == (True, False), (tool["name"], name)
        assert [tool["name"] for tool in tools if not tool["annotations"]["readOnlyHint"]] == [
            "start_service", "stop_service", "restart_service", "apply", "report", "ask", "request_approval",
        ]  # fmt: skip
        assert await agent.call("servces") == (
            "unknown-tool: there is no tool 'servces' (hint: did you mean services?)",
            False,
        )
        assert {entry.status for entry in await audited(house)} == {422}


async def test_a_service_is_started_awaited_and_stopped(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (house, agent):
        assert json.loads((await agent.call("services"))[0])["state"] == "stopped"
        assert await agent.call("logs") == ("no lines", True)
        started = json.loads((await agent.call("start_service", service="idle"))[0])
        assert started["state"] == "ready"
        number, text = (await agent.line("idle")).split(" ", 1)
        assert text == "idle out: here"
        again = json.loads((await agent.call("start_service", service="idle"))[0])
        assert again["pid"] == started["pid"], "what runs is left alone"
        assert json.loads((await agent.call("stop_service", service="idle"))[0])["state"] == "stopped"
        assert json.loads((await agent.call("stop_service", service="idle"))[0])["state"] == "stopped"
        assert await agent.call("logs", after=int(number)) == ("no lines", True)
        rows = [(each.command, each.status, each.who, each.person, each.source) for each in await audited(house)]
        who = f"colony:{house.colony('one').id}"
        assert rows == [
            (command, 200, who, "ann", "tools, uid 0, pid 1")
            for command in ("start_service idle", "start_service idle", "stop_service idle", "stop_service idle")
        ]


async def test_a_service_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, agent):
        (tmp_path / "home-one/colony.toml").write_text(
            '[services.idle]\ncommand = "echo no database; exit 3"\nautostart = false\nrestart = "never"\n'
            'ready = { log = "up" }\n'
        )
        changes, good = await agent.call("apply")
        assert (good, "command changed" in changes) == (True, True)
        text, good = await agent.call("start_service", service="idle")
        assert good is False
        assert '"state": "failed"' in text
        assert text.endswith("idle out: no database")


async def test_siblings_are_those_of_the_same_owner(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, agent):
        (line,) = (await agent.call("siblings"))[0].splitlines()
        assert json.loads(line) == {
            "name": "two",
            "state": "running",
            "agent": None,
            "instruction": None,
            "preview": None,
        }


@pytest.mark.parametrize(
    ("edit", "binding"),
    [
        ('[agent]\npermissions = "all"\n', "agent"),
        ("[agent.budget]\nusd = 1000\n", "agent"),
        ('[checks]\ntests = "true"\n', "checks"),
        ('[network]\nlinks = ["two"]\n', "links"),
        ('[limits]\nmemory = "64G"\n', "limits"),
    ],
)
async def test_what_binds_the_agent_is_for_a_person_to_apply(tmp_path: Path, edit: str, binding: str) -> None:
    async with at_work(tmp_path) as (house, agent):
        file = tmp_path / "home-one/colony.toml"
        file.write_text(MANIFEST.replace("sleep 600", "sleep 601") + edit)
        text, good = await agent.call("apply")
        assert text.startswith(f"needs-a-person: colony.toml changes {binding}, which")
        assert good is False
        assert "sleep 600" in house.colony("one").services[0].command, "nothing was applied"
        assert [(each.status, each.code) for each in await audited(house)] == [(403, "needs-a-person")]
        await house.apply("one")
        colony = house._colonies.find("one")
        with trio.fail_after(120):
            while "sleep 601" not in colony.service("idle").view().command:
                await colony.any_service_change()


async def test_calls_that_change_something_are_counted_and_looking_is_not(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (house, agent):
        for _ in range(60):
            assert (await agent.call("report", text="on my way"))[1]
        for name, arguments in (("apply", {}), ("report", {"text": "x"}), ("services", {"colony": "two"})):
            text, good = await agent.call(name, **arguments)
            assert (text.partition(":")[0], good) == ("too-many-calls", False)
        assert (await agent.call("services"))[1]
        assert await audited(house) == [], "nor do they fill the audit log"


async def test_a_call_that_is_taken_back_is_not_answered_and_the_next_one_is(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, agent):
        (tmp_path / "home-one/colony.toml").write_text(MANIFEST + 'ready = { log = "never said" }\n')
        await agent.call("apply")
        call = {"name": "start_service", "arguments": {"service": "idle"}}
        await agent.say(id=7, method="tools/call", params=call)
        assert await agent.ask("ping") == {}
        await agent.say(method="notifications/cancelled", params={"requestId": 7})
        for _ in range(3):
            assert await agent.ask("ping") == {}
        assert (await agent.call("services"))[1]


async def test_what_is_no_call_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, agent):
        await agent.stream.send_all(b"what?\n[1]\n{}\n")
        for params in ({}, {"name": 3}, {"name": "services", "arguments": "all"}, {"name": None, "arguments": None}):
            assert set(await agent.ask("tools/call", **params)) == {"content", "isError"}
        assert await agent.ask("ping") == {}
