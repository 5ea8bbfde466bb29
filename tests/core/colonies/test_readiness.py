"""When a service is ready."""

import re

from hypothesis import given
from hypothesis import strategies as st

from colony_core.colonies.readiness import line_says

texts = st.text(alphabet="ab*", max_size=12)


@given(texts, texts)
def test_a_star_stands_for_anything(line: str, pattern: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert line_says(line, pattern) == bool(re.search(expression, line))


def test_no_pattern_takes_long() -> None:
    assert not line_says("a" * 65536, "*".join("a" * 200) + "*b")
