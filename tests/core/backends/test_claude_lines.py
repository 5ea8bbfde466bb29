"""What the lines of Claude Code mean, one by one and in whole conversations, and that no line at all is its undoing."""

import json
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    LimitReached,
    Notice,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from colony_core.backends.claude_lines import ClaudeDialogue
from colony_core.backends.deeds import Death, Deed, Hush, Say, Signal
from colony_core.backends.lines import Skipped
from colony_core.errors import NotFound

NOW = 1_000_000.0
INIT = {"type": "system", "subtype": "init", "session_id": "s1", "model": "m", "claude_code_version": "9"}
ASK = {
    "type": "control_request",
    "request_id": "q1",
    "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}, "tool_use_id": "t1"},
}
DONE = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "All done.",
    "total_cost_usd": 0.25,
    "num_turns": 2,
}


def dialogue(may: Any = lambda tool: None) -> ClaudeDialogue:
    return ClaudeDialogue("do it", may=may, now=lambda: NOW)


def said(deeds: Any) -> list[dict[str, Any]]:
    """The lines that shall be written."""
    return [json.loads(deed.data) for deed in deeds if isinstance(deed, Say)]


def hear(*lines: dict[str, Any] | Skipped, talk: ClaudeDialogue | None = None) -> list[Deed]:
    talk = talk or dialogue()
    return [deed for line in lines for deed in talk.hear(line)]


def streamed(event: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent}


def assistant(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": "m1", "content": list(blocks)}, "parent_tool_use_id": None, **more}


def tool_result(content: Any, **more: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": "t1", "content": content, **more}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "parent_tool_use_id": None}


def failure(subtype: str = "success", **more: Any) -> dict[str, Any]:
    return {"type": "result", "subtype": subtype, "is_error": True, "total_cost_usd": 0.0, **more}


def end_of(deeds: list[Deed]) -> Ended:
    end = deeds[-1]
    assert isinstance(end, Ended)
    return end


def test_it_introduces_itself_and_gives_the_instruction() -> None:
    first, second = said(dialogue().open())
    assert first["request"]["subtype"] == "initialize"
    assert second == {"type": "user", "message": {"role": "user", "content": "do it"}}


def test_a_conversation_from_start_to_end() -> None:
    assert hear(
        {"type": "control_response", "response": {"subtype": "success", "request_id": "colony-1", "response": {}}},
        INIT,
        streamed({"type": "message_start", "message": {}}),
        streamed({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "I l"}}),
        assistant({"type": "thinking", "thinking": "hm", "signature": "x"}),
        assistant({"type": "text", "text": "I look."}),
        assistant({"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}),
        streamed({"type": "message_delta", "usage": {"input_tokens": 10, "output_tokens": 5}}),
        tool_result("a.txt", is_error=False),
        streamed({"type": "message_start", "message": {}}),
        streamed({"type": "message_delta", "usage": {"input_tokens": 20, "cache_read_input_tokens": 3}}),
        DONE,
    ) == [
        Started(session="s1", model="m", version="9"),
        TextDelta(text="I l"),
        Thinking(text="hm"),
        Text(text="I look."),
        ToolUse(id="t1", name="Bash", input={"command": "ls"}, kind="execute"),
        Usage(input_tokens=10, output_tokens=5, turns=1),
        ToolResult(id="t1", text="a.txt", ok=True),
        Usage(input_tokens=30, output_tokens=5, cache_read_tokens=3, turns=2),
        Usage(cost_usd=0.25, input_tokens=30, output_tokens=5, cache_read_tokens=3, turns=2),
        Hush(),
        Ended(outcome="done", text="All done.", evidence=("claude told its result: success",)),
    ]


def test_the_result_corrects_what_was_counted_upwards_and_never_downwards() -> None:
    models = {"a": {"inputTokens": 100, "outputTokens": 1}, "b": {"inputTokens": 11, "cacheCreationInputTokens": 7}}
    counted = streamed({"type": "message_delta", "usage": {"output_tokens": 50}})
    deeds = hear(INIT, counted, {**DONE, "modelUsage": models, "usage": {"input_tokens": 3}})
    used = [deed for deed in deeds if isinstance(deed, Usage)][-1]
    assert used == Usage(cost_usd=0.25, input_tokens=111, output_tokens=50, cache_write_tokens=7, turns=2)


def test_what_a_sub_agent_does_bears_the_id_of_its_tool_use() -> None:
    assert hear(
        streamed({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "aside"}}, parent="t0"),
        assistant({"type": "text", "text": "aside"}, parent_tool_use_id="t0"),
    ) == [Text(text="aside", parent="t0")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "image", "source": {}}], "[image]"),
        (None, ""),
    ],
)
def test_the_text_of_a_result_is_found_in_each_of_its_forms(content: Any, text: str) -> None:
    assert hear(tool_result(content)) == [ToolResult(id="t1", text=text, ok=True)]


