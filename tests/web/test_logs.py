"""What is logged is one line per message and holds no token."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.access import redacted
from colony_core.access.keys import mint
from colony_web.logs import SafeFormatter

FORMATTER = SafeFormatter(logging.Formatter("%(levelname)s %(message)s"))


def formatted(message: str, *args: object, crash: BaseException | None = None) -> str:
    info = (type(crash), crash, None) if crash else None
    return FORMATTER.format(logging.LogRecord("colony", logging.ERROR, "x.py", 1, message, args, info))


@given(st.text(st.characters(codec="utf-8"), max_size=50), st.text(st.characters(codec="utf-8"), max_size=50))
def test_a_message_is_one_line_and_a_token_in_it_is_not_told(before: str, after: str) -> None:
    token, parsed = mint()
    said = formatted("%s", f"{before} {token} {after}")
    assert parsed.secret not in said
    assert not any(ord(letter) < 32 and letter != "\t" for letter in said)


def test_a_traceback_stays_readable_and_tells_no_token() -> None:
    token, parsed = mint()
    said = formatted("broke", crash=ValueError(f"bad {token}"))
    assert said.startswith("ERROR broke\nValueError: bad cut_1_")
    assert parsed.secret not in said


@pytest.mark.parametrize("text", ["", "plain", "cut_1_", "cut_2_abc"])
def test_what_is_no_token_is_told_as_it_is(text: str) -> None:
    assert redacted(text).rstrip("…") == text
