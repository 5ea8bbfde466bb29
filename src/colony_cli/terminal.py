"""Our own terminal, lent to a program elsewhere: raw while it lasts, brought back on every way out; its size; the keys that detach."""

import os
import re
import signal
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from colony_core.errors import Invalid

if TYPE_CHECKING:
    import trio

    from colony_core.views import TerminalSize

READ_BYTES = 64 * 1024
WAITING_INPUTS = 64
BELL = b"\a"
KEYBOARD, SCREEN = 0, 1
_CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])")


class DetachKeys:
    """The keys that leave a terminal without ending it, such as `ctrl-q` or `ctrl-p,ctrl-q`; `none` for no such keys. Pure."""

    def __init__(self, text: str) -> None:
        """Raises Invalid for what is no list of keys."""
        self.text = text
        self._keys = [] if text == "none" else [_ways_of_typing(key) for key in text.split(",")]
        self._matched = 0
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be passed on of what was typed, and whether that detaches. The beginning of a sequence is held until it is clear."""
        if not self._keys:
            return typed, False
        passed = b""
        while typed:
            found = next((way for way in self._keys[self._matched] if typed.startswith(way)), None)
            if found is None and self._matched:
                passed, self._held, self._matched = passed + self._held, b"", 0
            elif found is None:
                passed, typed = passed + typed[:1], typed[1:]
            else:
                self._held, typed, self._matched = self._held + found, typed[len(found) :], self._matched + 1
                if self._matched == len(self._keys):
                    return passed, True
        return passed, False


def _ways_of_typing(key: str) -> tuple[bytes, ...]:
    """A key as terminals send it: as a control character, or spelled out where a program has asked for that (xterm's way, kitty's)."""
    found = _CONTROL.fullmatch(key.strip().lower())
    if found is None:
        raise Invalid(
            "wrong-use", f"--detach-keys: {key!r} is no key", "such as ctrl-q, or ctrl-p,ctrl-q; none for no keys"
        )
    code = ord(found[1])
    plain = bytes([ord(found[1].upper()) & 0x1F])
    return (plain, b"\x1b[27;5;%d~" % code, b"\x1b[%d;5u" % code)


def require_terminal(why: str) -> None:
    """Raises Invalid unless keyboard and screen are a terminal."""
    if not (os.isatty(KEYBOARD) and os.isatty(SCREEN)):
        raise Invalid("not-a-terminal", f"{why} needs a terminal, and this is none", "colony exec works with pipes")


def own_size() -> "TerminalSize":
    """The size of our screen; 24 by 80 where it tells none."""
    from colony_core.views import TerminalSize

    size = os.get_terminal_size(SCREEN)
    return TerminalSize(size.lines or 24, size.columns or 80)


def own_kind() -> str:
    """The kind of our screen (TERM)."""
    return os.environ.get("TERM") or "xterm-256color"


def own_language() -> dict[str, str]:
    """What programs need to know of our screen besides its kind: its letters, its colours."""
    told = ("LANG", "LC_ALL", "LC_CTYPE", "COLORTERM")
    return {name: os.environ[name] for name in told if os.environ.get(name)}


class Remote(Protocol):
    """The program's side. `show` gives its output to `write` until it has ended."""

    async def show(self, screen: "Screen") -> None: ...
    async def type(self, data: bytes) -> bool: ...
    async def resize(self, size: "TerminalSize") -> None: ...


class Screen:
    """Our screen, and what has to be undone on it."""

    def __init__(self) -> None:
        from colony_core.processes import Modes

        self._modes = Modes()

    @property
    def is_taken(self) -> bool:
        """Whether a full-screen program has it."""
        return self._modes.other_screen

    async def write(self, data: bytes) -> None:
        """Shows bytes. A thread writes: a terminal shared with other programs must not be made non-blocking."""
        import trio

        self._modes.feed(data)
        await trio.to_thread.run_sync(_write, data, abandon_on_cancel=True)

    async def say(self, text: str) -> None:
        """A line of our own; over the last one of a full-screen program, which has to draw anew then."""
        if self.is_taken:
            await self.write(f"\x1b7\x1b[{own_size().rows};1H\x1b[7m[{text}]\x1b[0m\x1b8".encode())
        else:
            await self.write(f"\r\n[{text}]\r\n".encode())

    def undo(self) -> None:
        """Brings the modes back that programs had set, from the other screen to the cursor's."""
        if undo := self._modes.undo():
            with suppress(OSError):
                _write(undo + b"\x1b[0m\r")


@contextmanager
def raw_keyboard() -> Iterator[None]:
    """Every key goes to the program, for the time of the block; whatever ends it, the terminal is as before."""
    before = termios.tcgetattr(KEYBOARD)
    try:
        tty.setraw(KEYBOARD, termios.TCSADRAIN)
        yield
    finally:
        with suppress(termios.error):  # the terminal itself is gone
            termios.tcsetattr(KEYBOARD, termios.TCSANOW, before)


class Left(NamedTuple):
    """How our terminal came back: the program ended, its user detached, or a signal was sent to us."""

    how: Literal["ended", "detached", "signalled"]
    signal: int = 0


async def lend(remote: Remote, keys: DetachKeys) -> Left:
    """Gives our terminal to a program until that ends or its user leaves. SIGTERM and SIGHUP leave as well."""
    import trio

    screen, left = Screen(), Left("ended")

    async def until(leave: "Callable[[], Awaitable[Left]]") -> None:
        nonlocal left
        left = await leave()
        nursery.cancel_scope.cancel()

    try:
        with raw_keyboard():
            async with trio.open_nursery() as nursery:
                typed, typing = trio.open_memory_channel[bytes](WAITING_INPUTS)
                nursery.start_soon(until, _signals)
                nursery.start_soon(_tell_sizes, remote)
                nursery.start_soon(_type, remote, typing, screen)
                nursery.start_soon(until, partial(_read_keys, keys, typed, screen))
                await remote.show(screen)
                nursery.cancel_scope.cancel()
    finally:
        screen.undo()
    return left


async def _read_keys(keys: DetachKeys, typed: "trio.MemorySendChannel[bytes]", screen: Screen) -> Left:
    """Until the keys that detach were typed, or our terminal is gone."""
    import trio

    while True:
        await trio.lowlevel.wait_readable(KEYBOARD)
        try:
            data = os.read(KEYBOARD, READ_BYTES)
        except OSError:  # the terminal is gone
            data = b""
        passed, leaves = keys.feed(data)
        if passed:
            try:
                typed.send_nowait(passed)
            except trio.WouldBlock:  # the program reads nothing; the keys that detach must be heard all the same
                await screen.write(BELL)
        if leaves or not data:
            return Left("detached")


async def _type(remote: Remote, typing: "trio.MemoryReceiveChannel[bytes]", screen: Screen) -> None:
    async for data in typing:
        if not await remote.type(data):
            await screen.write(BELL)


async def _tell_sizes(remote: Remote) -> None:
    import trio

    with trio.open_signal_receiver(signal.SIGWINCH) as changes:
        async for _ in changes:
            await remote.resize(own_size())


async def _signals() -> Left:
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        return Left("signalled", await anext(signals))


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(SCREEN, view) :]
