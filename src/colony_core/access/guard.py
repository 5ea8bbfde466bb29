"""Every key that opens the API: made, listed, revoked, and recognised without waiting.

The file is long because whatever makes a key count, or count no more, is read together.
"""

import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import trio

from colony_core import clock
from colony_core.errors import Invalid, NotAllowed, NotFound
from colony_core.store import Store
from colony_core.views import TokenView

from . import records
from .keys import Identity, KeyRecord, Role, hashed, matches, mint, parse, parse_role

LOCAL_NAME = "local"
MAX_NAME_LETTERS = 64
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
KEY_NAME_PATTERN = rf"^[^\s{_UNSEEN}]([^{_UNSEEN}]*[^\s{_UNSEEN}])?$"
"""No control characters, and none that steer the direction of writing; names stand in logs and tables."""
_NAME = re.compile(KEY_NAME_PATTERN)
MAX_TOKEN_LETTERS = 256
CUT_SECONDS = 0.3
"""What is open by a key that was revoked goes on no longer than this."""
USER_PREFIX = "uid:"
"""Ids of users of this machine, who came by the socket, begin so; those of keys never do."""
MOST_SECONDS = 10 * 365 * 86400.0


class Keys:
    """The keys in `store`; call `load` before anything else. Only hashes of secrets are held."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._house_owner = house_owner()
        self._living: dict[str, KeyRecord] = {}
        self._used: dict[str, float] = {}
        self._local = trio.Lock()
        self._visits: dict[str, set[trio.CancelScope]] = {}

    def __repr__(self) -> str:
        return f"<Keys: {len(self._living)}>"

    async def load(self) -> None:
        """Reads the keys from the store."""
        self._living = {record.id: record for record in await self._store.read(records.living_keys)}

    def authenticate(self, token: str, *, browser: bool = False) -> Identity | None:
        """Who holds this token, or None where it opens nothing. Asks no database. A browser's is good in a cookie only, others never."""
        parsed = parse(token) if len(token) <= MAX_TOKEN_LETTERS else None
        record = self._living.get(parsed.id) if parsed else None
        if parsed is None or record is None or not matches(parsed.secret, record.secret_hash):
            return None
        now = clock.unix_now()
        if record.browser is not browser or (record.expires_at is not None and record.expires_at <= now):
            return None
        self._used[record.id] = now
        house = record.owner in (LOCAL_NAME, self._house_owner)
        return Identity(
            id=record.id,
            name=record.name,
            role=record.role,
            person=self._house_owner if house else record.owner,
            house=house,
            colony=record.colony,
            browser=browser,
        )

    async def mint(
        self,
        name: str,
        role: str | Role,
        *,
        owner: str = LOCAL_NAME,
        seconds: float | None = None,
        colony: str | None = None,
    ) -> TokenView:
        """Makes a key of the person `owner`; the view holds its token, which is told this once. Raises Invalid.

        With `seconds` it opens nothing after that time. An agent's key, and no other, has the id of its `colony`.
        """
        for what, text in (("a key's name", name), ("a person's name", owner)):
            if len(text) > MAX_NAME_LETTERS or not _NAME.fullmatch(text):
                raise Invalid(
                    "invalid-name",
                    f"{what} is 1 to {MAX_NAME_LETTERS} characters that can be seen, without spaces around them",
                    "name it after who will use it",
                )
        if name == LOCAL_NAME:
            raise Invalid("reserved-name", f"the name {name!r} is kept for the daemon's own key", "take another name")
        role = role if isinstance(role, Role) else parse_role(role)
        if (role is Role.AGENT) != (colony is not None):
            raise Invalid(
                "agent-without-colony" if colony is None else "colony-without-agent",
                "a key of the role agent is for one colony, and no other key is",
                "name the colony: --role agent --colony NAME",
            )
        if seconds is not None and not 0 < seconds <= MOST_SECONDS:
            raise Invalid("invalid-ttl", f"{seconds:g} s is no time that a key may last", "from above 0 to ten years")
        return await self._mint(name, role, owner, seconds=seconds, colony=colony)

    async def open_session(self, identity: Identity, *, seconds: float) -> TokenView:
        """A key for a browser of somebody who came in with a one-time code; its token is for a cookie.

        It lasts no longer than the key that the code was made with. Raises NotAllowed where that one is revoked, also meanwhile.
        """
        parent = None if identity.id.startswith(USER_PREFIX) else identity.id
        if parent is not None:
            until = self._parent(parent).expires_at
            seconds = seconds if until is None else min(seconds, until - clock.unix_now())
        name = f"browser of {identity.name}"[:MAX_NAME_LETTERS]
        view = await self._mint(name, identity.role, identity.person, seconds=seconds, browser=True, parent=parent)
        if parent is not None and parent not in self._living:
            await self._revoke((view.id,))
            self._parent(parent)  # raises
        return view

    def _parent(self, key_id: str) -> KeyRecord:
        found = self._living.get(key_id)
        if found is None:
            raise NotAllowed("login-code-unknown", "the token that made this link was revoked", "colony login")
        return found

    @contextmanager
    def visit(self, identity: Identity) -> Iterator[trio.CancelScope]:
        """A scope for what is done with a key: cancelled when the key ends, a moment later where it was revoked."""
        record = self._living.get(identity.id)
        with trio.CancelScope() as scope:
            if record is None:  # a user of this machine, whose word is the kernel's
                yield scope
                return
            if record.expires_at is not None:
                scope.deadline = trio.current_time() + record.expires_at - clock.unix_now()
            visits = self._visits.setdefault(record.id, set())
            visits.add(scope)
            try:
                yield scope
            finally:
                visits.discard(scope)
                if not visits:
                    self._visits.pop(record.id, None)

    def list(self) -> tuple[TokenView, ...]:
        """Every key that opens something, oldest first, without secrets."""
        now = clock.unix_now()
        living = [each for each in self._living.values() if each.expires_at is None or each.expires_at > now]
        return tuple(
            _view(attrs.evolve(each, last_used_at=self._used.get(each.id, each.last_used_at))) for each in living
        )

    async def revoke(self, key_id: str) -> None:
        """Makes a key open nothing, from the moment that this returns, nor the sessions of browsers that were opened by it.

        What is open by them is cut soon after. Raises NotFound where there is no such key.
        """
        if key_id not in self._living:
            raise NotFound("token-not-found", f"no key has the id {key_id!r}", "colony token ls shows the ids")
        await self._revoke((key_id,))

    async def revoke_person(self, person: str) -> None:
        """As `revoke`, of every key of a person. Raises NotFound where there is none, Invalid for the daemon's own."""
        if person == LOCAL_NAME:
            raise Invalid("reserved-name", "the daemon's own key is no person's", "colony token revoke ID")
        found = tuple(each.id for each in self._living.values() if each.owner == person)
        if not found:
            raise NotFound("person-not-found", f"nobody of the name {person[:64]!r} has a key", "colony token ls")
        await self._revoke(found)

    async def save_use(self) -> None:
        """Records when keys were last used, and forgets those whose time is over; call it now and then, and at the end."""
        used, self._used = self._used, {}
        if used:
            await self._store.write(lambda connection: records.save_use(connection, used))
            for key_id in used.keys() & self._living.keys():
                self._living[key_id] = attrs.evolve(self._living[key_id], last_used_at=used[key_id])
        now = clock.unix_now()
        await self._revoke(
            tuple(each.id for each in self._living.values() if each.expires_at is not None and each.expires_at <= now)
        )

    async def local_token(self, path: Path) -> str:
        """The token in the file at `path`, for programs of the daemon's own user; where it no longer opens anything, a new one.

        The file is made 0600 and replaced as a whole. One that others could read is not trusted: its key is revoked.
        """
        async with self._local:
            found, private = _read_private(path)
            identity = self.authenticate(found)
            if identity and private and (identity.name, identity.role) == (LOCAL_NAME, Role.APE):
                return found
            await self._revoke(tuple(record.id for record in self._living.values() if record.name == LOCAL_NAME))
            view = await self._mint(LOCAL_NAME, Role.APE, LOCAL_NAME)
            assert view.token is not None
            _write_private(path, view.token)
            return view.token

    async def _mint(
        self,
        name: str,
        role: Role,
        owner: str,
        *,
        seconds: float | None = None,
        colony: str | None = None,
        browser: bool = False,
        parent: str | None = None,
    ) -> TokenView:
        token, parsed = mint()
        now = clock.unix_now()
        record = KeyRecord(
            id=parsed.id,
            name=name,
            owner=owner,
            role=role,
            secret_hash=hashed(parsed.secret),
            created_at=now,
            expires_at=None if seconds is None else now + seconds,
            colony=colony,
            browser=browser,
            parent=parent,
        )
        await self._store.write(lambda connection: records.add_key(connection, record))
        self._living[record.id] = record
        return _view(record, token)

    async def _revoke(self, ids: tuple[str, ...]) -> None:
        # Forgotten first, so that a key opens nothing while its end is written; where that fails, the store still knows it, and so do we.
        theirs = {*ids, *(each.id for each in self._living.values() if each.parent in ids)}
        revoked = [self._living.pop(key_id) for key_id in theirs if key_id in self._living]
        if not revoked:
            return
        now = clock.unix_now()
        try:
            await self._store.write(lambda connection: records.revoke_keys(connection, theirs, now))
        except BaseException:
            self._living |= {record.id: record for record in revoked}
            raise
        # Not at once: whoever ends their own key is still answered.
        soon = trio.current_time() + CUT_SECONDS
        for visit in [visit for key_id in theirs for visit in self._visits.get(key_id, ())]:
            visit.deadline = min(visit.deadline, soon)


def house_owner() -> str:
    """The daemon's own user: the person to whom everything belongs."""
    return user_name(os.getuid())


def user_name(uid: int) -> str:
    """The name of a user of this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def _view(record: KeyRecord, token: str | None = None) -> TokenView:
    return TokenView(
        id=record.id,
        name=record.name,
        role=record.role.value,
        created_at=clock.rfc3339(record.created_at),
        token=token,
        person=record.owner,
        colony=record.colony,
        browser=record.browser,
        expires_at=None if record.expires_at is None else clock.rfc3339(record.expires_at),
        last_used_at=None if record.last_used_at is None else clock.rfc3339(record.last_used_at),
    )


def _read_private(path: Path) -> tuple[str, bool]:
    """What the file holds, and whether only we could read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "", False
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return "", False
        private = about.st_uid == os.getuid() and not stat.S_IMODE(about.st_mode) & 0o077
        return file.read(MAX_TOKEN_LETTERS + 1).decode("ascii", "replace").strip(), private


def _write_private(path: Path, token: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(f"{token}\n")
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise NotAllowed(
            "token-file", f"cannot write {path}: {error.strerror}", f"look at owner and rights of {path.parent}"
        ) from error
