"""The lines of Claude Code in dialogue mode: what each means, and what is to be said to it. Decides only; `driver` reads and writes.

One process is one run: the instruction is its only message, and its first result line is its end.
"""

import signal
from collections.abc import Callable, Sequence
from typing import Any

from colony_core import clock, wire
from colony_core.errors import NotFound

from .answers import each_answered
from .claude_ends import Limits, Meter, ended, texts
from .deeds import Death, Deed, Hush, Say, Signal
from .happenings import (
    ApprovalAsked,
    ApprovalVoided,
    Happening,
    Kind,
    Notice,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolResult,
    ToolUse,
)
from .lines import Skipped
from .loose import as_arguments, as_dict, as_dicts, as_text

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("Read", "Glob", "Grep", "LS"), "read"),
    **dict.fromkeys(("Edit", "MultiEdit", "Write", "NotebookEdit"), "edit"),
    **dict.fromkeys(("Bash", "BashOutput", "KillShell"), "execute"),
    **dict.fromkeys(("WebFetch", "WebSearch"), "fetch"),
    "AskUserQuestion": "question",
}


class ClaudeDialogue:
    """One instruction to Claude Code. `may` decides what a tool may without asking: True, False, or None to ask a person."""

    def __init__(
        self,
        instruction: str,
        *,
        may: Callable[[str], bool | None],
        now: Callable[[], float] = clock.unix_now,
    ) -> None:
        self._instruction = instruction
        self._may = may
        self._now = now
        self._begun = False
        self._stopping = False
        self._asked: dict[str, tuple[str, dict[str, Any]]] = {}
        self._limits = Limits()
        self._meter = Meter()
        self._requests = 0
        self._cause = ""

    def open(self) -> Sequence[Deed]:
        return [
            self._request("initialize", hooks=None),
            say(type="user", message={"role": "user", "content": self._instruction}),
        ]

    def hear(self, line: dict[str, Any] | Skipped) -> Sequence[Deed]:
        if isinstance(line, Skipped):
            told = line.reason == "too-long"  # others are banners and warnings of some versions
            return [Notice(text=f"a line of the agent's was too long: {line.start}", code=line.reason)] if told else []
        match line.get("type"):
            case "stream_event":
                return self._streamed(line)
            case "assistant":
                return self._assistant(line)
            case "user":
                return self._user(line)
            case "system":
                return self._system(line)
            case "rate_limit_event":
                return self._limits.event(line.get("rate_limit_info"))
            case "control_request":
                return self._requested(line)
            case "control_cancel_request":
                return self._void(line.get("request_id"))
            case "result":
                return self._result(line)
        return []

    def overhear(self, line: str) -> Sequence[Deed]:
        return ()

    def interrupt(self) -> Sequence[Deed]:
        """An interrupt before the turn has begun would be answered and forgotten: it is said when the turn begins, if that is soon."""
        again, self._stopping = self._stopping, True
        if self._begun:
            return [self._request("interrupt")]
        return [Signal(signal.SIGTERM)] if again else []

    def answer(self, approval: str, *, allow: bool, message: str) -> Sequence[Deed]:
        if approval not in self._asked:
            raise NotFound(
                "approval-not-found", f"no open question {approval!r}", "it may have been answered, or be void"
            )
        tool, given = self._asked.pop(approval)
        return [_decision(approval, allow=allow, message=message, given=_answered(tool, given, message))]

    def lose(self, death: Death) -> Sequence[Happening]:
        void = [ApprovalVoided(id=approval) for approval in self._asked]
        return [*void, death.ended("claude", stopping=self._stopping)]

    def _system(self, line: dict[str, Any]) -> Sequence[Deed]:
        match line.get("subtype"):
            case "init":
                return self._init(line)
            case "api_retry":
                return self._limits.retry(line, self._now())
            case "compact_boundary":
                return [Notice(text="the conversation became too long and was summarised", code="compacted")]
            case "model_fallback" | "model_refusal_fallback":
                return [
                    Notice(
                        text=f"another model goes on: {_text(line, 'content') or _text(line, 'message')}", code="model"
                    )
                ]
        return []

    def _init(self, line: dict[str, Any]) -> Sequence[Deed]:
        if self._begun:
            return []
        self._begun = True
        deeds: list[Deed] = [
            Started(
                session=_text(line, "session_id"),
                model=_text(line, "model"),
                version=_text(line, "claude_code_version"),
            )
        ]
        for server in as_dicts(line.get("mcp_servers")):
            if server.get("status") == "failed":
                deeds.append(Notice(text=f"the tool server {_text(server, 'name')} did not start", code="mcp-failed"))
        return [*deeds, *(self.interrupt() if self._stopping else ())]

    def _streamed(self, line: dict[str, Any]) -> Sequence[Deed]:
        event = as_dict(line.get("event"))
        match event.get("type"):
            case "content_block_delta":
                text = as_dict(event.get("delta")).get("text")
                if isinstance(text, str) and text and not line.get("parent_tool_use_id"):
                    return [TextDelta(text=text)]
            case "message_start":
                self._meter.message_began()
            case "message_delta":
                if usage := self._meter.message(event.get("usage")):
                    return [usage]
        return []

    def _assistant(self, line: dict[str, Any]) -> Sequence[Deed]:
        parent = _text(line, "parent_tool_use_id")
        message = as_dict(line.get("message"))
        if line.get("error") and message.get("model") == "<synthetic>":
            if parent:
                return [Notice(text=texts(message.get("content")), code="api-error")]
            self._cause = _text(line, "error")  # the result says the rest again
            return []
        return [deed for block in _blocks(message) if (deed := _block(block, parent)) is not None]

    def _user(self, line: dict[str, Any]) -> Sequence[Deed]:
        parent = _text(line, "parent_tool_use_id")
        return [
            ToolResult(
                id=_text(block, "tool_use_id"),
                text=texts(block.get("content")),
                ok=block.get("is_error") is not True,
                parent=parent,
            )
            for block in _blocks(as_dict(line.get("message")))
            if block.get("type") == "tool_result"
        ]

    def _requested(self, line: dict[str, Any]) -> Sequence[Deed]:
        request, key = as_dict(line.get("request")), _text(line, "request_id")
        tool, given = _text(request, "tool_name"), as_arguments(request.get("input"))
        if request.get("subtype") != "can_use_tool":
            what = f"{_text(request, 'subtype')} is not supported here"
            return [say(type="control_response", response={"subtype": "error", "request_id": key, "error": what})]
        allow = self._may(tool) if given or not request.get("input") else False  # what is nested too deeply is left out
        if allow is not None:
            return [
                _decision(key, allow=allow, message="this tool is not among those that are allowed here", given=given)
            ]
        self._asked[key] = tool, given
        kind, title = kind_of(tool), _text(request, "description") or _text(request, "display_name")
        reason = _text(request, "decision_reason") if kind in ("read", "edit") else ""
        return [
            ApprovalAsked(
                id=key,
                tool=tool,
                input=given,
                # beyond the workspace, or at a file that guards something, a look is no mere look and an edit no mere edit
                kind="other" if reason else kind,
                title=title,
                reason=reason,
                tool_use=_text(request, "tool_use_id"),
            )
        ]

    def _void(self, key: Any) -> Sequence[Deed]:
        if not isinstance(key, str) or key not in self._asked:
            return []
        del self._asked[key]
        return [ApprovalVoided(id=key)]

    def _result(self, line: dict[str, Any]) -> Sequence[Deed]:
        end = ended(line, stopping=self._stopping, cause=self._cause)
        void = [ApprovalVoided(id=approval) for approval in self._asked]
        return [*void, *self._limits.result(end), self._meter.result(line), Hush(), end]

    def _request(self, subtype: str, **more: Any) -> Say:
        self._requests += 1
        return say(type="control_request", request_id=f"colony-{self._requests}", request={"subtype": subtype, **more})


