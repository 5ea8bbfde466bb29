"""Names are checked before they reach a path, a host name or an interface."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core import naming
from colony_core.errors import Invalid


@pytest.mark.parametrize("name", ["a", "agent-1", "a" * 32, "x9", "a--b"])
def test_plain_names_are_allowed(name: str) -> None:
    assert naming.check_colony_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "1a",
        "-a",
        "a-",
        "a/b",
        "..",
        "a b",
        "a\n",
        "a\x00",
        "ä",
        "a_b",
        "a.b",
        "a" * 33,
        "a" * 300,
        "../../etc",
        "a;rm",
        "--help",
    ],
)
def test_names_that_could_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        naming.check_colony_name(name)
    assert caught.value.code == "invalid-name"
    assert len(caught.value.message) < 120
    assert caught.value.hint


@pytest.mark.parametrize("name", sorted(naming.RESERVED_NAMES))
def test_reserved_names_are_refused_as_such(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        naming.check_colony_name(name)
    assert caught.value.code == "reserved-name"


@given(st.text())
def test_whatever_is_allowed_is_safe_in_paths_hosts_and_arguments(name: str) -> None:
    try:
        naming.check_colony_name(name)
    except Invalid:
        return
    assert re.fullmatch(r"[a-z0-9-]{1,32}", name)
    assert not name.startswith("-")
    assert not naming.is_colony_id(name)


@pytest.mark.parametrize("name", ["web", "0", "my-api", "a" * 63])
def test_service_names_are_dns_labels(name: str) -> None:
    assert naming.check_service_name(name) == name


@pytest.mark.parametrize("name", ["", "-web", "web-", "Web", "we_b", "a" * 64, "a.b", "setup", "colony", "web\n"])
def test_service_names_that_are_no_dns_labels_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        naming.check_service_name(name)


def test_an_id_is_never_a_name_and_never_twice_the_same() -> None:
    ids = {naming.new_colony_id() for _ in range(1000)}
    assert len(ids) == 1000
    for colony_id in ids:
        assert naming.is_colony_id(colony_id)
        with pytest.raises(Invalid):
            naming.check_colony_name(colony_id)


def test_derived_names_are_as_documented() -> None:
    assert naming.namespace_name("hello") == "ns-hello"
    assert naming.host_link_alias("agent-frontend") == "veth-agent-frontend-host"
    assert naming.service_host("web", "hello", "colony.localhost") == "web.hello.colony.localhost"
    assert naming.port_host("hello", 4001, "colony.localhost") == "hello-4001.colony.localhost"
    assert naming.service_variable("my-api") == "COLONY_SERVICE_MY_API"
