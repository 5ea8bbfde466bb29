"""The house: opened in order, ended in order, and refused with the reason where it cannot be opened."""

import json
import os
import socket
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from tests.core.colonies.homes import Home, alive, all_ready, open_home, service

from colony_core.access import AuditRecord, audit
from colony_core.errors import AlreadyExists, Broken
from colony_core.events import HouseEvent, Missed
from colony_core.supervision import ChildSpec, Status

pytestmark = pytest.mark.kernel


async def test_a_second_house_on_the_same_folders_says_who_runs_and_harms_nothing(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        view = await home.up("app", service("one"))
        with pytest.raises(AlreadyExists, match=str(os.getpid())):
            async with open_home(tmp_path):
                raise AssertionError("two houses under one roof")
        assert home.house.colony("app").services[0].pid == view.services[0].pid
        assert all_ready(home.house.colony("app"))


async def test_a_taken_preview_port_is_named_and_leaves_the_house_to_be_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AlreadyExists, match=str(port)) as caught:
            async with open_home(tmp_path, routing__port=port):
                raise AssertionError("it has the port of somebody else")
        assert caught.value.code == "port-taken"
        assert "routing.port" in caught.value.hint
    async with open_home(tmp_path, routing__port=port) as home:
        assert home.house.system().preview_port == port


async def test_a_store_that_is_none_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        store = home.house.config.folders.store
    for extra in store.parent.glob(f"{store.name}-*"):
        extra.unlink()
    store.write_bytes(b"no database at all " * 1000)
    with pytest.raises(Broken):
        async with open_home(tmp_path):
            raise AssertionError("it made something of it")
    assert store.read_bytes().startswith(b"no database")


async def test_events_go_on_with_the_next_number_after_an_orderly_end(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        first = home.house.bus.last_seq
    async with open_home(tmp_path) as home:
        async with aclosing(home.house.bus.listen(first)) as events:  # type: ignore[type-var]
            numbers = []
            async for event in events:
                numbers.append(event)
                if getattr(getattr(event, "event", None), "what", "") == "started":
                    break
        told = numbers[-1]
        assert not isinstance(told, Missed)
        assert first < told.seq < first + 50


async def test_no_more_is_kept_than_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PRUNED_EVERY", 1)

    async def said(home: Home) -> list[str]:
        entries, _ = await home.house.journal.page(0, limit=100)
        return [json.loads(entry.text)["message"] for entry in entries if '"said"' in entry.text]

    async with open_home(tmp_path, fake=True, events__keep=8, access__audit_keep=3) as home:
        for number in range(20):
            home.house.bus.publish(HouseEvent(what="said", message=str(number)))
            await home.house.audit.record(written(str(number)))
        assert [entry.path for entry in await home.house.audit.page(after=0, limit=100)] == ["/17", "/18", "/19"]
    async with open_home(tmp_path, fake=True, events__keep=8) as home:
        found = await said(home)
        assert 0 < len(found) <= 8
        assert found[-1] == "19"
    async with open_home(tmp_path, fake=True, events__age="1ms") as home:
        with trio.fail_after(120):
            while await said(home):
                await trio.sleep(0.01)


def written(name: str) -> AuditRecord:
    return AuditRecord(
        at=0.0, who="uid:0", name="me", role="ape", person="me", source="socket", method="POST", path=f"/{name}",
        target="", status=200, code="", request_id="",
    )  # fmt: skip


async def test_everything_of_an_inline_house_ends_with_its_block_also_when_cancelled(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_home(tmp_path) as home:
            view = await home.up("app", service("one"))
            pid = view.services[0].pid
            assert pid is not None
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not alive(pid)
    async with open_home(tmp_path) as home:
        assert (await home.until("app", all_ready)).id == view.id


async def test_a_hurried_end_waits_for_no_grace(tmp_path: Path) -> None:
    deaf = service(
        "deaf", "trap '' TERM; echo deaf; while :; do sleep 1000; done", grace='"1h"', ready='{ log = "deaf" }'
    )
    async with open_home(tmp_path) as home:
        pid = (await home.up("app", deaf)).services[0].pid
        await home.house.shutdown(colonies=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(home.house._leave)
            await home.until_service("app", "deaf", "stopping")
            await home.house.hurry()
    assert pid is not None
    assert not alive(pid)


async def test_a_task_of_a_face_runs_in_the_tree_and_is_restarted_there(tmp_path: Path) -> None:
    runs = []

    async def face(*, status: Status) -> None:
        runs.append("run")
        status.started()
        if len(runs) == 1:
            raise RuntimeError("once")
        await trio.sleep_forever()

    async with open_home(tmp_path, fake=True) as home:
        await home.house.supervise(ChildSpec(id="face", run=face))
        with trio.fail_after(120):
            while len(runs) < 2:
                await trio.sleep(0.01)
        assert "face (worker)" in home.house.tree_text()
        names = [child["id"] for child in home.house.tree()["children"]]
        assert names == ["keeper", "journal", "janitor", "projects", "colonies", "agents", "previews", "face"]
