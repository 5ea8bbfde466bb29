"""Terminals over WebSockets, on a real keeper: bytes, control, acknowledgements, who may."""

import json
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from colony_core.mycelium import Mycelium
from colony_core.testing.houses import fake_walls, open_test_house, wait_for
from colony_core.views import NewColony
from colony_web.live.terminals import WINDOW_BYTES, Window
from colony_web.protocol import Settings
from colony_web.serve import serve

from .wire import Answer, Served

PATH = "/api/colonies/hello/terminals"
PATIENCE_SECONDS = 120.0
SHELL = {"command": ["sh"], "env": {"PS1": "$ "}}


@attrs.frozen
class Place:
    """A colony that is up, behind a server."""

    house: Mycelium
    served: Served

    async def post(self, body: dict[str, Any], path: str = PATH, **more: Any) -> Answer:
        return await self.served.ask(
            path, method="POST", body=json.dumps(body).encode(), content_type="application/json", **more
        )

    async def open(self, *command: str) -> str:
        answer = await self.post({"command": command} if command else SHELL)
        assert answer.status == 201, answer.json
        assert answer.headers["location"].endswith(answer.json["id"])
        return str(answer.json["id"])

    @asynccontextmanager
    async def look(self, terminal: str, query: str = "", **headers: str) -> AsyncIterator["Screen"]:
        async with await self.served.unix() as stream, trio.open_nursery() as nursery:
            given = [(name.encode(), text.encode()) for name, text in headers.items()]
            connection = await wrap_client_stream(
                nursery, stream, "localhost", f"{PATH}/{terminal}{query}", extra_headers=given
            )
            yield Screen(connection)
            with trio.move_on_after(1):
                await connection.aclose()
            nursery.cancel_scope.cancel()


