"""The address plan: which slot has which addresses, link and index. Pure."""

import ipaddress
from collections.abc import Iterable

import attrs

from colony_core.errors import AlreadyExists, LimitReached

FIRST_IFINDEX = 1_000_000


@attrs.frozen
class Addresses:
    """What one slot is given: a /31 between host and cell, both MACs, the host's link and its index."""

    slot: int
    host_ip: str
    cell_ip: str
    host_mac: bytes
    cell_mac: bytes
    link: str
    ifindex: int


@attrs.frozen
class AddressPlan:
    """Slot n has host base + 2n + 2 and cell base + 2n + 3."""

    base: str = "10.200.0.0/16"

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The range as a network."""
        return ipaddress.IPv4Network(self.base)

    @property
    def capacity(self) -> int:
        """How many slots there are."""
        return self.network.num_addresses // 2 - 2

    def addresses(self, slot: int) -> Addresses:
        """What slot `slot` is given; raises LimitReached beyond the range."""
        if not 0 <= slot < self.capacity:
            raise LimitReached(
                "no-address",
                f"{self.base} has room for {self.capacity} colonies",
                "set isolation.base to a larger network",
            )
        host = int(self.network.network_address) + 2 * slot + 2
        cell = host + 1
        host_bytes, cell_bytes = host.to_bytes(4, "big"), cell.to_bytes(4, "big")
        return Addresses(
            slot=slot,
            host_ip=str(ipaddress.IPv4Address(host)),
            cell_ip=str(ipaddress.IPv4Address(cell)),
            host_mac=b"\x02\xc0" + host_bytes,
            cell_mac=b"\x02\xc1" + cell_bytes,
            link=f"vc-{slot:09d}",
            ifindex=FIRST_IFINDEX + slot,
        )

    def find(self, cell_ip: str) -> Addresses | None:
        """The slot whose cell has this address, if it is one of ours."""
        offset = int(ipaddress.IPv4Address(cell_ip)) - int(self.network.network_address) - 3
        return self.addresses(offset // 2) if offset >= 0 and offset % 2 == 0 and offset // 2 < self.capacity else None

    def check_free(self, routed: Iterable[tuple[str, str]]) -> None:
        """Raises AlreadyExists (`address-range-taken`) if one of the (network, device) routes overlaps the range.

        Cables of cells do not count, nor default routes: the whole range, or the two halves of it that VPNs are fond of.
        """
        for network, device in routed:
            other = ipaddress.IPv4Network(network)
            if other.prefixlen > 1 and other.overlaps(self.network) and not device.startswith("vc-"):
                raise AlreadyExists(
                    "address-range-taken",
                    f"{self.base} overlaps {network}, which this machine reaches by {device}",
                    'set another range: [isolation] base = "10.201.0.0/16"',
                    details={"route": network, "device": device},
                )
