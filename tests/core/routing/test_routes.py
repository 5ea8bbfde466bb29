from hypothesis import given
from hypothesis import strategies as st

from colony_core.naming import NAME_PATTERN, SERVICE_PATTERN, port_host, service_host
from colony_core.routing import NotOurs, Target, parse_host

DOMAIN = "colony.localhost"
names = st.from_regex(NAME_PATTERN, fullmatch=True)
services = st.from_regex(SERVICE_PATTERN, fullmatch=True)
ports = st.integers(1, 65535)
tails = st.sampled_from(["", ".", ":8088", ".:8088", ":", ":65535"])


@given(names, services, tails, st.booleans())
def test_a_service_is_found_at_its_address(colony, service, tail, upper):
    host = service_host(service, colony, DOMAIN)
    host = (host.upper() if upper else host) + tail
    assert parse_host(host, DOMAIN, {colony}) == Target(colony, service=service)
    assert parse_host(host.encode(), DOMAIN, {colony}.__contains__) == Target(colony, service=service)


@given(names, ports, tails)
def test_a_port_is_found_at_its_address(colony, port, tail):
    assert parse_host(port_host(colony, port, DOMAIN) + tail, DOMAIN, {colony}) == Target(colony, port=port)


@given(names, tails)
def test_a_bare_colony_is_found(colony, tail):
    assert parse_host(f"{colony}.{DOMAIN}{tail}", DOMAIN, {colony}) == Target(colony)


@given(st.from_regex(r"^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$", fullmatch=True), ports)
def test_an_exact_name_wins_over_a_port(colony, port):
    both = {colony, f"{colony}-{port}"}
    assert parse_host(port_host(colony, port, DOMAIN), DOMAIN, both) == Target(f"{colony}-{port}")


@given(st.one_of(st.binary(max_size=80), st.text(max_size=80), st.from_regex(r"[a-z0-9.:-]{1,40}\.colony\.localhost")))
def test_no_host_is_too_strange_and_only_known_colonies_are_found(host):
    found = parse_host(host, DOMAIN, {"hello", "a-1"})
    assert isinstance(found, NotOurs) or found.colony in {"hello", "a-1"}


@given(names, ports)
def test_what_is_not_known_is_not_ours(colony, port):
    assert parse_host(f"{colony}.{DOMAIN}", DOMAIN, ()) == NotOurs(
        "unknown", parse_host(f"{colony}.{DOMAIN}", DOMAIN, ()).name
    )
    assert parse_host(port_host(colony, port, DOMAIN), DOMAIN, ()) == NotOurs("unknown", colony)


def test_hosts_that_lead_nowhere_say_why():
    why = {
        "": "malformed",
        "a b.colony.localhost": "malformed",
        "hello.colony.localhost:99999": "malformed",
        "hello.colony.localhost:80:80": "malformed",
        "hello..colony.localhost": "malformed",
        ".colony.localhost": "malformed",
        "user@hello.colony.localhost": "malformed",
        "hello.colony.localhost/": "malformed",
        "hello.colony.localhost\0": "malformed",
        "hello.colony.localhost..": "malformed",
        "hellö.colony.localhost": "malformed",
        "x" * 300: "malformed",
        "127.0.0.1:8088": "foreign",
        "[::1]:8088": "foreign",
        "[::ffff:127.0.0.1]": "foreign",
        "localhost": "foreign",
        "hello.colony.localhost.evil.example": "foreign",
        "evilcolony.localhost": "foreign",
        "colony.localhost": "unknown",
        "a.b.hello.colony.localhost": "unknown",
        "-web.hello.colony.localhost": "unknown",
        "hello-0.colony.localhost": "unknown",
        "hello-65536.colony.localhost": "unknown",
        "hello-04001.colony.localhost": "unknown",
        "web.hello-4001.colony.localhost": "unknown",
    }
    for host, expected in why.items():
        found = parse_host(host, DOMAIN, {"hello"})
        assert isinstance(found, NotOurs), host
        assert found.why == expected, host


def test_a_target_is_said_for_people():
    assert str(Target("hello", service="web")) == "service web of hello"
    assert str(Target("hello", port=4001)) == "port 4001 of hello"
    assert str(Target("hello")) == "hello"