def test_a_question_is_asked_answered_once_and_forgotten() -> None:
    talk = dialogue()
    [asked] = hear(ASK, talk=talk)
    assert asked == ApprovalAsked(id="q1", tool="Bash", input={"command": "ls"}, kind="execute", tool_use="t1")
    [answer] = said(talk.answer("q1", allow=True, message=""))
    assert answer["response"]["response"] == {"behavior": "allow", "updatedInput": {"command": "ls"}}
    with pytest.raises(NotFound):
        talk.answer("q1", allow=True, message="")


def test_an_edit_beyond_the_workspace_is_no_mere_edit_and_says_why_it_is_asked() -> None:
    request = {
        "subtype": "can_use_tool",
        "tool_name": "Write",
        "input": {"file_path": "/etc/x"},
        "description": "/etc/x",
    }
    [asked] = hear({**ASK, "request": request})
    assert isinstance(asked, ApprovalAsked)
    assert (asked.kind, asked.title, asked.reason) == ("edit", "/etc/x", "")
    [asked] = hear({**ASK, "request": {**request, "decision_reason": "Path is outside"}})
    assert isinstance(asked, ApprovalAsked)
    assert (asked.kind, asked.title, asked.reason) == ("other", "/etc/x", "Path is outside")


def test_input_that_is_nested_so_deeply_that_nobody_could_hand_it_on_is_left_out_and_not_allowed() -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    [use] = hear(assistant({"type": "tool_use", "id": "t1", "name": "X", "input": deep}))
    assert use == ToolUse(id="t1", name="X", input={})
    [answer] = said(hear({**ASK, "request": {**ASK["request"], "input": deep}}, talk=dialogue(may=lambda tool: True)))  # type: ignore[dict-item]
    assert answer["response"]["response"]["behavior"] == "deny"


def test_a_denial_has_a_reason_in_any_case() -> None:
    for message, reason in (("too early", "too early"), ("", "the user does not want this")):
        talk = dialogue()
        hear(ASK, talk=talk)
        [answer] = said(talk.answer("q1", allow=False, message=message))
        assert answer["response"]["response"] == {"behavior": "deny", "message": reason}


@pytest.mark.parametrize(("verdict", "behavior"), [(True, "allow"), (False, "deny")])
def test_what_the_configuration_answers_is_not_asked(verdict: bool, behavior: str) -> None:
    deeds = hear(ASK, talk=dialogue(may=lambda tool: verdict))
    assert [line["response"]["response"]["behavior"] for line in said(deeds)] == [behavior]
    assert len(deeds) == 1


def test_the_answer_to_a_question_is_handed_on() -> None:
    talk = dialogue()
    given = {"questions": [{"question": "Which?"}]}
    hear({**ASK, "request": {**ASK["request"], "tool_name": "AskUserQuestion", "input": given}}, talk=talk)  # type: ignore[dict-item]
    [answer] = said(talk.answer("q1", allow=True, message="blue"))
    assert answer["response"]["response"]["updatedInput"] == {**given, "answers": {"Which?": "blue"}}


