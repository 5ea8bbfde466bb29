"""Every route says for whom it is, and nobody else gets through; a colony is its owner's; an agent has one colony only."""

import re
from typing import Any

import pytest
from quart_trio import QuartTrio

from colony_core.access import Identity, Role
from colony_core.config import Access
from colony_core.events import ColonyCreated, HouseEvent, ProjectStateChanged
from colony_web.app import ROUTES
from colony_web.auth import PEER
from colony_web.routes import Route

from .conftest import OWNER
from .house import CardboardHouse, colony_view
from .test_metrics import used

HELLO = colony_view().id
FILLED = {"ref": "hello", "service": "web", "token_id": "none", "terminal": "none", "tid": "none"}


def filled(route: Route) -> str:
    return re.sub(r"<(\w+)>", lambda part: FILLED.get(part[1], "none"), route.rule)


async def holder(house: CardboardHouse, role: Role, person: str = "me", colony: str | None = HELLO) -> dict[str, str]:
    """The headers of a caller of that role."""
    given = colony if role is Role.AGENT else None
    view = await house.keys.mint(role.value, role.value, owner=person, colony=given)
    return {"Authorization": f"Bearer {view.token}"}


async def told(answer: Any) -> tuple[int, str]:
    if answer.content_type != "application/problem+json":
        return answer.status_code, ""
    return answer.status_code, (await answer.get_json(force=True))["code"]


PAIRS = [(route, role) for route in ROUTES for role in Role]


def each(pairs: list[tuple[Route, Role]]) -> Any:
    ids = [f"{route.method} {route.rule} as {role.value}" for route, role in pairs]
    return pytest.mark.parametrize(("route", "role"), pairs, ids=ids)


def each_route(routes: list[Route]) -> Any:
    return pytest.mark.parametrize("route", routes, ids=[f"{route.method} {route.rule}" for route in routes])


@each([pair for pair in PAIRS if pair[1] not in pair[0].roles])
async def test_a_role_that_a_route_does_not_name_is_refused_with_the_next_thing_to_try(
    app: QuartTrio, house: CardboardHouse, route: Route, role: Role
) -> None:
    answer = await app.test_client().open(filled(route), method=route.method, headers=await holder(house, role))
    problem = await answer.get_json(force=True)
    assert (answer.status_code, problem["code"]) == (403, "role-may-not")
    assert problem["hint"].startswith("ask somebody for a token of the role")
    assert not house.calls


@each([pair for pair in PAIRS if pair[1] in pair[0].roles and "stream" not in pair[0].rule])
async def test_a_role_that_a_route_names_is_let_through(
    app: QuartTrio, house: CardboardHouse, route: Route, role: Role
) -> None:
    answer = await app.test_client().open(filled(route), method=route.method, headers=await holder(house, role))
    assert (await told(answer))[1] not in ("role-may-not", "not-your-colony", "house-only")


@each_route(list(ROUTES))
async def test_without_any_key_no_route_answers(app: QuartTrio, route: Route) -> None:
    answer = await app.test_client().open(filled(route), method=route.method)
    assert await told(answer) == (401, "token-required")


@each_route(list(ROUTES))
async def test_what_only_looks_is_for_get_and_what_changes_is_for_no_viewer(route: Route) -> None:
    assert route.roles
    if route.method != "GET":
        assert Role.VIEWER not in route.roles or route.rule in ("/api/logins", "/api/logout")


@each_route([each for each in ROUTES if each.house or ("<ref>" in each.rule and each.method != "GET")])
async def test_other_people_change_no_colony_and_end_no_house(
    app: QuartTrio, house: CardboardHouse, route: Route
) -> None:
    answer = await app.test_client().open(
        filled(route), method=route.method, headers=await holder(house, Role.APE, "ann"), data=b"{"
    )
    assert await told(answer) == (403, "house-only" if route.house else "not-your-colony")
    assert not house.calls


