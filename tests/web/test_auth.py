"""Who is let in, by which name, from where."""

import grp
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from quart_trio import QuartTrio

from colony_core.errors import NotAllowed
from colony_web.auth import (
    FAILURES,
    PEER,
    REMEMBERED_ADDRESSES,
    Door,
    Failures,
    Headers,
    Peer,
    allowed_hosts,
    check_host,
    check_origin,
    own_network,
    parse_authority,
)
from colony_web.listeners import open_unix_listener, peer_of

from .conftest import OWNER
from .house import CardboardHouse, config_in
from .wire import ask

PORT = 8000
HOSTS = allowed_hosts(config_in(Path("/x"), port=PORT), ("127.0.0.1", PORT), over_socket=False)


def host(*values: str) -> Headers:
    return Headers([(b"host", value.encode("latin1")) for value in values])


def origin(value: str, *, name: bytes = b"origin") -> Headers:
    return Headers([(name, value.encode("latin1"))])


@pytest.mark.parametrize("value", ["localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_our_own_names_are_let_in(value: str) -> None:
    check_host(host(value), HOSTS)


@pytest.mark.parametrize(
    "value",
    [
        "evil.com",
        "127.evil.com:8000",
        "localhost.evil:8000",
        "web.hello.colony.localhost:8000",
        "colony.localhost:8000",
        "localhost:8000.evil.com",
        "evil.com:8000",
        "localhost",
        "localhost:80",
        "localhost:8001",
        "localhost:",
        "localhost:08000x",
        "localhost.:8000",
        "127.0.0.1.:8000",
        "127.1:8000",
        "0x7f.1:8000",
        "2130706433:8000",
        "0.0.0.0:8000",
        "[::ffff:127.0.0.1]:8000",
        "[::1:8000",
        "::1:8000",
        "user@localhost:8000",
        "localhost:8000,evil.com",
        "localhost:8000 ",
        "",
        " ",
        "ⓛocalhost:8000".encode().decode("latin1"),
    ],
)
def test_any_other_name_is_misdirected(value: str) -> None:
    with pytest.raises(NotAllowed) as error:
        check_host(host(value), HOSTS)
    assert error.value.code == "wrong-host"


@pytest.mark.parametrize("values", [(), ("localhost:8000", "localhost:8000"), ("localhost:8000", "evil.com")])
def test_no_host_and_two_hosts_are_misdirected(values: tuple[str, ...]) -> None:
    with pytest.raises(NotAllowed):
        check_host(host(*values), HOSTS)


@given(st.text(max_size=40))
def test_only_spellings_of_ours_are_ever_let_in(text: str) -> None:
    found = parse_authority(text)
    if found in HOSTS:
        assert found is not None
        assert found[1] == PORT
        assert text.lower().startswith(("localhost:", "127.0.0.1:", "["))


def test_the_port_that_was_reached_counts_not_the_configured_one() -> None:
    found = allowed_hosts(config_in(Path("/x"), port=0), ("127.0.0.1", 40131), over_socket=False)
    assert ("localhost", 40131) in found
    assert ("localhost", 0) not in found


def test_an_address_that_was_reached_is_one_of_ours_behind_a_wildcard() -> None:
    found = allowed_hosts(config_in(Path("/x"), port=PORT), ("192.168.7.7", PORT), over_socket=False)
    assert ("192.168.7.7", PORT) in found


@pytest.mark.parametrize("value", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000"])
def test_our_own_origins_are_let_in(value: str) -> None:
    check_origin(origin(value), HOSTS, ())


@pytest.mark.parametrize(
    "value",
    [
        "null",
        "",
        "http://evil.com",
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:8000",
        "http://localhost:8000.evil.com",
        "file://",
        "localhost:8000",
        "http://hello.colony.localhost:8000",
    ],
)
def test_foreign_origins_are_refused(value: str) -> None:
    with pytest.raises(NotAllowed) as error:
        check_origin(origin(value), HOSTS, ())
    assert error.value.code == "foreign-origin"


@pytest.mark.parametrize("value", ["cross-site", "same-site", "anything"])
def test_pages_of_other_sites_are_refused(value: str) -> None:
    with pytest.raises(NotAllowed):
        check_origin(origin(value, name=b"sec-fetch-site"), HOSTS, ())
    check_origin(origin("same-origin", name=b"sec-fetch-site"), HOSTS, ())


def test_a_further_origin_is_let_in_by_name(house: CardboardHouse) -> None:
    door = Door(house, origins=["https://colony.example"])
    scope = {"type": "http", "method": "GET", "path": "/docs", "server": ("127.0.0.1", PORT)}
    door.admit(scope | {"headers": [(b"host", b"colony.example:443"), (b"origin", b"https://colony.example")]})
    with pytest.raises(NotAllowed):
        door.admit(scope | {"headers": [(b"host", b"colony.example:8000")]})


@pytest.mark.parametrize("value", ["http://colony.example", "http://colony.example:443", "https://colony.example:8443"])
def test_a_page_that_anybody_on_the_way_can_forge_is_not_that_of_a_name_behind_tls(
    house: CardboardHouse, value: str
) -> None:
    door = Door(house, origins=["https://colony.example"])
    scope = {"type": "http", "method": "GET", "path": "/docs", "server": ("127.0.0.1", PORT)}
    with pytest.raises(NotAllowed) as error:
        door.admit(scope | {"headers": [(b"host", b"colony.example"), (b"origin", value.encode())]})
    assert error.value.code == "foreign-origin"


def test_an_origin_that_is_none_is_the_callers_mistake(house: CardboardHouse) -> None:
    with pytest.raises(ValueError, match="expected an origin"):
        Door(house, origins=["colony.example"])


def peer(**changes: Any) -> Peer:
    facts = {"pid": 1, "uid": os.getuid(), "gid": 0, "netns": own_network()} | changes
    return Peer(**facts)


@pytest.mark.parametrize(
    ("asks", "code"),
    [
        (peer(uid=os.getuid() + 4242), "socket-of-another-user"),
        (peer(netns=99), "socket-from-a-cell"),
        (peer(netns=None), "socket-from-a-cell"),
        (peer(uid=0, netns=99), "socket-from-a-cell"),
    ],
)
async def test_strangers_on_the_socket_are_refused(
    app: QuartTrio, house: CardboardHouse, asks: Peer, code: str
) -> None:
    answer = await app.test_client().get("/api/colonies", scope_base={"state": {PEER: asks}})
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (403, code)


async def test_the_kernel_tells_who_is_at_the_other_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with (
        open_unix_listener(path) as listener,
        await trio.open_unix_socket(str(path)),
        await listener.accept() as ours,
    ):
        found = peer_of(ours)
    mine = os.stat("/proc/self/ns/net").st_ino
    assert (found.pid, found.uid, found.gid, found.netns) == (os.getpid(), os.getuid(), os.getgid(), mine)
    assert set(found.groups) <= {os.getgid(), *os.getgroups()}


async def test_a_peer_that_has_ended_has_no_namespace(tmp_path: Path) -> None:
    """Its number may be anybody's by the time it is looked up."""
    path = tmp_path / "s"
    async with open_unix_listener(path) as listener:
        code = f"import socket; s=socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
        await trio.run_process(["python3", "-c", code])
        async with await listener.accept() as accepted:
            assert peer_of(accepted).netns is None


@pytest.mark.kernel
async def test_a_process_in_another_namespace_is_seen_there(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = f"import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); sys.stdin.read()"
    async with open_unix_listener(path) as listener, trio.open_nursery() as nursery:
        command = ["unshare", "--user", "--map-root-user", "--net", "python3", "-c", code]
        process = await trio.lowlevel.open_process(command, stdin=-1)
        async with await listener.accept() as accepted:
            found = peer_of(accepted)
        nursery.cancel_scope.cancel()
    assert process.stdin is not None
    await process.stdin.aclose()
    await process.wait()
    assert found.netns not in (None, os.stat("/proc/self/ns/net").st_ino)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def tokens(house: CardboardHouse) -> dict[str, str]:
    """One token per role."""
    made = {role: await house.keys.mint(role, role, owner="me") for role in ("ape", "viewer")}
    return {role: view.token or "" for role, view in made.items()}


async def test_a_port_needs_a_token(app: QuartTrio, tokens: dict[str, str]) -> None:
    client = app.test_client()
    answer = await client.get("/api/colonies")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await answer.get_json(force=True))["code"] == "token-required"
    assert (await client.get("/api/colonies", headers=bearer(tokens["ape"]))).status_code == 200


@pytest.mark.parametrize("value", ["Bearer nonsense", "Basic YTpi", "Bearer", "ape-1", "Bearer ape-1, Bearer ape-1"])
async def test_a_wrong_token_is_refused(app: QuartTrio, tokens: dict[str, str], value: str) -> None:
    answer = await app.test_client().get("/api/colonies", headers={"Authorization": value})
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (401, "token-unknown")


async def test_a_token_in_the_address_opens_nothing(app: QuartTrio, tokens: dict[str, str]) -> None:
    for name in ("token", "access_token", "key"):
        assert (await app.test_client().get(f"/api/colonies?{name}={tokens['ape']}")).status_code == 401


async def test_a_viewer_looks_and_changes_nothing(
    app: QuartTrio, house: CardboardHouse, tokens: dict[str, str]
) -> None:
    client, header = app.test_client(), bearer(tokens["viewer"])
    assert (await client.get("/api/colonies/hello/logs", headers=header)).status_code == 200
    changes = [
        client.post("/api/colonies/hello/stop", headers=header),
        client.post("/api/tokens", json={"name": "more"}, headers=header),
        client.delete("/api/colonies/hello", headers=header),
    ]
    for change in changes:
        answer = await change
        assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (403, "role-may-not")
    assert [call for call in house.calls if call[0] != "log_page"] == []


async def test_a_viewer_runs_no_command(
    serving: Callable[..., Any], house: CardboardHouse, tokens: dict[str, str]
) -> None:
    served = await serving()
    async with await served.tcp() as stream:
        answer = await ask(
            stream,
            "GET",
            "/api/colonies/hello/exec",
            {
                "host": f"localhost:{served.port}",
                "authorization": f"Bearer {tokens['viewer']}",
                "connection": "Upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        )
    assert (answer.status, answer.json["code"]) == (403, "role-may-not")
    assert not house.exec_requests


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
async def test_the_document_is_nobodys_secret(app: QuartTrio, path: str) -> None:
    assert (await app.test_client().get(path)).status_code == 200
    assert (await app.test_client().get(path, headers={"Host": "evil.com"})).status_code == 421
    assert (await app.test_client().get(path, headers={"Origin": "http://evil.com"})).status_code == 403


async def test_a_foreign_page_changes_nothing(app: QuartTrio, house: CardboardHouse) -> None:
    """A form, a fetch without preflight, an image: each as the socket's owner, so that only the checks stand in the way."""
    base = {"state": {PEER: OWNER}}
    client = app.test_client()
    form = await client.post(
        "/api/colonies/hello/stop", form={"a": "b"}, headers={"Origin": "http://evil.com"}, scope_base=base
    )
    plain = await client.post(
        "/api/colonies", data=b'{"name":"a","path":"/"}', headers={"Content-Type": "text/plain"}, scope_base=base
    )
    image = await client.get("/api/colonies", headers={"Sec-Fetch-Site": "cross-site"}, scope_base=base)
    preflight = await client.options("/api/colonies", headers={"Origin": "http://evil.com"}, scope_base=base)
    assert [each.status_code for each in (form, plain, image, preflight)] == [403, 415, 403, 403]
    assert not house.calls
    for each in (form, plain, image, preflight):
        assert not [name for name in each.headers if str(name[0]).lower().startswith("access-control")]


@pytest.mark.parametrize("value", ["null", "http://evil.com", "http://localhost:1"])
async def test_a_foreign_page_opens_no_websocket(
    serving: Callable[..., Any], value: str, tokens: dict[str, str]
) -> None:
    served = await serving()
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "authorization": f"Bearer {tokens['ape']}",
    }
    for port in (served.port, None):
        async with await (served.tcp() if port else served.unix()) as stream:
            hosted = {"host": f"localhost:{port}" if port else "localhost", "origin": value}
            assert (await ask(stream, "GET", "/ws", upgrade | hosted)).status == 403


async def test_too_many_wrong_tokens_must_wait_and_right_ones_need_not(app: QuartTrio, tokens: dict[str, str]) -> None:
    client = app.test_client()
    answers = [await client.get("/api/colonies", headers=bearer("wrong")) for _ in range(FAILURES + 1)]
    assert [answer.status_code for answer in answers] == [401] * FAILURES + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert (await client.get("/api/colonies", headers=bearer(tokens["ape"]))).status_code == 200


def test_failures_are_forgotten_with_time_and_with_number() -> None:
    now = 0.0
    failures = Failures(lambda: now)
    for _ in range(FAILURES):
        assert failures.count("a") == 0
    assert failures.count("a") > 0
    now = 61.0
    assert failures.count("a") == 0
    for number in range(5 * REMEMBERED_ADDRESSES):
        failures.count(str(number))
    assert len(failures._seen) == REMEMBERED_ADDRESSES


async def test_no_log_holds_a_token(serving: Callable[..., Any], house: CardboardHouse, caplog: Any) -> None:
    caplog.set_level(0)
    served = await serving()
    secret = "cut_1_abcdefghijkl_secret"
    house.trouble = RuntimeError("no")
    token = (await house.keys.mint("x", "ape", owner="me")).token or ""
    await served.ask("/api/colonies", token=secret)
    await served.ask("/api/colonies/hello", token=token)
    assert "failed" in caplog.text
    assert secret not in caplog.text
    assert token not in caplog.text


@pytest.mark.root
async def test_a_group_passes_through_the_folder_to_the_socket_and_sees_nothing_else(tmp_path: Path) -> None:
    group = next(each for each in grp.getgrall() if each.gr_gid not in os.getgroups())
    path = tmp_path / "run" / "s"
    async with open_unix_listener(path, group=group.gr_gid) as listener:
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, group.gr_gid)
        assert (stat.S_IMODE(path.parent.stat().st_mode), path.parent.stat().st_gid) == (0o710, group.gr_gid)
        ask = (
            f"import os, socket; os.chdir({str(path.parent)!r}); s = socket.socket(socket.AF_UNIX);"
            f"os.setgroups([{{group}}]); os.setgid(65534); os.setuid(65534); s.connect('s'); s.recv(1)"
        )
        member = await trio.lowlevel.open_process([sys.executable, "-c", ask.format(group=group.gr_gid)])
        async with await listener.accept() as accepted:
            found = peer_of(accepted)
        assert (await member.wait(), found.uid, group.gr_gid in found.groups) == (0, 65534, True)
        stranger = [sys.executable, "-c", ask.format(group=65533)]
        refused = await trio.run_process(stranger, capture_stderr=True, check=False)
        assert b"PermissionError" in refused.stderr