def test_questions_that_nobody_waits_for_are_void() -> None:
    talk = dialogue()
    void = {"type": "control_cancel_request", "request_id": "q1"}
    assert hear(ASK, void, void, talk=talk)[1:] == [ApprovalVoided(id="q1")]
    with pytest.raises(NotFound):
        talk.answer("q1", allow=True, message="")
    assert ApprovalVoided(id="q1") in hear(ASK, DONE)
    talk = dialogue()
    hear(ASK, talk=talk)
    assert talk.lose(Death(1))[0] == ApprovalVoided(id="q1")


def test_questions_at_the_same_time_are_told_apart() -> None:
    talk = dialogue()
    for key in ("q1", "q2", "q3"):
        hear({**ASK, "request_id": key, "request": {**ASK["request"], "input": {"command": key}}}, talk=talk)  # type: ignore[dict-item]
    [third] = said(talk.answer("q3", allow=True, message=""))
    assert hear({"type": "control_cancel_request", "request_id": "q2"}, talk=talk) == [ApprovalVoided(id="q2")]
    [first] = said(talk.answer("q1", allow=True, message=""))
    answered = [
        (line["response"]["request_id"], line["response"]["response"]["updatedInput"]) for line in (third, first)
    ]
    assert answered == [("q3", {"command": "q3"}), ("q1", {"command": "q1"})]


def test_requests_that_we_do_not_know_are_refused_not_left_open() -> None:
    [answer] = said(hear({"type": "control_request", "request_id": "x", "request": {"subtype": "hook_callback"}}))
    assert answer["response"] == {"subtype": "error", "request_id": "x", "error": "hook_callback is not supported here"}


def test_an_interrupt_waits_for_the_turn_to_begin() -> None:
    talk = dialogue()
    assert talk.interrupt() == []
    [line] = said(hear(INIT, talk=talk))
    assert line["request"] == {"subtype": "interrupt"}
    assert [line["request"] for line in said(talk.interrupt())] == [{"subtype": "interrupt"}]


def test_an_agent_that_does_not_even_begin_is_ended() -> None:
    talk = dialogue()
    assert [*talk.interrupt(), *talk.interrupt()] == [Signal(signal.SIGTERM)]


def test_an_end_after_our_interrupt_is_the_one_that_we_asked_for_unless_the_work_was_finished() -> None:
    for last, outcome in ((failure("error_during_execution"), "stopped"), (DONE, "done")):
        talk = dialogue()
        hear(INIT, talk=talk)
        talk.interrupt()
        assert end_of(hear(last, talk=talk)).outcome == outcome
    talk = dialogue()
    talk.interrupt()
    assert talk.lose(Death(0))[-1].outcome == "stopped"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (
            failure("error_max_turns", errors=["Reached maximum number of turns (1)"]),
            "max-turns",
            "Reached maximum number of turns (1)",
        ),
        (failure("error_max_budget_usd", errors=["a", "b"]), "budget", "a\nb"),
        (failure("error_during_execution"), "agent-error", "error_during_execution"),
        (failure("error_during_execution", errors=["No conversation found with session ID: x"]), "session-lost", ""),
        (failure(result="API Error: 400 bad", api_error_status=400), "api-error", "API Error: 400 bad"),
        (failure(result="rate-limit headers are wrong", api_error_status=400), "api-error", ""),
        (failure(result="API Error: 429", api_error_status=429), "limit", "API Error: 429"),
        (failure(result="Claude AI usage limit reached|1795283643"), "limit", ""),
        (failure(result="You've hit your weekly limit · resets 5pm", api_error_status=None), "limit", ""),
        (failure(result="Invalid API key · Please run /login"), "not-logged-in", ""),
        (failure(result="no", api_error_status=401), "not-logged-in", "no"),
        (failure(result="I cannot", stop_reason="refusal"), "refused", "I cannot"),
        ({"type": "result"}, "api-error", ""),
    ],
)
def test_is_error_decides_and_the_code_says_what_it_was(line: dict[str, Any], code: str, text: str) -> None:
    end = end_of(hear(INIT, line))
    assert (end.outcome, end.code) == ("failed", code)
    assert end.text == text or not text
    assert end.evidence


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("billing_error", "limit"),
        ("rate_limit", "limit"),
        ("authentication_failed", "not-logged-in"),
        ("unknown", "api-error"),
    ],
)
def test_the_word_for_what_the_api_refused_comes_before_any_guess(cause: str, code: str) -> None:
    refused = assistant({"type": "text", "text": "API Error"}, error=cause)
    refused["message"]["model"] = "<synthetic>"
    deeds = hear(refused, failure(result="Credit balance is too low", api_error_status=400))
    assert end_of(deeds).code == code
    assert not any(isinstance(deed, Text | Notice) for deed in deeds)


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("Claude AI usage limit reached|1795283643", 1795283643.0),
        ("Claude AI usage limit reached|1795283643000", 1795283643.0),
        ("You've hit your session limit", None),
    ],
)
def test_a_limit_that_only_the_end_tells_is_told_before_it(text: str, until: float | None) -> None:
    limits = [deed for deed in hear(failure(result=text)) if isinstance(deed, LimitReached)]
    assert limits == [LimitReached(text=text, until=until)]


