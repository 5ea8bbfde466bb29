"""Where the files lead that an agent's tools name: links are followed, because whatever opens a file follows them."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import trio

from .happenings import Kind
from .permits import File, Reach, is_plain, reach_of

MOST_LINKS = 40
"""As many as the kernel follows."""


async def look(kind: Kind, workdir: Path, paths: Iterable[str]) -> Reach:
    """How far a tool of that kind reaches that names `paths`, some of which may not exist yet. Never raises; cancelled, it is given up.

    What it says holds for the moment: a link may lead elsewhere when the tool is used.
    """
    return await trio.to_thread.run_sync(_look, kind, workdir, tuple(paths), abandon_on_cancel=True)


def _look(kind: Kind, workdir: Path, paths: tuple[str, ...]) -> Reach:
    root = real_path(str(workdir))
    if root is None:
        return Reach(known=bool(paths), beyond=f"nobody can tell where {workdir} lies")
    return reach_of(kind, [File(written=path, leads_to=_leads_to(root, path)) for path in paths], root)


def _leads_to(root: str, path: str) -> tuple[str, ...]:
    """Twice, since some programs take `link/..` out of a path before they open it, and the kernel does not."""
    if not is_plain(path):
        return ()
    whole = os.path.join(root, path)
    read, tidied = real_path(whole), real_path(os.path.normpath(whole))
    return () if read is None or tidied is None else (read, tidied)


def real_path(path: str) -> str | None:
    """Where an absolute path leads, also beyond what exists; None where that cannot be told: in `/proc`, round in circles, unseen."""
    found, ahead, links = "/", path.split("/")[::-1], 0
    while ahead:
        name = ahead.pop()
        if name in ("", ".", ".."):
            found = os.path.dirname(found) if name == ".." else found
            continue
        step = os.path.join(found, name)
        if step == "/proc":
            return None  # `/proc/self` is another process for us than for an agent
        try:
            target = os.readlink(step)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                return None
            found = step
            continue
        links += 1
        if links > MOST_LINKS:
            return None
        found = "/" if target.startswith("/") else found
        ahead += target.split("/")[::-1]
    return found
