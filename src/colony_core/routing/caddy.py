"""Keeps our site in a running Caddy, through its admin API on a Unix socket.

Somebody else starts Caddy and owns its configuration. Whenever Caddy comes back, or is given another configuration, the site is put in
again; where it is there already, nothing is changed. At an orderly end it is taken out.
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from colony_core.errors import Broken, ColonyError, Unreachable
from colony_core.supervision import Status

from .site import Clash, Site, with_site, without_site

CALL_SECONDS = 30.0
WITHDRAW_SECONDS = 4.0
RETRY_SECONDS = 1.0
TRIES = 5
MOST_BYTES = 64 * 2**20
_CHANGED_MEANWHILE = 412

Config = dict[str, Any]
log = logging.getLogger("colony.routing")


async def keep_site(admin: Path, site: Site, *, tell: Callable[[str, str], None], status: Status) -> None:
    """A child: keeps `site` in the Caddy at `admin` until it is stopped, then takes it out.

    Counts as started at once, since Caddy may come later. `tell(what, message)` hears when the site is served (`caddy_serves`) and when it
    is not, with the reason (`caddy_away`, `caddy_refuses`); the same news once.
    """
    status.started()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep, admin, site, tell)
        await status.stopping.wait()
        nursery.cancel_scope.cancel()
    with trio.move_on_after(WITHDRAW_SECONDS):
        try:
            await withdraw(admin)
        except ColonyError as error:
            log.warning("our site stays in Caddy: %s", error.message)


async def reconcile(admin: Path, site: Site) -> bool:
    """Puts the site into Caddy's configuration; says whether anything had to be changed.

    Raises Unreachable (`caddy-away`), Broken (`caddy-refused`) with Caddy's words. Cancelled, the change is made or it is not.
    """
    return await _change(admin, partial(with_site, site=site))


async def withdraw(admin: Path) -> bool:
    """Takes our site out; says whether there was one. Raises and is cancelled as `reconcile`."""
    return await _change(admin, without_site)


async def _keep(admin: Path, site: Site, tell: Callable[[str, str], None]) -> None:
    last = ""
    while True:
        try:
            # opened before we look, so that no restart goes unseen
            async with await _connect(admin) as line:
                await reconcile(admin, site)
                what, message = "caddy_serves", f"Caddy serves *.{site.domain} at {site.listen}"
                if last != what:
                    tell(what, message)
                    last = what
                await _until_news(line)
        except ColonyError as error:
            if last != error.message:
                tell("caddy_away" if error.code == "caddy-away" else "caddy_refuses", error.message)
                last = error.message
            await trio.sleep(RETRY_SECONDS)


async def _until_news(line: trio.SocketStream) -> None:
    """Caddy ends a connection on which nothing is said after a few seconds, and all of them when it ends or its settings change."""
    try:
        await line.receive_some(1)
    except trio.BrokenResourceError:
        return


async def _change(admin: Path, change: Callable[[Config | None], Config]) -> bool:
    """Reads, decides, writes; again where somebody else wrote in between."""
    for _ in range(TRIES):
        _, tag, old = await _call(admin, "GET")
        try:
            new = change(old)
        except Clash as clash:
            raise Broken("caddy-refused", str(clash), 'set caddy.tls to "files" or "internal"') from None
        if new == (old or {}):
            return False
        code, _, _ = await _call(admin, "POST", json.dumps(new).encode(), tag=tag)
        if code != _CHANGED_MEANWHILE:
            return True
    raise Broken("caddy-refused", "somebody else keeps changing Caddy's configuration", "who uses its admin API?")


async def _connect(admin: Path) -> trio.SocketStream:
    try:
        return await trio.open_unix_socket(str(admin))
    except OSError as error:
        message = f"no Caddy answers at {admin} ({error.strerror or error})"
        raise Unreachable("caddy-away", message, "colony doctor") from error


async def _call(admin: Path, method: str, body: bytes = b"", *, tag: str = "") -> tuple[int, str, Any]:
    """Status, tag and value of an answer about the whole configuration."""
    # Over a Unix socket Caddy allows the empty host, whatever its `origins` are.
    head = f"{method} /config/ HTTP/1.1\r\nHost:\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n" if body else ""
    head += f"If-Match: {tag}\r\n" if tag else ""
    data = b""
    try:
        with trio.fail_after(CALL_SECONDS):
            async with await _connect(admin) as line:
                await line.send_all(f"{head}\r\n".encode() + body)
                async for part in line:
                    data += part
                    if len(data) > MOST_BYTES:
                        raise Broken("caddy-refused", f"Caddy's configuration is larger than {MOST_BYTES} bytes", "")
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        raise Unreachable("caddy-away", f"Caddy at {admin} broke off", "colony doctor") from error
    try:
        code, tag, said = read_answer(data)
        value = json.loads(said or b"null")
    except ValueError:
        raise Unreachable("caddy-away", f"what answers at {admin} is no Caddy", "see caddy.admin") from None
    if code >= 400 and code != _CHANGED_MEANWHILE:
        reason = value["error"] if isinstance(value, dict) and "error" in value else f"status {code}"
        raise Broken("caddy-refused", f"Caddy refuses: {reason}", "Caddy's own log says more")
    return code, tag, value


def read_answer(data: bytes) -> tuple[int, str, bytes]:
    """Status, ETag (a field or, as Caddy does it, a trailer) and body of a whole HTTP/1.1 answer; raises ValueError."""
    head, found, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if not found or len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ValueError("no HTTP")
    fields = _fields(lines)
    if fields.get("transfer-encoding") != "chunked":
        return int(words[1]), fields.get("etag", ""), rest
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        count = int(size.split(b";")[0], 16)
        if count == 0:
            return int(words[1]), (fields | _fields(rest.split(b"\r\n"))).get("etag", ""), body
        if len(rest) < count + 2:
            raise ValueError("it broke off")
        body += rest[:count]
        rest = rest[count + 2 :]


def _fields(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.lower(): value.strip() for name, found, value in pairs if found}
