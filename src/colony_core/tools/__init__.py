"""What an agent may know and do from inside of its colony: a small MCP server in each cell.

The story: `serve_tools` listens at a name that exists in the colony's own network only, so the kernel itself says whose agent asks; no
argument does. The `Desk` carries a call out and writes down what it changed; `catalogue` says what there is to call. An agent starts the
`bridge`, a program of its own, which carries lines between the agent's pipes and that name.
"""

from .desk import Caller, Desk, House
from .server import converse, mcp_servers, serve_tools
from .starting import BRIDGE, bridge_command

__all__ = ["BRIDGE", "Caller", "Desk", "House", "bridge_command", "converse", "mcp_servers", "serve_tools"]
