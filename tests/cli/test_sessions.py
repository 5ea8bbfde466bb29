"""What an agent does, as the command prints it."""

import io
from typing import Any

import pytest

from colony_cli.commands.sessions import show_line
from colony_cli.output import Output


def printed(kind: str, content: str, **data: Any) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    output = Output(out, io.StringIO(), {})
    show_line(output, {"seq": 1, "kind": kind, "content": content, "data": data})
    output.flush()
    out.seek(0)
    return out.read()


@pytest.mark.parametrize(("verdict", "mark"), [("verified", "✓"), ("with-gaps", "~"), ("not-verified", "✗")])
def test_only_verified_work_has_a_tick(verdict: str, mark: str) -> None:
    assert printed("receipt", f"{verdict}: because", verdict=verdict) == f"{mark} {verdict}: because\n"


def test_of_a_result_the_beginning_is_shown_and_of_a_text_everything() -> None:
    assert printed("tool_result", "Bash: 1\n2\n3\n4\n5").splitlines()[-2:] == ["  3", "  … 2 lines more"]
    assert printed("text", "1\n2\x1b[31m\n3\n4") == "  1\n  2^[[31m\n  3\n  4\n"


def test_a_line_of_a_kind_that_a_newer_daemon_tells_is_printed_all_the_same() -> None:
    assert printed("weather", "sunny") == "  sunny\n"
