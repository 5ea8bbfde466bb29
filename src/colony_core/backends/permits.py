"""What an agent may do without asking a person, where its vendor leaves that to us. Pure."""

import posixpath
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from .backend import Job
from .claude import permit
from .happenings import Kind

_PATH_KEYS = ("file_path", "notebook_path", "path", "abs_path", "filePath")


def answer_for(job: Job, tool: str, kind: Kind, paths: Iterable[str]) -> bool | None:
    """What the job's settings answer where an agent asks whether it may use a tool; None where a person must be asked.

    Edits may where every path is known and lies in the workspace, as it is written. Questions to a person are never answered.
    """
    answer = permit(job.config, job.mcp_servers)(tool)
    if answer is None and job.config.permissions == "edits" and kind == "edit":
        touched = list(paths)
        return True if touched and all(_inside(path, job.workdir) for path in touched) else None
    return answer


def kind_to_ask(job: Job, kind: Kind, paths: Iterable[str]) -> Kind:
    """As what a question is put to whoever may let some kinds go: beyond the workspace a look is no mere look and an edit no mere edit.

    An edit of nobody knows what is none either.
    """
    touched = list(paths)
    if kind not in ("read", "edit") or (kind == "read" and not touched):
        return kind
    return kind if touched and all(_inside(path, job.workdir) for path in touched) else "other"


def paths_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a tool's input names."""
    return tuple(value for key in _PATH_KEYS if isinstance(value := arguments.get(key), str))


def _inside(path: str, workdir: PurePath) -> bool:
    return PurePath(posixpath.normpath(workdir / path)).is_relative_to(workdir)
