"""Lays out tables: upper-case headers, no lines, cut to a width; or fields between tabs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

GAP = "  "
NARROWEST = 6
"""No column is cut below this many characters; beyond that the line is."""


class Column(NamedTuple):
    """A column: its header, whether it is a number (right aligned), and whether it is kept whole when room is short."""

    header: str
    right: bool = False
    whole: bool = False


class Cell(NamedTuple):
    """A text and how to colour it, once it has its final length."""

    text: str
    paint: Callable[[str], str] | None = None


def width_of(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int, *, ellipsis: str = "…") -> str:
    """`text`, at most `width` columns wide; what was cut is marked."""
    if width_of(text) <= width:
        return text
    room = max(0, width - len(ellipsis))
    while width_of(text) > room:
        text = text[: min(len(text) - 1, room)] if text.isascii() else text[:-1]
    return (text.rstrip() + ellipsis)[: max(width, 0)]


def tabbed(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A header and one line per row, fields between tabs, uncut."""
    return ["\t".join(c.header for c in columns), *("\t".join(cell.text for cell in row) for row in rows)]


def aligned(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, width: int | None, ellipsis: str = "…"
) -> list[str]:
    """A header and one line per row in columns; at most `width` wide, or as wide as it is (None)."""
    needed = [max([len(c.header), *(width_of(row[i].text) for row in rows)]) for i, c in enumerate(columns)]
    sizes = needed if width is None else _fitted(needed, columns, width)
    lines = []
    for row in ([Cell(c.header) for c in columns], *rows):
        parts, left = [], width
        for i, (column, cell) in enumerate(zip(columns, row, strict=True)):
            last = i == len(columns) - 1
            size = sizes[i] if left is None else min(sizes[i], left)
            text = cut(cell.text, size, ellipsis=ellipsis)
            pad = " " * (size - width_of(text))
            shown = cell.paint(text) if cell.paint and text else text
            parts.append(pad + shown if column.right else shown if last else shown + pad)
            if left is not None:
                left -= size + len(GAP)
                if left <= 0:
                    break
        lines.append(GAP.join(parts).rstrip())
    return lines


def _fitted(needed: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """Takes room from the widest columns that may be cut, evenly, until the line fits or nothing is left to take."""
    sizes = list(needed)
    excess = sum(sizes) + len(GAP) * (len(sizes) - 1) - width
    while excess > 0:
        soft = [i for i, c in enumerate(columns) if not c.whole and sizes[i] > max(NARROWEST, len(c.header))]
        if not soft:
            break
        widest = max(soft, key=lambda i: sizes[i])
        sizes[widest] -= 1
        excess -= 1
    return sizes
