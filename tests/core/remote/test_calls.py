"""Calls are the requests of the API, nothing more."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core import views
from colony_core.errors import Invalid
from colony_core.remote import calls


def test_every_verb_has_its_method_and_path() -> None:
    asked = [
        (calls.system(), "GET /api/system"),
        (calls.shutdown(), "POST /api/system/shutdown"),
        (calls.tree(), "GET /api/system/tree"),
        (calls.colonies(state="running"), "GET /api/colonies?state=running"),
        (calls.colonies(), "GET /api/colonies"),
        (calls.spawn("a", "/a"), "POST /api/colonies"),
        (calls.colony("a"), "GET /api/colonies/a"),
        (calls.remove("a"), "DELETE /api/colonies/a"),
        (calls.start("a"), "POST /api/colonies/a/start"),
        (calls.stop("a", grace=1.5), "POST /api/colonies/a/stop"),
        (calls.restart("a"), "POST /api/colonies/a/restart"),
        (calls.apply("a"), "POST /api/colonies/a/apply"),
        (calls.services("a"), "GET /api/colonies/a/services"),
        (calls.service("a", "web", "restart"), "POST /api/colonies/a/services/web/restart"),
        (
            calls.logs("a", after=3, limit=9, services={"web", "api"}),
            "GET /api/colonies/a/logs?after=3&limit=9&service=api&service=web",
        ),
        (
            calls.logs("a", tail=3, since=1.5, until="2026-01-31T08:15:00+00:00"),
            "GET /api/colonies/a/logs?tail=3&since=1.5&until=2026-01-31T08%3A15%3A00%2B00%3A00",
        ),
        (calls.follow_logs("a", after=0, services=["web"]), "GET /api/colonies/a/logs/stream?after=0&service=web"),
        (calls.events(after=4, wait_seconds=2.0), "GET /api/events?after=4&wait_seconds=2.0"),
        (calls.tokens(), "GET /api/tokens"),
        (calls.mint_token("ci", role="viewer"), "POST /api/tokens"),
        (calls.revoke_token("k1"), "DELETE /api/tokens/k1"),
    ]
    for call, expected in asked:
        assert f"{call.method} {call.url}" == expected


def test_only_a_post_has_a_body_and_none_is_left_out() -> None:
    assert calls.spawn("a", "/a").body == {"name": "a", "path": "/a", "start": True, "dry_run": False}
    assert calls.stop("a").body == {}
    assert calls.stop("a", grace=0).body == {"grace": 0}
    assert calls.system().body is None
    assert calls.start("a").body is None


def test_every_view_that_is_named_exists() -> None:
    made = [calls.system(), calls.colonies(), calls.apply("a"), calls.services("a"), calls.logs("a"), calls.tokens()]
    assert all(attrs.has(getattr(views, call.reply or "")) for call in made)


@given(st.text(min_size=1))
def test_no_name_leaves_its_place_in_the_path(name: str) -> None:
    if name in {".", ".."}:
        return
    try:
        call = calls.service(name, name, "stop")
    except UnicodeEncodeError:
        return
    assert call.path.count("/") == 6
    assert call.path.isascii()
    assert call.path.isprintable()
    assert not set(call.path) & set("?# ")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_change_the_path_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        calls.colony(name)
