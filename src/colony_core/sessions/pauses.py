"""Accounts that have reached a limit: one pause for all agents of an account, until the vendor lets them in again."""

import hashlib
from collections.abc import Mapping
from functools import partial

import trio

from colony_core import clock
from colony_core.store import Store

from . import records

FIRST_SECONDS, MOST_SECONDS = 30.0, 600.0
"""How long a pause is where the vendor names no moment: the first one, each next one twice as long, up to the longest."""
LONGEST_SECONDS = 8 * 86400.0
SLACK_SECONDS = 1.0
_KEYS = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    *("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY"),
    *("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "ANTHROPIC_VERTEX_PROJECT_ID"),
)
_PLACES = ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "CLAUDE_CONFIG_DIR", "CODEX_HOME")
"""Where the model is, and where somebody's login lies."""


class Pauses:
    """Which accounts are paused, and until when (Unix seconds). Kept in the store, so that a restart does not try in vain."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._until: dict[str, tuple[float, str]] = {}
        self._in_a_row: dict[str, int] = {}

    async def load(self) -> None:
        """Takes over the pauses that an earlier daemon has recorded."""
        self._until = await self._store.read(partial(records.all_pauses, now=clock.unix_now()))

    async def begin(self, account: str, until: float | None, text: str) -> float:
        """Pauses an account; gives until when. A pause that is longer already stays."""
        now = clock.unix_now()
        if until is None:
            wanted = now + min(FIRST_SECONDS * 2 ** self._in_a_row.get(account, 0), MOST_SECONDS)
            self._in_a_row[account] = self._in_a_row.get(account, 0) + 1
        else:
            wanted = min(max(until, now), now + LONGEST_SECONDS) + SLACK_SECONDS
        until = max(wanted, self._until.get(account, (0.0, ""))[0])
        self._until[account] = until, text
        await self._store.write(partial(records.put_pause, account=account, until=until, text=text))
        return until

    def works(self, account: str) -> None:
        """Says that the account is let in: the next pause is a first one again."""
        self._in_a_row.pop(account, None)

    def until(self, account: str) -> float | None:
        """Until when an account is paused; None where it is not."""
        until = self._until.get(account, (0.0, ""))[0]
        return until if until > clock.unix_now() else None

    async def over(self, account: str) -> None:
        """Returns when the account is not paused any more."""
        while (until := self.until(account)) is not None:  # noqa: ASYNC110 - it may be prolonged meanwhile
            await trio.sleep(until - clock.unix_now())


def account_of(backend: str, user: str, environment: Mapping[str, str]) -> str:
    """Which account an agent uses, as far as that can be told: the same words for the same account, and no key in them."""
    told = "\0".join(environment.get(name, "") for name in (*_KEYS, *_PLACES))
    digest = hashlib.blake2b(told.encode(), digest_size=6, person=b"colony-account").hexdigest()
    return f"{backend}:{user}:{digest}"
