"""The address plan is arithmetic: no two slots share anything, and every cell's address leads back to its slot."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.errors import AlreadyExists, LimitReached
from colony_core.isolation import AddressPlan

PLAN = AddressPlan()


@given(st.integers(0, PLAN.capacity - 1))
def test_a_cell_and_its_host_end_are_a_pair_inside_the_range(slot: int) -> None:
    at = PLAN.addresses(slot)
    host, cell = ipaddress.IPv4Address(at.host_ip), ipaddress.IPv4Address(at.cell_ip)
    assert int(cell) == int(host) + 1
    assert int(host) % 2 == 0, "a /31 begins at an even address"
    assert host in PLAN.network
    assert cell in PLAN.network
    assert cell != PLAN.network.broadcast_address
    assert host != PLAN.network.network_address


@given(st.integers(0, PLAN.capacity - 1))
def test_an_address_leads_back_to_its_slot(slot: int) -> None:
    assert PLAN.find(PLAN.addresses(slot).cell_ip) == PLAN.addresses(slot)


@given(st.integers(0, PLAN.capacity - 1), st.integers(0, PLAN.capacity - 1))
def test_two_slots_share_nothing(one: int, other: int) -> None:
    if one != other:
        a, b = PLAN.addresses(one), PLAN.addresses(other)
        assert not {a.host_ip, a.cell_ip} & {b.host_ip, b.cell_ip}
        assert not {a.host_mac, a.cell_mac} & {b.host_mac, b.cell_mac}
        assert a.link != b.link
        assert a.ifindex != b.ifindex


@given(st.ip_addresses(v=4))
def test_a_strangers_address_has_no_slot(address: ipaddress.IPv4Address) -> None:
    found = PLAN.find(str(address))
    assert found is None or found.cell_ip == str(address)


def test_a_link_name_fits_the_kernel() -> None:
    assert len(PLAN.addresses(PLAN.capacity - 1).link) <= 15
    assert PLAN.addresses(7).link == "vc-000000007"
    assert PLAN.addresses(7).ifindex == 1_000_007
    assert (PLAN.addresses(0).host_ip, PLAN.addresses(0).cell_ip) == ("10.200.0.2", "10.200.0.3")


def test_macs_are_local_and_no_multicast() -> None:
    at = PLAN.addresses(3)
    for mac in (at.host_mac, at.cell_mac):
        assert len(mac) == 6
        assert mac[0] & 0b11 == 0b10


def test_the_range_has_an_end() -> None:
    assert PLAN.capacity == 32_766
    assert AddressPlan("10.9.0.0/29").capacity == 2
    for slot in (-1, PLAN.capacity):
        with pytest.raises(LimitReached, match=r"isolation\.base") as caught:
            PLAN.addresses(slot)
        assert caught.value.code == "no-address"


@pytest.mark.parametrize("route", ["10.200.0.0/16", "10.0.0.0/8", "10.200.7.0/24", "10.200.3.4/32"])
def test_a_route_into_the_range_is_refused_with_the_route_and_the_key_to_change(route: str) -> None:
    with pytest.raises(AlreadyExists) as caught:
        PLAN.check_free([("192.0.2.0/24", "eth0"), (route, "tun7")])
    assert caught.value.code == "address-range-taken"
    assert route in caught.value.message
    assert "tun7" in caught.value.message
    assert "isolation" in caught.value.hint
    assert "base" in caught.value.hint


@pytest.mark.parametrize(
    ("route", "device"),
    [("0.0.0.0/0", "eth0"), ("0.0.0.0/1", "tun0"), ("10.200.0.2/31", "vc-000000000"), ("10.201.0.0/16", "br0")],
)
def test_default_routes_own_cables_and_neighbours_are_no_clash(route: str, device: str) -> None:
    PLAN.check_free([(route, device)])
