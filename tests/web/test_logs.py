"""What is logged is one line per message, whoever's words are in it, and holds no token."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.access import redacted
from colony_core.access.keys import mint
from colony_core.config import Log
from colony_web.logs import Asked, JsonFormatter, SafeFormatter, asked, speak

FORMATTER = SafeFormatter(logging.Formatter("%(levelname)s %(message)s"))
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=50)
HOSTILE = ANYTHING | st.sampled_from(
    ["x\n2026-01-01 ERROR y: z", '"} {"level": "info"', "a=b c", "\x1b[2J", "\x9b1m", "\u2028"]
)


def record(message: str, *args: object, crash: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    info = (type(crash), crash, None) if crash else None
    made = logging.LogRecord("colony", logging.ERROR, "x.py", 1, message, args, info)
    made.fields = fields
    return made


def formatted(message: str, *args: object, crash: BaseException | None = None, **fields: Any) -> str:
    return FORMATTER.format(record(message, *args, crash=crash, **fields))


def as_json(message: str, *args: object, crash: BaseException | None = None, **fields: Any) -> dict[str, Any]:
    line = JsonFormatter().format(record(message, *args, crash=crash, **fields))
    assert line.isprintable()
    assert line.isascii()
    document: dict[str, Any] = json.loads(line)
    return document


@pytest.fixture
def spoken() -> Iterator[None]:
    """What a test did to the program's log is undone."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@given(ANYTHING, ANYTHING)
def test_a_message_is_one_line_and_a_token_in_it_is_not_told(before: str, after: str) -> None:
    token, parsed = mint()
    said = formatted("%s", f"{before} {token} {after}")
    assert parsed.secret not in said
    assert not any(ord(letter) < 32 and letter != "\t" for letter in said)


def test_a_traceback_stays_readable_and_tells_no_token() -> None:
    token, parsed = mint()
    said = formatted("broke", crash=ValueError(f"bad {token}"))
    assert said.startswith("ERROR broke\n  | ValueError: bad cut_1_")
    assert parsed.secret not in said
    document = as_json("broke", crash=ValueError(f"bad {token}"))
    assert document["error"].startswith("ValueError: bad cut_1_")
    assert parsed.secret not in json.dumps(document)


@given(HOSTILE)
def test_a_crash_begins_no_line_of_its_own_in_text(words: str) -> None:
    first, *below = formatted("broke", crash=ValueError(words)).split("\n")
    assert first == "ERROR broke"
    assert all(line.startswith("  | ") for line in below)
    assert not re.search("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029]", "".join(below))


@given(HOSTILE, HOSTILE)
def test_what_somebody_said_is_a_value_and_nothing_else(message: str, value: str) -> None:
    document = as_json("%s", message, level=value, name=value)
    assert (document["message"], document["name"], document["level"]) == (redacted(message), redacted(value), "error")
    said = formatted("said", name=value, other=1)
    found = re.fullmatch(r"ERROR said name=(\"(?:[^\"\\]|\\.)*\"|[^ \"=]+) other=1", said)
    assert found
    assert (json.loads(found[1]) if found[1].startswith('"') else found[1]) == redacted(value)


def test_a_line_bears_the_name_of_its_request_until_that_is_over() -> None:
    request = Asked("req_7")
    token = asked.set(request)
    assert as_json("x")["request_id"] == "req_7"
    assert formatted("x") == "ERROR x request_id=req_7"
    request.over()
    assert "request_id" not in as_json("x")
    asked.reset(token)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "chosen", "json_lines"),
    [
        (io.StringIO, "auto", True), (Terminal, "auto", False), (io.StringIO, "text", False), (Terminal, "json", True),
    ],
)  # fmt: skip
def test_lines_are_json_where_nobody_looks_or_where_it_is_wanted(
    spoken: None, stream: type[io.StringIO], chosen: Any, json_lines: bool
) -> None:
    out = stream()
    speak(Log(format=chosen, level="info"), out)
    logging.getLogger("colony.x").info("told")
    logging.getLogger("colony.x").debug("not told")
    logging.getLogger("alembic.runtime.plugins").info("not told, being of no use to anybody")
    speak(Log(format=chosen, level="error"), out)
    logging.getLogger("colony.x").warning("not told any more")
    (line,) = out.getvalue().splitlines()
    assert line.startswith("{") is json_lines
    assert "told" in line


@pytest.mark.parametrize("text", ["", "plain", "cut_1_", "cut_2_abc"])
def test_what_is_no_token_is_told_as_it_is(text: str) -> None:
    assert redacted(text).rstrip("…") == text
