"""Previews of real colonies through the real proxy: every way to name a place, and the reason where there is nothing to show."""

from pathlib import Path

import pytest
import trio
from tests.core.routing.caddies import free_port, running_caddy

from colony_core.events import CookieRefused
from colony_core.routing import withdraw

from .homes import PATIENCE_SECONDS, Home, listen, open_home, service

pytestmark = pytest.mark.kernel


async def get(home: Home, host: str, path: str = "/", *, port: int | None = None) -> tuple[int, str]:
    """Status and body of a page."""
    port = port or home.house.system().preview_port
    assert port is not None
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    answer = b""
    with trio.fail_after(PATIENCE_SECONDS):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request.encode())
            async for data in stream:
                answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def test_a_service_shows_under_its_name_its_port_and_the_first_one_under_the_colony_alone(tmp_path: Path) -> None:
    def says(port: int, text: str) -> str:
        return listen("127.0.0.1", port).replace("ok", text)

    manifest = (
        service("worker")
        + service("web", says(4001, "A1"), port="4001")
        + service("api", says(4002, "B2"), port="4002")
        + service("extra", says(4003, "C3"), ready='{ log = "never", timeout = "1h" }')
    )
    async with open_home(tmp_path) as home:
        await home.spawn("app", manifest)
        await home.spawn("app-4002", service("web", says(4001, "D4"), port="4001"))
        for name, part in (("app", "web"), ("app", "api"), ("app-4002", "web")):
            await home.until_service(name, part, "ready")
        with trio.fail_after(PATIENCE_SECONDS):
            while (await get(home, "app-4003.colony.localhost"))[0] != 200:  # nobody tells when it listens
                await trio.sleep(0.05)
        assert await get(home, "web.app.colony.localhost") == (200, "A1")
        assert await get(home, "api.app.colony.localhost") == (200, "B2")
        assert await get(home, "app.colony.localhost") == (200, "A1")
        assert await get(home, "app-4001.colony.localhost") == (200, "A1")
        assert await get(home, "app-4003.colony.localhost") == (200, "C3")
        assert await get(home, "app-4002.colony.localhost") == (200, "D4")  # an exact name wins over a port
        assert await get(home, "APP.colony.localhost") == (200, "A1")


async def test_a_cookie_for_all_previews_is_told_of_once_until_the_colony_starts_anew(tmp_path: Path) -> None:
    cookie = "self.send_header('Set-Cookie', 'sid=1; Domain=colony.localhost')"
    says = listen("127.0.0.1", 4001).replace("self.end_headers()", f"{cookie}; self.end_headers()")
    async with open_home(tmp_path) as home:
        await home.up("app", service("web", says, port="4001"))
        for _ in range(3):
            assert (await get(home, "web.app.colony.localhost"))[0] == 200
        (told,) = [event for event in home.told if isinstance(event, CookieRefused)]
        assert (told.colony, told.service, told.cookie, told.owner) == (
            "app",
            "web",
            "sid",
            home.house.colony("app").owner,
        )
        assert "leave Domain away, or name app.colony.localhost" in told.message
        await home.house.restart("app")
        await home.until_service("app", "web", "stopped")
        await home.until_service("app", "web", "ready")
        assert (await get(home, "web.app.colony.localhost"))[0] == 200
        assert len([event for event in home.told if isinstance(event, CookieRefused)]) == 2


async def test_what_cannot_be_shown_is_explained_with_the_right_status(tmp_path: Path) -> None:
    manifest = (
        service("web", port="4001", ready='{ port = true, timeout = "1h" }')
        + service("bad", "exit 3", port="4002", restart='"never"')
        + service("quiet")
    )
    async with open_home(tmp_path) as home:
        await home.spawn("app", manifest)
        await home.spawn("portless", service("quiet"))
        await home.until_service("app", "web", "starting")
        await home.until_service("app", "bad", "failed")
        await home.until_service("portless", "quiet", "ready")
        for host, status, part in (
            ("nobody.colony.localhost", 404, "There is no colony nobody here"),
            ("wbe.app.colony.localhost", 404, "did you mean web"),
            ("portless.colony.localhost", 404, "no service with a port"),
            ("app.colony.localhost", 503, "Service web of app is starting."),
            ("bad.app.colony.localhost", 503, "Service bad of app is failed: exit 3."),
            ("app-5000.colony.localhost", 502, "app:5000 does not accept connections (Connection refused)"),
        ):
            answer = await get(home, host)
            assert answer[0] == status, (host, answer)
            assert part in answer[1], (host, answer)
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        answer = await get(home, "web.app.colony.localhost")
        assert answer[0] == 503
        assert "Colony app is stopped." in answer[1]
        assert "colony start app" in answer[1]


async def test_a_colony_that_came_back_under_its_name_is_shown_anew(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("web", listen("127.0.0.1", 4001).replace("ok", "A1"), port="4001"))
        assert await get(home, "app.colony.localhost") == (200, "A1")
        await home.house.remove("app")
        assert (await get(home, "app.colony.localhost"))[0] == 404
        await home.up("app", service("web", listen("127.0.0.1", 4001).replace("ok", "B2"), port="4001"))
        assert await get(home, "app.colony.localhost") == (200, "B2")


@pytest.mark.caddy
async def test_a_colony_shows_through_caddy_too_and_nothing_of_us_stays_in_it(tmp_path: Path) -> None:
    with running_caddy(tmp_path) as caddy:
        port = free_port()
        settings = {"enabled": True, "admin": str(caddy.admin), "listen": f"127.0.0.1:{port}", "tls": "off"}
        async with open_home(tmp_path, **{f"caddy__{key}": value for key, value in settings.items()}) as home:
            view = await home.up("app", service("web", listen("127.0.0.1", 4001).replace("ok", "A1"), port="4001"))
            assert view.url == f"http://app.colony.localhost:{port}/"
            await home.until_told("caddy_serves")
            assert await get(home, "web.app.colony.localhost") == (200, "A1")
            assert await get(home, "web.app.colony.localhost", port=port) == (200, "A1")
            socket = home.house.config.preview_socket
            assert socket.exists()
        assert not socket.exists()
        assert not await withdraw(caddy.admin)


@pytest.mark.caddy
async def test_a_domain_of_ones_own_with_tls(tmp_path: Path) -> None:
    with running_caddy(tmp_path) as caddy:
        port = free_port()
        settings = {"enabled": True, "admin": str(caddy.admin), "listen": f"127.0.0.1:{port}"}
        more = {"routing__domain": "previews.example.test", "routing__bind": "0.0.0.0"}
        async with open_home(tmp_path, **more, **{f"caddy__{key}": value for key, value in settings.items()}) as home:
            view = await home.up("app", service("web", listen("127.0.0.1", 4001).replace("ok", "A1"), port="4001"))
            assert view.url == f"https://app.previews.example.test:{port}/"
            await home.until_told("caddy_serves")
            for host in (
                "web.app.previews.example.test",
                "app-4001.previews.example.test",
                "app.previews.example.test",
            ):
                there = ["--resolve", f"{host}:{port}:127.0.0.1", "--noproxy", "*", f"https://{host}:{port}/"]
                done = await trio.run_process(["curl", "-sS", "--insecure", *there], capture_stdout=True)
                assert done.stdout == b"A1"
            assert await get(home, "web.app.previews.example.test") == (200, "A1")
            assert (await get(home, "web.app.colony.localhost"))[0] == 404
