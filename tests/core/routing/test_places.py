"""Names in messages: the browser's and the service's."""

import pytest

from colony_core.routing.heads import Request, parse_request, parse_response
from colony_core.routing.places import asked_as, led_back

HOST = b"web.hello.colony.localhost:8088"


def request(*lines: bytes, host: bytes = HOST, peer: bytes = b"") -> Request:
    head = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_request(head, peer=peer, trusted=True)


def seen(*lines: bytes, asked: Request | None = None, port: int | None = 4001) -> list[bytes]:
    """The fields of an answer as a browser sees them."""
    asked = asked or request()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    shown, _ = led_back(parse_response(head, request=asked), asked, port=port, domain="colony.localhost")
    return shown.head.split(b"\r\n")[2:-1]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"http://localhost:4001/in?a=http://localhost:4001", b"http://%b/in?a=http://localhost:4001" % HOST),
        (b"http://127.0.0.1:4001", b"http://%b" % HOST),
        (b"https://[::1]:4001#x", b"http://%b#x" % HOST),
        (b"HTTP://LocalHost:4001?q", b"http://%b?q" % HOST),
    ],
)
def test_a_redirect_to_the_services_own_port_leads_back_to_its_preview(said, shown):
    assert seen(b"Location: " + said) == [b"Location: " + shown]


@pytest.mark.parametrize(
    "said",
    [
        b"/in",
        b"//localhost:4001/",
        b"http://localhost:4002/",
        b"http://localhost:40010/",
        b"http://localhost/",
        b"http://localhost:4001.evil.example/",
        b"http://localhost:4001@evil.example/",
        b"https://login.example/?to=http://localhost:4001/",
    ],
)
def test_redirects_to_other_places_are_left_alone(said):
    assert seen(b"Location: " + said) == [b"Location: " + said]


def test_behind_tls_a_redirect_leads_back_to_https():
    asked = request(b"X-Forwarded-Proto: https", host=b"app-4001.colony.localhost")
    shown = seen(b"location: http://localhost:4001/", asked=asked)
    assert shown == [b"location: https://app-4001.colony.localhost/"]


def test_where_no_port_is_known_nothing_leads_back():
    assert seen(b"Location: http://localhost:4001/", port=None) == [b"Location: http://localhost:4001/"]


@pytest.mark.parametrize("domain", [b".colony.localhost", b"colony.localhost", b"COLONY.localhost.", b"localhost"])
def test_a_cookie_for_all_previews_is_left_out_and_named(domain):
    wide = [b"Set-Cookie: a=1; Path=/; Domain=" + domain + b"; HttpOnly", b"set-cookie: domain=x;domain = " + domain]
    assert seen(*wide, b"Set-Cookie: b=2") == [b"Set-Cookie: b=2"]
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"".join(line + b"\r\n" for line in wide) + b"\r\n"
    _, refused = led_back(parse_response(head, request=request()), request(), port=None, domain="colony.localhost")
    assert refused == ("a", "domain")


@pytest.mark.parametrize(
    "cookie",
    [
        b"a=1",
        b"a=1; Domain=hello.colony.localhost",
        b"a=1; Domain=.web.hello.colony.localhost; Secure",
        b"a=colony.localhost; Path=/Domain=colony.localhost",
        b"a=1; Domain=example.org",
        b"a=1; Domain=otherlocalhost",
        b"a=1; Domain=",
        b"domain=colony.localhost",
    ],
)
def test_other_cookies_are_left_alone(cookie):
    assert seen(b"Set-Cookie: " + cookie, b"Set-Cookie: b=2") == [b"Set-Cookie: " + cookie, b"Set-Cookie: b=2"]


def test_a_service_that_answers_only_to_localhost_is_asked_as_such():
    asked = asked_as(request(b"Origin: https://" + HOST, b"Cookie: a=1", peer=b"1.2.3.4"), b"localhost:4001")
    assert asked.head.split(b"\r\n")[1:-2] == [
        b"Host: localhost:4001",
        b"Origin: http://localhost:4001",
        b"Cookie: a=1",
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: " + HOST,
    ]
    assert asked.host == HOST


@pytest.mark.parametrize("origin", [b"http://evil.example", b"null", b"http://other.colony.localhost:8088"])
def test_the_origin_of_somebody_else_stays(origin):
    assert b"\r\nOrigin: " + origin + b"\r\n" in asked_as(request(b"Origin: " + origin), b"localhost:4001").head