def test_a_limit_is_told_once_as_soon_as_it_is_known() -> None:
    rejected = {"status": "rejected", "resetsAt": 1795283643, "rateLimitType": "five_hour", "isUsingOverage": False}
    deeds = hear(
        {"type": "rate_limit_event", "rate_limit_info": rejected}, failure(result="You've hit your session limit")
    )
    limit = LimitReached(text="the five hour limit of the account is reached", until=1795283643.0)
    assert [deed for deed in deeds if isinstance(deed, LimitReached)] == [limit]
    assert hear({"type": "rate_limit_event", "rate_limit_info": {**rejected, "isUsingOverage": True}}) == []


def test_a_limit_that_comes_near_is_worth_a_notice() -> None:
    info = {"status": "allowed_warning", "utilization": 0.9, "rateLimitType": "seven_day"}
    assert hear({"type": "rate_limit_event", "rate_limit_info": info}) == [
        Notice(text="90% of the account's seven day limit is used", code="limit-near")
    ]


def test_a_retry_is_a_notice_and_one_that_is_far_away_a_limit_as_well() -> None:
    retry = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "max_retries": 10,
        "error_status": 429,
        "error": "rate_limit",
    }
    [notice] = hear({**retry, "retry_delay_ms": 569.8})
    assert notice == Notice(text="the model's API answered 429 (rate limit): attempt 1 of 10 in 0.6 s", code="retry")
    _, limit = hear({**retry, "retry_delay_ms": 90_000})
    assert limit == LimitReached(text="the model's API answered 429 (rate limit)", until=NOW + 90)
    [refused] = hear({**retry, "error_status": None, "error": "unknown", "retry_delay_ms": 90_000})
    assert refused == Notice(
        text="the model's API cannot be reached (unknown): attempt 1 of 10 in 90.0 s", code="retry"
    )


def test_what_else_a_person_may_want_to_know() -> None:
    init = {**INIT, "mcp_servers": [{"name": "good", "status": "connected"}, {"name": "bad", "status": "failed"}]}
    refused = assistant({"type": "text", "text": "API Error: 400"}, error="invalid_request", parent_tool_use_id="t0")
    refused["message"]["model"] = "<synthetic>"
    deeds = hear(
        init,
        {"type": "system", "subtype": "compact_boundary"},
        refused,
        Skipped("too-long", "{"),
        Skipped("not-json", "Hi"),
    )
    assert [deed.code for deed in deeds if isinstance(deed, Notice)] == [
        "mcp-failed",
        "compacted",
        "api-error",
        "too-long",
    ]


