"""What an agent that speaks ACP tells in `session/update`, in neutral words. Pure; nothing that is malformed stops it."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from colony_core import wire

from .claude_lines import kind_of
from .happenings import (
    Happening,
    Kind,
    LimitReached,
    Notice,
    Text,
    TextDelta,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from .loose import as_arguments, as_dict, as_dicts, as_number, as_text

KINDS: Mapping[str, Kind] = {
    "read": "read",
    "search": "read",
    "edit": "edit",
    "delete": "edit",
    "move": "edit",
    "execute": "execute",
    "fetch": "fetch",
}
_PLAN_MARKS = {"completed": "✓", "in_progress": "▸"}


@attrs.define
class _Block:
    """A text that is being written, in chunks."""

    of: Literal["text", "thought"]
    message: str
    text: str = ""


@attrs.define
class Tool:
    """What is known of a tool use."""

    id: str
    name: str = ""
    kind: Kind = "other"
    title: str = ""
    input: dict[str, Any] = attrs.field(factory=dict)
    parent: str = ""
    paths: tuple[str, ...] = ()
    content: list[Any] = attrs.field(factory=list)
    output: Any = None

    @property
    def changed(self) -> tuple[str, ...]:
        """The files of which it shows differences."""
        shown = (as_dict(part) for part in self.content)
        return tuple(as_text(part.get("path")) for part in shown if part.get("type") == "diff")

    @property
    def use(self) -> ToolUse:
        """As an event."""
        return ToolUse(
            id=self.id,
            name=self.name or (self.kind if self.kind != "other" else "tool"),
            input=dict(self.input),
            kind=self.kind,
            title=self.title,
            parent=self.parent,
        )


class Story:
    """The updates of one prompt, in order. `last_text` is the newest whole text of the agent itself, which at the end is its answer."""

    def __init__(self, cost_before: float = 0.0) -> None:
        self.last_text = ""
        self.usage = Usage()
        self._cost_before = cost_before
        self._blocks: dict[str, _Block] = {}
        self._tools: dict[str, Tool] = {}
        self._told: dict[str, ToolUse] = {}
        self._finished: set[str] = set()
        self._plan = ""
        self._foreign_money = False

    def update(self, update: Mapping[str, Any]) -> list[Happening]:
        """What an update says; nothing for kinds that we do not know or need."""
        kind = update.get("sessionUpdate")
        if kind == "agent_message_chunk":
            return self._chunk("text", update)
        if kind == "agent_thought_chunk":
            return self._chunk("thought", update)
        if kind in ("tool_call", "tool_call_update"):
            return self._tool_update(update)
        if kind == "plan":
            return self._planned(update)
        if kind == "usage_update":
            return self._used(update)
        return []

    def tool(self, call: Mapping[str, Any]) -> tuple[Tool, list[Happening]]:
        """What is now known of a tool use that was asked about, and what of that is news."""
        key = as_text(call.get("toolCallId"))
        tool = self._tools.setdefault(key, Tool(key))
        _learn(tool, call)
        news: list[Happening] = []
        if key not in self._finished and self._told.get(key) != tool.use:
            news = [*self._flush(tool.parent), tool.use]
            self._told[key] = tool.use
        return tool, news

    def finish(self, usage: object) -> list[Happening]:
        """What is still to be told when the prompt is answered; `usage` is what the answer says of tokens."""
        told: list[Happening] = [piece for parent in list(self._blocks) for piece in self._flush(parent)]
        if isinstance(usage, dict):
            count = {name: value for name, value in usage.items() if isinstance(value, int) and value >= 0}
            self.usage = attrs.evolve(
                self.usage,
                input_tokens=count.get("inputTokens", 0),
                output_tokens=count.get("outputTokens", 0),
                cache_read_tokens=count.get("cachedReadTokens", 0),
                cache_write_tokens=count.get("cachedWriteTokens", 0),
            )
            told.append(self.usage)
        return told

    def _chunk(self, of: Literal["text", "thought"], update: Mapping[str, Any]) -> list[Happening]:
        text, parent, message = _block_text(update.get("content")), _parent(update), as_text(update.get("messageId"))
        if not text:
            return []
        told: list[Happening] = []
        block = self._blocks.get(parent)
        if block is None or (block.of, block.message) != (of, message):
            told = self._flush(parent)
            block = self._blocks[parent] = _Block(of, message)
        block.text += text
        if of == "text" and not parent:
            told.append(TextDelta(text=text))
        return told

    def _flush(self, parent: str) -> list[Happening]:
        block = self._blocks.pop(parent, None)
        if block is None:
            return []
        if block.of == "thought":
            return [Thinking(text=block.text, parent=parent)]
        if not parent:
            self.last_text = block.text
        return [Text(text=block.text, parent=parent)]

    def _tool_update(self, update: Mapping[str, Any]) -> list[Happening]:
        if not as_text(update.get("toolCallId")):
            return []
        tool, told = self.tool(update)
        status = update.get("status")
        if status in ("completed", "failed") and tool.id not in self._finished:
            told.append(ToolResult(id=tool.id, text=_result(tool), ok=status == "completed", parent=tool.parent))
            self._finished.add(tool.id)
        if tool.id in self._finished:
            self._tools.pop(tool.id, None)
            self._told.pop(tool.id, None)
        return told

    def _planned(self, update: Mapping[str, Any]) -> list[Happening]:
        lines = [
            f"{_PLAN_MARKS.get(as_text(entry.get('status')), '·')} {as_text(entry.get('content'))}"
            for entry in as_dicts(update.get("entries"))
        ]
        text = "\n".join(lines)
        if not text or text == self._plan:
            return []
        self._plan = text
        return [Notice(text=text, code="plan")]

    def _used(self, update: Mapping[str, Any]) -> list[Happening]:
        told: list[Happening] = []
        limit = as_dict(as_dict(update.get("_meta")).get("_claude/rateLimit"))
        if limit.get("status") == "rejected":
            what = as_text(limit.get("rateLimitType")).replace("_", " ")
            told.append(
                LimitReached(text=f"usage limit reached {what}".strip(), until=as_number(limit.get("resetsAt")))
            )
        cost = cost_of(update)
        if cost is not None:
            spent = max(self.usage.cost_usd or 0.0, cost - self._cost_before)
            if spent != self.usage.cost_usd:
                self.usage = attrs.evolve(self.usage, cost_usd=spent)
                told.append(self.usage)
        elif as_dict(update.get("cost")) and not self._foreign_money:
            self._foreign_money = True
            told.append(Notice(text="the agent counts its cost in another money than USD", code="cost-unknown"))
        return told


def cost_of(update: Mapping[str, Any]) -> float | None:
    """The USD that the vendor's session has cost so far, where a `usage_update` says so."""
    cost = as_dict(update.get("cost"))
    amount = as_number(cost.get("amount"))
    return None if amount is None or cost.get("currency") != "USD" else max(0.0, amount)


