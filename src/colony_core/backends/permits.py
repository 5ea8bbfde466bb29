"""What an agent may do without asking a person, where its vendor leaves that to us. Pure: `places` finds out where paths lead."""

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .backend import Job
from .claude import permit
from .happenings import Kind

GUARDED = frozenset({".git", ".jj", ".claude", ".codex", ".gemini", ".mcp.json", ".vscode", ".idea"})
"""Folders and files of a workspace that others act on outside of the colony, or that bind an agent: hooks, settings, tool servers."""
_PATH_KEYS = ("file_path", "notebook_path", "path", "abs_path", "filePath")


@attrs.frozen(kw_only=True)
class File:
    """A path as a tool's input has it, and all the places to which it may lead, links followed. None are those that nobody can tell."""

    written: str
    leads_to: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Reach:
    """How far a tool reaches by the files that its input names."""

    known: bool
    """Whether it names any."""
    beyond: str = ""
    """What keeps it from being a mere look or a mere edit in the workspace, in words; empty where nothing does."""


def reach_of(kind: Kind, files: Iterable[File], workdir: str) -> Reach:
    """How far they reach from a workspace whose real path is `workdir`. An edit of what guards the workspace goes beyond it too."""
    found = tuple(files)
    words = (_beyond(kind, file, workdir) for file in found)
    return Reach(known=bool(found), beyond=next(filter(None, words), ""))


def answer_for(job: Job, tool: str, kind: Kind, reach: Reach) -> bool | None:
    """What the job's settings answer where an agent asks whether it may use a tool; None where a person must be asked.

    Edits may where every path is known and leads into the workspace. Questions to a person are never answered.
    """
    answer = permit(job.config, job.mcp_servers)(tool)
    if answer is None and job.config.permissions == "edits" and kind == "edit":
        return True if reach.known and not reach.beyond else None
    return answer


def kind_to_ask(kind: Kind, reach: Reach) -> Kind:
    """As what a question is put to whoever may let some kinds go: beyond the workspace a look is no mere look and an edit no mere edit.

    An edit of nobody knows what is none either.
    """
    if kind not in ("read", "edit"):
        return kind
    return "other" if reach.beyond or (kind == "edit" and not reach.known) else kind


def paths_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a tool's input names."""
    return tuple(value for key in _PATH_KEYS if isinstance(value := arguments.get(key), str))


def is_plain(path: str) -> bool:
    """Whether every program reads a path in the same way: some put a home for `~`, take spaces off, or read addresses."""
    return bool(path) and path == path.strip() and path[0] != "~" and "://" not in path


def _beyond(kind: Kind, file: File, workdir: str) -> str:
    if not file.leads_to:
        return f"nobody can tell where {file.written!r} leads"
    for place in file.leads_to:
        if posixpath.commonpath((place, workdir)) != workdir:
            return "outside of the workspace" if place == file.written else f"leads to {place}"
        guarded = GUARDED.intersection(posixpath.relpath(place, workdir).split("/"))
        if kind == "edit" and guarded:
            return f"{min(guarded)} is acted on outside of the colony"
    return ""
