"""In the folder of a colony its name may be left out."""

import os
from pathlib import Path

import pytest

from .conftest import Command
from .stand_in import StandIn


@pytest.fixture
def folder(colony: Command) -> Path:
    """The folder of a colony, with one inside it in which the command runs."""
    made = colony.home / "shop"
    (made / "inside").mkdir(parents=True)
    colony.home = made / "inside"
    return made


def test_the_colony_of_this_folder_is_meant(house: StandIn, colony: Command, folder: Path) -> None:
    house.add("shop", source=str(folder))
    house.add("other", source="/elsewhere")
    house.add("beside", source=f"{folder}-too")
    house.log("shop", "here I am")
    assert colony("show", "--format", "{name}").out == "shop\n"
    assert colony("logs", "--json").json["text"] == "here I am"
    assert colony("open", "--print").out == "http://shop.colony.localhost:8088\n"
    assert colony("service", "ls", "-q").out == "web\napi\n"
    assert colony("wait", "--for", "running").out == "shop is running\n"
    assert colony("apply", "--no-wait", "-q").out == "shop\n"
    assert colony("stop").out == "shop is stopped\n"
    assert colony("start", "-q").out == "shop\n"
    assert colony("restart", "--no-wait", "-q").out == "shop\n"
    assert colony("service", "restart", "--no-wait", "-q").out == "web\napi\n"
    done = colony("exec", "--", "exit", "3")
    assert (done.code, house.exec_requests[-1]["command"]) == (3, ["exit", "3"])


def test_the_nearest_folder_wins(house: StandIn, colony: Command, folder: Path) -> None:
    house.add("outer", source=str(folder))
    house.add("inner", source=str(folder / "inside"))
    assert colony("show", "-q").out == "inner\n"


def test_a_link_to_the_folder_leads_there_too(house: StandIn, colony: Command, folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    house.add("shop", source=str(folder.parent / "link"))
    assert colony("show", "-q").out == "shop\n"


def test_two_colonies_of_one_folder_are_ambiguous(house: StandIn, colony: Command, folder: Path) -> None:
    house.add("two", source=str(folder))
    house.add("one", source=str(folder))
    done = colony("stop")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: which one? Of this folder are one, two\nhint: name one of them\n"
    assert {view["state"] for view in house.colonies.values()} == {"running"}


def test_outside_of_every_folder_a_name_is_wanted(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("show")
    assert (done.code, done.err) == (2, "error: which colony? None was made from this folder\nhint: colony ls\n")


def test_rm_wants_a_name_everywhere(house: StandIn, colony: Command, folder: Path) -> None:
    house.add("shop", source=str(folder))
    assert colony("rm", "--yes").code == 2
    assert "shop" in house.colonies


def test_a_daemon_that_may_be_elsewhere_knows_other_folders(house: StandIn, colony: Command, folder: Path) -> None:
    house.add("shop", source=str(folder))
    done = colony("show", COLONY_SERVER="http://127.0.0.1:9", COLONY_TOKEN="t")
    assert (done.code, "which colony?" in done.err) == (2, True)
    assert os.path.isdir(folder)
