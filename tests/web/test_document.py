"""The OpenAPI document, the page that shows it, and mounting in somebody else's app."""

import html
import json
import re
import subprocess
import sys
from typing import Any

import attrs
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from quart_trio import QuartTrio

from colony_core import wire
from colony_core.events import Event, Missed, Numbered
from colony_core.journal import KINDS
from colony_web import docs, mount, openapi
from colony_web.auth import PEER
from colony_web.event_schemas import kinds
from colony_web.live import fanout

from .conftest import OWNER
from .house import CardboardHouse


async def test_the_document_is_valid_and_names_every_route(app: QuartTrio, client: Any) -> None:
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    validate(document)
    rules = {re.sub(r"<(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    assert set(document["paths"]) == (rules | {fanout.PATH}) - {"/", "/docs", "/openapi.json", "/metrics", "/login"}


async def test_every_reference_of_the_document_leads_somewhere(client: Any) -> None:
    text = (await (await client.get("/openapi.json")).get_data()).decode()
    document = json.loads(text)
    for reference in set(re.findall(r'"\$ref":"#/([^"]+)"', text)):
        found = document
        for part in reference.split("/"):
            found = found[part]
        assert found


async def test_every_parameter_is_described_in_document_and_page(client: Any) -> None:
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    page = html.unescape((await (await client.get("/docs")).get_data()).decode())
    for methods in document["paths"].values():
        for each in (each for operation in methods.values() for each in operation["parameters"]):
            assert each["description"]
            assert f"<td>{each['description']}</td>" in page


def sample(kind: type[Event]) -> Event:
    words: dict[str, Any] = {
        "str": "x",
        "int": 1,
        "int | None": None,
        "tuple[str, ...]": ("x",),
        "dict[str, typing.Any]": {"a": 1},
    }
    spelled = {
        each.name: each.type.__name__ if each.type in (str, int) else str(each.type) for each in attrs.fields(kind)
    }
    return kind(**{name: words[said] for name, said in spelled.items()})


async def test_every_kind_of_event_is_described_as_it_is_told(client: Any) -> None:
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    schema = {"$ref": "#/components/schemas/Event", "components": document["components"]}
    told = [json.loads(json.dumps(wire.event_object(Numbered(seq=1, at=0.0, event=sample(kind))))) for kind in kinds()]
    assert {each["type"] for each in told} == KINDS
    for each in (*told, wire.event_object(Missed(first=1, last=7))):
        Draft202012Validator(schema).validate(each)
        for name in ("seq", "type"):
            assert not Draft202012Validator(schema).is_valid({key: value for key, value in each.items() if key != name})
    [answer] = document["paths"]["/api/events"]["get"]["responses"]["200"]["content"].values()
    assert answer["schema"] == {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}


async def test_the_document_tells_types_bounds_and_problems(client: Any) -> None:
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    create = document["paths"]["/api/colonies"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NewColony"}
    assert create["requestBody"]["required"] is True
    assert "201" in create["responses"]
    assert create["responses"]["409"] == {"$ref": "#/components/responses/Problem409"}
    assert "application/problem+json" in document["components"]["responses"]["Problem409"]["content"]
    assert "Allow" in document["components"]["responses"]["Problem405"]["headers"]
    assert "Idempotency-Key" in [each["name"] for each in create["parameters"]]
    assert document["components"]["schemas"]["NewColony"]["properties"]["name"]["pattern"].startswith("^[a-z]")
    [limit] = [
        each for each in document["paths"]["/api/colonies/{ref}/logs"]["get"]["parameters"] if each["name"] == "limit"
    ]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 10_000)
    assert (
        "text/event-stream"
        in document["paths"]["/api/colonies/{ref}/logs/stream"]["get"]["responses"]["200"]["content"]
    )
    assert all(
        operation["summary"].endswith(".") for methods in document["paths"].values() for operation in methods.values()
    )


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_page_needs_nothing_from_outside(client: Any, path: str) -> None:
    answer = await client.get(path)
    page = (await answer.get_data()).decode()
    assert answer.content_type == "text/html; charset=utf-8"
    assert "/api/colonies/{ref}/logs/stream" in page
    assert "NewColony" in page
    assert not re.search(r"<(script|img|link|iframe)|src=|@import|url\(", page)
    assert [link for link in re.findall(r'href="([^"]+)"', page) if not link.startswith("/")] == []
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_pages_examples_are_those_of_this_house(house: CardboardHouse) -> None:
    document = openapi.document((), version="0")
    ours = attrs.evolve(house.system(), socket="/run/its.sock", api_url="http://127.0.0.1:4711")
    shown = docs.page(document, system=ours, root="/colony").partition("<pre>")[2].partition("</pre>")[0]
    assert "--unix-socket /run/its.sock http://localhost/colony/api/colonies" in shown
    assert "http://127.0.0.1:4711/colony/api/colonies" in shown
    theirs = docs.page(document, system=attrs.evolve(ours, api_url=None))
    assert "--unix-socket" not in theirs, "another server carries the face: nobody listens there"


async def test_the_pages_style_is_the_one_its_policy_allows(client: Any) -> None:
    import base64
    import hashlib

    answer = await client.get("/docs")
    [style] = re.findall(r"<style>(.*?)</style>", (await answer.get_data()).decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["Content-Security-Policy"]


@pytest.fixture
def guest(house: CardboardHouse) -> QuartTrio:
    """A user's own app, with a colony mounted in it."""
    app = QuartTrio("guest")

    @app.get("/")
    async def home() -> str:
        return "the guest's own"

    @app.get("/colonyx")
    async def neighbour() -> str:
        return "not ours"

    mount(app, house, prefix="/colony")
    return app


async def test_a_mounted_face_lives_below_its_prefix(guest: QuartTrio) -> None:
    client, owner = guest.test_client(), {"state": {PEER: OWNER}}
    assert await (await client.get("/")).get_data() == b"the guest's own"
    assert await (await client.get("/colonyx")).get_data() == b"not ours"
    assert (await client.get("/api/colonies", scope_base=owner)).status_code == 404
    assert (await (await client.get("/colony/api/colonies", scope_base=owner)).get_json())[0]["name"] == "hello"
    assert (await client.get("/colony/api/colonies")).status_code == 401
    answer = await client.post("/colony/api/colonies", json={"name": "new", "path": "/"}, scope_base=owner)
    assert answer.headers["Location"].startswith("/colony/api/colonies/col_")
    document = json.loads(await (await client.get("/colony/openapi.json")).get_data())
    assert document["servers"] == [{"url": "/colony"}]
    for path in ("/colony", "/colony/", "/colony/docs"):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert 'href="/colony/openapi.json"' in (await answer.get_data()).decode()


async def test_a_mounted_face_tells_events(guest: QuartTrio, house: CardboardHouse) -> None:
    async with guest.test_client().websocket("/colony/ws", scope_base={"state": {PEER: OWNER}}) as socket:
        import trio

        await trio.testing.wait_all_tasks_blocked()
        from colony_core.events import HouseEvent

        house.bus.publish(HouseEvent(what="started", message="hi"))
        assert json.loads(await socket.receive())["message"] == "hi"


@pytest.mark.parametrize("prefix", ["colony", "/colony/", "/", ""])
def test_a_prefix_that_is_none_is_refused(house: CardboardHouse, prefix: str) -> None:
    with pytest.raises(ValueError, match="expected a prefix"):
        mount(QuartTrio("guest"), house, prefix=prefix)


def test_importing_the_package_loads_no_framework() -> None:
    code = "import sys, colony_web; print([m for m in ('quart', 'hypercorn', 'trio', 'msgspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
