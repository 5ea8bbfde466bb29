"""Colony inside your own Quart-Trio program: your pages at /, Colony's API below /colony.

python examples/03_in_your_quart_app.py            # then: curl http://127.0.0.1:5000/ and /colony/api/colonies
"""

import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from colony_core import Mycelium
from colony_core.testing import open_test_house, spawn_ready
from colony_web import mount

EXAMPLE = Path(__file__).resolve().parent / "hello-colony"


def make_app(house: Mycelium) -> QuartTrio:
    """Your app: one page of yours, and Colony's API beside it."""
    app = QuartTrio(__name__)

    @app.get("/")
    async def index() -> str:
        return "\n".join(f"{colony.name} is {colony.state}" for colony in house.colonies()) + "\n"

    mount(app, house, prefix="/colony")
    return app


async def main(port: int) -> None:
    """Serves until Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_test_house(Path(folder)) as house:
            await spawn_ready(house, "hello", EXAMPLE)
            config = Config()
            config.bind = [f"127.0.0.1:{port}"]
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    binds = await nursery.start(partial(hypercorn.trio.serve, make_app(house), config))
                    token = (await house.keys.mint("example", "viewer")).token
                    print(f"serving on {binds[0]}\ntoken {token}", flush=True)
                    await anext(signals)
                    nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
