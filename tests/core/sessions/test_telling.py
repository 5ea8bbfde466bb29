"""What agents do, in the words that the outside reads."""

import gc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends import Ended, Notice, Text, ToolResult, ToolUse, Usage
from colony_core.sessions.telling import bounded, event_type, line_of, tool_summary, usage_line


def test_a_tool_use_is_told_with_what_says_most_of_its_input() -> None:
    assert tool_summary("Read", {"limit": 3, "file_path": "/src/auth.ts"}) == "Read: /src/auth.ts"
    assert tool_summary("Bash", {"description": "tests", "command": "npm\n test"}) == "Bash: npm test"
    assert tool_summary("Other", {"depth": 3, "word": "x"}) == "Other: x"
    assert tool_summary("TodoRead", {}) == "TodoRead"


def test_questions_to_a_person_are_told_with_what_there_is_to_choose() -> None:
    options = [{"label": "red", "description": "r"}, {"label": "blue"}, {"label": 7}, "odd"]
    asked = [{"question": "Which colour?", "options": options}, {"question": "And why?"}, {"header": "x"}, "odd"]
    told = "AskUserQuestion: Which colour? (red | blue); And why?"
    assert tool_summary("AskUserQuestion", {"questions": asked}) == told
    assert tool_summary("AskUserQuestion", {"questions": "odd"}) == "AskUserQuestion: odd"
    assert tool_summary("AskUserQuestion", {"questions": [{}]}) == "AskUserQuestion"


def test_a_result_is_told_with_the_name_of_its_tool() -> None:
    tools: dict[str, str] = {}
    line_of(ToolUse(id="t1", name="Read", input={"file_path": "/a"}), tools)
    line = line_of(ToolResult(id="t1", text="export function", ok=True), tools)
    assert line is not None
    assert (line.kind, line.content, line.data) == ("tool_result", "Read: export function", {"id": "t1", "ok": True})


def test_the_ends_are_told_in_the_words_of_the_seeds() -> None:
    words = [line_of(Ended(outcome=outcome), {}) for outcome in ("done", "failed", "stopped")]
    assert [line and line.content for line in words] == ["completed", "failed", "interrupted"]


def test_a_text_is_a_text_delta_outside_and_a_very_long_one_is_cut() -> None:
    line = line_of(Text(text="x" * 200_000), {})
    assert line is not None
    assert line.content.endswith("…")
    assert len(line.content) == 65_536
    assert event_type("text") == "text_delta"
    assert event_type("tool_use") == "tool_use"


def test_what_is_no_line_of_its_own_gives_none() -> None:
    assert line_of(Usage(), {}) is None
    assert line_of(Text(text=""), {}) is None


def test_money_is_told_with_turns_and_tokens() -> None:
    assert usage_line(0.125, 1, 12_345).content == "$0.12, 1 turn, 12,345 tokens"
    assert line_of(Notice(text="again in 3 s", code="retry"), {}) is not None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=300),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
        max_leaves=40,
    ),
    st.integers(1, 500),
)
def test_however_large_an_input_is_what_is_told_of_it_is_bounded(value: Any, most: int) -> None:
    def texts(each: Any) -> int:
        if isinstance(each, str):
            return len(each)
        if isinstance(each, dict):
            return sum(texts(inner) for inner in each.values())
        return sum(texts(inner) for inner in each) if isinstance(each, list) else 0

    told = bounded(value, most)
    pieces = repr(value).count("'") + 200  # one mark for each text that was left out
    assert texts(told) <= most + pieces
    if texts(value) + 100 < most:
        assert isinstance(told, type(value))


def test_a_small_input_is_told_as_it_is() -> None:
    value = {"edits": [{"old": "a", "new": "b"}], "all": True, "n": 3}
    assert bounded(value, 1000) == value
    assert bounded({"edits": [{"old": "x" * 5000}]}, 100)["edits"][0]["old"].endswith("…")


def test_what_is_cut_leaves_nothing_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        bounded({"list": ["x" * 99, {"more": 1}]}, 10)
        gc.collect()
        left = [each for each in gc.garbage if getattr(each, "__module__", "") == bounded.__module__]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == [], "what other threads leave is not ours"
