"""The log of a colony by number and by time, over all its services."""

from pathlib import Path

import pytest
import trio
import trio.lowlevel

from colony_core import clock
from colony_core.errors import Invalid
from colony_core.events import Missed
from colony_core.mycelium import Mycelium

from .homes import PATIENCE_SECONDS, open_home, service

pytestmark = pytest.mark.kernel

TALK = "for n in 1 2 3 4 5 6; do echo $n; sleep 0.02; done; exec sleep 1000"
ASKED_TALK = "for n in 1 2 3 4 5 6; do echo $n; until test -e $n; do sleep 0.01; done; done; exec sleep 1000"
"""Goes on when it is asked for: what is read in one go has one time."""


async def texts(house: Mycelium, **choice: object) -> list[str]:
    return [line.text for line in (await house.log_page("app", **choice)).lines if line.stream == "out"]


async def next_time() -> None:
    """Until what is said has a later time than what was said: the times of a log have steps of a millisecond."""
    now = clock.rfc3339(clock.unix_now())
    with trio.fail_after(PATIENCE_SECONDS):
        while clock.rfc3339(clock.unix_now()) == now:
            await trio.lowlevel.checkpoint()


async def test_pages_tails_services_and_times_choose_lines(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("web", ASKED_TALK) + service("api", "echo up; exec sleep 1000"))
        await home.line("app", "api", "up")
        for number in "123456":
            await home.line("app", "web", number)
            await next_time()
            (tmp_path / "app-app" / number).touch()
        web = frozenset({"web"})
        page = await home.house.log_page("app", services=web)
        lines = [line for line in page.lines if line.stream == "out"]
        assert [line.text for line in lines] == list("123456")
        at = {line.text: clock.parse_rfc3339(line.at) for line in lines}
        numbers = {line.text: line.seq for line in lines}
        assert await texts(home.house, services=web, tail=2) == ["5", "6"]
        assert await texts(home.house, services=web, after=numbers["4"]) == ["5", "6"]
        assert await texts(home.house, services=web, since=at["3"], until=at["5"]) == ["3", "4", "5"]
        assert await texts(home.house, services=web, until=at["5"], tail=2) == ["4", "5"]
        assert await texts(home.house, services=web, since=at["5"], tail=5) == ["5", "6"]
        assert await texts(home.house, services=web, since=at["2"], after=numbers["4"]) == ["5", "6"]
        assert await texts(home.house, since=at["6"] + 3600) == []
        assert await texts(home.house, services=frozenset({"api"})) == ["up"]
        page = await home.house.log_page("app", services=web, since=at["3"], limit=2)
        assert [line.text for line in page.lines] == ["3", "4"]
        assert page.missed == 0
        with pytest.raises(Invalid, match="10000"):
            await home.house.log_page("app", limit=10_001)


async def test_a_log_is_kept_within_the_bounds_of_the_settings(tmp_path: Path) -> None:
    bounds = {"processes__log_segment": "4K", "processes__log_total": "16K"}
    async with open_home(tmp_path, fake=True, **bounds) as home:
        view = await home.up("app", service("web", "seq 1 100000; exec sleep 1000"))
        await home.line("app", "web", "100000")
        kept = sum(file.stat().st_size for file in (home.house.config.folders.logs / view.id).iterdir())
        assert kept < 2**20, "what is written in one go is not divided"
        assert (await home.house.log_page("app", after=0)).missed > 50_000


async def test_a_follower_gets_every_line_once_from_its_cursor_on(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("web", TALK))
        await home.line("app", "web", "2")
        seen = []
        with trio.fail_after(PATIENCE_SECONDS):
            async with home.house.follow_log("app", after=0, services=frozenset({"web"})) as lines:
                async for line in lines:
                    assert not isinstance(line, Missed)
                    if line.stream == "out":
                        seen.append(line.text)
                    if line.text == "6":
                        break
        assert seen == list("123456")