def say(**line: Any) -> Say:
    """A line for the agent."""
    return Say(wire.dump_json(line) + b"\n")


def kind_of(tool: str) -> Kind:
    return _KINDS.get(tool, "other")


def _decision(key: str, *, allow: bool, message: str, given: dict[str, Any]) -> Say:
    answer: dict[str, Any] = {"behavior": "allow", "updatedInput": given}
    if not allow:
        answer = {"behavior": "deny", "message": message or "the user does not want this"}
    return say(type="control_response", response={"subtype": "success", "request_id": key, "response": answer})


def _answered(tool: str, given: dict[str, Any], message: str) -> dict[str, Any]:
    if kind_of(tool) != "question" or not message:
        return given
    return {**given, "answers": each_answered(as_dicts(given.get("questions")), message)}


def _block(block: dict[str, Any], parent: str) -> Happening | None:
    match block.get("type"):
        case "text":
            text = _text(block, "text")
            return Text(text=text, parent=parent) if text else None
        case "thinking":
            thought = _text(block, "thinking")
            return Thinking(text=thought, parent=parent) if thought else None
        case "tool_use" | "server_tool_use":
            name = _text(block, "name")
            given = as_arguments(block.get("input"))
            return ToolUse(id=_text(block, "id"), name=name, input=given, kind=kind_of(name), parent=parent)
    return None


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else as_dicts(content)


def _text(holder: dict[str, Any], key: str) -> str:
    return as_text(holder.get(key))
