"""Server-sent events from bytes, however they are cut. Pure."""

from collections.abc import Iterator

import attrs

from colony_core.errors import LimitReached

MAX_EVENT_BYTES = 4 * 2**20


@attrs.frozen(kw_only=True)
class SseEvent:
    """One event: `id` is where to go on after it, `event` its kind, `data` its text (lines joined)."""

    id: str = ""
    event: str = "message"
    data: str = ""


class SseParser:
    """Takes bytes as they come and yields whole events; remembers the last id and the wait the server asked for."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_seconds: float | None = None
        self._rest = b""
        self._begun = False
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[SseEvent]:
        """The events that `data` completes. Raises LimitReached (`event-too-large`) where one never ends."""
        text = self._rest + data
        # A CR at the end may be half of a CRLF, so its line waits for the next byte.
        held = text[-1:] == b"\r"
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held else b"")
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise LimitReached("event-too-large", f"an event is larger than {MAX_EVENT_BYTES} bytes")
        for line in lines:
            event = self._line(line)
            if event:
                yield event

    def _line(self, raw: bytes) -> SseEvent | None:
        if not self._begun:
            self._begun = True
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw:
            return self._dispatch()
        field, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._size += len(raw)
            if self._size > MAX_EVENT_BYTES:
                raise LimitReached("event-too-large", f"an event is larger than {MAX_EVENT_BYTES} bytes")
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self.last_id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_seconds = min(int(value[:9]) / 1000, 60.0)
        return None

    def _dispatch(self) -> SseEvent | None:
        lines, kind = self._data, self._event or "message"
        self._data, self._event, self._size = [], "", 0
        return SseEvent(id=self.last_id, event=kind, data="\n".join(lines)) if lines else None
