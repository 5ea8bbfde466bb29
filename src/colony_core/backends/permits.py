"""What an agent may do without asking a person, where its vendor leaves that to us. Pure."""

import posixpath
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from .backend import Permissions
from .happenings import Kind

_PATH_KEYS = ("file_path", "notebook_path", "path", "abs_path", "filePath")


def goes_without_asking(permissions: Permissions, kind: Kind, paths: Iterable[str], workdir: PurePath) -> bool:
    """Whether a tool may be used at once. Edits may where every path is known and lies in the workspace, as it is written."""
    if permissions == "all":
        return True
    touched = list(paths)
    return (
        permissions == "edits" and kind == "edit" and bool(touched) and all(_inside(path, workdir) for path in touched)
    )


def paths_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a tool's input names."""
    return tuple(value for key in _PATH_KEYS if isinstance(value := arguments.get(key), str))


def _inside(path: str, workdir: PurePath) -> bool:
    return PurePath(posixpath.normpath(workdir / path)).is_relative_to(workdir)
