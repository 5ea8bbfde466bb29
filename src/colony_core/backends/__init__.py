"""Coding agents behind one protocol: `run` a `Job`, and read what happens.

`backend` says what an agent must do for us, `happenings` in which words it tells what it does. `driver` runs agents that are programs
by doing the `deeds` that a pure dialogue gives. The other files are kinds of agents: `claude` with `claude_lines`, `acp` with
`acp_talk` over `jsonrpc`, `hld` with `hld_run` over `hld_line`, `script`, `fake`.
"""

from .acp import AcpBackend
from .backend import AgentConfig, Backend, Command, Health, Job, McpServer, Permissions, Program, Run, Starter
from .choosing import Choice, candidates, choose_backend
from .claude import ClaudeBackend
from .deeds import Graces
from .fake import FakeBackend, Line, Pause, instructed_part, read_part
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
from .hld import HldBackend
from .hld_line import HldLine, HldPlace, hld_place
from .jsonrpc import LineLost, Peer, Request
from .permits import kind_to_ask, paths_of
from .places import look
from .script import ScriptBackend
from .standard import standard_backends

__all__ = [
    "AcpBackend",
    "AgentConfig",
    "ApprovalAsked",
    "ApprovalVoided",
    "Backend",
    "Choice",
    "ClaudeBackend",
    "Command",
    "Ended",
    "FakeBackend",
    "Graces",
    "Happening",
    "Health",
    "HldBackend",
    "HldLine",
    "HldPlace",
    "Job",
    "Kind",
    "LimitReached",
    "Line",
    "LineLost",
    "McpServer",
    "Notice",
    "Outcome",
    "Pause",
    "Peer",
    "Permissions",
    "Program",
    "Request",
    "Run",
    "ScriptBackend",
    "Started",
    "Starter",
    "Text",
    "TextDelta",
    "Thinking",
    "ToolResult",
    "ToolUse",
    "Usage",
    "candidates",
    "choose_backend",
    "hld_place",
    "instructed_part",
    "kind_to_ask",
    "look",
    "paths_of",
    "read_part",
    "standard_backends",
]
