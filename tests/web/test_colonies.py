"""The routes of colonies, services, tokens, logs, events and the daemon itself."""

from typing import Any

import pytest
import trio

from colony_core.events import HouseEvent
from colony_core.views import NewColony
from colony_web.routes import COMPLETE_SECONDS

from .house import CardboardHouse


async def test_colonies_are_listed_by_name(client: Any) -> None:
    answer = await client.get("/api/colonies")
    assert answer.status_code == 200
    assert [each["name"] for each in await answer.get_json()] == ["hello"]


async def test_a_list_shows_only_the_state_that_was_asked_for(client: Any) -> None:
    assert await (await client.get("/api/colonies?state=failed")).get_json() == []
    assert len(await (await client.get("/api/colonies?state=running")).get_json()) == 1


async def test_a_state_that_does_not_exist_is_refused(client: Any) -> None:
    answer = await client.get("/api/colonies?state=runing")
    assert answer.status_code == 422
    assert (await answer.get_json())["code"] == "invalid-query"


async def test_an_unknown_parameter_names_the_nearest(client: Any) -> None:
    answer = await client.get("/api/colonies?stat=running")
    assert answer.status_code == 422
    problem = await answer.get_json()
    assert (problem["code"], problem["hint"]) == ("unknown-parameter", "did you mean state?")


async def test_a_parameter_given_twice_is_refused(client: Any) -> None:
    assert (await client.get("/api/colonies?state=failed&state=running")).status_code == 422


async def test_a_new_colony_is_created_with_its_place_and_owner(client: Any, house: CardboardHouse) -> None:
    answer = await client.post("/api/colonies", json={"name": "new", "path": "/src"})
    assert answer.status_code == 201
    view = await answer.get_json()
    assert answer.headers["Location"] == f"/api/colonies/{view['id']}"
    [(verb, request, owner)] = house.calls
    assert (verb, request) == ("spawn", NewColony(name="new", path="/src"))
    assert owner == view["owner"] != ""


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed-json"),
        (b"[]", 422, "invalid-body"),
        (b'{"path": "/x"}', 422, "invalid-body"),
        (b'{"name": "x", "path": 7}', 422, "invalid-body"),
        (b'{"name": "x", "path": "/", "colour": 1}', 422, "invalid-body"),
        (b'{"name": "../x", "path": "/"}', 422, "invalid-name"),
        (b'{"name": "hello", "path": "/"}', 409, "colony-exists"),
        (b"", 400, "malformed-json"),
    ],
)
async def test_a_bad_body_is_refused_and_makes_nothing(
    client: Any, house: CardboardHouse, body: bytes, status: int, code: str
) -> None:
    answer = await client.post("/api/colonies", data=body, headers={"Content-Type": "application/json"})
    problem = await answer.get_json(force=True)
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert [view.name for view in house.colonies()] == ["hello"]


