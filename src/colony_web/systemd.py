"""What a service manager is told: that we are ready, that we live, that we read our settings again, that we end (sd_notify(3)).

Nothing happens where no `NOTIFY_SOCKET` is given. The watchdog's sign of life comes from the loop that does all the work: while it hangs,
there is none.
"""

import os
import socket
import time
from collections.abc import Mapping

import attrs
import trio

SIGNS_PER_WATCHDOG = 3


@attrs.frozen
class Notifier:
    """Speaks to the service manager at `address`; a lost word is lost, as everywhere in that protocol."""

    address: str | bytes
    watchdog: float | None = None
    """Seconds without a sign of life after which the manager kills us."""

    def tell(self, *words: str) -> None:
        """Sends assignments such as `READY=1`, together. Never waits."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto("\n".join(words).encode(), self.address)
            except OSError:
                return

    def reloading(self) -> None:
        """For `Type=notify-reload`: settings are read from now on, until `ready`."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def ready(self, status: str) -> None:
        """We serve; `status` is what `systemctl status` shows."""
        self.tell("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def stopping(self) -> None:
        """We end."""
        self.tell("STOPPING=1", "STATUS=ending")

    async def live(self) -> None:
        """Gives signs of life for as long as it runs; forever idle where nobody watches."""
        if self.watchdog is None:
            await trio.sleep_forever()
        while True:
            self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog / SIGNS_PER_WATCHDOG)


def notifier(environ: Mapping[str, str], *, pid: int | None = None) -> Notifier | None:
    """The manager that started this process, if it wants to be told; `WATCHDOG_PID` of another process asks nothing of us."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    watched = environ.get("WATCHDOG_PID", "") in ("", str(pid or os.getpid()))
    seconds = int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() and watched else 0.0
    return Notifier("\0" + address[1:] if address.startswith("@") else address, seconds or None)
