"""Lists that grow come in pages, and each answer has a version."""

from typing import Any

import pytest

from colony_core.access import AuditRecord
from colony_core.remote import calls
from colony_core.remote.calls import next_call

from .house import CardboardHouse, colony_view

HUNDREDS = 345


async def everything(client: Any, call: Any) -> tuple[list[Any], int]:
    """What a client finds that follows the links, and in how many pages."""
    found: list[Any] = []
    pages = 0
    while call is not None:
        answer = await client.get(call.url)
        assert answer.status_code == 200, await answer.get_data(as_text=True)
        page = await answer.get_json()
        found += page["lines"] if isinstance(page, dict) else page
        call, pages = next_call(call, answer.headers.get("Link", "")), pages + 1
    return found, pages


@pytest.fixture
def full(house: CardboardHouse) -> CardboardHouse:
    """A house with hundreds of everything."""
    for number in range(HUNDREDS - 1):
        name = f"web-{number:03}"
        house._colonies[name] = colony_view(name, number=number + 2, owner="ann" if number % 2 else "bob")
    return house


async def test_hundreds_of_colonies_are_found_once_each(client: Any, full: CardboardHouse) -> None:
    found, pages = await everything(client, calls.colonies(limit=100))
    assert [view["name"] for view in found] == sorted(full._colonies)
    assert pages == 4


async def test_the_last_page_leads_nowhere(client: Any, full: CardboardHouse) -> None:
    answer = await client.get(f"/api/colonies?limit={HUNDREDS}")
    assert "Link" not in answer.headers
    assert len(await answer.get_json()) == HUNDREDS


async def test_a_page_keeps_to_its_filters(client: Any, full: CardboardHouse) -> None:
    found, _ = await everything(client, calls.colonies(owner="ann", name="web-*", limit=50))
    assert len(found) == HUNDREDS // 2
    assert {view["owner"] for view in found} == {"ann"}


async def test_who_comes_or_goes_meanwhile_moves_nobody_else(client: Any, full: CardboardHouse) -> None:
    first = await client.get("/api/colonies?limit=100")
    seen = [view["name"] for view in await first.get_json()]
    del full._colonies[seen[3]], full._colonies[seen[-1]]
    rest, _ = await everything(client, next_call(calls.colonies(), first.headers["Link"]))
    assert sorted([*seen, *(view["name"] for view in rest)]) == sorted({*full._colonies, seen[3], seen[-1]})


async def test_hundreds_of_writes_and_lines_are_found_once_each(client: Any, full: CardboardHouse) -> None:
    for number in range(HUNDREDS):
        full.write(f"line {number}")
        await full.audit.record(
            AuditRecord(
                at=0.0, who="k", name="k", role="ape", person="ann", source="", method="POST", path=f"/{number}",
                target="hello", status=200, code="", request_id="",
            )
        )  # fmt: skip
    found, pages = await everything(client, calls.audit(after=0, limit=100, person="ann"))
    assert ([entry["path"] for entry in found], pages) == ([f"/{number}" for number in range(HUNDREDS)], 4)
    lines, pages = await everything(client, calls.logs("hello", after=0, limit=100))
    assert ([line["text"] for line in lines], pages) == ([f"line {number}" for number in range(HUNDREDS)], 4)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after="])
async def test_a_page_that_is_none_is_refused(client: Any, query: str) -> None:
    assert (await client.get(f"/api/colonies?{query}")).status_code == 422


async def test_an_answer_that_is_still_right_is_not_sent_again(client: Any, house: CardboardHouse) -> None:
    first = await client.get("/api/colonies")
    version = first.headers["ETag"]
    assert version.startswith('"')
    for known in (version, f"W/{version}", f'"other", {version}', "*"):
        again = await client.get("/api/colonies", headers={"If-None-Match": known})
        assert (again.status_code, await again.get_data(), again.headers["ETag"]) == (304, b"", version), known
    house._colonies["web"] = colony_view("web", number=2)
    changed = await client.get("/api/colonies", headers={"If-None-Match": version})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != version


async def test_a_condition_that_nobody_looks_at_is_refused(client: Any, house: CardboardHouse) -> None:
    answer = await client.post("/api/colonies/hello/stop", headers={"If-Match": '"1"'})
    assert (answer.status_code, (await answer.get_json(force=True))["code"]) == (422, "no-versions")
    assert house.calls == []


@pytest.mark.parametrize("path", ["/ws", "/api/colonies/hello/exec", "/api/colonies/hello/terminals/t"])
async def test_what_speaks_websocket_only_says_so(client: Any, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")
    assert "GET" in (await client.open(path, method="PUT")).headers["Allow"]
