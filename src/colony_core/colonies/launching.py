"""In whose name, with what and where the processes of a colony start."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from colony_core.errors import ColonyError
from colony_core.isolation import WAY_OUT_PORT
from colony_core.processes import Launch, LogTarget, User, owner_of

from .environment import path_inside, way_out_environment

if TYPE_CHECKING:
    from .colony import Colony

UNKNOWN_USER = "unknown"
"""Shown where the colony's folder is gone, and with it who would be its user."""


def user_of(folder: str) -> User | None:
    """In whose name the processes of a colony run: the owner of its folder, looked up anew each time. None: in the daemon's own.

    Raises NotFound where the folder is gone.
    """
    owner = owner_of(Path(folder))
    return owner if os.getuid() == 0 else None


def user_name(folder: str) -> str:
    """The same, for people."""
    try:
        user = user_of(folder)
    except (ColonyError, OSError):
        return UNKNOWN_USER
    return _name(user) if user is not None else _own_name()


def inherited_environment(colony: "Colony") -> dict[str, str]:
    """What the processes of a colony inherit from the daemon, in the name of the colony's user."""
    base = dict(colony.means.base_environment)
    if (user := user_of(colony.source)) is not None:
        base |= {"HOME": _home(user), "USER": _name(user), "LOGNAME": _name(user)}
    return base


def way_out(colony: "Colony") -> dict[str, str]:
    """What tells the processes of a colony of the proxy in its cell; nothing where its cable leads out, or nothing does."""
    walls = colony.means.isolation
    if not walls.egress.proxied:
        return {}
    proxy = f"http://127.0.0.1:{WAY_OUT_PORT}"
    return way_out_environment(proxy, manifest=colony.manifest, colony=colony.name, networks=[walls.plan.base])


def launch(
    colony: "Colony", *, label: str, argv: tuple[str, ...], environment: Mapping[str, str], cwd: str | None, key: str
) -> Launch:
    """A process of a colony: in its cell, its folder, its user's name, its log."""
    assert colony.cell is not None
    limits = colony.means.config.processes
    log = LogTarget(
        directory=colony.means.log_folder(colony.id),
        segment_bytes=limits.log_segment,
        total_bytes=limits.log_total,
        segment_seconds=limits.log_age,
    )
    return Launch(
        key=f"{colony.id}.{key}",
        argv=argv,
        cwd=str(path_inside(Path(colony.source), cwd or ".")),
        env=environment,
        label=label,
        log=log,
        netns=colony.cell.path,
        netns_inode=colony.cell.inode,
        user=user_of(colony.source),
    )


def _name(user: User) -> str:
    return user.name or str(user.uid)


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def user_shell(folder: str) -> str:
    """The shell that the colony's user has chosen; /bin/sh where that is none that runs."""
    user = user_of(folder)
    try:
        shell = pwd.getpwuid(os.getuid() if user is None else user.uid).pw_shell
    except KeyError:
        shell = ""
    refusing = os.path.basename(shell) in ("nologin", "false")
    return shell if shell and not refusing and os.access(shell, os.X_OK) else "/bin/sh"


def _home(user: User) -> str:
    try:
        return pwd.getpwuid(user.uid).pw_dir
    except KeyError:
        return "/"
