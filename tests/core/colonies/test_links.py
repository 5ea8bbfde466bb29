"""Links between colonies: whom they are granted, what names they give, and why one does not work."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from colony_core.errors import Invalid, NotAllowed
from colony_core.views import ColonyView, LinkView, NewColony

from .homes import PATIENCE_SECONDS, Home, listen, open_home, service

kernel = pytest.mark.kernel
DATA = service("db", listen("0.0.0.0", 4002), port="4002") + service("idle")
FETCH = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(f"http://{sys.argv[1]}", timeout=float(sys.argv[2])).read().decode())
"""


def network(*links: str) -> str:
    return f"[network]\nlinks = {json.dumps(links)}\n"


def reasons(view: ColonyView) -> dict[str, str]:
    return {link.to: link.reason for link in view.links}


async def spawn(home: Home, name: str, manifest: str, *, owner: str = "test") -> ColonyView:
    """A colony that is not started."""
    source = home.write(name, manifest)
    return await home.house.spawn(NewColony(name=name, path=str(source), start=False), owner=owner)


async def test_why_a_link_does_not_work_is_told(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        to = ("data", "data:db", "data:idle", "data:none", "gone")
        await spawn(home, "shop", network(*to))
        assert set(reasons(home.house.colony("shop")).values()) == {
            "there is no colony “data”",
            "there is no colony “gone”",
        }
        await spawn(home, "data", DATA)
        told = {
            "data": "colony “shop” is stopped",
            "data:db": "colony “shop” is stopped",
            "data:idle": "service “idle” of colony “data” has no port",
            "data:none": "colony “data” has no service “none”",
            "gone": "there is no colony “gone”",
        }
        assert reasons(home.house.colony("shop")) == told
        await home.house.start("shop")
        await home.until_state("shop", "running")
        assert reasons(home.house.colony("shop"))["data"] == "colony “data” is stopped"
        await home.house.start("data")
        await home.until_state("data", "running")
        links = {link.to: link for link in home.house.colony("shop").links}
        assert links["data:db"] == LinkView(
            to="data:db",
            colony="data",
            service="db",
            works=True,
            reason="",
            name="db.data.colony.internal",
            address="127.0.0.1",
            port=4002,
        )
        assert not links["data:idle"].works
        home.colony("shop").means.isolation.trouble = "nft refused the ruleset"
        assert reasons(home.house.colony("shop"))["data"] == "nft refused the ruleset"


@pytest.mark.parametrize("others", ["look", "nothing"])
async def test_only_colonies_of_one_owner_are_linked_and_hidden_ones_do_not_show(tmp_path: Path, others: str) -> None:
    async with open_home(tmp_path, fake=True, access__others=others) as home:
        await spawn(home, "early", network("data"), owner="ann")
        await spawn(home, "data", DATA, owner="bob")
        hidden = "there is no colony “data”"
        assert reasons(home.house.colony("early")) == {
            "data": "colony “data” belongs to somebody else" if others == "look" else hidden
        }
        if others == "nothing":
            assert reasons(await spawn(home, "late", network("data"), owner="ann")) == {"data": hidden}
            return
        with pytest.raises(NotAllowed) as caught:
            await spawn(home, "late", network("data"), owner="ann")
        assert caught.value.code == "link-not-allowed"
        assert [view.name for view in home.house.colonies()] == ["data", "early"]
        await spawn(home, "late", "", owner="ann")
        home.write("late", network("data"))
        with pytest.raises(NotAllowed):
            await home.house.apply("late")
        assert home.house.colony("late").links == ()


async def test_a_colony_is_not_linked_to_itself(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        with pytest.raises(Invalid) as caught:
            await spawn(home, "shop", network("data", "shop:db"))
        assert caught.value.code == "link-to-itself"


def looked_up(home: Home, names: Iterable[str]) -> dict[str, tuple[str, ...] | None]:
    shop = home.colony("shop")
    return {name: shop.links.lookup(shop, name) for name in names}


async def test_names_lead_to_siblings_and_to_what_is_linked_and_nowhere_else(tmp_path: Path) -> None:
    async with open_home(tmp_path, fake=True) as home:
        await home.spawn("data", DATA)
        await home.spawn("books", service("db", port="4003") + service("web", port="4004"))
        await home.spawn("secret", DATA)
        await home.spawn("shop", network("data", "books:db", "gone") + service("api") + service("data"), start=True)
        for name in ("data", "books", "secret", "shop"):
            await home.until_state(name, "running")
        here, nothing = ("127.0.0.1",), ()
        for name in ("data", "books", "secret"):
            cell = home.colony(name).cell
            assert cell is not None
            cell.address = f"10.0.0.{len(name)}"
        data, books = ("10.0.0.4",), ("10.0.0.5",)
        assert looked_up(home, ("api", "shop", "shop.colony.internal", "api.shop.colony.internal")) == dict.fromkeys(
            ("api", "shop", "shop.colony.internal", "api.shop.colony.internal"), here
        )
        assert looked_up(home, ("data", "data.colony.internal", "db.data.colony.internal", "books")) == {
            "data": here,  # a sibling of that name is nearer
            "data.colony.internal": data,
            "db.data.colony.internal": data,
            "books": books,
        }
        assert looked_up(home, ("books.colony.internal", "db.books.colony.internal", "web.books.colony.internal")) == {
            "books.colony.internal": books,
            "db.books.colony.internal": books,
            "web.books.colony.internal": nothing,
        }
        unknown = (
            "gone",
            "gone.colony.internal",
            "secret.colony.internal",
            "db.secret.colony.internal",
            "none.data.colony.internal",
            "none.shop.colony.internal",
            "colony.internal",
            "a.db.data.colony.internal",
        )
        assert looked_up(home, unknown) == dict.fromkeys(unknown, nothing)
        others = ("secret", "example.org", "internal", "", "api.example.org", "api.shop", "mycolony.internal")
        assert looked_up(home, others) == dict.fromkeys(others), "asked of the host's resolver"


async def fetch(home: Home, colony: str, where: str, *, seconds: float = PATIENCE_SECONDS) -> bool:
    code, out, err = await home.run(colony, "python3", "-c", FETCH, where, str(seconds))
    assert code == 0 or b"URLError" in err, err
    return out.strip() == b"ok"


@kernel
async def test_a_link_is_opened_and_closed_by_apply_and_by_what_becomes_of_either_colony(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        data = await home.up("data", DATA)
        await home.up("shop", service("idle"))
        where = f"{data.address}:4002"
        assert not await fetch(home, "shop", where, seconds=20)
        home.write("shop", network("data:db") + service("idle"))
        assert (await home.house.apply("shop")).restarted == ()
        assert await fetch(home, "shop", where)
        assert await fetch(home, "shop", "db.data.colony.internal:4002")
        await home.house.stop("data")
        await home.until_state("data", "stopped")
        assert not await fetch(home, "shop", "db.data.colony.internal:4002", seconds=20)
        await home.house.restart("shop")
        await home.house.start("data")
        for name in ("shop", "data"):
            await home.until(name, lambda view: view.state == "running" and view.services[0].state == "ready")
        assert await fetch(home, "shop", "db.data.colony.internal:4002")
        await home.house.remove("shop")
        await home.up("shop", service("idle"))
        assert not await fetch(home, "shop", f"{home.house.colony('data').address}:4002", seconds=20)
