"""Which names are allowed, and every name that is derived from them.

A colony's name reaches paths, host names, interface names and argument lists, so it is checked here before it reaches any of them.
"""

import re
import secrets

from .errors import Invalid

NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"
SERVICE_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
RESERVED_NAMES = frozenset(
    {"all", "api", "bloom", "colony", "hub", "local", "localhost", "mycelium", "none", "square", "www"}
)
RESERVED_SERVICES = frozenset({"colony", "setup"})
"""Labels under which Colony itself writes into a colony's log."""

COLONY_DOMAIN = "colony.internal"
"""Below it names lead to addresses of cells. Not below `localhost`, which many programs take for 127.0.0.1 without asking; `internal` is a
top-level name that is kept for such use and that nobody outside answers for."""

_NAME = re.compile(NAME_PATTERN)
_SERVICE = re.compile(SERVICE_PATTERN)
_COLONY_ID = re.compile(r"^col_[0-9a-f]{16}$")


def check_colony_name(name: str) -> str:
    """Returns `name`; raises Invalid where it is not a colony's name."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            "invalid-name",
            f"{_shown(name)} is not a colony name",
            "1 to 32 of a-z, 0-9 and '-', beginning with a letter, not ending with '-'",
        )
    if name in RESERVED_NAMES:
        raise Invalid("reserved-name", f"the name {name!r} is kept for Colony itself", "take another name")
    return name


def check_service_name(name: str) -> str:
    """Returns `name`; raises Invalid where it is not a DNS label, or is kept for Colony itself."""
    if not _SERVICE.fullmatch(name):
        raise Invalid(
            "invalid-service-name",
            f"{_shown(name)} is not a service name",
            "1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'",
        )
    if name in RESERVED_SERVICES:
        raise Invalid(
            "reserved-name", f"the service name {name!r} is kept for Colony's own log lines", "take another name"
        )
    return name


def new_colony_id() -> str:
    """A fresh immutable id; the underscore keeps ids and names apart, so that either may be given anywhere."""
    return f"col_{secrets.token_hex(8)}"


def is_colony_id(text: str) -> bool:
    """Whether `text` has the form of an id (and so can never be a name)."""
    return _COLONY_ID.fullmatch(text) is not None


def namespace_name(colony: str) -> str:
    """The network namespace of a colony, as in `ip netns exec ns-hello ...`."""
    return f"ns-{colony}"


def host_link_alias(colony: str) -> str:
    """The readable alternative name of the host's end of a colony's cable."""
    return f"veth-{colony}-host"


def service_host(service: str, colony: str, domain: str) -> str:
    """Where a service is seen from outside: `web.hello.colony.localhost`."""
    return f"{service}.{colony}.{domain}"


def port_host(colony: str, port: int, domain: str) -> str:
    """Where a port of a colony is seen from outside: `hello-4001.colony.localhost`."""
    return f"{colony}-{port}.{domain}"


def colony_address_name(colony: str, service: str | None = None) -> str:
    """How a colony, or a service of it, is called in the cells of colonies that are linked to it: `api.hello.colony.internal`."""
    return ".".join(label for label in (service, colony, COLONY_DOMAIN) if label)


def service_variable(service: str) -> str:
    """The stem of the environment variables that tell a service of its sibling: `COLONY_SERVICE_MY_API`."""
    return f"COLONY_SERVICE_{service.upper().replace('-', '_')}"


def _shown(name: str) -> str:
    text = repr(name)
    return text if len(text) <= 60 else f"{text[:48]}…' ({len(name)} characters)"