@pytest.fixture
def two(house: CardboardHouse) -> CardboardHouse:
    """A house with hello of ape, and anns of ann."""
    house._colonies["anns"] = colony_view("anns", owner="ann", number=2)
    return house


async def names(app: QuartTrio, headers: dict[str, str]) -> list[str]:
    return [view["name"] for view in await (await app.test_client().get("/api/colonies", headers=headers)).get_json()]


async def test_people_change_their_own_and_look_at_others_as_configured(app: QuartTrio, two: CardboardHouse) -> None:
    client, ann = app.test_client(), await holder(two, Role.APE, "ann")
    assert await names(app, ann) == ["anns", "hello"]
    assert (await client.post("/api/colonies/anns/stop", headers=ann)).status_code == 202
    assert await told(await client.post("/api/colonies/hello/stop", headers=ann)) == (403, "not-your-colony")
    object.__setattr__(two.config, "access", Access(others="nothing"))
    assert await names(app, ann) == ["anns"]
    assert await names(app, await holder(two, Role.VIEWER)) == ["anns", "hello"]
    for path in ("/api/colonies/hello", f"/api/colonies/{HELLO}/logs", "/api/colonies/hello/logs/stream"):
        answer = await client.get(path, headers=ann)
        assert await told(answer) == (404, "colony-not-found")
        hidden, unknown = await answer.get_json(force=True), "hello"
        assert "did you mean" not in hidden["hint"], unknown
    assert await told(await client.post("/api/colonies/hello/stop", headers=ann)) == (404, "colony-not-found")


async def test_the_daemon_counts_for_people_only_what_they_see(app: QuartTrio, two: CardboardHouse) -> None:
    client, ann, house = app.test_client(), await holder(two, Role.VIEWER, "ann"), await holder(two, Role.VIEWER)

    async def count(headers: dict[str, str]) -> int:
        return int((await (await client.get("/api/system", headers=headers)).get_json())["colonies"])

    assert (await count(ann), await count(house), await count(await holder(two, Role.AGENT))) == (2, 2, 1)
    object.__setattr__(two.config, "access", Access(others="nothing"))
    assert (await count(ann), await count(house), await count(await holder(two, Role.GARDEN))) == (1, 2, 0)


async def test_people_scrape_their_own_colonies_where_others_are_hidden(app: QuartTrio, two: CardboardHouse) -> None:
    two.used = tuple(used(view) for view in two.colonies())
    client, ann = app.test_client(), await holder(two, Role.VIEWER, "ann")

    async def scraped(headers: dict[str, str]) -> str:
        answer = await client.get("/metrics", headers=headers)
        assert answer.status_code == 200
        return str(await answer.get_data(as_text=True))

    everything = await scraped(ann)
    object.__setattr__(two.config, "access", Access(others="nothing"))
    own, house = await scraped(ann), await scraped(await holder(two, Role.VIEWER))
    of_all = ("process_cpu_seconds_total", "colony_events_total", "colony_tasks", "http_request_duration", '"hello"')
    for text, whole in ((everything, True), (own, False), (house, True)):
        assert [each in text for each in of_all] == [whole] * len(of_all)
        assert 'colony_processes{colony="anns"} 3.0' in text
        assert 'colony_service_ready{colony="anns",service="web"} 1.0' in text
        assert f'colony_colonies{{state="running"}} {2 if whole else 1}.0' in text
    assert "hello" not in own
    agent = await client.get("/metrics", headers=await holder(two, Role.AGENT))
    assert await told(agent) == (403, "role-may-not")


async def test_a_new_colony_belongs_to_the_person_whichever_key_they_use(app: QuartTrio, two: CardboardHouse) -> None:
    for number in range(2):
        headers = await holder(two, Role.APE, "ann")
        body = {"name": f"new{number}", "path": "/"}
        answer = await app.test_client().post("/api/colonies", json=body, headers=headers)
        assert (await answer.get_json())["owner"] == "ann"