def _learn(tool: Tool, call: Mapping[str, Any]) -> None:
    """What is given replaces what was known."""
    vendor = as_dict(as_dict(call.get("_meta")).get("claudeCode"))
    tool.name = as_text(vendor.get("toolName")) or tool.name
    tool.parent = _parent(call) or tool.parent
    tool.title = as_text(call.get("title")) or tool.title
    if isinstance(call.get("kind"), str):
        tool.kind = KINDS.get(call["kind"], "other")
    known = kind_of(tool.name)
    tool.kind = known if known != "other" else tool.kind
    if isinstance(call.get("rawInput"), dict):
        tool.input = as_arguments(call["rawInput"])
    if isinstance(call.get("content"), list):
        tool.content = call["content"]
    if call.get("rawOutput") is not None:
        tool.output = call["rawOutput"]
    if isinstance(call.get("locations"), list):
        tool.paths = tuple(as_text(as_dict(place).get("path")) for place in call["locations"])


def _result(tool: Tool) -> str:
    """The output as the tool gave it where that is text, else as the agent would show it."""
    plain = tool.output if isinstance(tool.output, str) else _block_text(tool.output)
    if plain:
        return plain
    shown = [_block_text(as_dict(part).get("content")) for part in tool.content]
    shown += [f"changed {path}" for path in tool.changed]
    text = "\n".join(line for line in shown if line)
    whole = as_arguments({"output": tool.output})
    return text or (wire.dump_json(tool.output).decode() if whole.get("output") is not None else "")


def _block_text(block: object) -> str:
    """The text of a content block, or of the blocks of a list."""
    if isinstance(block, list):
        return "\n".join(text for part in as_dicts(block) if (text := _block_text(part)))
    content = as_dict(block)
    if content.get("type") == "text":
        return as_text(content.get("text"))
    if content.get("type") == "resource_link":
        return as_text(content.get("uri"))
    return as_text(as_dict(content.get("resource")).get("text"))


def _parent(update: Mapping[str, Any]) -> str:
    return as_text(as_dict(as_dict(update.get("_meta")).get("claudeCode")).get("parentToolUseId"))
