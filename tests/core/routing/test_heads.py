import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.routing.bodies import CHUNKED, UNTIL_CLOSE
from colony_core.routing.heads import BadHead, parse_request, parse_response

HOST = b"Host: web.hello.colony.localhost\r\n"
FORWARDED = b"X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: web.hello.colony.localhost\r\n"


def request(*lines: bytes, first: bytes = b"GET /a?b=c HTTP/1.1", trusted: bool = False):
    head = first + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_request(head, peer=b"10.1.2.3", trusted=trusted)


def sent(*lines: bytes, **options) -> list[bytes]:
    """The field lines that go upstream, without Host and without what every request gets."""
    head = request(*lines, **options).head
    assert HOST in head
    return head.replace(FORWARDED, b"").replace(HOST, b"").split(b"\r\n")[1:-2]


def response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", asked: bytes = b"GET / HTTP/1.1"):
    return parse_response(b"\r\n".join([first, *lines, b"", b""]), request=request(first=asked))


def test_a_plain_request_goes_up_unchanged_but_for_where_it_came_from():
    head = request(b"User-Agent: x", b"aCCept:  text/html ", b"X-Odd: \xff\t!").head
    assert head == (
        b"GET /a?b=c HTTP/1.1\r\n"
        + HOST
        + b"User-Agent: x\r\naCCept:  text/html \r\nX-Odd: \xff\t!\r\n"
        + FORWARDED
        + b"\r\n"
    )


def test_colonys_cookie_is_taken_out_and_no_other():
    assert sent(b"Cookie: a=1; colony_session=secret; b=2") == [b"Cookie: a=1; b=2"]
    assert sent(b"cookie: colony_session=secret") == []
    assert sent(b"Cookie: a=1;colony_session = x ;b=2; colony_session=y") == [b"Cookie: a=1; b=2"]
    assert sent(b"Cookie: a=1", b"Cookie: colony_session=x", b"Cookie: b=2") == [b"Cookie: a=1", b"Cookie: b=2"]
    kept = b"Cookie: my_colony_session=1; colony_session2=2; x=colony_session;  odd"
    assert sent(kept) == [kept]


def test_colonys_token_is_taken_out_and_no_other():
    assert sent(b"Authorization: Bearer cut_1_abc") == []
    assert sent(b"AUTHORIZATION: bearer   cut_1_abc", b"X-Else: 1") == [b"X-Else: 1"]
    for kept in (b"Authorization: Bearer abc", b"Authorization: Basic cut_1_abc", b"Authorization: Bearer cut_abc"):
        assert sent(kept) == [kept]


def test_what_concerns_one_connection_stays_on_it():
    lines = [
        b"Connection: keep-alive, X-Mine, close",
        b"X-Mine: 1",
        b"Keep-Alive: 5",
        b"Proxy-Connection: x",
        b"TE: trailers",
    ]
    assert sent(*lines, b"Upgrade: h2c", b"X-Other: 2") == [b"X-Other: 2"]


def test_connection_cannot_take_out_what_others_rely_on():
    lines = [
        b"Connection: Host, Cookie, Authorization, X-Forwarded-For, Content-Type",
        b"Cookie: a=1",
        b"Content-Type: text/x",
    ]
    assert sent(*lines) == lines[1:]


def test_where_a_request_came_from_is_not_believed_of_strangers():
    assert sent(b"X-Forwarded-For: 6.6.6.6", b"x_forwarded_proto: https", b"X-Forwarded-Host: evil") == []
    assert sent(b"Forwarded: for=6.6.6.6;proto=https", b"X-Real-IP: 6.6.6.6") == []


def test_a_trusted_proxy_is_believed():
    head = request(
        b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: shown", trusted=True
    ).head
    assert b"X-Forwarded-For: 6.6.6.6, 10.1.2.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shown\r\n\r\n" in head
    assert head.count(b"orwarded") == 3


def test_an_upgrade_goes_up_as_one():
    found = request(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")
    assert found.upgrade
    assert found.head.endswith(b"Connection: Upgrade\r\n\r\n")
    assert b"Upgrade: websocket\r\n" in found.head


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ([b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: x"], b"GET / HTTP/1.1"),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1"),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3"], b"POST / HTTP/1.1"),
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.0"),
    ],
)
def test_what_only_looks_like_an_upgrade_is_none(lines, first):
    found = request(*lines, first=first)
    assert not found.upgrade
    assert b"pgrade" not in found.head


def test_keep_alive_follows_the_version():
    assert request().keep_alive
    assert not request(b"Connection: Close").keep_alive
    assert not request(first=b"GET / HTTP/1.0").keep_alive
    kept = request(b"Connection: keep-alive", first=b"GET / HTTP/1.0")
    assert kept.keep_alive
    assert b"Connection: keep-alive\r\n" in kept.head


