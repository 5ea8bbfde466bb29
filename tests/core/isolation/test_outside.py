"""What counts as outside: decided by the address and by the route, however the address is written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.isolation import netlink
from colony_core.isolation.outside import LOCAL, UNICAST, Address, Route, plain, refusal, route_refusal
from colony_core.isolation.way_out import Found, find_addresses

CELLS = (ipaddress.IPv4Network("10.200.0.0/16"),)
OUTSIDE = Route(UNICAST, "eth0")


def refused(text: str) -> str:
    return refusal(ipaddress.ip_address(text), CELLS)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"),
        *("169.254.169.254", "::ffff:169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"),
        *("10.200.0.3", "10.200.255.255", "::ffff:10.200.0.3"),
        *("0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::"),
        *("fe80::1", "fc00::1", "fd12::1", "ff02::1", "::7f00:1", "100::1"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0a00:1::1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1"),
        *("2001::1", "2001:0:53aa:64c:0:fffe:80ff:fffe"),
    ],
)
def test_some_addresses_are_never_outside(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "10.0.0.1",
        "10.199.255.255",
        "10.201.0.0",
        "192.168.1.1",
        "100.64.0.1",
        "2606:4700::1111",
        "64:ff9b::1.1.1.1",
    ],
)
def test_all_others_are_outside_if_the_route_leads_there(address: str) -> None:
    assert refused(address) == ""


@given(st.ip_addresses(v=4))
def test_an_address_written_as_ipv6_is_judged_as_what_it_is(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    assert plain(mapped) == address
    assert refusal(mapped, CELLS) == refusal(address, CELLS)
    hidden = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(address))
    assert refusal(hidden, CELLS) or (address.is_global and not refusal(address, ()))


@given(st.ip_addresses(v=6))
def test_of_ipv6_only_public_addresses_are_outside(address: ipaddress.IPv6Address) -> None:
    if not refusal(address, CELLS) and plain(address).version == 6:
        assert str(address).startswith(("2", "3", "64:ff9b:"))
        assert not any((address.is_loopback, address.is_link_local, address.is_site_local, address.is_multicast))


@pytest.mark.parametrize(
    "route", [Route(LOCAL, "lo"), Route(3, "eth0"), Route(5, ""), Route(7, ""), Route(UNICAST, "vc-000000003")]
)
def test_routes_to_the_machine_itself_to_nobody_or_to_a_cell_are_refused(route: Route) -> None:
    assert route_refusal(route)
    assert route_refusal(OUTSIDE) == ""


def find(*addresses: str, route: Route = OUTSIDE) -> Found:
    def resolve(_: str) -> list[Address]:
        return [ipaddress.ip_address(each) for each in addresses]

    return find_addresses("a.example", CELLS, resolve=resolve, route=lambda _: route)


def test_of_a_names_addresses_those_that_are_outside_are_dialled_ipv4_first() -> None:
    assert find("2606:4700::1", "127.0.0.1", "1.1.1.1", "::ffff:1.1.1.1") == Found(("1.1.1.1", "2606:4700::1"))


def test_a_name_that_leads_nowhere_else_is_refused_with_the_reason() -> None:
    assert "loopback" in find("127.0.0.1", "::1").refused
    assert "this machine" in find("192.0.2.2", route=Route(LOCAL, "lo")).refused


def test_what_the_kernel_does_not_judge_is_not_dialled() -> None:
    def route(address: str) -> Route:
        if address == "1.1.1.1":
            raise netlink.NetlinkError(101, "no route")
        return OUTSIDE

    def resolve(host: str) -> list[Address]:
        return [ipaddress.ip_address(each) for each in host.split()]

    assert find_addresses("1.1.1.1 8.8.8.8", CELLS, resolve=resolve, route=route) == Found(("8.8.8.8",))
    assert find_addresses("1.1.1.1 127.0.0.1", CELLS, resolve=resolve, route=route).refused
    with pytest.raises(OSError, match="no route"):
        find_addresses("1.1.1.1", CELLS, resolve=resolve, route=route)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "017700000001", "127.1", "localhost", "0", "0x7f000001"])
def test_loopback_is_known_in_every_writing_that_the_resolver_knows(host: str) -> None:
    assert find_addresses(host, CELLS).refused


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "-.-."])
def test_what_can_be_no_name_is_not_known(host: str) -> None:
    with pytest.raises(OSError):
        find_addresses(host, CELLS)


def test_the_kernel_says_which_addresses_are_the_machines_own() -> None:
    with netlink.open_socket() as sock:
        for address in ("127.0.0.1", "127.9.9.9", "::1"):
            assert netlink.route_to(sock, address)[0] == LOCAL
