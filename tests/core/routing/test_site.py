"""Which part of a Caddy's configuration is ours."""

import copy
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.routing.caddy import read_answer
from colony_core.routing.site import SERVER, Clash, Site, with_site, without_site

SITE = Site(domain="colony.localhost", socket="/run/p.sock")
OTHER = {
    "admin": {"listen": "unix//run/admin.sock"},
    "apps": {
        "http": {"http_port": 80, "servers": {"srv0": {"listen": [":443"], "routes": [{"handle": []}]}}},
        "tls": {"automation": {"policies": [{"subjects": ["example.org"]}]}},
    },
}
ACME = Site(
    domain="previews.example.org",
    socket="/run/p.sock",
    tls="acme",
    email="a@b.c",
    ask="http://127.0.0.1:1/colony-previews",
)

configs = st.sampled_from([None, {}, {"apps": {}}, {"apps": {"http": {"servers": {}}}}, OTHER])
sites = st.builds(
    Site,
    domain=st.sampled_from(["colony.localhost", "example.org"]),
    socket=st.just("/run/p.sock"),
    listen=st.sampled_from([":443", ":8443", "127.0.0.1:80"]),
    tls=st.sampled_from(["internal", "acme", "files", "off"]),
    ask=st.just("http://127.0.0.1:8088/colony-previews"),
)


def pruned(value: Any) -> Any:
    """Without tables that hold nothing: to Caddy they mean the same as none."""
    if not isinstance(value, dict):
        return value
    kept = {key: pruned(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item != {}}


@given(configs, sites, sites)
def test_putting_in_is_done_once_replaces_what_was_ours_and_leaves_with_nothing_of_it(config, site, another):
    before = copy.deepcopy(config)
    once = with_site(config, site)
    assert config == before
    assert with_site(once, site) == once
    assert with_site(with_site(config, another), site) == once
    assert pruned(without_site(once)) == pruned(config or {})


def test_a_server_of_our_own_serves_every_name_below_the_domain():
    made = with_site(None, SITE)["apps"]
    server = made["http"]["servers"][SERVER]
    assert server["listen"] == [":443"]
    (route,) = server["routes"]
    assert route["match"][0] == {"host": ["*.colony.localhost", "*.*.colony.localhost"]}
    assert route["handle"][0]["upstreams"] == [{"dial": "unix//run/p.sock"}]
    (policy,) = made["tls"]["automation"]["policies"]
    assert (policy["on_demand"], policy["issuers"]) == (True, [{"module": "internal"}])


def test_where_another_server_has_the_address_we_are_its_first_route_and_claim_only_our_names():
    made = with_site(OTHER, SITE)["apps"]
    assert list(made["http"]["servers"]) == ["srv0"]
    ours, theirs = made["http"]["servers"]["srv0"]["routes"]
    assert ours["match"] == [{"host": ["*.colony.localhost", "*.*.colony.localhost"]}]
    assert theirs == {"handle": []}
    assert [policy["subjects"][0] for policy in made["tls"]["automation"]["policies"]] == [
        "*.colony.localhost",
        "example.org",
    ]


def test_policies_of_a_shared_server_get_one_for_our_names():
    config = copy.deepcopy(OTHER)
    config["apps"]["http"]["servers"]["srv0"]["tls_connection_policies"] = [{"match": {"sni": ["example.org"]}}]
    first, _ = with_site(config, SITE)["apps"]["http"]["servers"]["srv0"]["tls_connection_policies"]
    assert first["match"] == {"sni": ["*.colony.localhost", "*.*.colony.localhost"]}


def test_certificates_of_the_world_are_only_asked_for_names_that_lead_somewhere():
    automation = with_site(None, ACME)["apps"]["tls"]["automation"]
    assert automation["on_demand"] == {"ask": ACME.ask}
    assert automation["policies"][0]["issuers"] == [{"module": "acme", "email": "a@b.c"}]


def test_another_authority_is_named_with_what_its_certificate_is_held_to():
    site = attrs.evolve(ACME, email="", acme_ca="https://acme.example/directory", acme_root="/etc/ssl/acme.pem")
    assert with_site(None, site)["apps"]["tls"]["automation"]["policies"][0]["issuers"] == [
        {
            "module": "acme",
            "ca": "https://acme.example/directory",
            "trusted_roots_pem_files": ["/etc/ssl/acme.pem"],
        }
    ]


@pytest.mark.parametrize("listen", [":8443", "127.0.0.1:8443"])
def test_an_authority_is_answered_where_we_listen_and_no_port_is_taken_for_it(listen):
    site = attrs.evolve(ACME, email="", listen=listen)
    assert with_site(None, site)["apps"]["tls"]["automation"]["policies"][0]["issuers"] == [
        {"module": "acme", "challenges": {"http": {"disabled": True}, "tls-alpn": {"alternate_port": 8443}}}
    ]


def test_a_caddy_that_asks_somebody_else_is_left_alone():
    config = {"apps": {"tls": {"automation": {"on_demand": {"ask": "http://localhost/ask"}}}}}
    with pytest.raises(Clash, match="asks http://localhost/ask"):
        with_site(config, ACME)
    assert without_site(config) == config


@pytest.mark.parametrize(
    ("data", "tag", "body"),
    [
        (b'HTTP/1.1 200 OK\r\nEtag: "a"\r\nContent-Length: 2\r\n\r\n{}', '"a"', b"{}"),
        (
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: ETag\r\n\r\n1\r\n{\r\n1;x\r\n}\r\n0\r\nEtag: "b"\r\n\r\n',
            '"b"',
            b"{}",
        ),
    ],
)
def test_an_answer_of_caddy_is_read_with_its_tag(data, tag, body):
    assert read_answer(data) == (200, tag, body)


@pytest.mark.parametrize(
    "data", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
def test_what_is_no_whole_answer_is_refused(data):
    with pytest.raises(ValueError):
        read_answer(data)
