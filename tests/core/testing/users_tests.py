"""A user's own tests, run by test_plugin.py in a process of its own: every fixture of the plugin, and a house without them."""

import os
from pathlib import Path
from typing import Any

import trio

from colony_core.testing import open_test_house, spawn_ready

MANIFEST = '[services.web]\ncommand = ["python3", "-m", "http.server", "4001", "--bind", "127.0.0.1"]\nport = 4001\n'


async def test_colonies_have_the_same_ports(colony_spawn: Any, tmp_path: Path) -> None:
    (tmp_path / "colony.toml").write_text(MANIFEST)
    one = await colony_spawn(tmp_path, name="one", timeout=120)
    two = await colony_spawn(tmp_path, name="two", timeout=120)
    assert [colony.services[0].state for colony in (one, two)] == ["ready", "ready"]
    inode = os.stat("/proc/self/ns/net").st_ino
    assert len({inode, *(os.stat(f"/proc/{c.services[0].pid}/ns/net").st_ino for c in (one, two))}) == 3


async def test_a_cell_has_a_network_of_its_own(colony_cell: Any) -> None:
    with await colony_cell.socket() as inside:
        inside.listen()
        assert [listener.port for listener in await colony_cell.listeners()] == [inside.getsockname()[1]]


async def test_a_house_can_be_opened_by_hand(tmp_path: Path) -> None:
    await trio.to_thread.run_sync(os.getpid)  # from here on there are threads, and it is too late for a user namespace
    (tmp_path / "colony.toml").write_text(MANIFEST)
    async with open_test_house(tmp_path / "house") as house:
        assert (await spawn_ready(house, "one", tmp_path, timeout=120)).state == "running"


async def test_a_house_has_no_colonies_of_an_earlier_test(colony_house: Any) -> None:
    assert colony_house.colonies() == ()