async def test_an_agent_sees_its_own_colony_and_restarts_its_services(app: QuartTrio, two: CardboardHouse) -> None:
    client, agent = app.test_client(), await holder(two, Role.AGENT)
    assert await names(app, agent) == ["hello"]
    assert (await client.post("/api/colonies/hello/services/web/restart", headers=agent)).status_code == 202
    assert await told(await client.post("/api/colonies/hello/stop", headers=agent)) == (403, "role-may-not")
    for path in ("/api/colonies/anns", "/api/colonies/ann", "/api/colonies/anns/services"):
        assert await told(await client.get(path, headers=agent)) == (404, "colony-not-found")
    answer = await client.post("/api/colonies/anns/services/web/restart", headers=agent)
    assert await told(answer) == (404, "colony-not-found")


async def test_events_are_told_to_those_who_may_see_what_they_are_about(app: QuartTrio, two: CardboardHouse) -> None:
    for name, owner in (("hello", "ape"), ("anns", "ann")):
        two.bus.publish(ColonyCreated(colony=name, colony_id=two.colony(name).id, owner=owner))
    two.bus.publish(HouseEvent(what="started", message=""))
    two.bus.publish(ProjectStateChanged(project="secret", state="ready", reason="", owner="ape"))

    async def seqs(headers: dict[str, str], query: str = "after=0") -> list[int]:
        answer = await app.test_client().get(f"/api/events?{query}", headers=headers)
        return [event["seq"] for event in await answer.get_json()]

    ann, agent = await holder(two, Role.APE, "ann"), await holder(two, Role.AGENT)
    assert await seqs(ann) == [1, 2, 3, 4]
    assert await seqs(agent) == [1]
    assert await seqs(agent, "after=0&colony=anns") == []
    object.__setattr__(two.config, "access", Access(others="nothing"))
    assert await seqs(ann) == [2, 3]
    assert await seqs(ann, "limit=5") == [2, 3]
    assert await seqs(await holder(two, Role.VIEWER)) == [1, 2, 3, 4]


async def test_keys_are_made_and_ended_by_whose_they_are(app: QuartTrio, two: CardboardHouse) -> None:
    client, ann = app.test_client(), await holder(two, Role.APE, "ann")
    assert [view["person"] for view in await (await client.get("/api/tokens", headers=ann)).get_json()] == ["ann"]
    made = await (await client.post("/api/tokens", json={"name": "more"}, headers=ann)).get_json()
    assert made["person"] == "ann"
    other = await client.post("/api/tokens", json={"name": "more", "person": "me"}, headers=ann)
    assert await told(other) == (403, "not-your-key")
    foreign = {"name": "a", "role": "agent", "colony": "hello"}
    assert await told(await client.post("/api/tokens", json=foreign, headers=ann)) == (403, "not-your-colony")
    await holder(two, Role.APE, "me")
    mine = [view.id for view in two.keys.list() if view.person == "me"]
    assert await told(await client.delete(f"/api/tokens/{mine[0]}", headers=ann)) == (404, "token-not-found")
    assert (await client.delete(f"/api/tokens/{made['id']}", headers=ann)).status_code == 204


async def test_a_token_over_the_socket_says_who_asks(app: QuartTrio, house: CardboardHouse) -> None:
    headers, socket = await holder(house, Role.VIEWER), {"state": {PEER: OWNER}}
    client = app.test_client()
    answer = await client.post("/api/colonies/hello/stop", headers=headers, scope_base=socket)
    assert await told(answer) == (403, "role-may-not")
    wrong = await client.get("/api/colonies", headers={"Authorization": "Bearer no"}, scope_base=socket)
    assert await told(wrong) == (401, "token-unknown")


def test_an_identity_shows_no_secret() -> None:
    assert set(Identity.__slots__) - {"__weakref__"} == {"id", "name", "role", "person", "house", "colony", "browser"}
