"""Our site in a real Caddy: put in, kept in, served, taken out."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from colony_core.errors import Broken, Unreachable
from colony_core.routing import Refusal, Site, Upstream, keep_site, open_unix_listener, reconcile, serve_proxy, withdraw
from colony_core.routing import caddy as module
from colony_core.supervision import ChildSpec, open_supervisor

from .caddies import Caddy, free_port, running_caddy

pytestmark = pytest.mark.caddy
PATIENCE_SECONDS = 300.0
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def site_of(folder: Path, tls: str = "off", **more: str) -> Site:
    return Site(
        domain="colony.localhost",
        socket=str(folder / "p.sock"),
        listen=f"127.0.0.1:{free_port()}",
        tls=tls,  # type: ignore[arg-type]
        **more,
    )


async def config_of(caddy: Caddy) -> object:
    return (await module._call(caddy.admin, "GET"))[2]


class News:
    """What a child tells, to be waited for."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[str, str]](100)

    def tell(self, what: str, message: str) -> None:
        self._send.send_nowait((what, message))

    async def hear(self, what: str) -> str:
        with trio.fail_after(PATIENCE_SECONDS):
            async for found, message in self._receive:
                if found == what:
                    return message
        raise AssertionError(what)


async def whole_head(stream: trio.abc.ReceiveStream) -> bytes:
    """A head without a body; empty at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (part := await stream.receive_some(65536)):
        head += part
    return head


@asynccontextmanager
async def open_proxy(folder: Path) -> AsyncIterator[list[bytes]]:
    """A proxy at the socket of `site_of`, whose one colony says ok; the heads that it saw."""
    seen: list[bytes] = []

    async def page(stream: trio.SocketStream) -> None:
        async with stream:
            while head := await whole_head(stream):
                seen.append(head)
                await stream.send_all(PAGE)

    async with trio.open_nursery() as nursery, open_unix_listener(folder / "p.sock") as listener:
        services = await nursery.start(partial(trio.serve_tcp, page, 0, host="127.0.0.1"))
        port = services[0].socket.getsockname()[1]
        place = Upstream(partial(trio.open_tcp_stream, "127.0.0.1", port), "page")
        serving = partial(serve_proxy, domain="colony.localhost", known={"hello"}, trusted_proxies=[""])
        await nursery.start(partial(serving, [listener], lambda target: place))
        yield seen
        nursery.cancel_scope.cancel()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[list[bytes]]:
    async with open_proxy(tmp_path) as seen:
        yield seen


def curl(site: Site, host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    port = site.listen.rpartition(":")[2]
    scheme = "http" if site.tls == "off" else "https"
    command = ["curl", "-sS", "--max-time", "120", "--noproxy", "*", f"{scheme}://{host}:{port}/", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def page(site: Site, host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await trio.to_thread.run_sync(partial(curl, site, host, *arguments))


async def test_everything_else_in_a_caddy_stays_as_it_was(tmp_path: Path, proxy: list[bytes]) -> None:
    other = free_port()
    theirs = {
        "apps": {"http": {"servers": {"srv0": {"listen": [f"127.0.0.1:{other}"], "routes": [{"handle": [
            {"handler": "static_response", "body": "theirs"}]}]}}}}
    }  # fmt: skip
    with running_caddy(tmp_path, theirs) as caddy:
        before = await config_of(caddy)
        site = site_of(tmp_path)
        assert await reconcile(caddy.admin, site)
        assert not await reconcile(caddy.admin, site)
        assert (await page(site, "web.hello.colony.localhost")).stdout == "ok"
        assert (await page(Site(domain="x", socket="", listen=f":{other}", tls="off"), "127.0.0.1")).stdout == "theirs"
        assert await withdraw(caddy.admin)
        assert not await withdraw(caddy.admin)
        assert await config_of(caddy) == before


async def test_a_server_at_the_same_address_is_shared(tmp_path: Path, proxy: list[bytes]) -> None:
    site = site_of(tmp_path)
    theirs = {
        "apps": {"http": {"servers": {"srv0": {"listen": [site.listen], "automatic_https": {"disable": True},
            "routes": [{"handle": [{"handler": "static_response", "body": "theirs"}]}]}}}}
    }  # fmt: skip
    with running_caddy(tmp_path, theirs) as caddy:
        await reconcile(caddy.admin, site)
        assert (await page(site, "web.hello.colony.localhost")).stdout == "ok"
        assert (await page(site, "localhost")).stdout == "theirs"
        assert (await page(site, "colony.localhost")).stdout == "theirs"


async def test_the_inner_authority_makes_a_certificate_for_each_name_that_is_asked_for(
    tmp_path: Path, proxy: list[bytes]
) -> None:
    with running_caddy(tmp_path) as caddy:
        site = site_of(tmp_path, "internal")
        await reconcile(caddy.admin, site)
        for host in ("web.hello.colony.localhost", "hello-4001.colony.localhost", "hello.colony.localhost"):
            first = await page(site, host, "--insecure", "--http2", "-w", " %{http_version}")
            assert first.stdout == "ok 2", first.stderr
        root = tmp_path / "data/caddy/pki/authorities/local/root.crt"
        trusted = await page(site, "web.hello.colony.localhost", "--cacert", str(root))
        assert trusted.stdout == "ok", trusted.stderr
        assert b"X-Forwarded-Proto: https\r\n" in proxy[-1]
        assert b"X-Forwarded-For: 127.0.0.1\r\n" in proxy[-1]
        foreign = await page(site, "web.hello.example.localhost", "--insecure")
        assert foreign.returncode == 35, foreign  # the handshake fails: not our name, no certificate


async def test_a_certificate_of_ones_own_is_shown(tmp_path: Path, proxy: list[bytes]) -> None:
    names = "subjectAltName=DNS:*.colony.localhost,DNS:*.hello.colony.localhost"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=own",
        "-addext",
        names,
    ]
    await trio.run_process(
        [*command, "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")], capture_stderr=True
    )
    with running_caddy(tmp_path) as caddy:
        site = site_of(tmp_path, "files", certificate=str(tmp_path / "crt"), key=str(tmp_path / "key"))
        await reconcile(caddy.admin, site)
        for host in ("web.hello.colony.localhost", "hello-4001.colony.localhost"):
            shown = await page(site, host, "--cacert", str(tmp_path / "crt"))
            assert shown.stdout == "ok", shown.stderr


async def test_before_a_public_certificate_is_asked_for_the_proxy_says_whether_the_name_leads_anywhere(
    tmp_path: Path, previews_of_two: tuple[int, list[str]]
) -> None:
    port, asked = previews_of_two
    with running_caddy(tmp_path) as caddy:
        site = site_of(tmp_path, "acme", ask=f"http://127.0.0.1:{port}/colony-previews")
        await reconcile(caddy.admin, site)
        refused = await page(site, "web.nobody.colony.localhost", "--insecure")
        assert refused.returncode == 35
        assert asked == ["/colony-previews?domain=web.nobody.colony.localhost 404"]


@pytest.mark.pebble
@pytest.mark.dnsmasq
async def test_a_public_authority_gives_a_certificate_to_a_name_that_leads_somewhere_and_is_asked_for_no_other(
    tmp_path: Path, proxy: list[bytes], previews_of_two: tuple[int, list[str]]
) -> None:
    """Pebble is Let's Encrypt's own authority for tests; it comes to see whether the name is ours, as that does."""
    asking, asked = previews_of_two
    with running_caddy(tmp_path) as caddy:
        site = site_of(tmp_path, "acme", ask=f"http://127.0.0.1:{asking}/colony-previews")
        async with open_pebble(tmp_path, sees=int(site.listen.rpartition(":")[2])) as (directory, log):
            site = attrs.evolve(site, acme_ca=directory, acme_root=str(tmp_path / "authority.crt"))
            await reconcile(caddy.admin, site)
            with trio.fail_after(PATIENCE_SECONDS):
                while (shown := await page(site, "web.hello.colony.localhost", "--insecure", "-v")).stdout != "ok":
                    await trio.sleep(0.5)
            assert "issuer: CN=Pebble Intermediate CA" in shown.stderr
            refused = await page(site, "web.nobody.colony.localhost", "--insecure")
            assert refused.returncode == 35
            said = log.read_text()
        assert "web.hello.colony.localhost" in said
        assert "nobody" not in said
        assert {each.split("=")[1] for each in asked} == {
            "web.hello.colony.localhost 200",
            "web.nobody.colony.localhost 404",
        }


async def listens(port: int) -> bool:
    with suppress(OSError):
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        return True
    return False


@asynccontextmanager
async def open_pebble(folder: Path, *, sees: int) -> AsyncIterator[tuple[str, Path]]:
    """An authority whose checks go to the port `sees`; its directory, and its log. Names lead where a dnsmasq says: here."""
    port, names = free_port(), free_port()
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "authority.key"), "-out", str(folder / "authority.crt")]
    await trio.run_process([*key, "-addext", "subjectAltName=IP:127.0.0.1", *files], capture_stderr=True)
    settings = {
        "listenAddress": f"127.0.0.1:{port}",
        "certificate": str(folder / "authority.crt"),
        "privateKey": str(folder / "authority.key"),
        "httpPort": free_port(),
        "tlsPort": sees,
        "keyAlgorithm": "ecdsa",
        "profiles": {"default": {"description": "any", "validityPeriod": 86400}},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    dns = [
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "-h",
        "-R",
        "--pid-file=",
        f"--port={names}",
        "--address=/localhost/127.0.0.1",
    ]
    authority = [
        "pebble",
        "-config",
        "pebble.json",
        "-dnsserver",
        f"127.0.0.1:{names}",
    ]
    log = folder / "pebble.log"
    with log.open("wb") as file:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(trio.run_process, [*dns, "--listen-address=127.0.0.1", "--bind-interfaces"], check=False)
            )
            quick = os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
            serving = partial(trio.run_process, cwd=folder, env=quick, stdout=file, stderr=file, check=False)
            nursery.start_soon(serving, authority)
            with trio.fail_after(PATIENCE_SECONDS):
                while b"ACME directory available" not in log.read_bytes() or not await listens(names):
                    await trio.sleep(0.05)
            yield f"https://127.0.0.1:{port}/dir", log
            nursery.cancel_scope.cancel()


@pytest.fixture
async def previews_of_two(nursery: trio.Nursery) -> tuple[int, list[str]]:
    """A proxy on a port, and what was asked of it with the status of its answers."""
    asked: list[str] = []
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    inner = await trio.open_tcp_listeners(0, host="127.0.0.1")
    inner_port = inner[0].socket.getsockname()[1]
    serving = partial(serve_proxy, inner, lambda target: Refusal(503, "down", "It is down."))
    await nursery.start(partial(serving, domain="colony.localhost", known={"hello"}))

    async def overhear(stream: trio.SocketStream) -> None:
        async with stream, await trio.open_tcp_stream("127.0.0.1", inner_port) as line:
            question = await whole_head(stream)
            await line.send_all(question)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await line.receive_some(65536)
            asked.append(f"{question.split()[1].decode()} {answer.split()[1].decode()}")
            await stream.send_all(answer)

    await nursery.start(trio.serve_listeners, overhear, listeners)
    return listeners[0].socket.getsockname()[1], asked


async def test_the_proxy_says_yes_for_names_of_colonies_that_live(previews_of_two: tuple[int, list[str]]) -> None:
    port, asked = previews_of_two
    for name in ("web.hello.colony.localhost", "hello-80.colony.localhost", "a.b.c", "", "%0a"):
        async with await trio.open_tcp_stream("127.0.0.1", port) as line:
            await line.send_all(f"GET /colony-previews?domain={name} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n".encode())
            await line.receive_some(65536)
    assert [said[-3:] for said in asked] == ["200", "200", "404", "400", "400"]


async def test_a_caddy_that_dies_or_is_told_otherwise_gets_the_site_again(
    tmp_path: Path, proxy: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHDRAW_SECONDS", PATIENCE_SECONDS)
    site, news = site_of(tmp_path), News()
    caddy = Caddy(tmp_path, {})
    child = ChildSpec(id="caddy", run=partial(keep_site, caddy.admin, site, tell=news.tell), grace=PATIENCE_SECONDS)
    try:
        async with open_supervisor([child], name="front"):
            assert "no Caddy answers" in await news.hear("caddy_away")
            await trio.to_thread.run_sync(caddy.start)
            await news.hear("caddy_serves")
            assert (await page(site, "web.hello.colony.localhost")).stdout == "ok"
            caddy.end(signal.SIGKILL)
            await news.hear("caddy_away")
            await trio.to_thread.run_sync(caddy.start)
            await news.hear("caddy_serves")
            assert (await page(site, "web.hello.colony.localhost")).stdout == "ok"
            assert await withdraw(caddy.admin)  # as somebody does who loads a file of his own
            with trio.fail_after(PATIENCE_SECONDS):
                while (await page(site, "web.hello.colony.localhost")).stdout != "ok":
                    await trio.sleep(0.05)
        assert not await withdraw(caddy.admin)  # an orderly end has taken it out
    finally:
        caddy.end()


async def test_a_restart_of_the_daemon_is_a_pause_for_who_asks_meanwhile(
    tmp_path: Path,
) -> None:
    with running_caddy(tmp_path) as caddy:
        site = site_of(tmp_path)
        await reconcile(caddy.admin, site)
        async with await trio.open_tcp_stream("127.0.0.1", int(site.listen.rpartition(":")[2])) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: web.hello.colony.localhost\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.2)
            async with open_proxy(tmp_path):
                assert (await client.receive_some(65536)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_what_caddy_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with running_caddy(tmp_path) as caddy:
        before = await config_of(caddy)
        with pytest.raises(Broken, match="no such file"):
            await reconcile(caddy.admin, site_of(tmp_path, "files", certificate="/nowhere", key="/nowhere"))
        assert await config_of(caddy) == before
    with pytest.raises(Unreachable, match="no Caddy answers"):
        await reconcile(caddy.admin, site_of(tmp_path))


async def test_what_answers_but_is_no_caddy_is_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    async def babble(stream: trio.SocketStream) -> None:
        async with stream:
            await whole_head(stream)
            await stream.send_all(b"220 hello\r\n")

    async with open_unix_listener(tmp_path / "a.sock") as listener:
        nursery.start_soon(trio.serve_listeners, babble, [listener])
        with pytest.raises(Unreachable, match="is no Caddy"):
            await reconcile(tmp_path / "a.sock", site_of(tmp_path))
        nursery.cancel_scope.cancel()


async def test_a_change_in_between_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else writes after we have read: we read again."""
    with running_caddy(tmp_path) as caddy:
        call, writes = module._call, 0

        async def slow(admin: Path, method: str, body: bytes = b"", *, tag: str = "") -> object:
            nonlocal writes
            if method == "POST":
                writes += 1
                if writes == 1:
                    config = await config_of(caddy)
                    assert isinstance(config, dict)
                    config["apps"]["http"] = {"http_port": 8123}
                    await call(admin, "POST", json.dumps(config).encode())
            return await call(admin, method, body, tag=tag)

        monkeypatch.setattr(module, "_call", slow)
        assert await reconcile(caddy.admin, site_of(tmp_path))
        config = await config_of(caddy)
        assert isinstance(config, dict)
        assert config["apps"]["http"]["http_port"] == 8123
        assert writes == 2
