"""A JSON API that keeps notes in memory.

GET /notes    POST /notes {"text": "..."}    GET, PUT, DELETE /notes/1    GET /health
"""
# ruff: noqa: N802 - these names are the base class's

import json
import os
import re
import threading
from typing import Any

from serving import COLONY, Handler, Server

MOST_BYTES = 65_536
MOST_NOTES = 1000


class Refused(Exception):
    """The request cannot be served; holds status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Api(Handler):
    """Reads the request, does what it says to the notes, answers with JSON."""

    notes: dict[int, dict[str, Any]] = {1: {"id": 1, "text": f"This note lives in {COLONY}."}}  # noqa: RUF012 - shared on purpose
    next_id = 2
    lock = threading.Lock()

    def do_GET(self) -> None:
        """One note, all of them, or the health."""
        self.handled(self.get)

    def do_POST(self) -> None:
        """A new note."""
        self.handled(self.post)

    def do_PUT(self) -> None:
        """Another text for a note."""
        self.handled(self.put)

    def do_DELETE(self) -> None:
        """One note less."""
        self.handled(self.delete)

    def handled(self, verb: Any) -> None:
        """Runs `verb` with the body of the request and turns what is refused into an answer."""
        try:
            verb(self.body())
        except Refused as error:
            self.answer_json(error.status, {"error": error.reason})

    def get(self, _: bytes) -> None:
        """One note, all of them, or the health."""
        path = self.path.partition("?")[0]
        if path == "/health":
            self.health()
        elif path in ("/", "/notes"):
            with self.lock:
                found = list(self.notes.values())
            self.answer_json(200, {"colony": COLONY, "pid": os.getpid(), "notes": found})
        else:
            self.answer_json(200, self.note())

    def post(self, body: bytes) -> None:
        """A new note."""
        if self.path != "/notes":
            raise Refused(404, "notes are made at /notes")
        text = text_of(body)
        with self.lock:
            if len(self.notes) >= MOST_NOTES:
                raise Refused(507, "there is no room for more notes")
            note = {"id": Api.next_id, "text": text}
            self.notes[Api.next_id] = note
            Api.next_id += 1
        self.answer_json(201, note)

    def put(self, body: bytes) -> None:
        """Another text for a note."""
        changed = self.note() | {"text": text_of(body)}
        with self.lock:
            self.notes[changed["id"]] = changed
        self.answer_json(200, changed)

    def delete(self, _: bytes) -> None:
        """One note less."""
        gone = self.note()
        with self.lock:
            self.notes.pop(gone["id"], None)
        self.answer_json(200, gone)

    def note(self) -> dict[str, Any]:
        """The note that the path names."""
        found = re.fullmatch(r"/notes/(\d{1,9})", self.path.partition("?")[0])
        with self.lock:
            note = self.notes.get(int(found[1])) if found else None
        if note is None:
            raise Refused(404, f"there is no {self.path}")
        return note

    def body(self) -> bytes:
        """The body of the request, which must say how long it is."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,9}", length):
            self.close_connection = True
            raise Refused(411, "give a Content-Length")
        if int(length) > MOST_BYTES:
            self.close_connection = True
            raise Refused(413, f"more than {MOST_BYTES} bytes")
        return self.rfile.read(int(length))


def text_of(body: bytes) -> str:
    """The text in `{"text": "..."}`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise Refused(422, 'expected {"text": "..."}')
    return str(value["text"])


if __name__ == "__main__":
    Server(int(os.environ.get("PORT", "4002")), Api).serve()
