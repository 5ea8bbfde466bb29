"""A browser logs in by a link that is good once; its cookie opens nothing to pages of other hosts, and is written in no log."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from quart_trio import QuartTrio

from colony_core.access import house_owner
from colony_core.config import Access, Server
from colony_web import create_app
from colony_web.auth import FAILURES, PEER

from .conftest import OWNER
from .house import CardboardHouse
from .wire import ask, read_until

SOCKET = {"state": {PEER: OWNER}}
OWNER_NAME = house_owner()
OURS = {"Colony-Request": "1"}


async def path_of_login(app: QuartTrio) -> str:
    answer = await app.test_client().post("/api/logins", scope_base=SOCKET)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    return str((await answer.get_json())["path"])


async def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, (await answer.get_json(force=True))["code"]


async def logged_in(app: QuartTrio, **headers: str) -> tuple[str, str]:
    """The cookie, and all that was said of it."""
    answer = await app.test_client().get(await path_of_login(app), headers=headers)
    assert answer.status_code == 303
    said = answer.headers["Set-Cookie"]
    return said.partition(";")[0], said


async def test_a_link_becomes_a_cookie_once(app: QuartTrio) -> None:
    path = await path_of_login(app)
    answer = await app.test_client().get(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    said = answer.headers["Set-Cookie"].split("; ")
    assert said[0].startswith("colony_session=")
    assert set(said[1:]) == {"Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}
    assert await code_of(await app.test_client().get(path)) == (401, "login-code-unknown")
    headers = {"Cookie": f"a=b; {said[0]}; c=d"}
    assert (await app.test_client().get("/api/colonies", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("bound", "origins", "begins"),
    [
        ("http://127.0.0.1:8000", (), "http://127.0.0.1:8000/login?code="),
        ("http://127.0.0.1:8000", ("http://box.lan:8000",), "http://127.0.0.1:8000/login?code="),
        ("http://127.0.0.1:8000", ("http://box.lan", "https://colony.example"), "https://colony.example/login?code="),
        ("http://0.0.0.0:8000", (), "http://localhost:8000/login?code="),
        ("http://[::]:8000", (), "http://localhost:8000/login?code="),
    ],
)
async def test_the_link_leads_to_where_a_browser_finds_us(
    house: CardboardHouse, monkeypatch: pytest.MonkeyPatch, bound: str, origins: tuple[str, ...], begins: str
) -> None:
    system = attrs.evolve(house.system(), api_url=bound)
    monkeypatch.setattr(house, "system", lambda: system)
    object.__setattr__(house.config, "server", Server(origins=origins))
    answer = await create_app(house).test_client().post("/api/logins", scope_base=SOCKET)
    assert (await answer.get_json())["url"].startswith(begins)


async def test_who_logged_in_is_written_down(app: QuartTrio, house: CardboardHouse) -> None:
    path = await path_of_login(app)
    await app.test_client().get(path)
    await app.test_client().get(path)
    assert [(each.path, each.person, each.status) for each in house.audit.entries] == [
        ("/api/logins", OWNER_NAME, 201),
        ("/login", OWNER_NAME, 303),
        ("/login", "", 401),
    ]


async def test_looking_ahead_uses_no_link_up(app: QuartTrio) -> None:
    path = await path_of_login(app)
    client = app.test_client()
    assert (await client.head(path)).status_code == 204
    assert (await client.get(path, headers={"Sec-Purpose": "prefetch;prerender"})).status_code == 204
    assert (await client.get(path)).status_code == 303


async def test_a_link_on_a_page_of_another_site_logs_nobody_in(app: QuartTrio) -> None:
    path = await path_of_login(app)
    answer = await app.test_client().get(path, headers={"Sec-Fetch-Site": "cross-site"})
    assert await code_of(answer) == (403, "foreign-origin")
    assert (await app.test_client().get(path, headers={"Sec-Fetch-Site": "none"})).status_code == 303


async def test_wrong_codes_must_wait_after_a_while(app: QuartTrio) -> None:
    client = app.test_client()
    answers = [await client.get("/login?code=guess") for _ in range(FAILURES + 1)]
    assert [each.status_code for each in answers] == [401] * FAILURES + [429]
    for path in ("/login", "/login?code=a&code=b"):
        assert (await client.get(path)).status_code == 429


async def test_a_cookie_changes_nothing_without_the_header_of_our_pages(app: QuartTrio, house: CardboardHouse) -> None:
    cookie, _ = await logged_in(app)
    client = app.test_client()
    answer = await client.post("/api/colonies/hello/stop", headers={"Cookie": cookie})
    assert await code_of(answer) == (403, "header-required")
    foreign = {"Cookie": cookie, "Origin": "http://web.hello.colony.localhost:8088"} | OURS
    assert await code_of(await client.post("/api/colonies/hello/stop", headers=foreign)) == (403, "foreign-origin")
    assert not house.calls
    ours = {"Cookie": cookie, "Origin": "http://localhost"} | OURS
    assert (await client.post("/api/colonies/hello/stop", headers=ours)).status_code == 202


async def test_a_cookie_opens_no_websocket_without_an_origin(
    serving: Callable[..., Any], app: QuartTrio, house: CardboardHouse
) -> None:
    cookie, _ = await logged_in(app)
    served = await serving()
    upgrade = {
        "host": f"localhost:{served.port}", "connection": "Upgrade", "upgrade": "websocket", "cookie": cookie,
        "sec-websocket-version": "13", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    for origin, status in ((None, 403), ("http://localhost:1", 403), (f"http://localhost:{served.port}", 101)):
        async with await served.tcp() as stream:
            if status == 101:
                lines = "".join(f"{name}: {value}\r\n" for name, value in (upgrade | {"origin": origin}).items())
                await stream.send_all(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
                assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            else:
                answer = await ask(stream, "GET", "/ws", upgrade | ({"origin": origin} if origin else {}))
                assert answer.status == status


async def test_a_cookie_that_another_host_set_beside_ours_opens_nothing(app: QuartTrio) -> None:
    cookie, _ = await logged_in(app)
    for header in (f"{cookie}; colony_session=other", f"colony_session=other; {cookie}", f"{cookie}; {cookie}"):
        answer = await app.test_client().get("/api/colonies", headers={"Cookie": header})
        assert await code_of(answer) == (401, "cookie-doubled")


async def test_over_https_the_cookie_is_of_that_host_alone_and_the_plain_name_is_not_taken(
    house: CardboardHouse,
) -> None:
    app = create_app(house, origins=["https://colony.example"])
    cookie, said = await logged_in(app, Host="colony.example")
    assert cookie.startswith("__Host-colony_session=")
    assert said.endswith("; Secure")
    assert "Domain" not in said
    client, host = app.test_client(), {"Host": "colony.example"}
    assert (await client.get("/api/colonies", headers={"Cookie": cookie} | host)).status_code == 200
    plain = cookie.removeprefix("__Host-")
    answer = await client.get("/api/colonies", headers={"Cookie": plain} | host)
    assert await code_of(answer) == (401, "token-required")


async def test_logging_out_ends_the_session_and_takes_the_cookie_away(app: QuartTrio) -> None:
    cookie, _ = await logged_in(app)
    client = app.test_client()
    answer = await client.post("/api/logout", headers={"Cookie": cookie} | OURS)
    assert answer.status_code == 204
    assert answer.headers["Set-Cookie"].startswith("colony_session=; Path=/; Max-Age=0")
    assert await code_of(await client.get("/api/colonies", headers={"Cookie": cookie})) == (401, "session-unknown")
    assert await code_of(await client.post("/api/logout", scope_base=SOCKET)) == (409, "no-session")


async def test_a_session_makes_no_further_one_and_lasts_as_configured(app: QuartTrio, house: CardboardHouse) -> None:
    object.__setattr__(house.config, "access", Access(session=60.0))
    cookie, said = await logged_in(app)
    assert "Max-Age=60" in said
    answer = await app.test_client().post("/api/logins", headers={"Cookie": cookie} | OURS)
    assert await code_of(answer) == (403, "session-makes-no-login")


async def test_a_repeated_request_for_a_link_is_told_none(app: QuartTrio) -> None:
    client, key = app.test_client(), {"Idempotency-Key": "k"}
    first = await (await client.post("/api/logins", headers=key, scope_base=SOCKET)).get_json()
    again = await (await client.post("/api/logins", headers=key, scope_base=SOCKET)).get_json()
    assert "code=" in first["path"]
    assert (again["path"], again["url"]) == ("", "")


# ---- what is written down


async def test_every_write_is_written_down_with_who_and_from_where(
    serving: Callable[..., Any], house: CardboardHouse
) -> None:
    served = await serving()
    token = (await house.keys.mint("laptop", "viewer", owner="ann")).token
    await served.ask("/api/colonies/hello/stop?grace=1", method="POST", token="")
    await served.ask("/api/colonies/hello/stop", method="POST", token=token)
    await served.ask("/api/colonies/hello/stop", method="POST")
    await served.ask("/api/colonies/hello", method="GET")
    await served.ask("/nothing", method="PUT", origin="http://evil.com")
    entries = house.audit.entries
    assert [(each.name, each.role, each.person, each.status, each.code) for each in entries] == [
        ("", "", "", 401, "token-required"),
        ("laptop", "viewer", "ann", 403, "role-may-not"),
        (OWNER_NAME, "ape", OWNER_NAME, 202, ""),
        ("", "", "", 403, "foreign-origin"),
    ]
    assert [each.source.partition(",")[0] for each in entries] == ["127.0.0.1", "127.0.0.1", "socket", "socket"]
    assert [(each.path, each.target) for each in entries[:3]] == [
        ("/api/colonies/hello/stop", ""),
        ("/api/colonies/hello/stop", ""),
        ("/api/colonies/hello/stop", "hello"),
    ]
    assert all(each.request_id.startswith("req_") for each in entries)


async def test_a_write_is_written_down_before_it_is_answered(app: QuartTrio, house: CardboardHouse) -> None:
    order: list[str] = []
    record = house.audit.record

    async def slow(entry: Any) -> None:
        await record(entry)
        order.append("written")

    house.audit.record = slow  # type: ignore[method-assign]
    await app.test_client().post("/api/colonies/hello/stop", scope_base=SOCKET)
    order.append("answered")
    assert order == ["written", "answered"]


async def test_no_entry_holds_a_secret(app: QuartTrio, house: CardboardHouse, caplog: Any) -> None:
    caplog.set_level(0)
    secret = "cut_1_abcdefghijkl_0123456789abcdefghijABCDEFGHIJ0123456789abc_123456"
    client = app.test_client()
    await client.delete(f"/api/tokens/{secret}", scope_base=SOCKET)
    await client.post("/api/tokens", json={"name": "x", "role": secret}, scope_base=SOCKET)
    path = await path_of_login(app)
    answer = await client.get(path)
    cookie = answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    told = "".join(repr(each) for each in house.audit.entries) + caplog.text
    assert "/login" in told
    assert "cut_1_abcdefghijkl…" in told
    for hidden in (secret, path.partition("code=")[2], cookie):
        assert hidden not in told


async def test_the_audit_log_is_read_by_those_who_may(app: QuartTrio, house: CardboardHouse) -> None:
    client = app.test_client()
    ann = {"Authorization": f"Bearer {(await house.keys.mint('laptop', 'ape', owner='ann')).token}"}
    await client.post("/api/colonies/hello/stop", headers=ann)
    await client.post("/api/colonies/hello/start", scope_base=SOCKET)
    everything = await (await client.get("/api/audit", scope_base=SOCKET)).get_json()
    assert [(each["name"], each["status"]) for each in everything] == [("laptop", 403), (OWNER_NAME, 202)]
    own = await (await client.get("/api/audit?after=0", headers=ann)).get_json()
    assert [(each["name"], each["code"]) for each in own] == [("laptop", "not-your-colony")]
    assert await (await client.get("/api/audit?after=1&limit=1", scope_base=SOCKET)).get_json() == everything[1:]
    viewer = {"Authorization": f"Bearer {(await house.keys.mint('v', 'viewer', owner='me')).token}"}
    assert await code_of(await client.get("/api/audit", headers=viewer)) == (403, "role-may-not")


@pytest.mark.parametrize("gid", ["primary", "further"])
async def test_a_configured_group_comes_in_by_the_socket_as_themselves(house: CardboardHouse, gid: str) -> None:
    import grp

    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, OWNER.gid))
    object.__setattr__(house.config, "access", Access(group=group.gr_name))
    app = create_app(house)
    from attrs import evolve

    stranger = evolve(OWNER, uid=4242, gid=group.gr_gid if gid == "primary" else 9999)
    member = evolve(stranger, groups=frozenset({group.gr_gid}) if gid == "further" else frozenset())
    answer = await app.test_client().get("/api/colonies", scope_base={"state": {PEER: member}})
    assert answer.status_code == 200
    answer = await app.test_client().post("/api/colonies/hello/stop", scope_base={"state": {PEER: member}})
    assert await code_of(answer) == (403, "not-your-colony")
    nobody = evolve(member, gid=9999, groups=frozenset())
    answer = await app.test_client().get("/api/colonies", scope_base={"state": {PEER: nobody}})
    assert await code_of(answer) == (403, "socket-of-another-user")