def test_the_absolute_form_is_taken_for_the_same_host_only():
    host = b"web.hello.colony.localhost"
    assert request(first=b"GET http://" + host + b"/x?y HTTP/1.1").head.startswith(b"GET /x?y HTTP/1.1\r\n")
    assert request(first=b"GET HTTP://" + host.upper() + b" HTTP/1.1").head.startswith(b"GET / HTTP/1.1\r\n")
    assert request(first=b"GET http://" + host + b"?y HTTP/1.1").head.startswith(b"GET /?y HTTP/1.1\r\n")
    assert request(first=b"OPTIONS * HTTP/1.1").head.startswith(b"OPTIONS * HTTP/1.1\r\n")


REFUSED = {
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n": 400,
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET * HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET a HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n": 405,
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.2\r\nHost: a\r\n\r\n": 400,
    b"GET /\r\nHost: a\r\n\r\n": 400,
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n Host: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tfolded\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: 1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 3\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n": 501,
    b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
}


@pytest.mark.parametrize("head", REFUSED)
def test_a_head_that_can_be_read_in_two_ways_is_refused(head):
    with pytest.raises(BadHead) as caught:
        parse_request(head, peer=b"", trusted=False)
    assert caught.value.status == REFUSED[head]


tokens = st.from_regex(rb"[A-Za-z-]{1,12}", fullmatch=True)
values = st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\0"))
known = st.sampled_from(
    [
        b"Connection",
        b"Upgrade",
        b"Cookie",
        b"Authorization",
        b"Transfer-Encoding",
        b"Content-Length",
        b"TE",
        b"X-Forwarded-For",
    ]
)


@given(st.lists(st.tuples(st.one_of(tokens, known), st.one_of(values, known, st.just(b"chunked"))), max_size=6))
def test_what_goes_up_is_one_request_for_another_parser_with_the_same_body(fields):
    try:
        found = request(*(name + b": " + value for name, value in fields))
    except BadHead:
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(found.head)
    seen = parser.next_event()
    assert isinstance(seen, h11.Request)
    names = [name for name, _ in seen.headers]
    assert names.count(b"host") == 1
    assert (b"transfer-encoding" in names) == (found.body == CHUNKED)
    if found.body == 0:
        assert isinstance(parser.next_event(), h11.EndOfMessage)
    assert not any(b"colony_session=" in value for name, value in seen.headers if name == b"cookie")


def test_an_answer_says_where_its_body_ends():
    assert response(b"Content-Length: 5").body == 5
    assert response(b"Transfer-Encoding: Chunked").body == CHUNKED
    assert response().body == UNTIL_CLOSE
    assert response(b"Content-Length: 5", asked=b"HEAD / HTTP/1.1").body == 0
    for status in (b"204 No Content", b"304 Not Modified", b"103 Early Hints"):
        assert response(b"Content-Length: 5", first=b"HTTP/1.1 " + status).body == 0
    assert response(b"Content-Length: 5", b"content-length: 5").head == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"


def test_a_chunked_answer_loses_a_length_that_contradicts_it():
    found = response(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    assert found.body == CHUNKED
    assert found.head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def test_an_answer_keeps_what_is_for_the_client_and_speaks_our_version():
    lines = [
        b"Connection: close, x-hop",
        b"X-Hop: 1",
        b"Keep-Alive: 5",
        b"Upgrade: h2",
        b"Set-Cookie: a=1",
        b"Content-Length: 0",
    ]
    found = response(*lines, first=b"HTTP/1.0 200 Fine")
    assert found.head == b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n"
    assert not found.reusable
    assert response(b"Content-Length: 0").reusable
    assert not response(b"Content-Length: 0", first=b"HTTP/1.0 200 OK").reusable
    assert response(b"Connection: Keep-Alive", b"Content-Length: 0", first=b"HTTP/1.0 200 OK").reusable
    assert response(b"Content-Type: text/event-stream; charset=utf-8").events


def test_a_change_of_protocol_keeps_its_fields():
    lines = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: x"]
    assert response(*lines, first=b"HTTP/1.1 101 S").head == b"\r\n".join([b"HTTP/1.1 101 S", *lines, b""])


@pytest.mark.parametrize(
    ("first", "lines", "asked"),
    [
        (b"HTTP/2 200 OK", [], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 20 OK", [], b"GET / HTTP/1.1"),
        (b"SSH-2.0-OpenSSH", [], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK", [b" folded"], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK", [b"X : 1"], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 5", b"Content-Length: 6"], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK", [b"Content-Length: -5"], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: gzip, chunked"], b"GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], b"GET / HTTP/1.0"),
    ],
)
def test_an_answer_that_can_be_read_in_two_ways_is_refused(first, lines, asked):
    with pytest.raises(BadHead) as caught:
        response(*lines, first=first, asked=asked)
    assert caught.value.status == 502


def test_only_harmless_requests_without_a_body_are_repeatable():
    assert request().repeatable
    assert request(first=b"DELETE / HTTP/1.1").repeatable
    assert not request(first=b"POST / HTTP/1.1").repeatable
    assert not request(b"Content-Length: 1").repeatable
    assert not request(b"Connection: Upgrade", b"Upgrade: websocket").repeatable


def test_a_long_head_of_spaces_takes_no_long_time():
    request(b"X: a" + b" " * 60000 + b"a", b"Cookie:" + b" " * 1000)
    with pytest.raises(BadHead):
        request(b"X: a" + b" " * 60000 + b"\0")
