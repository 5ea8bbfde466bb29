"""Runs git, jj and their like through the keeper: as the workspace's user, without capabilities, with a deadline, gone with their tree.

The keeper and not the daemon itself: what a killed daemon leaves at work is found by the next one, and ended (`end_leftovers`).
"""

import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import trio

from colony_core.errors import Broken, TooSlow
from colony_core.processes import Keeper, Launch, User, open_pipes, see_off, start_piped

KEY = "vcs-"
LABEL = "vcs"
LOCAL_SECONDS = 120.0
NETWORK_SECONDS = 3600.0
MOST_BYTES = 8 * 2**20
STOP_GRACE_SECONDS = 1.0
CHUNK = 2**16

GetKeeper = Callable[[], Awaitable[Keeper]]


@attrs.frozen(kw_only=True)
class Ran:
    """How a program ended, and what it said; `cut` where it said more than was wanted."""

    code: int
    out: bytes = attrs.field(repr=False)
    errors: str
    cut: bool = False

    @property
    def text(self) -> str:
        """Its output as text, without the last line's end."""
        return self.out.decode(errors="replace").removesuffix("\n")

    @property
    def words(self) -> list[str]:
        """Its output, where that is a list ended by NULs."""
        return [part.decode(errors="surrogateescape") for part in self.out.split(b"\0") if part]


@attrs.define
class _Heard:
    most: int
    data: bytearray = attrs.field(factory=bytearray)
    cut: bool = False

    def take(self, chunk: bytes) -> None:
        room = self.most - len(self.data)
        self.cut = self.cut or len(chunk) > room
        self.data += chunk[:room]


async def run_program(
    get_keeper: GetKeeper,
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    user: User | None,
    stdin: bytes = b"",
    seconds: float = LOCAL_SECONDS,
    most: int = MOST_BYTES,
    hear: Callable[[bytes], object] | None = None,
) -> Ran:
    """Runs a program to its end; `hear` is given what it says to stderr, as it comes.

    Cancelled, or after `seconds` (then TooSlow, `vcs-too-slow`), it is stopped with its whole tree before this returns. Raises KeeperLost
    where the keeper died under it: what became of it is to be looked up.
    """
    keeper = await get_keeper()
    key = f"{KEY}{secrets.token_hex(6)}"
    launch = Launch(key=key, argv=tuple(argv), cwd=str(cwd), env=env, label=LABEL, user=user, umask=0o022)
    process, streams = await start_piped(keeper, launch, *open_pipes())
    said, complained = _Heard(most), _Heard(2**16)
    try:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_say, streams[0], stdin)
                nursery.start_soon(partial(_listen, streams[1], said.take))
                nursery.start_soon(partial(_listen, streams[2], complained.take, hear))
            exited = await process.wait()
            errors = bytes(complained.data).decode(errors="replace")
            return Ran(code=exited.code, out=bytes(said.data), errors=errors, cut=said.cut)
        raise TooSlow(
            "vcs-too-slow", f"{os.path.basename(argv[0])} took longer than {seconds:g} s", "see what it waits for"
        )
    finally:
        for stream in streams:
            stream.close()
        await see_off(keeper, process, grace=STOP_GRACE_SECONDS)


async def end_leftovers(keeper: Keeper) -> None:
    """Ends what an earlier daemon has left at work here."""
    for process in keeper.processes():
        if process.key.startswith(KEY):
            await see_off(keeper, process, grace=STOP_GRACE_SECONDS)


def failure(ran: Ran, what: str, *, code: str = "vcs-failed", hint: str = "") -> Broken:
    """The error for a program that did not do `what`, with its own last words."""
    lines = [line.strip() for line in ran.errors.replace("\r", "\n").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "Error:", "ERROR"))] or lines[-3:]
    why = "; ".join(telling)[:2000] or f"exit {ran.code}"
    return Broken(code, f"{what}: {why}", hint)


async def _say(stream: trio.abc.SendStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # it ended without reading everything
        await stream.send_all(data)
    await stream.aclose()


async def _listen(
    stream: trio.abc.ReceiveStream, take: Callable[[bytes], object], hear: Callable[[bytes], object] | None = None
) -> None:
    while chunk := bytes(await stream.receive_some(CHUNK)):
        take(chunk)
        if hear is not None:
            hear(chunk)
