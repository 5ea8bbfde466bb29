"""What a colony is told to use is what its processes really do."""

from pathlib import Path

import pytest
import trio

from colony_core.views import UsageView

from .homes import Home, open_home, service

pytestmark = pytest.mark.kernel

MB = 2**20


async def usage(home: Home, name: str) -> UsageView:
    return next(view for view in await home.house.usage() if view.colony == name)


async def test_cpu_memory_processes_traffic_and_lines_are_counted_per_colony(tmp_path: Path) -> None:
    big = "x = bytearray(80 * 2**20); import time; print('filled', flush=True); time.sleep(1000)"
    spin = "import time\nwhile time.process_time() < 0.5: pass\nprint('spun', flush=True); time.sleep(1000)"
    talk = "import socket; s = socket.socket(type=socket.SOCK_DGRAM)\nfor _ in range(100): s.sendto(bytes(1000), ('{}', 9))"

    def python(text: str) -> str:
        return f"python3 -c '{text.replace(chr(39), chr(34))}'"

    async with open_home(tmp_path) as home:
        await home.up("idle", service("one", "echo begun; exec sleep 1000"))
        await home.line("idle", "one", "begun")
        await home.up("busy", service("big", python(big)) + service("spin", python(spin)))
        await home.line("busy", "big", "filled")
        await home.line("busy", "spin", "spun")
        idle, busy = await usage(home, "idle"), await usage(home, "busy")
        assert (idle.processes, idle.services, busy.services) == (1, 1, 2)
        assert busy.processes >= 2
        assert busy.cpu_seconds >= 0.5 > idle.cpu_seconds
        assert busy.memory_bytes > 80 * MB > idle.memory_bytes > 0
        assert busy.log_lines >= 2
        cell = home.colony("busy").cell
        assert cell is not None
        assert (await home.run("busy", "python3", "-c", talk.format(cell.gateway)))[0] == 0
        after = await usage(home, "busy")
        assert after.sent_bytes - busy.sent_bytes >= 100_000
        assert (await usage(home, "idle")).sent_bytes < 100_000


async def test_a_colony_that_is_down_uses_nothing(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        await home.house.stop("app")
        await home.until_state("app", "stopped")
        view = await usage(home, "app")
        assert (view.state, view.processes, view.cpu_seconds, view.memory_bytes) == ("stopped", 0, 0.0, 0)


async def test_it_can_be_asked_while_colonies_come_and_go(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home, trio.open_nursery() as nursery:

        async def come_and_go() -> None:
            for _ in range(5):
                await home.up("app", service("one"))
                await home.house.remove("app")
            nursery.cancel_scope.cancel()

        nursery.start_soon(come_and_go)
        while True:
            for view in await home.house.usage():
                assert view.processes >= 0
            await trio.sleep(0.001)
