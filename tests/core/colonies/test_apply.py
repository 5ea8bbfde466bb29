"""An edited manifest: what is restarted, what is left alone, and what is refused."""

from pathlib import Path

import pytest

from colony_core.errors import Invalid, NotFound

from .homes import Home, all_ready, listen, of, open_home, service

pytestmark = pytest.mark.kernel

WEB = service("web", listen("127.0.0.1", 4001), port="4001")


async def pids(home: Home) -> dict[str, int | None]:
    view = await home.until("app", all_ready)
    return {service.name: service.pid for service in view.services}


async def test_only_what_changed_is_restarted_and_the_difference_is_told(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", WEB + service("api") + service("old"))
        before = await pids(home)
        home.write("app", WEB.replace("4001", "4005") + service("api") + service("new"))
        applied = await home.house.apply("app")
        assert set(applied.restarted) == {"web"}
        assert "web: port changed from 4001 to 4005" in applied.changes
        assert {"new: added", "old: removed"} <= set(applied.changes)
        await home.until("app", lambda v: all_ready(v) and [s.name for s in v.services] == ["web", "api", "new"])
        after = await pids(home)
        assert after["api"] == before["api"]
        assert after["web"] != before["web"]
        assert of(home.house.colony("app"), "web").port == 4005
        await home.gone(before["old"] or 0)


async def test_a_dry_run_tells_and_does_nothing(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("api"))
        before = await pids(home)
        home.write("app", service("api", "exec sleep 2000"))
        view = await home.house.apply("app", dry_run=True)
        assert (view.restarted, view.dry_run) == (("api",), True)
        assert await pids(home) == before
        assert (await home.house.apply("app")).changes == view.changes
        await home.until("app", lambda v: all_ready(v) and v.services[0].pid != before["api"])


async def test_the_same_manifest_changes_nothing(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("api"))
        before = await pids(home)
        home.write("app", "# a comment\n" + service("api"))
        assert (await home.house.apply("app")).changes == ()
        assert await pids(home) == before


async def test_a_wrong_manifest_is_refused_and_the_colony_goes_on_as_it_is(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("api"))
        before = await pids(home)
        home.write("app", service("api", prot="1"))
        with pytest.raises(Invalid, match="prot"):
            await home.house.apply("app")
        (tmp_path / "app-app" / "colony.toml").unlink()
        with pytest.raises(NotFound):
            await home.house.apply("app")
        assert await pids(home) == before


async def test_a_service_that_had_failed_is_started_by_the_edit_that_mends_it(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", service("api", "exit 1", restart='"never"') + service("other"))
        await home.until_service("app", "api", "failed")
        home.write("app", service("api", restart='"never"') + service("other"))
        await home.house.apply("app")
        assert (await home.until("app", all_ready)).reason == ""


async def test_a_service_that_somebody_stopped_stays_stopped_and_starts_as_edited(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("api", "echo old; exec sleep 1000") + service("other"))
        await home.house.service("app", "api", "stop")
        await home.until_service("app", "api", "stopped")
        home.write("app", service("api", "echo new; exec sleep 1000") + service("other"))
        assert (await home.house.apply("app")).restarted == ()
        assert of(home.house.colony("app"), "api").state == "stopped"
        await home.house.service("app", "api", "start")
        assert await home.line("app", "api", "new") == "new"


async def test_a_changed_variable_of_all_restarts_all_and_its_value_is_not_told(tmp_path: Path) -> None:
    variables = '[colony.environment]\nSECRET = "{}"\n'
    async with open_home(tmp_path) as home:
        await home.up("app", variables.format("hunter2") + service("one", "echo $SECRET; exec sleep 1000"))
        before = await pids(home)
        home.write("app", variables.format("hunter3") + service("one", "echo $SECRET; exec sleep 1000"))
        applied = await home.house.apply("app")
        assert applied.changes == ("environment.SECRET changed",)
        assert await home.line("app", "one", "hunter3") == "hunter3"
        assert (await pids(home))["one"] != before["one"]


async def test_an_edit_of_a_stopped_colony_is_what_its_next_start_runs(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.spawn("app", service("one"), start=False)
        home.write("app", service("two", "echo two; exec sleep 1000"))
        assert (await home.house.apply("app")).restarted == ()
        assert [s.name for s in home.house.colony("app").services] == ["two"]
        await home.house.start("app")
        assert await home.line("app", "two") == "two"
