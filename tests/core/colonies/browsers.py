"""A real browser, driven over its DevTools protocol."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio_websocket

PATIENCE_SECONDS = 300.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """A page of a browser."""

    def __init__(self, line: trio_websocket.WebSocketConnection) -> None:
        self._line = line
        self._number = 0
        self._session: dict[str, str] = {}

    async def open(self) -> None:
        target = await self._ask("Target.createTarget", url="about:blank")
        session = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": session["sessionId"]}

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters, **self._session}
        await self._line.send_message(json.dumps(question))
        while True:
            said = json.loads(await self._line.get_message())
            if said.get("id") == self._number:
                return dict(said.get("result", {}))  # an error: the page is just being left

    async def goto(self, url: str) -> None:
        await self._ask("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited, as if its user had just clicked; None where the page is just being left."""
        how = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = await self._ask("Runtime.evaluate", expression=script, **how)
        return found.get("result", {}).get("value")

    async def until(self, script: str) -> None:
        """Returns when the expression is true."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while not await self.run(script):
                await trio.sleep(0.05)
            return
        raise AssertionError(f"never so: {script}; the page: {await self.run('document.documentElement.outerHTML')}")


@asynccontextmanager
async def open_page(folder: Path) -> AsyncIterator[Page]:
    """A browser with an empty profile in `folder`; it ends with the block."""
    command = ["chromium", *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    async with trio.open_nursery() as nursery:
        with (folder / "log").open("wb") as log:
            nursery.start_soon(_run, command, log)
            with trio.fail_after(PATIENCE_SECONDS):
                address = await _address(folder / "DevToolsActivePort")
            async with trio_websocket.open_websocket_url(address, max_message_size=2**24) as line:
                page = Page(line)
                await page.open()
                yield page
            nursery.cancel_scope.cancel()


async def _run(command: list[str], log: Any) -> None:
    await trio.run_process(command, stdout=log, stderr=log, check=False)


async def _address(told: Path) -> str:
    while not (told.exists() and len(told.read_text().split()) == 2):
        await trio.sleep(0.02)
    port, path = told.read_text().split()
    return f"ws://127.0.0.1:{port}{path}"