async def test_a_body_of_another_type_is_refused(client: Any, house: CardboardHouse) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = await client.post("/api/colonies", data=b'{"name":"a","path":"/"}', headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert not house.calls


async def test_ten_megabytes_are_refused(client: Any) -> None:
    answer = await client.post("/api/colonies", data=b"x" * 10_000_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert (await answer.get_json(force=True))["code"] == "body-too-large"


async def test_a_colony_is_found_by_name_and_by_id(client: Any) -> None:
    for ref in ("hello", "col_0000000000000001"):
        assert (await (await client.get(f"/api/colonies/{ref}")).get_json())["name"] == "hello"


async def test_an_unknown_colony_is_a_problem_with_a_hint(client: Any) -> None:
    answer = await client.get("/api/colonies/helo")
    assert answer.status_code == 404
    problem = await answer.get_json(force=True)
    assert problem["code"] == "colony-not-found"
    assert problem["hint"] == "did you mean hello?"
    assert problem["type"] == "urn:colony:error:colony-not-found"
    assert problem["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_a_verb_is_accepted_without_a_body(client: Any, house: CardboardHouse, verb: str) -> None:
    answer = await client.post(f"/api/colonies/hello/{verb}")
    assert answer.status_code == 202
    assert (await answer.get_json())["name"] == "hello"
    assert house.calls[0][:2] == (verb, "hello")


async def test_a_stop_takes_a_grace(client: Any, house: CardboardHouse) -> None:
    await client.post("/api/colonies/hello/stop", json={"grace": 2})
    assert house.calls == [("stop", "hello", 2.0)]


@pytest.mark.parametrize("grace", [-1, 1e9, "2s"])
async def test_a_grace_that_is_no_time_is_refused(client: Any, house: CardboardHouse, grace: Any) -> None:
    assert (await client.post("/api/colonies/hello/stop", json={"grace": grace})).status_code == 422
    assert not house.calls


async def test_a_start_takes_no_body(client: Any, house: CardboardHouse) -> None:
    answer = await client.post("/api/colonies/hello/start", json={"grace": 2})
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (422, "unexpected-body")
    assert not house.calls


async def test_an_apply_can_be_tried(client: Any, house: CardboardHouse) -> None:
    answer = await client.post("/api/colonies/hello/apply", json={"dry_run": True})
    assert answer.status_code == 200
    assert (await answer.get_json())["changes"] == ["a port"]
    assert house.calls == [("apply", "hello", True)]


async def test_a_removed_colony_is_gone(client: Any, house: CardboardHouse) -> None:
    answer = await client.delete("/api/colonies/hello")
    assert (answer.status_code, await answer.get_data()) == (204, b"")
    assert not house.colonies()


async def test_a_removal_may_take_longer_than_any_other_change(
    client: Any, house: CardboardHouse, autojump_clock: Any
) -> None:
    house.pause = trio.Event()
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            assert house.pause is not None
            await trio.sleep(10 * COMPLETE_SECONDS)
            house.pause.set()

        nursery.start_soon(later)
        assert (await client.delete("/api/colonies/hello")).status_code == 204


async def test_services_are_listed_and_restarted(client: Any, house: CardboardHouse) -> None:
    names = [each["name"] for each in await (await client.get("/api/colonies/hello/services")).get_json()]
    assert names == ["web", "api"]
    answer = await client.post("/api/colonies/hello/services/web/restart", json={"grace": 1})
    assert answer.status_code == 202
    assert house.calls == [("service", "hello", "web", "restart", 1.0)]
    assert (await client.post("/api/colonies/hello/services/web/start")).status_code == 202


async def test_a_log_is_read_in_pages(client: Any, house: CardboardHouse) -> None:
    for text in ("one", "two", "three"):
        house.write(text)
    page = await (await client.get("/api/colonies/hello/logs?after=1&limit=1&service=web&service=api")).get_json()
    assert [line["text"] for line in page["lines"]] == ["two"]
    assert house.calls[-1][1]["services"] == {"web", "api"}


async def test_a_logs_moments_are_read_in_both_spellings(client: Any, house: CardboardHouse) -> None:
    await client.get("/api/colonies/hello/logs?since=2026-01-31T08:15:00Z&until=1769847301.5")
    assert (house.calls[0][1]["since"], house.calls[0][1]["until"]) == (1769847300.0, 1769847301.5)


@pytest.mark.parametrize("query", ["since=yesterday", "limit=0", "limit=10001", "after=-1", "after=x", "tail=0"])
async def test_a_log_query_out_of_bounds_is_refused(client: Any, query: str) -> None:
    assert (await client.get(f"/api/colonies/hello/logs?{query}")).status_code == 422


async def test_a_log_of_an_unknown_service_names_the_nearest(client: Any) -> None:
    answer = await client.get("/api/colonies/hello/logs?service=wep")
    assert answer.status_code == 404
    assert (await answer.get_json(force=True))["hint"] == "did you mean web?"


async def test_events_are_listed_behind_a_cursor(client: Any, house: CardboardHouse) -> None:
    for number in range(5):
        house.bus.publish(HouseEvent(what="started", message=str(number)))
    newest = await (await client.get("/api/events?limit=2")).get_json()
    assert [event["seq"] for event in newest] == [4, 5]
    page = await (await client.get("/api/events?after=2&limit=2")).get_json()
    assert [event["message"] for event in page] == ["2", "3"]


async def test_waiting_for_an_event_ends_with_it(client: Any, house: CardboardHouse, autojump_clock: Any) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(5)
            house.bus.publish(HouseEvent(what="started", message="late"))

        nursery.start_soon(later)
        page = await (await client.get("/api/events?after=0&wait_seconds=30")).get_json()
    assert [event["message"] for event in page] == ["late"]
    assert trio.current_time() - began < 30


async def test_waiting_for_no_event_ends_with_nothing(client: Any, autojump_clock: Any) -> None:
    assert await (await client.get("/api/events?after=0&wait_seconds=30")).get_json() == []


async def test_a_hole_in_the_events_is_told(client: Any, house: CardboardHouse) -> None:
    from colony_core.bus import Bus

    house.bus = Bus(first_seq=100, kept=2)
    for number in range(4):
        house.bus.publish(HouseEvent(what="started", message=str(number)))
    page = await (await client.get("/api/events?after=50")).get_json()
    assert page[0] == {"seq": 101, "type": "missed", "first": 51, "last": 101}
    assert [event["seq"] for event in page[1:]] == [102, 103]


async def test_tokens_are_made_listed_and_revoked(client: Any, house: CardboardHouse) -> None:
    answer = await client.post("/api/tokens", json={"name": "ci", "role": "viewer"})
    made = await answer.get_json()
    assert (answer.status_code, made["token"]) == (201, "viewer-1")
    [listed] = await (await client.get("/api/tokens")).get_json()
    assert (listed["name"], listed["token"]) == ("ci", None)
    assert (await client.delete(f"/api/tokens/{made['id']}")).status_code == 204
    assert (await client.delete(f"/api/tokens/{made['id']}")).status_code == 404


async def test_the_daemon_is_shown_and_ended(client: Any, house: CardboardHouse) -> None:
    assert (await (await client.get("/api/system")).get_json())["mode"] == "fake"
    assert (await (await client.get("/api/system/tree")).get_json())["text"] == "mycelium\n"
    answer = await client.post("/api/system/shutdown", json={"colonies": True})
    assert answer.status_code == 202
    assert house.calls == [("shutdown", True)]


async def test_an_unknown_route_is_a_problem(client: Any) -> None:
    answer = await client.get("/api/colony")
    problem = await answer.get_json(force=True)
    assert (answer.status_code, problem["code"], problem["hint"]) == (
        404,
        "route-not-found",
        "did you mean /api/colonies?",
    )


async def test_a_wrong_method_names_the_right_ones(client: Any) -> None:
    answer = await client.put("/api/colonies")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert "POST" in answer.headers["Allow"]


async def test_a_defect_tells_nothing_but_its_name(client: Any, house: CardboardHouse, caplog: Any) -> None:
    house.trouble = RuntimeError("the secret is 42")
    answer = await client.get("/api/colonies/hello")
    assert answer.status_code == 500
    assert b"secret" not in await answer.get_data()
    problem = await answer.get_json(force=True)
    assert problem["code"] == "internal-error"
    assert [each.fields["request_id"] for each in caplog.records if each.name == "colony.web"] == [
        problem["request_id"]
    ]
    assert "the secret is 42" in caplog.text


async def test_an_error_in_a_group_is_found(client: Any, house: CardboardHouse) -> None:
    from colony_core.errors import WrongState

    house.trouble = ExceptionGroup("tasks", [WrongState("busy", "busy", "wait")])
    answer = await client.get("/api/colonies/hello")
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (409, "busy")


async def test_a_defect_beside_an_error_is_not_lost(client: Any, house: CardboardHouse, caplog: Any) -> None:
    from colony_core.errors import WrongState

    house.trouble = ExceptionGroup("tasks", [WrongState("busy", "busy", "wait"), RuntimeError("worse")])
    assert (await client.get("/api/colonies/hello")).status_code == 500
    assert "worse" in caplog.text


async def test_every_answer_bears_version_and_request(client: Any) -> None:
    ids = set()
    for path in ("/api/colonies", "/api/nothing", "/docs", "/openapi.json"):
        answer = await client.get(path)
        assert answer.headers["Colony-Version"] == "0.1.0"
        ids.add(answer.headers["X-Request-Id"])
    assert len(ids) == 4
