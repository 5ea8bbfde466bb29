"""A key that is revoked ends what is open by it; and the audit log has the words of what was run. Over a real daemon."""

import http.client
import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
import trio

from colony_core.errors import ColonyError
from colony_core.remote import Client, Target, calls
from colony_core.remote.streaming import open_exec
from colony_core.views import ExecRequest

from .driver import Daemon, alive

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

MANIFEST = """
[colony.environment]
DEPLOY_TOKEN = "very-hush"

[services.talk]
command = "echo hello; exec sleep 6000"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one colony."""
    with Daemon(tmp_path_factory.mktemp("revoked")).running() as running:
        running.spawn("hello", MANIFEST)
        running.until_ready("hello")
        yield running


def address(daemon: Daemon) -> urllib.parse.SplitResult:
    return urllib.parse.urlsplit(daemon.send(calls.system())["api_url"])


def target(daemon: Daemon, token: str) -> Target:
    from colony_core.remote import discover

    url = daemon.send(calls.system())["api_url"]
    return discover(url, environ={**daemon.environment, "COLONY_TOKEN": token})


Stream = Callable[..., http.client.HTTPResponse]


@pytest.fixture
def stream(daemon: Daemon) -> Iterator[Stream]:
    """Opens streams; what it gives has begun."""
    with ExitStack() as stack:

        def begin(path: str, **headers: str) -> http.client.HTTPResponse:
            at = address(daemon)
            connection = stack.enter_context(
                closing(http.client.HTTPConnection(at.hostname or "", at.port, timeout=180))
            )
            connection.request("GET", path, headers=headers)
            answer = stack.enter_context(connection.getresponse())
            assert answer.status == 200
            assert answer.readline() == b"retry: 2000\n"
            return answer

        yield begin


def ends(answer: http.client.HTTPResponse) -> bool:
    """Whether a stream is cut; else reading it would time out."""
    try:
        while answer.readline():
            pass
    except (http.client.HTTPException, ConnectionError):
        pass
    return True


def login(daemon: Daemon, token: str) -> str:
    """The cookie of a browser that somebody with this token has let in."""
    link = Client(target(daemon, token)).send_raw(calls.login())["url"]
    said = subprocess.run(["curl", "-sSi", link], capture_output=True, text=True, timeout=180, check=True).stdout
    return next(line for line in said.splitlines() if line.lower().startswith("set-cookie")).split()[1].rstrip(";")


def status(daemon: Daemon, **headers: str) -> int:
    at = address(daemon)
    with closing(http.client.HTTPConnection(at.hostname or "", at.port, timeout=180)) as connection:
        connection.request("GET", "/api/colonies", headers=headers)
        with connection.getresponse() as answer:
            return answer.status


def test_streams_and_browsers_end_with_the_key(daemon: Daemon, stream: Stream) -> None:
    made = daemon.send(calls.mint_token("ann's", person="ann"))
    bearer = {"Authorization": f"Bearer {made['token']}"}
    cookie = {"Cookie": login(daemon, made["token"])}
    open_ones = [
        stream("/api/events/stream", **bearer),
        stream("/api/colonies/hello/logs/stream", **bearer),
        stream("/api/events/stream", **cookie),
    ]
    stays = stream("/api/events/stream", Authorization=f"Bearer {daemon.send(calls.mint_token('b'))['token']}")
    daemon.send(calls.revoke_token(made["id"]))
    assert all(ends(answer) for answer in open_ones)
    assert [status(daemon, **bearer), status(daemon, **cookie)] == [401, 401]
    daemon.send(calls.service("hello", "talk", "restart"))
    assert stays.readline(), "another's goes on"


async def test_commands_and_event_sockets_end_with_the_key(daemon: Daemon) -> None:
    made = daemon.send(calls.mint_token("runs"))
    at = target(daemon, made["token"])
    request = ExecRequest(command=("sh", "-c", "echo $$; exec sleep 6000"))
    with trio.fail_after(180):
        async with open_exec(at, "hello", request) as running:
            pid = int(await running.stdout.receive_some())
            await trio.to_thread.run_sync(daemon.send, calls.revoke_token(made["id"]))
            with pytest.raises(ColonyError):
                await running.wait()
        while alive(pid):
            await trio.sleep(0.02)


@pytest.mark.parametrize("path", ["/ws", "/api/colonies/hello/terminals/{terminal}"])
async def test_a_websocket_is_told_why_it_is_closed(daemon: Daemon, path: str) -> None:
    from colony_core.remote.sockets import open_socket

    made = daemon.send(calls.mint_token("looks"))
    terminal = daemon.send(calls.open_terminal("hello", command=("cat",)))["id"]
    with trio.fail_after(180):
        async with open_socket(target(daemon, made["token"]), path.format(terminal=terminal)) as connection:
            await trio.to_thread.run_sync(daemon.send, calls.revoke_token(made["id"]))
            from trio_websocket import ConnectionClosed

            async def read_on() -> None:
                while True:
                    await connection.get_message()

            with pytest.raises(ConnectionClosed) as closed:
                await read_on()
    assert (closed.value.reason.code, closed.value.reason.reason) == (4401, "token-revoked")


def test_whoever_ends_their_own_key_is_answered(daemon: Daemon) -> None:
    made = daemon.send(calls.mint_token("mine", person="cleo"))
    client = Client(target(daemon, made["token"]))
    assert client.send_raw(calls.revoke_token(made["id"])) is None
    with pytest.raises(ColonyError) as refused:
        client.send_raw(calls.colonies())
    assert refused.value.code == "token-unknown"


def test_a_person_is_out_with_all_keys(daemon: Daemon, stream: Stream) -> None:
    tokens = [daemon.send(calls.mint_token(name, person="dora"))["token"] for name in ("one", "two")]
    open_one = stream("/api/events/stream", Authorization=f"Bearer {tokens[1]}")
    assert "dora has no key any more" in daemon.cli("token", "revoke", "--person", "dora").stdout
    assert ends(open_one)
    assert [status(daemon, Authorization=f"Bearer {token}") for token in tokens] == [401, 401]
    daemon.cli("token", "revoke", "--person", "dora", check=3)
    daemon.cli("token", "revoke", check=2)


def test_the_audit_log_has_the_words_of_what_was_run(daemon: Daemon) -> None:
    before = daemon.send(calls.audit(limit=1))[-1]["seq"]
    daemon.cli("exec", "hello", "--", "sh", "-c", "true very-hush; PASSWORD=hunter2 true")
    daemon.send(calls.open_terminal("hello", command=("cat", "--token", "hunter3")))
    entries = daemon.send(calls.audit(after=before, target="hello"))
    assert [(each["method"], each["status"], each["command"]) for each in entries] == [
        ("WEBSOCKET", 101, "sh -c 'true …; PASSWORD=… true'"),
        ("POST", 201, "cat --token '…'"),
    ]
    assert "hunter" not in json.dumps(entries)
    assert "PASSWORD=…" in daemon.cli("audit", "--target", "hello").stdout
