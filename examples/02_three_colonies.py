"""Three colonies of one example serve on the same port, and each answers for itself.

python examples/02_three_colonies.py
"""

import tempfile
from pathlib import Path

import trio

from colony_core import Mycelium
from colony_core.testing import open_test_house, spawn_ready
from colony_core.views import ExecRequest

EXAMPLE = Path(__file__).resolve().parent / "hello-colony"
NAMES = ("alpha", "beta", "gamma")
ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:4002/').read().decode())"


async def main() -> None:
    """Spawns all three at once, then asks each from inside, where its port 4002 is its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_test_house(Path(folder)) as house:
            async with trio.open_nursery() as nursery:
                for name in NAMES:
                    nursery.start_soon(spawn_ready, house, name, EXAMPLE)
            for name in NAMES:
                print(f"{name}: {await said_by(house, name)}")


async def said_by(house: Mycelium, name: str) -> str:
    """What the API of a colony answers on port 4002, asked in the colony's own cell."""
    async with house.exec(name, ExecRequest(command=("python3", "-c", ASK))) as running:
        await running.stdin.aclose()
        answer = b""
        async for part in running.stdout:
            answer += part
        return answer.decode().strip()


if __name__ == "__main__":
    trio.run(main)
