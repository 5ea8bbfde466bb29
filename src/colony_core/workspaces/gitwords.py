"""What git says, read: changed files, commits, conflicts, and why an origin did not do as it was asked. Pure."""

import re

from colony_core import clock
from colony_core.errors import Broken, ColonyError, Invalid, Unreachable, WrongState
from colony_core.views import CommitView, FileChangeView

from .programs import Ran, failure
from .sources import Source, is_commit

CONTEXT_LINES = 3
NOBODY_THERE = re.compile(
    r"could not resolve host|connection (refused|timed out|reset)|network is unreachable|could not read from remote"
    r"|no route to host|unable to access|operation timed out|host key verification",
    re.IGNORECASE,
)


def conflict_hunks(text: str) -> str:
    """The parts of a file that are in conflict, with some lines around each."""
    lines = text.splitlines()
    wanted: set[int] = set()
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("<<<<<<<"):
            inside = True
            wanted.update(range(max(number - CONTEXT_LINES, 0), number))
        if inside:
            wanted.add(number)
        if line.startswith(">>>>>>>"):
            inside = False
            wanted.update(range(number, min(number + CONTEXT_LINES + 1, len(lines))))
    return "\n".join(lines[number] for number in sorted(wanted))


def far_away(ran: Ran, source: Source) -> ColonyError | None:
    """An origin that does not answer, as against one that refuses."""
    said = ran.errors
    if "denyCurrentBranch" in said or "refusing to update checked out branch" in said:
        return WrongState(
            "origin-checked-out",
            f"{source.url} has this branch checked out and takes no push to it",
            "push another branch, or fetch from the project's folder there",
        )
    if "stale info" in said or "[rejected]" in said or "non-fast-forward" in said:
        return WrongState("push-rejected", f"{source.url} has other work on this branch", "push to another branch")
    problem = failure(ran, f"{source.url} was not reached")
    if NOBODY_THERE.search(said):
        return Unreachable("origin-unreachable", problem.message, "is the address right, and may you read it?")
    return Broken("origin-refused", problem.message, "try the same with git itself")


def changes(counted: list[str], named: list[str]) -> tuple[FileChangeView, ...]:
    """Files from `--numstat -z` and `--name-status -z`; both say a rename in three parts."""
    status: dict[str, str] = {}
    rest = iter(named)
    for word in rest:
        letter = word[:1]
        path = next(rest)
        status[next(rest) if letter in "RC" else path] = letter
    found = []
    rest = iter(counted)
    for word in rest:
        added, removed, path = word.split("\t", 2)
        if not path:
            next(rest)
            path = next(rest)
        found.append(
            FileChangeView(
                path=path.encode(errors="surrogateescape").decode(errors="replace"),
                status=status.get(path, "M"),
                added=None if added == "-" else int(added),
                removed=None if removed == "-" else int(removed),
            )
        )
    return tuple(found)


def commit_view(record: str) -> CommitView:
    """A commit, from a record with its name, author, date and message."""
    commit, author, at, message = record.strip("\n").split("\x1f", 3)
    if not is_commit(commit):
        raise Invalid("vcs-failed", "git's answer is not understood", "is this git a usual one?")
    text = message.encode(errors="surrogateescape").decode(errors="replace").strip()
    return CommitView(
        id=commit,
        change_id=None,
        author=author,
        at=clock.rfc3339(clock.parse_rfc3339(at)),
        message=text,
        uncommitted=False,
    )
