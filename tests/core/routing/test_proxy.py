"""What passes through the proxy, over real sockets."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from colony_core.routing import Refusal, Target, Upstream

HOST = b"Host: web.hello.colony.localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
OTHER = Target("other", port=4001)
BIG_BYTES = 200 * 2**20
PIECE = bytes(range(256)) * 1024


def ok(body: bytes, *lines: bytes) -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(body), body)


def forget_peak() -> int:
    """Begins to measure anew what this process holds at the most (proc_pid_clear_refs); the kB that it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most kB since then."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def saying(word: bytes):
    """A service that answers each request with a word and the request's path."""

    async def handler(peer) -> None:
        while head := await peer.head():
            await peer.send(ok(word + b" " + head.split(b" ")[1]))

    return handler


async def test_a_request_reaches_its_service_and_the_answer_comes_back(previews):
    seen = []

    async def handler(peer) -> None:
        seen.append(await peer.head())
        await peer.send(ok(b"hello", b"X-Odd:  kept "))

    await previews.service(handler)
    client = await previews.client()
    await client.send(
        b"GET /a?b HTTP/1.1\r\nhost: WEB.hello.colony.localhost.:8088\r\nCookie: colony_session=s; a=1\r\n\r\n"
    )
    if previews.caddy is not None:  # it writes heads anew, with the same in them
        assert (await client.answer())[2] == b"hello"
        lines = set(seen[0].split(b"\r\n"))
        assert lines >= {
            b"GET /a?b HTTP/1.1",
            b"Host: WEB.hello.colony.localhost.:8088",
            b"Cookie: a=1",
            b"X-Forwarded-For: 127.0.0.1",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Host: WEB.hello.colony.localhost.:8088",
        }
        return
    assert await client.until(b"hello") == b"HTTP/1.1 200 OK\r\nX-Odd:  kept \r\nContent-Length: 5\r\n\r\nhello"
    assert seen == [
        b"GET /a?b HTTP/1.1\r\nhost: WEB.hello.colony.localhost.:8088\r\nCookie: a=1\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: WEB.hello.colony.localhost.:8088\r\n\r\n"
    ]


async def test_a_trusted_proxy_in_front_is_believed(idle_previews):
    """Directly that is whom we were told of; through Caddy it is Caddy, and Caddy believes no client."""
    seen = []

    async def handler(peer) -> None:
        seen.append(await peer.head())
        await peer.send(ok(b""))

    believed = idle_previews.caddy is None
    await idle_previews.start(**({"trusted_proxies": ["127.0.0.1"]} if believed else {}))
    await idle_previews.service(handler)
    client = await idle_previews.client()
    await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
    await client.answer()
    assert (b"X-Forwarded-Proto: https\r\n" in seen[0]) is believed
    assert (b"X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n" in seen[0]) is believed
    assert believed or b"X-Forwarded-Proto: http\r\n" in seen[0]
    assert believed or b"X-Forwarded-For: 127.0.0.1\r\n" in seen[0]


async def test_many_requests_use_one_connection_to_the_service(previews):
    await previews.service(saying(b"web"))
    client = await previews.client()
    for _ in range(20):
        await client.send(GET)
        assert (await client.answer())[2] == b"web /"
    assert previews.connects == 1


async def test_every_request_goes_to_the_colony_that_it_names(previews):
    await previews.service(saying(b"web"))
    await previews.service(saying(b"other"), OTHER)
    client = await previews.client()
    other = b"GET / HTTP/1.1\r\nHost: other-4001.colony.localhost\r\n\r\n"
    for _ in range(3):
        await client.send(GET)
        assert (await client.answer())[2] == b"web /"
        await client.send(other)
        assert (await client.answer())[2] == b"other /"


