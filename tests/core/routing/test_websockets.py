"""Upgraded connections through the proxy, with an independent WebSocket implementation at both ends."""

import trio
import trio_websocket as ws

UPGRADE = b"GET / HTTP/1.1\r\nHost: web.hello.colony.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def echo(request: ws.WebSocketRequest) -> None:
    if request.path == "/no":
        await request.reject(403, body=b"not here")
        return
    connection = await request.accept(subprotocol=(request.proposed_subprotocols or (None,))[0])
    try:
        while True:
            await connection.send_message(await connection.get_message())
    except ws.ConnectionClosed:
        return


async def websocket_service(previews) -> None:
    server = await previews.nursery.start(ws.serve_websocket, echo, "127.0.0.1", 0, None)
    previews.route(server.port)


async def upgraded(peer) -> None:
    assert b"Upgrade: echo\r\n" in await peer.head()
    await peer.send(SWITCH)


async def handshake(previews, nursery: trio.Nursery, path: str) -> ws.WebSocketConnection:
    stream = (await previews.client()).stream
    return await ws.wrap_client_stream(nursery, stream, "web.hello.colony.localhost", path, subprotocols=["echo.v1"])


async def test_messages_of_all_sizes_come_back(previews):
    await websocket_service(previews)
    async with trio.open_nursery() as nursery:
        client = await handshake(previews, nursery, "/")
        assert client.subprotocol == "echo.v1"
        for message in ("text", "", b"bytes", b"", b"x" * 900_000, "é" * 1000):
            await client.send_message(message)
            assert await client.get_message() == message
        await client.aclose(1000, "thanks")
        assert client.closed.code == 1000


async def test_a_refused_handshake_is_a_plain_answer(previews):
    await websocket_service(previews)
    client = await previews.client()
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    await client.send(UPGRADE.replace(b"/ HTTP", b"/no HTTP").replace(b"echo", b"websocket")[:-2] + key)
    status, _, body = await client.answer()
    assert (status, body) == (403, b"not here")


async def test_a_connection_lives_on_after_a_refused_upgrade(previews):
    async def handler(peer) -> None:
        while await peer.head():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    await previews.service(handler)
    client = await previews.client()
    for _ in range(2):
        await client.send(UPGRADE)
        assert (await client.answer())[2] == b"no"


async def test_bytes_that_come_early_reach_the_other_side_on_both_ends(previews):
    async def handler(peer) -> None:
        await peer.head()
        await peer.send(SWITCH + b"first from below")
        assert await peer.until(b"above") == b"first from above"
        await peer.send(b", second")

    await previews.service(handler)
    client = await previews.client()
    early = (
        previews.caddy is None
    )  # Caddy 2.6 loses what a client says before it was answered, as no client of WebSockets does
    await client.send(UPGRADE + (b"first from above" if early else b""))
    head = await client.head()
    assert head == SWITCH or (previews.caddy is not None and head.startswith(b"HTTP/1.1 101 "))
    await client.send(b"" if early else b"first from above")
    assert await client.until(b"second") == b"first from below, second"


async def test_what_follows_an_upgrade_is_never_read_as_a_request(previews):
    seen = []

    async def handler(peer) -> None:
        await upgraded(peer)
        seen.append(await peer.head())

    await previews.service(handler)
    client = await previews.client()
    strange = b"GET / HTTP/1.1\r\nHost: other-1.colony.localhost\r\nCookie: colony_session=1\r\n\r\n"
    await client.send(UPGRADE)
    await client.head()
    await client.send(strange)
    assert await client.rest() == b""
    assert seen == [strange]


async def test_one_direction_may_end_before_the_other(previews):
    read = trio.Event()

    async def handler(peer) -> None:
        await upgraded(peer)
        assert await peer.rest() == b"all I have"
        read.set()
        await peer.send(b"thanks for all")

    await previews.service(handler)
    client = await previews.client()
    await client.send(UPGRADE)
    await client.head()
    await client.send(b"all I have")
    await client.stream.send_eof()
    answer = await client.rest()
    assert answer == b"thanks for all" or (previews.caddy is not None and answer == b"")  # Caddy ends both
    await read.wait()


async def test_a_direction_that_rests_after_the_other_ended_is_given_up(previews, mock_clock):
    async def handler(peer) -> None:
        await upgraded(peer)
        await trio.sleep_forever()

    await previews.service(handler)
    client = await previews.client()
    await client.send(UPGRADE)
    await client.head()
    await client.stream.send_eof()
    await trio.testing.wait_all_tasks_blocked(0.05)
    mock_clock.jump(31)
    assert await client.rest() == b""


async def test_a_changed_protocol_that_nobody_asked_for_is_not_passed_on(previews):
    async def handler(peer) -> None:
        await peer.head()
        await peer.send(SWITCH)

    await previews.service(handler)
    client = await previews.client()
    await client.send(UPGRADE.replace(b"Connection: Upgrade\r\n", b""))
    assert (await client.answer())[0] == 502
