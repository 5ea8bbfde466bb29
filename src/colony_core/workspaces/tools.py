"""Which git and jj this machine has, and what they can do together."""

import os
import re
import shutil
import subprocess

import attrs

from colony_core.errors import Missing

from .safety import PATH

OLDEST_GIT = (2, 38)
"""The first with `merge-tree --write-tree`."""
COLOCATING_GIT = (2, 48)
"""jj needs 2.42 to make a git worktree, and makes it with relative paths; 2.48 is the first that can read those."""
OLDEST_JJ = (0, 38)
VERSION_SECONDS = 30.0

Version = tuple[int, ...]


@attrs.frozen(kw_only=True)
class Tools:
    """The programs, each with its version; None where it is not there or too old."""

    git: str | None = None
    git_version: Version = ()
    jj: str | None = None
    jj_version: Version = ()
    path: str = PATH

    @property
    def colocates(self) -> bool:
        """Whether workspaces of jj can be such of git as well."""
        return self.jj is not None and self.git_version >= COLOCATING_GIT

    @property
    def why_not_colocated(self) -> str:
        """What is in the way, for people; empty where nothing is."""
        if self.colocates or self.jj is None:
            return ""
        return f"git {shown(self.git_version)} cannot read the worktrees that jj makes; {shown(COLOCATING_GIT)} can"

    def need_git(self) -> str:
        """The path of git. Raises Missing (`git-missing`)."""
        if self.git is None:
            found = f"git is {shown(self.git_version)}" if self.git_version else "git is not installed"
            raise Missing("git-missing", f"{found}, and {shown(OLDEST_GIT)} is needed", "sudo apt install git")
        return self.git

    def need_jj(self) -> str:
        """The path of jj. Raises Missing (`jj-missing`)."""
        if self.jj is None:
            found = f"jj is {shown(self.jj_version)}" if self.jj_version else "jj is not installed"
            hint = "install it (https://docs.jj-vcs.dev), or take a git workspace"
            raise Missing("jj-missing", f"{found}, and {shown(OLDEST_JJ)} is needed", hint)
        return self.jj


def find_tools(path: str | None = None) -> Tools:
    """Looks for git and jj in a search path, and asks them who they are. Blocks, for some milliseconds."""
    search = path or PATH
    git, git_version = _found("git", search)
    jj, jj_version = _found("jj", search)
    return Tools(
        git=git if git_version >= OLDEST_GIT else None,
        git_version=git_version,
        jj=jj if jj_version >= OLDEST_JJ else None,
        jj_version=jj_version,
        path=search,
    )


def shown(version: Version) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def _found(name: str, search: str) -> tuple[str | None, Version]:
    program = shutil.which(name, path=search)
    if program is None:
        return None, ()
    env = {"PATH": search, "HOME": "/", "JJ_CONFIG": "", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, timeout=VERSION_SECONDS, env=env, cwd="/", check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, ()
    found = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return program, tuple(int(part) for part in found.groups() if part) if found else ()