class Screen:
    """What a socket has shown; it acknowledges everything while `acknowledges`."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.shown = b""
        self.told: list[dict[str, Any]] = []
        self.acknowledges = True
        self.place = 0

    async def take(self) -> None:
        message = await self.connection.get_message()
        if isinstance(message, str):
            self.told.append(json.loads(message))
            self.place = self.told[-1].get("at", self.place)
            return
        assert len(message) <= 64 * 1024
        self.shown += message
        self.place += len(message)
        if self.acknowledges:
            await self.say(ack=self.place)

    async def take_for_ever(self) -> None:
        while True:
            await self.take()

    async def until(self, text: str) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while text.encode() not in self.shown:
                await self.take()

    async def told_of(self, key: str) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_SECONDS):
            while not (found := [each for each in self.told if key in each]):
                await self.take()
        return found[-1]

    async def type(self, text: str) -> None:
        await self.connection.send_message(text.encode())

    async def say(self, **message: Any) -> None:
        await self.connection.send_message(json.dumps(message))

    async def close_code(self) -> int:
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    await self.take()
                except ConnectionClosed as closed:
                    return int(closed.reason.code)


@pytest.fixture
async def place(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Place]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "colony.toml").write_text('[terminal]\ncommand = "echo by the manifest; exec cat"\n')
    async with open_test_house(tmp_path, walls=fake_walls(tmp_path / "run")) as house:
        settings = Settings()
        settings.graceful_timeout = 10_000.0  # a machine that stands still for a while cuts no farewell short
        unix, tcp = await nursery.start(partial(serve, house, settings=settings))
        await house.spawn(NewColony(name="hello", path=str(source)), owner="test")
        await wait_for(house, "hello", lambda view: view.state == "running", timeout=PATIENCE_SECONDS)
        yield Place(house, Served(unix.removeprefix("unix:"), int(tcp.rpartition(":")[2])))
        house.shutdown_requested.set()


async def test_bytes_go_both_ways_and_the_end_is_told(place: Place) -> None:
    async with place.look(await place.open()) as screen:
        assert await screen.told_of("at") == {"at": 0, "missed": 0, "restore": ""}
        await screen.until("$ ")
        await screen.type("printf '\\0\\377x\\n'; echo $((6 * 7)); exit 3\r")
        await screen.until("42\r\n")
        assert b"\0\xffx\r\n" in screen.shown
        assert await screen.told_of("exit") == {"exit": 3, "why": ""}
        assert await screen.close_code() == 1000


async def test_the_manifests_command_is_what_runs_unless_another_is_named(place: Place) -> None:
    answer = await place.post({})
    assert (answer.status, answer.json["command"]) == (201, "echo by the manifest; exec cat")
    async with place.look(answer.json["id"]) as screen:
        await screen.until("by the manifest")


async def test_terminals_are_listed_and_closed(place: Place) -> None:
    first, second = await place.open(), await place.open()
    async with place.look(second, "?rows=33&columns=99") as screen:
        await screen.until("$ ")
        listed = (await place.served.ask(PATH)).json
        assert [(each["id"], each["viewers"], each["opened_by"]) for each in listed] == [
            (first, 0, pwd.getpwuid(os.getuid()).pw_name),
            (second, 1, pwd.getpwuid(os.getuid()).pw_name),
        ]
        assert (listed[1]["rows"], listed[1]["columns"]) == (33, 99)
        assert (await place.served.ask(f"{PATH}/{second}", method="DELETE")).status == 204
        await screen.told_of("exit")
    assert [each["id"] for each in (await place.served.ask(PATH)).json] == [first]
    again = await place.served.ask(f"{PATH}/{second}", method="DELETE")
    assert (again.status, again.json["code"]) == (404, "terminal-not-found")


async def test_a_resize_reaches_the_program_and_every_screen(place: Place) -> None:
    terminal = await place.open()
    async with place.look(terminal, "?rows=30&columns=100") as one, place.look(terminal) as other:
        await one.until("$ ")
        await one.type("stty size\r")
        await one.until("30 100\r\n")
        await one.say(resize={"rows": 31, "columns": 101})
        await one.type("stty size\r")
        await other.until("31 101\r\n")
        assert other.told[-1] == {"size": {"rows": 31, "columns": 101}}


async def test_no_more_than_the_window_is_sent_ahead_of_what_was_shown(place: Place) -> None:
    terminal = await place.open("sh", "-c", "read go; yes 0123456789abcde | head -c 4000000; echo done; exec cat")
    async with place.look(terminal) as screen, place.look(terminal) as other:
        screen.acknowledges = False
        await screen.type("\r")
        await other.until("done\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(screen.take_for_ever)
            with trio.fail_after(PATIENCE_SECONDS):
                while len(screen.shown) <= WINDOW_BYTES - 64 * 1024:
                    await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked(0.05)  # nothing more is under way
            nursery.cancel_scope.cancel()
        assert len(screen.shown) <= WINDOW_BYTES
        screen.acknowledges = True
        await screen.say(ack=screen.place)
        await screen.until("done\r\n")
        jumps = [each for each in screen.told if each.get("missed")]
        assert jumps, "what the keeper could not keep is told"
        assert screen.place == other.place


async def test_who_comes_again_goes_on_behind_the_last_byte(place: Place) -> None:
    terminal = await place.open()
    async with place.look(terminal) as screen:
        await screen.until("$ ")
        await screen.type("echo one-$((1))\r")
        await screen.until("one-1\r\n$ ")
    async with place.look(terminal, f"?after={screen.place}") as again:
        assert (await again.told_of("at"))["at"] == screen.place
        await again.type("echo two-$((2))\r")
        await again.until("two-2")
        assert b"one-1" not in again.shown


async def test_who_only_looks_sees_all_and_types_nothing(place: Place) -> None:
    terminal = await place.open()
    async with place.look(terminal) as writer, place.look(terminal, "?read_only=true") as reader:
        await writer.type("echo $((40 + 2))\r")
        await reader.until("42")
        await reader.type("exit\r")
        assert (await reader.told_of("error"))["error"]["code"] == "read-only"
        await writer.type("echo still-$((1))\r")
        await writer.until("still-1")


async def test_the_role_viewer_may_look_and_no_more(place: Place) -> None:
    terminal = await place.open()
    token = (await place.house.keys.mint("v", "viewer", owner="test")).token
    answer = await place.served.ask(PATH, method="POST", token=token)
    assert (answer.status, answer.json["code"]) == (403, "role-may-not")

    async def look(query: str) -> None:
        async with await place.served.tcp() as stream, trio.open_nursery() as nursery:
            connection = await wrap_client_stream(
                nursery,
                stream,
                f"localhost:{place.served.port}",
                f"{PATH}/{terminal}{query}",
                extra_headers=[(b"authorization", f"Bearer {token}".encode())],
            )
            await Screen(connection).until("$ ")
            nursery.cancel_scope.cancel()

    await look("?read_only=true")
    with pytest.raises(BaseExceptionGroup) as caught:
        await look("")
    assert caught.group_contains(ConnectionRejected)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{PATH}/nothere", 404),
        ("/api/colonies/ghost/terminals/x", 404),
        (f"{PATH}/TERMINAL?rows=24", 422),
        (f"{PATH}/TERMINAL?rows=0&columns=80", 422),
        (f"{PATH}/TERMINAL?rows=24&columns=80&read_only=true", 422),
        (f"{PATH}/TERMINAL?after=-1", 422),
        (f"{PATH}/TERMINAL?behind=1", 422),
    ],
)
async def test_a_socket_that_makes_no_sense_is_not_opened(place: Place, path: str, status: int) -> None:
    terminal = await place.open()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with await place.served.unix() as stream, trio.open_nursery() as nursery:
            await wrap_client_stream(nursery, stream, "localhost", path.replace("TERMINAL", terminal))
    [rejection] = [error for error in flat(caught.value) if isinstance(error, ConnectionRejected)]
    assert rejection.status_code == status


async def test_a_foreign_page_opens_no_terminal(place: Place) -> None:
    terminal = await place.open()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with place.look(terminal, Origin="http://evil.example"):
            pass
    assert [error.status_code for error in flat(caught.value) if isinstance(error, ConnectionRejected)] == [403]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"ack": 99999999}', "invalid-ack"),
        ('{"ack": "1"}', "invalid-ack"),
        ('{"resize": [24, 80]}', "unknown-message"),
        ('{"resize": {"rows": 0, "columns": 80}}', "bad-terminal"),
        ('{"eof": true}', "unknown-message"),
        ("no json", "malformed-json"),
        (b"x" * (64 * 1024 + 1), "input-too-long"),
    ],
)
async def test_nonsense_ends_its_socket_and_not_the_terminal(place: Place, message: Any, code: str) -> None:
    terminal = await place.open()
    async with place.look(terminal) as screen:
        await screen.connection.send_message(message)
        assert (await screen.told_of("error"))["error"]["code"] == code
        assert await screen.close_code() in (4400, 4422)
    async with place.look(terminal) as screen:
        await screen.until("$ ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"command": ["nowhere-to-be-found"]}, 404),
        ({"command": "sh"}, 422),
        ({"screen": {"rows": 0}}, 422),
        ({"cwd": "../../.."}, 422),
        ({"shell": "sh"}, 422),
    ],
)
async def test_a_terminal_that_cannot_be_opened_says_why(place: Place, body: dict[str, Any], status: int) -> None:
    assert (await place.post(body)).status == status
    assert (await place.served.ask(PATH)).json == []


async def test_a_program_that_does_not_read_does_not_keep_its_output_from_a_typist(place: Place) -> None:
    terminal = await place.open("sh", "-c", "stty raw -echo; echo up; head -c 1 > /dev/null; exec seq 1 200000")
    async with place.look(terminal) as screen:
        await screen.until("up")
        for _ in range(12):
            await screen.connection.send_message(b"x" * 60_000)
        await screen.told_of("exit")


async def test_screens_are_told_that_the_daemon_goes_down(place: Place) -> None:
    async with place.look(await place.open()) as screen:
        await screen.until("$ ")
        place.house.shutdown_requested.set()
        assert await screen.close_code() == 1001


async def test_the_window_opens_with_what_was_shown() -> None:
    window = Window()
    for _ in range(4):
        await window.wait_open()
        window.sent(64 * 1024)
    with trio.move_on_after(0) as patience:
        await window.wait_open()
    assert patience.cancelled_caught
    window.acknowledge(1)
    window.acknowledge(0)
    with trio.move_on_after(0) as patience:
        await window.wait_open()
    assert patience.cancelled_caught
    window.acknowledge(64 * 1024)
    await window.wait_open()
    window.jump(10_000_000)
    await window.wait_open()
    window.acknowledge(64 * 1024)
    with trio.move_on_after(0) as patience:
        await window.wait_open()
    assert not patience.cancelled_caught


def flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in flat(inner)]
    return [error]
