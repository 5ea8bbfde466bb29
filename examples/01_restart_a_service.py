"""A house inside your own Trio program: one colony, whose service is killed and brought back.

python examples/01_restart_a_service.py
"""

import os
import signal
import tempfile
from pathlib import Path

import trio

from colony_core.testing import open_test_house, spawn_ready, wait_for

EXAMPLE = Path(__file__).resolve().parent / "hello-colony"


async def main() -> None:
    """Everything is gone when the block ends: services, namespace, folders."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_test_house(Path(folder)) as house:
            colony = await spawn_ready(house, "hello", EXAMPLE)
            web = colony.services[0]
            print(f"{web.name} runs as process {web.pid}; killing it")
            os.kill(web.pid or 0, signal.SIGKILL)
            back = await wait_for(
                house, "hello", lambda c: c.services[0].state == "ready" and c.services[0].pid != web.pid
            )
            again = back.services[0]
            print(f"{again.name} is back as process {again.pid} after {again.restarts} restart: {again.last_exit}")


if __name__ == "__main__":
    trio.run(main)
