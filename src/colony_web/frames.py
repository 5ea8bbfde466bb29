"""Events as bytes for their readers, made once for all who are at the same place and want the same.

Nobody has a queue: a reader holds its place, a number, and takes all that is behind it at once, up to a page, when it has written what it
took before. What waits for a slow one is the journal's memory, then the store's, then a hole that it is told of.
"""

from collections.abc import Callable

from colony_core.journal import Entry, Selection

from .house import House

PAGE_ENTRIES = 500
SHARED_PAGES = 64
_TEXT = 0x81
"""A whole text message in one frame (RFC 6455, 5.2)."""


def websocket_frame(text: str) -> bytes:
    """One text message as a server sends it: in one frame, without a mask."""
    data = text.encode()
    length = len(data)
    if length < 126:
        return bytes((_TEXT, length)) + data
    if length < 2**16:
        return bytes((_TEXT, 126)) + length.to_bytes(2, "big") + data
    return bytes((_TEXT, 127)) + length.to_bytes(8, "big") + data


class SharedPages:
    """Pages of the journal as bytes. Those of this moment are kept, since everybody who waited for it asks for the same."""

    def __init__(self, house: House, write: Callable[[Entry], bytes]) -> None:
        self._house = house
        self._write = write
        self._pages: dict[tuple[int, Selection], tuple[bytes, int]] = {}
        self._moment = -1

    async def behind(self, after: int, selection: Selection) -> tuple[bytes, int]:
        """The wanted entries behind `after`, and the number up to which was looked. Waits until there is one."""
        data = b""
        while not data:
            await self._house.journal.beyond(after)
            data, after = await self._page(after, selection)
        return data, after

    async def _page(self, after: int, selection: Selection) -> tuple[bytes, int]:
        journal = self._house.journal
        if self._moment != journal.last:
            self._moment = journal.last
            self._pages.clear()
        found = self._pages.get((after, selection))
        if found is None:
            moment = self._moment
            entries, upto = await journal.page(after, limit=PAGE_ENTRIES, selection=selection)
            found = b"".join(map(self._write, entries)), upto
            if moment == self._moment and len(self._pages) < SHARED_PAGES:
                self._pages[after, selection] = found
        return found
