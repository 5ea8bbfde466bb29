import base64
import hashlib
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from colony_core.routing import NotOurs, Refusal
from colony_core.routing.pages import no_such_host, render

STARTING = Refusal(503, "web is starting", "It opens its port soon.", "Wait.", retry_after=2)


def split(answer: bytes) -> tuple[bytes, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body.decode()


def test_a_browser_gets_a_page_that_loads_and_runs_nothing():
    head, body = split(render(STARTING, accept=b"text/html,*/*;q=0.8"))
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: 2" in head
    assert b"default-src 'none'" in head
    style = re.search(r"<style>(.*)</style>", body, re.DOTALL)
    assert style
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()) in head
    assert '<meta http-equiv="refresh" content="2">' in body
    assert "<script" not in body
    assert "http:" not in body.replace("http-equiv", "")


def test_a_page_reloads_itself_only_where_asking_again_is_harmless_and_useful():
    assert "refresh" not in split(render(STARTING, accept=b"text/html", method=b"POST"))[1]
    assert "refresh" not in split(render(Refusal(404, "no", "no"), accept=b"text/html"))[1]


def test_a_program_gets_json_and_a_terminal_gets_text():
    head, body = split(render(STARTING, accept=b"application/json"))
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["title"] == "web is starting"
    assert json.loads(body)["status"] == 503
    head, body = split(render(STARTING, accept=b"*/*"))
    assert b"Content-Type: text/plain" in head
    assert body == "web is starting\nIt opens its port soon.\nhint: Wait.\n"


def test_head_gets_the_same_head_and_no_body():
    full, none = render(STARTING, accept=b"text/html"), render(STARTING, accept=b"text/html", method=b"HEAD")
    assert none == full[: len(none)]
    assert none.endswith(b"\r\n\r\n")


@given(st.text(), st.text(), st.text())
def test_whatever_is_said_is_escaped(title, message, hint):
    _, body = split(render(Refusal(404, title, message, hint), accept=b"text/html"))
    assert body.count("<") == split(render(Refusal(404, "a", "b", "c" if hint else ""), accept=b"text/html"))[1].count(
        "<"
    )


def test_an_unknown_colony_is_named_and_a_bad_host_is_the_clients_fault():
    assert "hello" in no_such_host(NotOurs("unknown", "hello"), b"web.hello.colony.localhost", "colony.localhost").title
    assert no_such_host(NotOurs("foreign", "x"), b"x", "colony.localhost").status == 404
    assert no_such_host(NotOurs("malformed"), b"<x>", "colony.localhost").status == 400
