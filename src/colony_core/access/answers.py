"""First answers, remembered for a day, so that a request that is sent again is not carried out again.

What is remembered is the answer, once there is one. That a request is under way is known to this daemon only: where the daemon is killed
between the deed and its answer, the request counts as never begun, and sent again it is carried out again. Verbs are safe against that
by name: a second `spawn` of the same colony is refused, a second `start` finds it running.
"""

import hashlib
from collections.abc import Mapping

import attrs
import trio

from colony_core import clock
from colony_core.errors import Invalid, WrongState
from colony_core.store import Store

from . import records

KEPT_SECONDS = 24 * 3600.0
MAX_BODY_BYTES = 256 * 1024


@attrs.frozen(kw_only=True)
class Stored:
    """The first answer, to be given again."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Idempotency:
    """Remembers answers in `store` by caller and key. `fingerprint` says whether it is the same request."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: dict[tuple[str, str], str] = {}

    async def begin(self, key: str, caller: str, fingerprint: str) -> Stored | None:
        """The first answer, or None where this is the first time: then carry it out and call `finish` or `abandon`.

        Raises Invalid (`idempotency-key-reused`) for another request under the same key, and WrongState where the first is still
        under way (`idempotency-in-progress`) or its answer was too large to keep (`idempotency-answer-not-kept`).
        """
        place = (caller, key)
        if place in self._under_way:
            _require_same(self._under_way[place], fingerprint)
            raise WrongState(
                "idempotency-in-progress",
                "the first request under this Idempotency-Key is still under way",
                "ask again in a moment",
            )
        self._under_way[place] = fingerprint
        record = None
        try:
            since = clock.unix_now() - KEPT_SECONDS
            record = await self._store.read(lambda connection: records.find_answer(connection, caller, key, since))
        except BaseException:
            del self._under_way[place]
            raise
        if record is None:
            return None
        del self._under_way[place]
        _require_same(record.fingerprint, fingerprint)
        if record.body is None:
            raise WrongState(
                "idempotency-answer-not-kept",
                f"the first request was answered with {record.status}; its answer of {record.body_bytes} bytes was too large to keep",
                "it is not carried out again; look at what it made",
                details={"status": record.status},
            )
        return Stored(status=record.status, body=record.body, headers=record.headers)

    async def finish(self, key: str, caller: str, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Remembers the answer to what `begin` let through; of a body over 256 KiB only that there was one.

        Where the store fails, the request counts as never begun, and the error tells so.
        """
        now = clock.unix_now()
        record = records.AnswerRecord(
            caller=caller,
            key=key,
            fingerprint=self._under_way[caller, key],
            status=status,
            headers=dict(headers),
            body=body if len(body) <= MAX_BODY_BYTES else None,
            body_bytes=len(body),
            created_at=now,
        )
        try:
            with trio.CancelScope(shield=True):
                await self._store.write(lambda connection: records.put_answer(connection, record))
        finally:
            self._under_way.pop((caller, key), None)

    def abandon(self, key: str, caller: str) -> None:
        """Forgets that a request began: sent again, it is carried out."""
        self._under_way.pop((caller, key), None)

    async def prune(self) -> None:
        """Forgets answers that are older than a day; call it now and then."""
        before = clock.unix_now() - KEPT_SECONDS
        await self._store.write(lambda connection: records.forget_answers(connection, before))


def fingerprint(method: str, target: str, body: bytes) -> str:
    """The same for the same request, another for any other."""
    return hashlib.sha256(b"\n".join((method.encode(), target.encode(), body))).hexdigest()


def _require_same(first: str, now: str) -> None:
    if first != now:
        raise Invalid(
            "idempotency-key-reused",
            "this Idempotency-Key was used for another request",
            "send a fresh key with every new request",
        )