@pytest.mark.parametrize(
    ("death", "text", "line"),
    [
        (Death(1, "bad flag\nusage: claude"), "usage: claude", "claude ended with code 1"),
        (Death(1, "error: it broke\n    at x.js:1\n\nBun v1"), "error: it broke", "it told no result"),
        (Death(0), "claude ended with code 0", "it told no result"),
        (Death(-9), "claude was killed by SIGKILL", "claude was killed by SIGKILL"),
        (Death(-99), "claude was killed by signal 99", "it told no result"),
        (
            Death(None, trouble="the keeper is lost"),
            "claude closed its output and could not be ended",
            "the keeper is lost",
        ),
    ],
)
def test_an_end_without_a_result_is_a_failure_whatever_the_exit_code(death: Death, text: str, line: str) -> None:
    [end] = dialogue().lose(death)
    assert isinstance(end, Ended)
    assert (end.outcome, end.code, end.text) == ("failed", "agent-died", text)
    assert line in end.evidence


WORDS = st.sampled_from([
    "type", "subtype", "system", "init", "assistant", "user", "result", "stream_event", "event", "control_request", "request_id", "q1",
    "control_cancel_request", "request", "can_use_tool", "tool_name", "input", "message", "content", "content_block_delta", "delta",
    "text", "tool_use", "tool_result", "id", "name", "rate_limit_event", "rate_limit_info", "status", "rejected", "resetsAt", "usage",
    "modelUsage", "total_cost_usd", "is_error", "errors", "permission_denials", "api_retry", "retry_delay_ms", "message_delta",
    "mcp_servers", "failed", "model", "<synthetic>", "error", "parent_tool_use_id", "allowed_warning", "utilization", "questions",
])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=20
)
REAL = [
    INIT,
    ASK,
    DONE,
    assistant({"type": "text", "text": "x"}),
    tool_result("x"),
    failure(),
    streamed({"type": "message_delta"}),
]


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A line that is nearly right: any value of it, at any depth, may be something else."""

    def spoil(value: Any) -> Any:
        if draw(st.integers(0, 7)) == 0:
            return draw(VALUES)
        if isinstance(value, dict):
            return {key: spoil(inner) for key, inner in value.items()}
        return [spoil(inner) for inner in value] if isinstance(value, list) else value

    line = spoil(draw(st.sampled_from(REAL)))
    return line if isinstance(line, dict) else {"type": line}


@given(
    st.lists(spoilt() | st.dictionaries(WORDS, VALUES, max_size=6) | st.just(Skipped("cut", "{")), max_size=15),
    st.booleans(),
)
def test_no_line_is_its_undoing_and_there_is_one_end(lines: list[Any], stopping: bool) -> None:
    talk, happenings = dialogue(), list[Happening]()
    for line in lines:
        for deed in talk.hear(line):
            if isinstance(deed, Say):
                assert deed.data.count(b"\n") == 1
                assert deed.data.endswith(b"\n")
            elif not isinstance(deed, Hush | Signal):
                happenings.append(deed)  # type: ignore[arg-type]
        if happenings and isinstance(happenings[-1], Ended):
            break
        if stopping:
            talk.interrupt()
    else:
        happenings.extend(talk.lose(Death(-9, "boom")))
    assert [isinstance(happening, Ended) for happening in happenings].count(True) == 1
    assert isinstance(happenings[-1], Ended)
    asked = [happening.id for happening in happenings if isinstance(happening, ApprovalAsked)]
    assert {happening.id for happening in happenings if isinstance(happening, ApprovalVoided)} <= set(asked)
    for happening in happenings:
        for value in (
            getattr(happening, name) for name in ("text", "id", "session", "name") if hasattr(happening, name)
        ):
            assert isinstance(value, str)
