"""From a host name to a place in a colony. Pure.

Three forms, each with an optional port and trailing dot, in any case: `<service>.<colony>.<domain>`, `<colony>-<port>.<domain>` and the
bare `<colony>.<domain>`. Where a colony is really named `hello-4001`, that name wins over port 4001 of `hello`.
"""

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Literal

import attrs

from colony_core.naming import NAME_PATTERN, SERVICE_PATTERN

_HOST = re.compile(r"([a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*)\.?(?::([0-9]{0,5}))?", re.IGNORECASE)
_IPV6 = re.compile(r"\[[0-9a-f:.]{2,45}\](?::[0-9]{0,5})?", re.IGNORECASE)
_NAME = re.compile(NAME_PATTERN)
_SERVICE = re.compile(SERVICE_PATTERN)
_WITH_PORT = re.compile(r"(.+)-([1-9][0-9]{0,4})")
_MAX_HOST_BYTES = 262
_MAX_PORT = 65535


@attrs.frozen
class Target:
    """A place in a known colony: one of its services, one of its ports, or, with neither, its first service with a port."""

    colony: str
    service: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        if self.service is not None:
            return f"service {self.service} of {self.colony}"
        return self.colony if self.port is None else f"port {self.port} of {self.colony}"


@attrs.frozen
class NotOurs:
    """No colony answers to this host: it is no host name at all, lies outside the domain, or names no colony that lives here."""

    why: Literal["malformed", "foreign", "unknown"]
    name: str = ""


def parse_host(host: bytes | str, domain: str, known: Callable[[str], bool] | Collection[str]) -> Target | NotOurs:
    """The place that the value of a Host header names; never raises. `known` says which colonies live, `domain` is in lower case."""
    labels = _labels(host, domain)
    if isinstance(labels, NotOurs):
        return labels
    lives = known if callable(known) else known.__contains__
    name = labels[-1]
    if len(labels) == 2:
        return Target(name, service=labels[0]) if _NAME.fullmatch(name) and lives(name) else NotOurs("unknown", name)
    if _NAME.fullmatch(name) and lives(name):
        return Target(name)
    found = _WITH_PORT.fullmatch(name)
    if found and int(found[2]) <= _MAX_PORT and _NAME.fullmatch(found[1]) and lives(found[1]):
        return Target(found[1], port=int(found[2]))
    return NotOurs("unknown", found[1] if found else name)


@lru_cache(maxsize=1024)
def _labels(host: bytes | str, domain: str) -> tuple[str, ...] | NotOurs:
    """The one or two labels before the domain."""
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    found = _HOST.fullmatch(text) if text.isascii() and len(text) <= _MAX_HOST_BYTES else None
    if found is None:
        return NotOurs("foreign" if _IPV6.fullmatch(text) else "malformed")
    if found[2] and int(found[2]) > _MAX_PORT:
        return NotOurs("malformed")
    name = found[1].lower()
    if name == domain:
        return NotOurs("unknown")
    if not name.endswith(f".{domain}"):
        return NotOurs("foreign", name)
    labels = tuple(name.removesuffix(f".{domain}").split("."))
    if len(labels) > 2 or (len(labels) == 2 and not _SERVICE.fullmatch(labels[0])):
        return NotOurs("unknown", labels[-1])
    return labels
