"""The ways to have rights to networks."""

import enum
from pathlib import Path

import attrs

SYSTEM_FOLDER = Path("/run/netns")
"""Where ip-netns(8) looks for names."""


class Mode(enum.Enum):
    """`root`: this is root. `ambient`: a system service with two capabilities. `rootless`: a user namespace of our own."""

    ROOT = "root"
    AMBIENT = "ambient"
    ROOTLESS = "rootless"


@attrs.frozen
class ModeReport:
    """Whether a mode works here; if not, why, and the next thing to type."""

    mode: Mode
    works: bool
    reason: str = ""
    hint: str = ""
