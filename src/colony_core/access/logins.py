"""One-time codes that open a browser's session: sixty seconds, once, in memory only."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import trio

from .keys import Identity, random_secret

CODE_SECONDS = 60.0
MOST_CODES = 64


class Logins:
    """Codes that were given and not yet used; only hashes are held. A code is no token: it opens nothing but a session, once."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._waiting: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    def issue(self, identity: Identity) -> str:
        """A fresh code for whoever asks; of more than sixty-four that wait, the oldest opens nothing any more."""
        code = random_secret()
        self._waiting[_hashed(code)] = (self._now() + CODE_SECONDS, identity)
        while len(self._waiting) > MOST_CODES:
            self._waiting.popitem(last=False)
        return code

    def redeem(self, code: str) -> Identity | None:
        """For whom the code was given; None where it never was, was used, or is too old. It is used up by this."""
        until, identity = self._waiting.pop(_hashed(code), (0.0, None))
        return identity if identity is not None and self._now() < until else None


def _hashed(code: str) -> str:
    return hashlib.sha256(code.encode(errors="replace")).hexdigest()
