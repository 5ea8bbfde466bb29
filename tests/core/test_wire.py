"""JSON becomes values only if it says exactly what it should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core import views, wire
from colony_core.errors import Invalid
from colony_core.events import ColonyApplied, Missed, Numbered


def test_a_request_is_structured_with_its_defaults() -> None:
    request = wire.load_json(b'{"name": "a", "path": "/x"}', views.NewColony)
    assert request == views.NewColony(name="a", path="/x")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"name": 1, "path": "/x"}', "expected str @ $.name"),
        (b'{"path": "/x"}', "name"),
        (b'{"name": "a", "path": "/x", "nmae": 1}', "nmae"),
        (b'{"name": "a", "path": "/x", "start": 1}', "expected bool @ $.start"),
        (b"[]", "expected an object"),
        (b"3", "expected an object"),
        (b"null", "expected an object"),
    ],
)
def test_a_wrong_body_is_refused_with_the_path_of_each_mistake(body: bytes, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        wire.load_json(body, views.NewColony)
    assert caught.value.code == "invalid-body"
    assert said in caught.value.message


def test_a_flat_value_is_written_as_any_other_is() -> None:
    line = views.LogLineView(
        seq=7, at="2026-01-31T08:15:00.000Z", service="wéb", stream="out", text='a "quote"\x1b\u2028'
    )
    assert wire.dump_flat(line) == wire.dump_json(line)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": "\xff"}', b"{'a': 1}", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_not_json_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        wire.load_json(body, views.NewColony)
    assert caught.value.code == "malformed-json"


def test_an_older_reader_passes_over_fields_that_a_newer_daemon_added() -> None:
    step = wire.load_reply(b'{"name": "veth", "detail": "", "seconds": 0.1, "colour": "red"}', views.StepView)
    assert step == views.StepView(name="veth", detail="", seconds=0.1)


@given(st.binary(max_size=200))
def test_no_body_raises_anything_but_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        wire.load_json(body, views.NewColony)


@given(st.text(), st.text(), st.one_of(st.none(), st.text()), st.booleans())
def test_values_survive_the_wire(name: str, path: str, template: str | None, start: bool) -> None:
    value = views.NewColony(name=name, path=path, template=template, start=start)
    assert wire.load_json(wire.dump_json(value), views.NewColony) == value


def test_an_event_is_one_flat_object() -> None:
    event = ColonyApplied(colony="a", colony_id="col_1", changes=("x",))
    assert wire.event_object(Numbered(seq=7, at=0.25, event=event)) == {
        "seq": 7,
        "at": "1970-01-01T00:00:00.250Z",
        "type": "colony_applied",
        "colony": "a",
        "colony_id": "col_1",
        "owner": "",
        "changes": ("x",),
    }
    assert wire.event_object(Missed(first=3, last=5)) == {"seq": 5, "type": "missed", "first": 3, "last": 5}


def test_text_is_no_list_of_letters() -> None:
    with pytest.raises(Invalid, match=r"\$\.command"):
        wire.load_json(b'{"command": "ls"}', views.ExecRequest)
    with pytest.raises(Invalid, match=r"expected str @ \$\.command\[1\]"):
        wire.load_json(b'{"command": ["ls", 1]}', views.ExecRequest)
