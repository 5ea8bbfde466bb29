"""Coding agents behind one protocol: `run` a `Job`, and read what happens.

`backend` says what an agent must do for us, `happenings` in which words it tells what it does.
"""

from .backend import AgentConfig, Backend, Command, Health, Job, McpServer, Permissions, Program, Run, Starter
from .happenings import (
    ApprovalAsked,
    ApprovalVoided,
    Ended,
    Happening,
    Kind,
    LimitReached,
    Notice,
    Outcome,
    Started,
    Text,
    TextDelta,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)

__all__ = [
    "AgentConfig",
    "ApprovalAsked",
    "ApprovalVoided",
    "Backend",
    "Command",
    "Ended",
    "Happening",
    "Health",
    "Job",
    "Kind",
    "LimitReached",
    "McpServer",
    "Notice",
    "Outcome",
    "Permissions",
    "Program",
    "Run",
    "Started",
    "Starter",
    "Text",
    "TextDelta",
    "Thinking",
    "ToolResult",
    "ToolUse",
    "Usage",
]
