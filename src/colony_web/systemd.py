"""What a service manager is told: that we are ready, that we live, that we read our settings again, that we end (sd_notify(3)).

Nothing happens where no `NOTIFY_SOCKET` is given. The watchdog's sign of life comes from the loop that does all the work: while it hangs,
there is none. A manager that is busy finds one sign of life or many all the same; but of what is said once nothing may be lost, or it
waits for it until it kills us.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import attrs
import trio

SIGNS_PER_WATCHDOG = 3
PATIENCE_SECONDS = 10.0
"""How long a manager that takes nothing in is waited for with what is said once."""


@attrs.frozen
class Notifier:
    """Speaks to the service manager at `address`; where nobody is, nothing is said."""

    address: str | bytes
    watchdog: float | None = None
    """Seconds without a sign of life after which the manager kills us."""

    async def tell(self, *words: str) -> None:
        """Sends assignments such as `READY=1`, together. Waits, up to `PATIENCE_SECONDS`, while the manager has too much to read."""
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, trio.move_on_after(PATIENCE_SECONDS):
            try:
                # of a socket without a peer poll(2) does not know whether there is room
                await sock.connect(self.address)
                await sock.send("\n".join(words).encode())
            except OSError:
                return

    async def reloading(self) -> None:
        """For `Type=notify-reload`: settings are read from now on, until `ready`."""
        await self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def ready(self, status: str) -> None:
        """We serve; `status` is what `systemctl status` shows."""
        await self.tell("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    async def stopping(self) -> None:
        """We end."""
        await self.tell("STOPPING=1", "STATUS=ending")

    async def live(self) -> None:
        """Gives signs of life for as long as it runs; forever idle where nobody watches."""
        if self.watchdog is None:
            await trio.sleep_forever()
        while True:
            self._sign()
            await trio.sleep(self.watchdog / SIGNS_PER_WATCHDOG)

    def _sign(self) -> None:
        """A sign of life; never waits."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock, suppress(OSError):
            sock.sendto(b"WATCHDOG=1", self.address)


def notifier(environ: Mapping[str, str], *, pid: int | None = None) -> Notifier | None:
    """The manager that started this process, if it wants to be told; `WATCHDOG_PID` of another process asks nothing of us."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    watched = environ.get("WATCHDOG_PID", "") in ("", str(pid or os.getpid()))
    seconds = int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() and watched else 0.0
    return Notifier("\0" + address[1:] if address.startswith("@") else address, seconds or None)
