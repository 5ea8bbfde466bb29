"""Heads that programs send to the proxy in their cell: read strictly, written anew, never passed on as they came."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.isolation.asked import Asked, NotUnderstoodError, read_head


def head(first: str, *fields: str) -> bytes:
    return "\r\n".join([first, *fields, "", ""]).encode("latin-1")


def test_a_tunnel_names_a_host_and_a_port() -> None:
    assert read_head(head("CONNECT api.anthropic.com:443 HTTP/1.1", "Host: x")) == Asked("api.anthropic.com", 443)
    assert read_head(head("CONNECT [2606:4700::1]:22 HTTP/1.0")) == Asked("2606:4700::1", 22)


def test_a_request_is_said_anew_to_the_server_it_names() -> None:
    asked = read_head(
        head(
            "POST http://Example.org:8080/a?b=c HTTP/1.1",
            "Host: elsewhere",
            "X-One: 1",
            "Connection: keep-alive, X-Hop",
            "X-Hop: secret",
            "Proxy-Authorization: Basic eA==",
            "Upgrade: h2c",
            "Content-Length: 3",
        )
    )
    assert asked == Asked(
        "Example.org",
        8080,
        head("POST /a?b=c HTTP/1.1", "Host: Example.org:8080", "X-One: 1", "Content-Length: 3", "Connection: close"),
    )


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("GET http://a", "GET / HTTP/1.1"),
        ("GET HTTP://a?x", "GET /?x HTTP/1.1"),
        ("OPTIONS http://a", "OPTIONS * HTTP/1.1"),
        ("GET http://a//b", "GET //b HTTP/1.1"),
    ],
)
def test_the_path_is_what_stands_behind_the_host(target: str, path: str) -> None:
    asked = read_head(head(f"{target} HTTP/1.1"))
    assert (asked.host, asked.port, asked.head.split(b"\r\n")[0]) == ("a", 80, path.encode())


@pytest.mark.parametrize(
    "raw",
    [
        head("GET / HTTP/1.1", "Host: a"),
        head("GET https://a/ HTTP/1.1"),
        head("GET ftp://a/ HTTP/1.1"),
        head("GET http://user:word@a/ HTTP/1.1"),
        head("GET http:///x HTTP/1.1"),
        head("GET http://a:0/ HTTP/1.1"),
        head("GET http://a:65536/ HTTP/1.1"),
        head("GET http://a/#part HTTP/1.1"),
        head("GET http://a/ HTTP/2"),
        head("GET  http://a/ HTTP/1.1"),
        head("CONNECT a HTTP/1.1"),
        head("CONNECT a:b HTTP/1.1"),
        head("CONNECT [fe80::1%25eth0]:1 HTTP/1.1"),
        head("CONNECT a:443/x HTTP/1.1"),
        head("GET http://a/ HTTP/1.1", "No colon"),
        head("GET http://a/ HTTP/1.1", "A : b"),
        head("GET http://a/ HTTP/1.1", "A: b", " folded"),
        head("GET http://a/ HTTP/1.1", "A: b\nB: c"),
        head("GET http://a/ HTTP/1.1", "A: b\rB: c"),
        head("GET http://a/ HTTP/1.1", "A: \0"),
        b"GET http://a/ HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_not_exactly_that_is_refused(raw: bytes) -> None:
    with pytest.raises(NotUnderstoodError) as refused:
        read_head(raw)
    assert refused.value.status == 400


@given(st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    with suppress(NotUnderstoodError):
        read_head(data + b"\r\n\r\n")


PIECES = st.sampled_from(
    [
        "GET",
        "CONNECT",
        " ",
        "http://",
        "a.example",
        ":80",
        ":",
        "/",
        "HTTP/1.1",
        "\r\n",
        "\n",
        "Host: b",
        "X: y",
        "\t",
        "\0",
        "@",
        "[",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_nothing_is_smuggled_to_a_server(text: str) -> None:
    with suppress(NotUnderstoodError):
        asked = read_head(text.encode() + b"\r\n\r\n")
        assert 0 < asked.port < 65536
        assert re.fullmatch(r"[0-9A-Za-z._:-]+", asked.host)
        if asked.head:
            lines = asked.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
            assert sum(line.lower().startswith(b"host:") for line in lines) == 1
            assert lines[-1] == b"Connection: close"
