"""Whose request it is where a front passes it on. Pure."""

import ipaddress
from collections.abc import Collection, Iterable

FORWARDED_FOR = b"x-forwarded-for"
MOST_HOPS = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Collection[Network]) -> str:
    """The address of the last one on the way who is none of `trusted`; the peer's own, where nobody is believed.

    Each front puts whom it saw behind what it was told in `X-Forwarded-For`: it is read from its end, as far as the one who said it
    is believed. What is no address there, and what lies before it, is not.
    """
    address = _address(peer)
    if address is None or not _among(address, trusted):
        return peer
    told = b",".join(value for name, value in headers if name.lower() == FORWARDED_FOR).decode("latin-1")
    for hop in reversed(told.split(",")[-MOST_HOPS:]):
        before = _address(hop.strip())
        if before is None:
            break
        address = before
        if not _among(address, trusted):
            break
    return str(address)


def _among(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """An address, also with a port or in brackets; an IPv4 one in IPv6's clothes is itself."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
