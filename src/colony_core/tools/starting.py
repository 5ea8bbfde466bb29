"""How an agent starts the bridge: with an interpreter and a file that the colony's user may read."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

BRIDGE = Path(__file__).with_name("bridge.py")
PYTHONS = (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3")
"""The daemon's own, unless it lies where only the daemon's user can go; the bridge does with any since 3.9."""


def bridge_command(*, own: bool, pythons: Sequence[str] = PYTHONS, bridge: Path = BRIDGE) -> tuple[str, ...]:
    """The words that start the bridge; `own` says that the daemon's own user will. A file that others cannot read goes along as text."""
    python = next((each for each in pythons if own or _is_for_all(Path(each))), "python3")
    program = (str(bridge),) if own or _is_for_all(bridge) else ("-c", bridge.read_text())
    return (python, "-I", "-S", *program)


def _is_for_all(path: Path) -> bool:
    """Whether everybody on this machine may come to a file and read it."""
    try:
        path = path.resolve(strict=True)
        return bool(path.stat().st_mode & 0o004) and all(folder.stat().st_mode & 0o001 for folder in path.parents)
    except OSError:
        return False
