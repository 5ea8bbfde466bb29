"""Mint, hash and compare secrets. Pure.

A token is `cut_1_<id>_<secret>_<check>`: a prefix that scanners know, the public id, 256 bits of secret in base62, and a CRC-32 of all
before, so that a wrong copy is told from a wrong key without a lookup. At rest there is only the SHA-256 of the secret: what is random
enough cannot be guessed, and a slow hash would cost every request.
"""

import enum
import hashlib
import hmac
import re
import secrets
import string
import zlib

import attrs

from colony_core.errors import Invalid

PREFIX = "cut_1_"
ID_LETTERS = 12
SECRET_LETTERS = 43
CHECK_LETTERS = 6
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TOKEN = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{ID_LETTERS}}})_([0-9A-Za-z]{{{SECRET_LETTERS}}})_([0-9A-Za-z]{{{CHECK_LETTERS}}})"
)

_SECRETS = re.compile(rf"({PREFIX}[0-9A-Za-z]{{0,{ID_LETTERS}}})[0-9A-Za-z_]*")


class Role(enum.Enum):
    """What the holder of a key may do: all; look; look at one colony and restart its services (agent); nothing yet (garden)."""

    APE = "ape"
    VIEWER = "viewer"
    AGENT = "agent"
    GARDEN = "garden"


def parse_role(text: str) -> Role:
    """The role of that name; raises Invalid (`unknown-role`)."""
    try:
        return Role(text)
    except ValueError:
        raise Invalid(
            "unknown-role",
            f"there are no keys for the role {text!r}",
            "ape (may do everything), viewer (may look), agent (its own colony) or garden",
        ) from None


@attrs.frozen(kw_only=True)
class Identity:
    """Who is asking. `id` is stable and told in logs; it is no secret.

    `person` is whom colonies belong to, whichever key is used; `house` says that it is the daemon's own user, to whom all belong.
    `colony` is the id of an agent's only colony; `browser` says that a cookie told who it is.
    """

    id: str
    name: str
    role: Role
    person: str = ""
    house: bool = False
    colony: str | None = None
    browser: bool = False


@attrs.frozen(kw_only=True)
class KeyRecord:
    """A key as it is kept: never the secret itself."""

    id: str
    name: str
    garden: str = "local"
    owner: str
    role: Role
    secret_hash: str = attrs.field(repr=False)
    created_at: float
    last_used_at: float | None = None
    expires_at: float | None = None
    colony: str | None = None
    browser: bool = False
    parent: str | None = None
    """The key by which a browser's session was opened; it ends with that key."""


@attrs.frozen
class Parsed:
    """A token that was copied without a mistake; whether it opens anything is another question."""

    id: str
    secret: str = attrs.field(repr=False)


def mint() -> tuple[str, Parsed]:
    """A fresh token and its parts."""
    parsed = Parsed(_random(ID_LETTERS), _random(SECRET_LETTERS))
    head = f"{PREFIX}{parsed.id}_{parsed.secret}"
    return f"{head}_{_check(head)}", parsed


def parse(token: str) -> Parsed | None:
    """The parts of a token, or None where it is none or was copied wrong."""
    found = _TOKEN.fullmatch(token)
    if not found or not hmac.compare_digest(_check(token[: -CHECK_LETTERS - 1]), found[3]):
        return None
    return Parsed(found[1], found[2])


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, secret_hash: str) -> bool:
    """Whether this is the secret that was hashed; takes the same time wherever they differ."""
    return hmac.compare_digest(hashed(secret), secret_hash)


def redacted(text: str) -> str:
    """The text with the secret of every token in it left out."""
    return _SECRETS.sub(r"\1…", text)


def random_secret() -> str:
    """256 bits that nobody can guess."""
    return _random(SECRET_LETTERS)


def _random(letters: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(letters))


def _check(text: str) -> str:
    number = zlib.crc32(text.encode())
    letters = ""
    for _ in range(CHECK_LETTERS):
        number, digit = divmod(number, len(_BASE62))
        letters = _BASE62[digit] + letters
    return letters
