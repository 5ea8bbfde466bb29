"""What an agent does, in the words of the outside: lines of a colony's feed, and `agent_event`s. Pure.

The four types of event that the first readers know are `text_delta`, `tool_use`, `tool_result` and `status`; others were added beside them.
"""

from typing import Any

import attrs

from colony_core.backends import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    LimitReached,
    Notice,
    Started,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)

MOST_CONTENT = 64 * 2**10
"""Characters of one line of a feed; more is cut, and said to be."""
MOST_TOLD = 16 * 2**10
"""Characters of an event, whose line in the feed has all of it."""
MOST_SUMMARY = 200
MOST_QUESTIONS = 1000
STATUS = {"done": "completed", "failed": "failed", "stopped": "interrupted"}
"""The seeds' words for the ends of a run."""
_TELLING = ("command", "file_path", "path", "notebook_path", "pattern", "query", "url", "description", "prompt")
"""What says most of a tool's input, the best first."""


@attrs.frozen(kw_only=True)
class Line:
    """A line of a feed: what kind it is, the text for people, and the particulars for programs."""

    kind: str
    content: str
    data: dict[str, Any] = attrs.field(factory=dict)


def tool_summary(name: str, tool_input: dict[str, Any]) -> str:
    """`Read: /src/auth.ts`: the tool, and what says most of its input, in one short line."""
    found = next((tool_input[key] for key in _TELLING if isinstance(tool_input.get(key), str)), None)
    questions = None if found else _questions(tool_input.get("questions"))
    if questions:
        return f"{name}: {_cut(' '.join(questions.split()), MOST_QUESTIONS)}"
    if found is None:
        found = next((value for value in tool_input.values() if isinstance(value, str)), "")
    line = " ".join(found.split())
    return f"{name}: {_cut(line, MOST_SUMMARY)}" if line else name


def line_of(happening: Happening, tools: dict[str, str]) -> Line | None:
    """The line that tells of it; None for what is no line of its own. `tools` knows the names of tool uses, and learns them here."""
    data: dict[str, Any]
    match happening:
        case Text(text=text, parent=parent) if text:
            return Line(kind="text", content=_most(text), data=_within(parent))
        case Thinking(text=text, parent=parent) if text:
            return Line(kind="thinking", content=_most(text), data=_within(parent))
        case ToolUse():
            tools[happening.id] = happening.name
            data = {"id": happening.id, "tool": happening.name, "tool_kind": happening.kind}
            data |= {"input": bounded(happening.input, MOST_CONTENT)} | _within(happening.parent)
            content = tool_summary(happening.name, happening.input)
            if content == happening.name and happening.title:
                content = f"{happening.name}: {_cut(happening.title, MOST_SUMMARY)}"
            return Line(kind="tool_use", content=content, data=data)
        case ToolResult(id=tool_id, text=text, ok=ok, parent=parent):
            name = tools.get(tool_id, "tool")
            return Line(
                kind="tool_result", content=f"{name}: {_most(text)}", data={"id": tool_id, "ok": ok} | _within(parent)
            )
        case Notice(text=text, code=code):
            return Line(kind="notice", content=_most(text), data={"code": code})
        case LimitReached(text=text, until=until):
            return Line(kind="notice", content=_most(text), data={"code": "limit", "until": until})
        case Started(session=session, model=model, version=version):
            data = {"code": "started", "session": session, "model": model, "version": version}
            return Line(kind="notice", content=f"session {session}" + (f", {model}" if model else ""), data=data)
        case Ended(outcome=outcome, text=text, code=code, evidence=evidence):
            data = {"outcome": outcome, "text": _most(text), "code": code, "evidence": list(evidence)}
            return Line(kind="status", content=STATUS[outcome], data=data)
        case ApprovalAsked() | ApprovalVoided() | Usage():
            return None
        case _:
            return None


def usage_line(cost: float, turns: int, tokens: int) -> Line:
    """What was used so far, as a line."""
    words = f"${cost:.2f}, {turns} {'turn' if turns == 1 else 'turns'}, {tokens:,} tokens"
    return Line(kind="usage", content=words, data={"cost_usd": cost, "turns": turns, "tokens": tokens})


def event_type(kind: str) -> str:
    """The `event_type` under which a line of that kind is told as an event."""
    return "text_delta" if kind == "text" else kind


def _questions(asked: object) -> str | None:
    """Questions to a person in a line, each with what there is to choose; whoever is to answer must have read them."""
    told = []
    for question in asked if isinstance(asked, list) else ():
        if isinstance(question, dict) and isinstance(question.get("question"), str):
            options = question.get("options")
            labels = (
                [each.get("label") for each in options if isinstance(each, dict)] if isinstance(options, list) else []
            )
            choice = " | ".join(label for label in labels if isinstance(label, str))
            told.append(f"{question['question']} ({choice})" if choice else question["question"])
    return "; ".join(told) or None


def _within(parent: str) -> dict[str, str]:
    return {"parent": parent} if parent else {}


def _most(text: str) -> str:
    return _cut(text, MOST_CONTENT)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def bounded(value: Any, most: int) -> Any:
    """A plain value whose texts together have about `most` characters at most; what is beyond is left out, and said to be."""
    return _Bound(most).cut(value)


@attrs.define
class _Bound:
    """How much may still be told of a value. No closure that calls itself: such a one waits for the garbage collector."""

    left: int

    def cut(self, each: Any) -> Any:
        if isinstance(each, str):
            kept = _cut(each, max(self.left, 1))
            self.left -= len(kept)
            return kept
        if self.left <= 0 and isinstance(each, (dict, list)):
            return "…"
        self.left -= 1
        if isinstance(each, dict):
            return {_cut(str(key), MOST_SUMMARY): self.cut(inner) for key, inner in each.items()}
        return [self.cut(inner) for inner in each] if isinstance(each, list) else each