async def test_pipelined_requests_are_answered_in_order_also_across_colonies(previews):
    await previews.service(saying(b"web"))
    await previews.service(saying(b"other"), OTHER)
    client = await previews.client()
    requests = b"".join(
        b"GET /%d HTTP/1.1\r\nHost: %b\r\n\r\n"
        % (n, b"other-4001.colony.localhost" if n % 3 == 0 else b"web.hello.colony.localhost")
        for n in range(12)
    )
    blank = b"\r\n" if previews.caddy is None else b""  # allowed by RFC 9112 2.2; Go refuses it
    await client.send(requests + blank + b"GET / HTTP/1.1\r\nHost: no.colony.localhost\r\n\r\n" + GET)
    for n in range(12):
        assert (await client.answer())[2] == (b"other /%d" if n % 3 == 0 else b"web /%d") % n
    assert (await client.answer())[0] == 404
    assert (await client.answer())[2] == b"web /"


async def test_a_new_place_of_the_same_name_gets_a_new_connection(previews):
    await previews.service(saying(b"old"))
    client = await previews.client()
    await client.send(GET)
    assert (await client.answer())[2] == b"old /"
    await previews.service(saying(b"new"))
    await client.send(GET)
    assert (await client.answer())[2] == b"new /"
    previews.places[Target("hello", service="web")] = Refusal(503, "stopped", "The colony is stopped.")
    await client.send(GET)
    assert (await client.answer())[0] == 503


