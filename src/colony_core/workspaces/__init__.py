"""Projects and workspaces: a repository is cloned once, and each colony gets a working copy of its own.

The layout is `repos/<project>/` (shared) and `workspaces/<colony>/`, below one root. A workspace is one of jj where jj is there, else a
worktree of git; both are a `Workspace` (`kinds`) and are held to the same tests. What may be passed on to the programs is in `sources`,
what keeps a repository from running programs of its own in `safety`; both run through the keeper, as the workspace's user (`programs`).

    workspaces = Workspaces(config=..., store=..., bus=..., get_keeper=..., environment=..., tools=find_tools())
    await workspaces.restore(supervisor)
    record = await workspaces.plan("scout", colony_id, repo="user/app", branch=None, kind="auto", owner="me")
    ...                                  # recorded with the colony
    await workspaces.open(colony_id, tell)
    await workspaces.merge(colony_id, MergeRequest())
"""

from .losses import Loss
from .records import WorkspaceRecord
from .records import add_workspace as record_workspace
from .sources import PROJECT_PATTERN
from .tools import Tools, find_tools
from .tools import shown as shown_version
from .workspaces import Kind, Workspaces

__all__ = [
    "PROJECT_PATTERN",
    "Kind",
    "Loss",
    "Tools",
    "WorkspaceRecord",
    "Workspaces",
    "find_tools",
    "record_workspace",
    "shown_version",
]
