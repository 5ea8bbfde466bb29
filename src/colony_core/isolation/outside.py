"""What counts as outside: where a colony may be let to from the host's own network. Pure.

A packet of a cell meets the firewall; a connection that the daemon dials for it does not, and would reach what only the host reaches.
So here stands in words what the firewall says by where packets come from. Which addresses are the host's own, the kernel is asked.
"""

import ipaddress
from collections.abc import Iterable

import attrs

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32")
"""Link-local addresses, and others at which clouds tell a machine its own secrets."""
CABLE = "vc-"
"""How the names of cells' cables begin, whichever daemon made them."""
UNICAST, LOCAL = 1, 2
"""Kinds of routes, as in rtnetlink(7)."""

_NOWHERE = tuple(ipaddress.IPv4Network(each) for each in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"))
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_METADATA = tuple(ipaddress.IPv4Network(each) for each in METADATA)
_WORLD6 = ipaddress.IPv6Network("2000::/3")
_PROTOCOLS = ipaddress.IPv6Network("2001::/23")
"""Teredo among them, which hides IPv4 addresses, too."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@attrs.frozen
class Route:
    """How the host's kernel would send a packet to an address."""

    kind: int
    device: str


def plain(address: Address) -> Address:
    """The address that is really dialled: an IPv4 address written as IPv6 is one of IPv4."""
    mapped = address.ipv4_mapped if address.version == 6 else None
    return address if mapped is None else mapped


def refusal(address: Address, cells: Iterable[ipaddress.IPv4Network]) -> str:
    """Why nobody is let to this address wherever it leads, as a phrase; empty where it depends on the route."""
    address = plain(address)
    if address.version == 6:
        return _refusal6(address)
    if address in _LOOPBACK:
        return "a loopback address of the machine's"
    if any(address in network for network in cells):
        return "in the network of colonies"
    if any(address in network for network in _METADATA):
        return "link-local, or where a cloud tells a machine its secrets"
    if any(address in network for network in _NOWHERE):
        return "the address of no machine"
    return ""


def _refusal6(address: ipaddress.IPv6Address) -> str:
    """Only what is anybody's: private, link-local and loopback addresses are none, nor those that hide an IPv4 address which is none."""
    inner = address.sixtofour
    if address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    elif address not in _WORLD6 or address in _PROTOCOLS:
        return "not a public IPv6 address"
    if inner is not None and (not inner.is_global or refusal(inner, ())):
        return "an IPv6 address that hides a private one"
    return ""


def route_refusal(route: Route) -> str:
    """Why nobody is let to where this route leads; empty where it leads outside."""
    if route.kind == LOCAL:
        return "an address of this machine"
    if route.kind != UNICAST:
        return "the address of no machine"
    return "in the network of colonies" if route.device.startswith(CABLE) else ""
