"""Netlink requests: encoded once by pyroute2 from sentinel values, then only patched; sent over plain sockets.

A batch is one send and one acknowledgement per request. It is no transaction: whoever sends one undoes its cell when it fails.

The file is long because every message that a cell needs is a template here, and nowhere else.
"""

import errno
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import attrs

REQUEST, ACK, CREATE, EXCLUSIVE, REPLACE, DUMP = 1, 4, 0x400, 0x200, 0x100, 0x300
ERROR, DONE = 2, 3
NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, GETADDR, NEWROUTE, GETROUTE, NEWNEIGH = 16, 17, 18, 20, 21, 22, 24, 26, 28
NEWLINKPROP, DELLINKPROP = 108, 109
NO_LINK_LOCAL = 1
NO_DUPLICATE_SEARCH = 2
IFA_CACHEINFO = 6
FOR_EVER = 0xFFFFFFFF
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
PERMANENT = 0x80
CELL_INDEX = 100
OPERSTATE, OPER_UP = 16, 6
LINK_NAME, LINK_MARK = 3, 20
SKIP_STATISTICS = 8
STATS64 = 23
RTA_DST, RTA_OIF = 1, 4

_HEADER = struct.Struct("=IHHII")
_INDEX = struct.Struct("=I")


class NetlinkError(OSError):
    """The kernel refused a request; the text is its own, where it gave one."""


