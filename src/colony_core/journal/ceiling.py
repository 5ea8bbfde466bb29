"""A number on disk that can be raised when the disk is full: its file is as large as it will ever be, and is written over in place."""

import os
from contextlib import suppress
from pathlib import Path

DIGITS = 20


class Ceiling:
    """Numbers up to this one may have been told although the store does not hold them; 0 where the store holds all. Blocks briefly.

    Where the file cannot be made or written, `raise_to` raises OSError: then nothing may be told that is not kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = _read(path)
        self.value = found or 0
        if found is None:
            with suppress(OSError):  # raise_to tries again, when it matters
                _write(path, 0)

    def raise_to(self, number: int) -> None:
        """Durable when it returns."""
        _write(self._path, number)
        self.value = number


def _read(path: Path) -> int | None:
    try:
        text = path.read_bytes()
    except OSError:
        return None
    return int(text) if len(text) == DIGITS and text.isdigit() else None


def _write(path: Path, number: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, b"%0*d" % (DIGITS, number), 0)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
