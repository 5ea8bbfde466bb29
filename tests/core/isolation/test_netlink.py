"""Netlink messages: what pyroute2 encoded is patched in the right places, and what the kernel says is read without trust."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.isolation import netlink


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    for _, _, payload in netlink.messages(data):
        netlink.attributes(payload, 4)


@given(st.integers(1, 2**31 - 1), st.binary(min_size=4, max_size=4), st.binary(min_size=6, max_size=6))
def test_a_template_carries_the_values_it_is_filled_with(ifindex: int, address: bytes, mac: bytes) -> None:
    template = netlink.host_template(ipv6=True)
    index = netlink.index(ifindex)
    batch = bytes(template.fill(ifindex=index, host_ip=address, cell_ip=address, cell_mac=mac))
    said = list(netlink.messages(batch))
    assert len(said) == template.requests == 3
    assert [kind for kind, _, _ in said] == [netlink.NEWLINK, netlink.NEWADDR, netlink.NEWNEIGH]
    assert struct.unpack_from("=i", said[0][2], 4) == (ifindex,)
    assert netlink.attributes(said[1][2], 8)[2] == address
    assert netlink.attributes(said[2][2], 12) == {1: address, 2: mac}


def test_filling_leaves_the_template_as_it_was() -> None:
    template = netlink.cell_template()
    before = template.data
    template.fill(host_ip=b"\1\2\3\4", cell_ip=b"\1\2\3\5", host_mac=b"abcdef")
    assert template.data == before


def test_the_first_refusal_of_a_batch_is_told_in_the_kernels_words() -> None:
    text = b"Device does not exist\0"
    attribute = struct.pack("=HH", 4 + len(text), 1) + text + b"\0\0"
    body = struct.pack("=i", -errno.ENODEV) + bytes(16) + attribute
    refused = struct.pack("=IHHII", 16 + len(body), netlink.ERROR, 0x200, 1, 0) + body
    fine = struct.pack("=IHHII", 36, netlink.ERROR, 0, 2, 0) + bytes(20)

    class Kernel:
        def send(self, data: bytes) -> None:
            assert data == b"batch"

        def recv(self, size: int) -> bytes:
            return refused + fine

    with pytest.raises(netlink.NetlinkError) as caught:
        netlink.transact(Kernel(), b"batch", 2)  # type: ignore[arg-type]
    assert (caught.value.errno, caught.value.strerror) == (errno.ENODEV, "Device does not exist")
