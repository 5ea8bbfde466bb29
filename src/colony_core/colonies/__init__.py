"""One colony, and all of them on this machine.

The story: `Colonies` knows every colony and writes down what is wanted before anything is done; a `Colony` answers from memory and hands
work to its owner; its owner builds the cell, runs the setup, starts the services in the order of their needs; a `Service` keeps a process.
What a manifest says is in `manifest`, what an edited one changes in `changes`, which state may follow which in `state`.
"""

from .colonies import Colonies, MayApply
from .colony import Colony
from .commands import Running, command_environment, run_command
from .environment import PROXY_VARIABLES, base_environment, read_env_files
from .launching import user_of
from .logs import LogItems, follow_log, follow_log_pages, log_page
from .manifest import Check, Manifest, read_manifest, start_order
from .means import KeeperPost, Means
from .previews import resolve
from .state import ColonyState, ServiceState, Verb, Wanted, is_at_rest, is_settled
from .templates import load_templates
from .usage import usage_of

__all__ = [
    "PROXY_VARIABLES",
    "Check",
    "Colonies",
    "Colony",
    "ColonyState",
    "KeeperPost",
    "LogItems",
    "Manifest",
    "MayApply",
    "Means",
    "Running",
    "ServiceState",
    "Verb",
    "Wanted",
    "base_environment",
    "command_environment",
    "follow_log",
    "follow_log_pages",
    "is_at_rest",
    "is_settled",
    "load_templates",
    "log_page",
    "read_env_files",
    "read_manifest",
    "resolve",
    "run_command",
    "start_order",
    "usage_of",
    "user_of",
]
