"""Words for people: states, times, durations, sizes, and text that cannot take over a terminal."""

import re
from typing import NamedTuple

_SGR = re.compile(r"(\x1b\[[0-9;:]*m)")
_HIDDEN = dict.fromkeys((0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
_VISIBLE = {
    **{code: f"^{chr(code ^ 0x40)}" for code in (*range(0x20), 0x7F) if code != 0x09},
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    **{code: f"\\u{code:04x}" for code in _HIDDEN},
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class Shape(NamedTuple):
    """How a state is drawn: the shape, its ASCII form, its colour."""

    mark: str
    ascii: str
    colour: str


_GOOD = Shape("●", "*", "green")
_ON_THE_WAY = Shape("◐", "~", "blue")
_WAITING = Shape("◌", ".", "grey")
_DONE = Shape("✓", "+", "green")
_OFF = Shape("○", "o", "grey")
_BAD = Shape("✗", "x", "red")
_CARE = Shape("!", "!", "amber")
_SHAPES = {
    **dict.fromkeys(("running", "ready", "healthy", "connected"), _GOOD),
    **dict.fromkeys(("spawning", "provisioning", "building", "starting", "restarting", "stopping"), _ON_THE_WAY),
    "working": Shape("▶", ">", "green"),
    "asks you": Shape("?", "?", "amber"),
    **dict.fromkeys(("waiting", "pending", "disconnected"), _WAITING),
    **dict.fromkeys(("finished", "done", "ok"), _DONE),
    **dict.fromkeys(("failed", "broken"), _BAD),
    **dict.fromkeys(("warn",), _CARE),
}


def shape_of(state: str) -> Shape:
    """The shape of a state; unknown states look like stopped ones."""
    return _SHAPES.get(state, _OFF)


def clean(text: object) -> str:
    """`text` on one line, with every control, C1 and direction character made visible, so that it cannot steer a terminal."""
    return str(text).replace("\t", " ").translate(_VISIBLE)


def clean_log(text: str, *, colour: bool) -> str:
    """A log line that cannot steer a terminal: only tabs and, with `colour`, colours pass; those end with the line."""
    text = text.removesuffix("\r")
    if "\x1b" not in text:
        return text.translate(_VISIBLE)
    parts = _SGR.split(text)
    if not colour:
        return "".join(part.translate(_VISIBLE) for part in parts[::2])
    shown = "".join(part if i % 2 else part.translate(_VISIBLE) for i, part in enumerate(parts))
    return shown + "\x1b[0m" if len(parts) > 1 else shown


def duration(seconds: float) -> str:
    """A measured time, short: `0.4 ms`, `78 ms`, `1.9 s`, `4m 12s`."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest}s" if minutes < 60 else age(seconds)


def age(seconds: float) -> str:
    """How long something has been, in one number: `3s`, `12m`, `5h`, `9d`."""
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def size(count: float) -> str:
    """An amount of bytes, short: `0 B`, `512 B`, `1.5 KiB`, `12 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 colony`, `3 colonies`."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"
