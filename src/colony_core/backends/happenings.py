"""What a coding agent does, in words that fit every one of them: the neutral events that a run tells.

A run tells at most one `Started`, any number of the others, and as the last one exactly one `Ended`. Texts are as the agent gave them
(hostile until shown otherwise); money is USD; counts are tokens.
"""

from typing import Any, Literal

import attrs

Kind = Literal["read", "edit", "execute", "fetch", "question", "other"]
"""What a tool does, as far as it matters whether it may: look, change files of the workspace, run commands, reach the network, or ask a
person something, which nobody else can answer: whoever allows a `question` gives the answer as the message."""

Outcome = Literal["done", "failed", "stopped"]
"""`stopped` is the end that we asked for, whatever the agent calls it."""


@attrs.frozen(kw_only=True)
class Started:
    """The agent is there. `session` is its vendor's id, by which a later run goes on (`Job.resume`)."""

    session: str
    model: str = ""
    version: str = ""


@attrs.frozen(kw_only=True)
class TextDelta:
    """A piece of the text that is being written: for showing. What counts follows as `Text`."""

    text: str


@attrs.frozen(kw_only=True)
class Text:
    """A whole block of what the agent says. `parent` is the tool use of the sub-agent that says it."""

    text: str
    parent: str = ""


@attrs.frozen(kw_only=True)
class Thinking:
    """A whole block of what the agent thinks."""

    text: str
    parent: str = ""


@attrs.frozen(kw_only=True)
class ToolUse:
    """A tool is being used. Told again with the same `id` where more became known of it."""

    id: str
    name: str
    input: dict[str, Any]
    kind: Kind = "other"
    title: str = ""
    parent: str = ""


@attrs.frozen(kw_only=True)
class ToolResult:
    """What a tool gave; `ok` is None where the vendor does not say."""

    id: str
    text: str
    ok: bool | None = None
    parent: str = ""


@attrs.frozen(kw_only=True)
class ApprovalAsked:
    """The agent asks whether it may use a tool, and waits for `Run.answer`."""

    id: str
    tool: str
    input: dict[str, Any]
    kind: Kind = "other"
    title: str = ""
    reason: str = ""
    """Why this is no mere look or edit, where that is why it is asked."""
    tool_use: str = ""


@attrs.frozen(kw_only=True)
class ApprovalVoided:
    """A question is void: nobody waits for its answer any more."""

    id: str


@attrs.frozen(kw_only=True)
class Notice:
    """Something a person may want to know: a retry, a server that did not start, a value that was not taken over."""

    text: str
    code: str = "notice"


@attrs.frozen(kw_only=True)
class LimitReached:
    """The account's usage limit or rate is reached. `until` is when it may be tried again (Unix seconds), where the vendor says so."""

    text: str
    until: float | None = None


@attrs.frozen(kw_only=True)
class Usage:
    """What the run has used so far: totals since its begin, never less than before. None where the vendor does not say."""

    cost_usd: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    turns: int | None = None


@attrs.frozen(kw_only=True)
class Ended:
    """The run is over. `text` is the final answer, or what went wrong; `evidence` are short sentences that show why we think so."""

    outcome: Outcome
    text: str = ""
    code: str = ""
    """For `failed`: a stable word such as `api-error`, `max-turns`, `budget`, `agent-died`, `protocol`, `limit`, `refused`."""
    evidence: tuple[str, ...] = ()


Happening = (
    Started
    | TextDelta
    | Text
    | Thinking
    | ToolUse
    | ToolResult
    | ApprovalAsked
    | ApprovalVoided
    | Notice
    | LimitReached
    | Usage
    | Ended
)