async def test_events_pass_one_by_one(previews):
    more = [trio.Event() for _ in range(4)]

    async def handler(peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in more:
            await peer.send(b"9\r\ndata: x\n\n\r\n")
            await event.wait()
        await peer.send(b"0\r\n\r\n")

    await previews.service(handler)
    client = await previews.client()
    await client.send(GET)
    await client.head()
    for event in more:
        assert await client.until(b"\n\n\r\n") == b"9\r\ndata: x\n\n\r\n"
        event.set()
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_a_client_that_leaves_a_stream_of_events_is_noticed(previews):
    left = trio.Event()

    async def handler(peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n")
        await peer.rest()
        left.set()

    await previews.service(handler)
    client = await previews.client()
    await client.send(GET)
    await client.until(b"data: x\n\n")
    await client.stream.aclose()
    await left.wait()


async def test_large_bodies_pass_both_ways_in_little_memory(previews):
    async def handler(peer) -> None:
        while head := await peer.head():
            if head.startswith(b"POST"):
                left = BIG_BYTES - len(peer.buffer)
                peer.buffer = b""
                while left:
                    left -= len(await peer.stream.receive_some(2**20))
                await peer.send(ok(b"got it"))
            else:
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG_BYTES)
                for _ in range(BIG_BYTES // len(PIECE)):
                    await peer.send(PIECE)

    await previews.service(handler)
    client = await previews.client()
    before = forget_peak()
    await client.send(GET)
    await client.head()
    left, position = BIG_BYTES - len(client.buffer), len(client.buffer)
    while left:
        data = await client.stream.receive_some(2**20)
        assert data[0] == position % 256
        left, position = left - len(data), position + len(data)
    client.buffer = b""
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % BIG_BYTES)
    for _ in range(BIG_BYTES // len(PIECE)):
        await client.send(PIECE)
    assert (await client.answer())[2] == b"got it"
    assert peak() - before < 64 * 1024


async def test_who_does_not_read_holds_up_who_writes(previews):
    written = [0, 0]

    async def handler(peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG_BYTES)
        for _ in range(BIG_BYTES // len(PIECE)):
            await peer.send(PIECE)
            written[0] += len(PIECE)

    await previews.service(handler)
    client = await previews.client()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % BIG_BYTES)

    async def write() -> None:
        for _ in range(BIG_BYTES // len(PIECE)):
            await client.send(PIECE)
            written[1] += len(PIECE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await wait_all_tasks_blocked(0.2)
        nursery.cancel_scope.cancel()
    assert max(written) < BIG_BYTES / 4


async def test_a_chunked_upload_with_a_trailer_and_then_another_request(previews):
    seen = []
    whole = b"X-Sum: 1\r\n\r\n" if previews.caddy is None else b"3\r\nabc\r\n0\r\n\r\n"  # Caddy drops trailers

    async def handler(peer) -> None:
        await peer.head()
        seen.append(await peer.until(whole))
        await peer.send(ok(b"one"))
        seen.append(await peer.head())
        await peer.send(ok(b"two"))

    await previews.service(handler)
    client = await previews.client()
    body = b"3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    upload = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body + GET
    for at in range(len(upload)):
        await client.send(upload[at : at + 1])
    assert (await client.answer())[2] == b"one"
    assert (await client.answer())[2] == b"two"
    assert seen[0] == (body if previews.caddy is None else whole)
    assert seen[1].startswith(b"GET / HTTP/1.1\r\n")


async def ask(previews) -> tuple[int, dict[str, str], bytes]:
    """The answer to somebody else."""
    client = await previews.client()
    await client.send(GET)
    return await client.answer()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_do_not_hold_up_the_next(previews, status):
    async def handler(peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
        await peer.head()
        await peer.send(ok(b"two"))

    await previews.service(handler)
    client = await previews.client()
    await client.send(GET)
    assert (await client.answer())[0] == int(status[:3])
    await client.send(GET)
    assert (await client.answer())[2] == b"two"


async def test_head_has_no_body_whatever_its_length_says(previews):
    async def handler(peer) -> None:
        while head := await peer.head():
            await peer.send(ok(b"")[:-4] + b"\r\nX-Method: " + head.split()[0] + b"\r\n\r\n")

    await previews.service(handler)
    client = await previews.client()
    await client.send(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n" + GET)
    assert (await client.answer("HEAD"))[1]["x-method"] == "HEAD"
    assert (await client.answer())[1]["x-method"] == "GET"


async def test_a_client_that_waits_for_100_continue_gets_it_from_the_service(previews):
    async def handler(peer) -> None:
        assert b"Expect: 100-continue" in await peer.head()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.exactly(5) == b"hello"
        await peer.send(ok(b"done"))

    await previews.service(handler)
    client = await previews.client()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello")
    assert (await client.answer())[2] == b"done"


async def test_http_1_0_gets_its_answer_and_the_end(previews):
    await previews.service(saying(b"web"))
    client = await previews.client()
    await client.send(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    answer = await client.rest()
    assert answer.endswith(b"web /")
    if previews.caddy is None:
        assert b"Connection: close\r\n" in answer


async def test_http_1_0_with_keep_alive_is_kept(previews):
    await previews.service(saying(b"web"))
    client = await previews.client()
    for _ in range(2):
        await client.send(b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "keep-alive", b"web /")


async def test_an_answer_that_ends_with_its_connection_ends_with_ours(previews):
    async def handler(peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    await previews.service(handler)
    client = await previews.client()
    await client.send(GET)
    status, headers, body = await client.answer()
    assert (status, body) == (200, b"all of it")
    if previews.caddy is None:
        assert headers == {"connection": "close"}


async def test_a_client_that_has_stopped_writing_still_gets_its_answers(previews):
    await previews.service(saying(b"web"))
    client = await previews.client()
    await client.send(GET + GET)
    await client.stream.send_eof()
    answers = (await client.rest()).count(b"web /")
    if previews.caddy is None:
        assert answers == 2
    else:  # to Caddy it has gone, as soon as Caddy sees it
        assert answers <= 2
        assert (await ask(previews))[2] == b"web /"


async def test_pythons_own_server_keeps_the_clients_connection_open(previews):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        previews.route(server.server_address[1])
        client = await previews.client()
        try:
            for _ in range(3):
                await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello")
                assert (await client.answer())[2] == b"hello"
        finally:
            server.shutdown()
            thread.join()


async def test_a_service_may_be_any_stream(previews):
    ends = []

    async def connect() -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        ends.append(theirs)
        return ours

    previews.places[Target("hello", service="web")] = Upstream(connect, "memory")
    client = await previews.client()
    await client.send(GET)
    while not ends:
        await wait_all_tasks_blocked(0.01)
    assert (await ends[0].receive_some(1000)).startswith(b"GET / HTTP/1.1\r\n")
    await ends[0].send_all(ok(b"memory"))
    assert (await client.answer())[2] == b"memory"


@pytest.mark.parametrize(
    "arguments",
    [[], ["--http1.0"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]],
    ids=["plain", "1.0", "expect", "chunked"],
)
async def test_curl_finds_its_way_by_name(previews, arguments):
    async def handler(peer) -> None:
        while head := await peer.head():
            if b"100-continue" in head:
                await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.until(b"hello world\r\n0\r\n\r\n" if b"chunked" in head else b"hello world")
            await peer.send(ok(b"thanks"))

    await previews.service(handler)
    url = f"http://web.hello.colony.localhost:{previews.port}/"
    command = ["curl", "-sS", "--max-time", "120", "--noproxy", "*", "-d", "hello world", url, url, *arguments]
    done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout == b"thanksthanks"


async def test_a_login_flow_of_a_server_that_knows_only_localhost(previews):
    """It checks its Host, redirects to itself by that name, and sets two cookies, one of them for everybody."""

    async def handler(peer) -> None:
        while head := await peer.head():
            if b"\r\nHost: localhost:4001\r\n" not in head:
                await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            elif b"cookie: who=me" in head.lower():
                await peer.send(ok(b"welcome"))
            else:
                cookies = b"Set-Cookie: who=me; HttpOnly\r\nSet-Cookie: all=1; Domain=colony.localhost\r\n"
                to = b"Location: http://localhost:4001/home\r\nContent-Length: 0\r\n\r\n"
                await peer.send(b"HTTP/1.1 302 Found\r\n" + cookies + to)

    port = await previews.service(handler)
    previews.route(port, port=4001)
    client = await previews.client()
    await client.send(GET)
    assert (await client.answer())[0] == 403
    refused: list[str] = []
    previews.route(port, port=4001, asked_as=b"localhost:4001", complain=refused.append)
    client = await previews.client()
    await client.send(GET)
    head = (await client.head()).split(b"\r\n")
    assert sorted(line for line in head if line.lower().startswith((b"location", b"set-cookie"))) == [
        b"Location: http://web.hello.colony.localhost/home",
        b"Set-Cookie: who=me; HttpOnly",
    ]
    assert refused == ["all"]
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nCookie: who=me\r\n\r\n"))
    assert (await client.answer())[2] == b"welcome"


async def test_what_is_compressed_stays_as_it_is(previews):
    packed = gzip.compress(b"text" * 1000, mtime=0)
    seen = []

    async def handler(peer) -> None:
        seen.append(await peer.head())
        await peer.send(ok(packed, b"Content-Encoding: gzip", b'ETag: "x"', b"Vary: Accept-Encoding"))

    await previews.service(handler)
    client = await previews.client()
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip;q=0.5, br\r\n\r\n"))
    _, headers, body = await client.answer()
    assert (headers["content-encoding"], headers["etag"], body) == ("gzip", '"x"', packed)
    assert b"Accept-Encoding: gzip;q=0.5, br\r\n" in seen[0]


@pytest.mark.slow
async def test_an_upload_of_a_gigabyte_passes_in_little_memory(previews):
    async def handler(peer) -> None:
        await peer.head()
        left = 2**30 - len(peer.buffer)
        peer.buffer = b""
        while left:
            left -= len(await peer.stream.receive_some(2**20))
        await peer.send(ok(b"got it"))

    await previews.service(handler)
    client = await previews.client()
    before = forget_peak()
    await client.send(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % 2**30)
    for _ in range(2**30 // len(PIECE)):
        await client.send(PIECE)
    assert (await client.answer())[2] == b"got it"
    assert peak() - before < 32 * 1024
    if previews.caddy is not None:
        assert previews.caddy.most_memory() < 200 * 2**20