def open_socket(groups: int = 0) -> socket.socket:
    """A routing socket of the thread's current namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    sock.setsockopt(SOL_NETLINK, CAP_ACK, 1)
    sock.setsockopt(SOL_NETLINK, EXT_ACK, 1)
    if groups:
        sock.bind((0, groups))
    return sock


def transact(sock: socket.socket, data: bytes | bytearray, requests: int) -> None:
    """Sends a batch and waits for every acknowledgement; raises NetlinkError for the first that was refused."""
    error: NetlinkError | None = None
    with _talking(sock):
        sock.send(data)
        while requests:
            for kind, flags, payload in messages(sock.recv(65536)):
                if kind == ERROR:
                    requests -= 1
                    number = -struct.unpack_from("=i", payload)[0]
                    if number and error is None:
                        error = NetlinkError(number, _text(payload, flags) or os.strerror(number))
    try:
        if error is not None:
            raise error
    finally:
        del error  # it holds this frame


@contextmanager
def _talking(sock: socket.socket) -> Iterator[None]:
    """If the talk breaks off, what the kernel had still to say is thrown away: the next one must not take it for its own answer."""
    try:
        yield
    except BaseException:
        while True:
            try:
                sock.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as lost:
                if lost.errno != errno.ENOBUFS:
                    break
        raise


def messages(buffer: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, payload) of each message in what was received."""
    offset = 0
    while offset + _HEADER.size <= len(buffer):
        length, kind, flags, _, _ = _HEADER.unpack_from(buffer, offset)
        yield kind, flags, buffer[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    """The attributes of a message behind its fixed part."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _text(payload: bytes, flags: int) -> str:
    if not flags & 0x200:  # NLM_F_ACK_TLVS: nothing was said beyond the number
        return ""
    return attributes(payload, 4 + _HEADER.size).get(1, b"").rstrip(b"\0").decode(errors="replace")


@attrs.frozen
class Template:
    """A batch as bytes, and where in it each value stands."""

    data: bytes
    spots: dict[str, tuple[int, ...]]
    requests: int

    def fill(self, **values: bytes) -> bytearray:
        """The batch with these values."""
        batch = bytearray(self.data)
        for name, value in values.items():
            for spot in self.spots[name]:
                batch[spot : spot + len(value)] = value
        return batch


def index(number: int) -> bytes:
    """An interface index, or a descriptor, as it stands in a message."""
    return _INDEX.pack(number)


_A, _B = "203.0.113.251", "203.0.113.252"
_MA, _MB = "02:a1:b2:c3:d4:e5", "02:b5:c4:d3:e2:f1"
_LINK, _MARK = "vc-@@@@@@@@@", "colony_@@@@@@@@"
_IFINDEX, _FD, _GROUP = 0x5A5B5C5D, 0x4A4B4C4D, 0x3A3B3C3D


@cache
def cable_template() -> Template:
    """The cable, with its far end in the cell's namespace.

    Moving it there later would cost 15 ms of waiting for RCU, under the lock of all networking.
    """
    queues = [["IFLA_NUM_TX_QUEUES", 1], ["IFLA_NUM_RX_QUEUES", 1]]
    peer = {
        "index": CELL_INDEX,
        "attrs": [["IFLA_IFNAME", "eth0"], ["IFLA_ADDRESS", _MB], ["IFLA_NET_NS_FD", _FD], *queues],
    }
    veth = {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}]]}
    link = [["IFLA_IFNAME", _LINK], ["IFLA_ADDRESS", _MA], *queues, ["IFLA_LINKINFO", veth]]
    return _template(
        [("link", NEWLINK, CREATE | EXCLUSIVE, {"index": _IFINDEX}, link)],
        link=_LINK.encode(),
        ifindex=index(_IFINDEX),
        namespace=index(_FD),
        host_mac=_mac(_MA),
        cell_mac=_mac(_MB),
    )


@cache
def host_template(*, ipv6: bool) -> Template:
    """The host's end: up, with our mark, group and address, without a link-local one, and with the cell as a permanent neighbour.

    Permanent neighbours are no luxury: the table has 1024 entries for all namespaces together, and an ARP reply can be late.
    """
    generation = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", NO_LINK_LOCAL]]}
    quiet = [["IFLA_AF_SPEC", {"attrs": [["AF_INET6", generation]]}]] if ipv6 else []
    ours = [["IFLA_IFALIAS", _MARK], ["IFLA_GROUP", _GROUP]]
    return _template(
        [
            ("link", NEWLINK, 0, {"index": _IFINDEX, "flags": 1, "change": 1}, [*ours, *quiet]),
            ("address", NEWADDR, CREATE | EXCLUSIVE, _address(_IFINDEX), [["IFA_LOCAL", _A], ["IFA_ADDRESS", _A]]),
            ("neighbour", NEWNEIGH, CREATE, _neighbour(_IFINDEX), [["NDA_DST", _B], ["NDA_LLADDR", _MB]]),
        ],
        ifindex=index(_IFINDEX),
        mark=_MARK.encode(),
        group=index(_GROUP),
        host_ip=socket.inet_aton(_A),
        cell_ip=socket.inet_aton(_B),
        cell_mac=_mac(_MB),
    )


@cache
def cell_template() -> Template:
    """Inside: eth0 up, the cell's address, its way out, and the host as a permanent neighbour."""
    route = {"family": socket.AF_INET, "table": 254, "proto": 4, "scope": 0, "type": 1}
    return _template(
        [
            ("link", NEWLINK, 0, {"index": CELL_INDEX, "flags": 1, "change": 1}, []),
            ("address", NEWADDR, CREATE | EXCLUSIVE, _address(CELL_INDEX), [["IFA_LOCAL", _B], ["IFA_ADDRESS", _B]]),
            ("route", NEWROUTE, CREATE | EXCLUSIVE, route, [["RTA_GATEWAY", _A], ["RTA_OIF", CELL_INDEX]]),
            ("neighbour", NEWNEIGH, CREATE, _neighbour(CELL_INDEX), [["NDA_DST", _A], ["NDA_LLADDR", _MA]]),
        ],
        host_ip=socket.inet_aton(_A),
        cell_ip=socket.inet_aton(_B),
        host_mac=_mac(_MA),
    )


def warm_up() -> None:
    """Encodes both batches, so that the first cell does not wait for pyroute2's import."""
    cable_template()
    host_template(ipv6=True)
    cell_template()


def claim_loopback(mark: str) -> bytes:
    """Loopback up, and whose namespace this is: before it is bound, so that nothing under a name of ours is without an owner."""
    raw = mark.encode()
    body = struct.pack("=BxHiII", 0, 0, 1, 1, 1) + struct.pack("=HH", 4 + len(raw), LINK_MARK) + raw
    body += b"\0" * (-len(raw) % 4)
    return _HEADER.pack(_HEADER.size + len(body), NEWLINK, REQUEST | ACK, 1, 0) + body


def link_group(mark: str) -> int:
    """The interface group of one daemon's host ends, by which its static ruleset knows them from another daemon's."""
    return zlib.crc32(mark.encode()) & 0x7FFFFFFF or 1


def mark_in(link: dict[int, bytes]) -> str:
    """Whose a link is, from its attributes."""
    return link.get(LINK_MARK, b"").rstrip(b"\0").decode(errors="replace")


def set_alias(ifindex: int, name: str) -> bytes:
    """Gives a link a second name; links' own names hold 15 bytes, which is too few for a colony's."""
    return _property(NEWLINKPROP, CREATE | EXCLUSIVE, ifindex, name)


def drop_alias(ifindex: int, name: str) -> bytes:
    """Takes a link's second name away, so that the next link can have it at once."""
    return _property(DELLINKPROP, 0, ifindex, name)


def loopback_address(address: str, *, seconds: int = FOR_EVER) -> bytes:
    """Gives loopback another address of its own, for so many seconds from now; the kernel takes it away then."""
    lifetime = struct.pack("=HHIIII", 20, IFA_CACHEINFO, seconds, seconds, 0, 0)
    return _loopback(NEWADDR, CREATE | REPLACE, address, lifetime)


def drop_loopback_address(address: str) -> bytes:
    """Takes such an address away."""
    return _loopback(DELADDR, 0, address, b"")


def _loopback(kind: int, flags: int, address: str, more: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    usable_at_once = NO_DUPLICATE_SEARCH if family == socket.AF_INET6 else 0
    body = struct.pack("=BBBBI", family, 8 * len(raw), usable_at_once, 0, 1)
    body += struct.pack("=HH", 4 + len(raw), 2) + raw + more  # IFA_LOCAL
    return _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | ACK | flags, 1, 0) + body


def delete_link(ifindex: int) -> bytes:
    """Removes a link, and with it its far end."""
    return _HEADER.pack(32, DELLINK, REQUEST | ACK, 1, 0) + struct.pack("=BxHiII", 0, 0, ifindex, 0, 0)


def find_link(
    sock: socket.socket, *, ifindex: int = 0, name: str = "", statistics: bool = False
) -> tuple[int, dict[int, bytes]] | None:
    """(index, attributes) of a link by index or name; None where there is none."""
    body = struct.pack("=BxHiII", 0, 0, ifindex, 0, 0) + struct.pack(
        "=HHI", 8, 29, 0 if statistics else SKIP_STATISTICS
    )
    if name:
        raw = name.encode() + b"\0"
        body += struct.pack("=HH", 4 + len(raw), 53) + raw + b"\0" * (-len(raw) % 4)
    with _talking(sock):
        sock.send(_HEADER.pack(_HEADER.size + len(body), GETLINK, REQUEST, 1, 0) + body)
        for kind, _, payload in messages(sock.recv(65536)):
            if kind == NEWLINK:
                return struct.unpack_from("=i", payload, 4)[0], attributes(payload, 16)
            if kind == ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                if number == errno.ENODEV:
                    return None
                raise NetlinkError(number, os.strerror(number))
    return None


def route_to(sock: socket.socket, address: str) -> tuple[int, int]:
    """(kind, index of the link) of the route that a packet to an address would take; raises NetlinkError where there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    body = struct.pack("=BB10x", family, 8 * len(raw)) + struct.pack("=HH", 4 + len(raw), RTA_DST) + raw
    with _talking(sock):
        sock.send(_HEADER.pack(_HEADER.size + len(body), GETROUTE, REQUEST, 1, 0) + body)
        kind, _, payload = next(messages(sock.recv(65536)))
    if kind == ERROR:
        number = -struct.unpack_from("=i", payload)[0]
        raise NetlinkError(number, os.strerror(number))
    link = attributes(payload, 12).get(RTA_OIF, bytes(4))
    return payload[7], _INDEX.unpack(link)[0]


def dump(sock: socket.socket, request: int, family: int) -> Iterator[bytes]:
    """Every object of a kind (links, addresses, routes), as payloads."""
    with _talking(sock):
        sock.send(_HEADER.pack(_HEADER.size + 12, request, REQUEST | DUMP, 1, 0) + struct.pack("=B11x", family))
        while True:
            for kind, _, payload in messages(sock.recv(1 << 18)):
                if kind == DONE:
                    return
                if kind == ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    raise NetlinkError(number, os.strerror(number))
                yield payload


def _property(kind: int, flags: int, ifindex: int, name: str) -> bytes:
    attribute = name.encode() + b"\0"
    inner = struct.pack("=HH", 4 + len(attribute), 53) + attribute  # IFLA_ALT_IFNAME
    inner += b"\0" * (-len(inner) % 4)
    body = (
        struct.pack("=BxHiII", 0, 0, ifindex, 0, 0) + struct.pack("=HH", 4 + len(inner), 52 | 0x8000) + inner
    )  # IFLA_PROP_LIST, nested
    return _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | ACK | flags, 1, 0) + body


def _address(ifindex: int) -> dict[str, int]:
    return {"family": socket.AF_INET, "prefixlen": 31, "index": ifindex}


def _neighbour(ifindex: int) -> dict[str, int]:
    return {"family": socket.AF_INET, "ifindex": ifindex, "state": PERMANENT}


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _template(requests: list[tuple[str, int, int, dict[str, int], list[Any]]], **sentinels: bytes) -> Template:
    classes = _message_classes()
    data = b"".join(_encode(classes[name], *rest) for name, rest in ((r[0], r[1:]) for r in requests))
    spots = {name: tuple(_find(data, wire)) for name, wire in sentinels.items()}
    missing = [name for name, found in spots.items() if not found]
    assert not missing, f"not found in the encoded batch: {missing}"
    return Template(data, spots, len(requests))


def _find(data: bytes, wire: bytes) -> Iterator[int]:
    at = data.find(wire)
    while at >= 0:
        yield at
        at = data.find(wire, at + 1)


def _encode(
    message_class: Callable[[], Any], kind: int, flags: int, fields: dict[str, int], attributes_: list[Any]
) -> bytes:
    message = message_class()
    header = message["header"]
    header["type"], header["flags"], header["sequence_number"], header["pid"] = kind, REQUEST | ACK | flags, 1, 0
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes_
    message.encode()
    return bytes(message.data)


def _message_classes() -> dict[str, Callable[[], Any]]:
    # 150 ms of import, for programs that never build a cell: so only here.
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return {"link": ifinfmsg, "address": ifaddrmsg, "neighbour": ndmsg, "route": rtmsg}
