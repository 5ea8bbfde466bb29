"""How processes ended, kept on disk until the daemon has said that it knows.

No fsync: only a power cut could lose a record, and a power cut ends the daemon's bookkeeping of running processes as well.
"""

import json
import os
from contextlib import suppress
from typing import Any


class Exits:
    """Unacknowledged ends by key, each also in `<directory>/<key>.json`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.known: dict[str, dict[str, Any]] = {}
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if not name.endswith(".json"):
                os.unlink(path)
                continue
            try:
                with open(path, "rb") as file:
                    record = json.load(file)
                self.known[record["key"]] = record
            except (ValueError, KeyError, TypeError):
                os.unlink(path)

    def add(self, record: dict[str, Any]) -> None:
        """Keeps a record; on a full disk in memory only."""
        self.known[record["key"]] = record
        path = self._path(record["key"])
        try:
            with open(path + ".new", "w", encoding="ascii") as file:
                json.dump(record, file)
            os.replace(path + ".new", path)
        except OSError:
            return

    def forget(self, key: str) -> bool:
        """Drops a record; False when there is none."""
        if self.known.pop(key, None) is None:
            return False
        with suppress(FileNotFoundError):
            os.unlink(self._path(key))
        return True

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, f"{key}.json")
