"""The folders: `repos/<project>` and `workspaces/<colony>` below one root, each its user's, in parents that are the daemon's own."""

import os
import pwd
import stat
from pathlib import Path

from colony_core.errors import Invalid, NotAllowed, NotFound
from colony_core.processes import User, owner_of

from .hands import Hands

REPOS, WORKSPACES = "repos", "workspaces"
UNFINISHED = ".new-"
"""How the folder of a repository begins that is not whole yet."""


def repo_folder(root: Path, project: str) -> Path:
    """Where the shared repository of a project is."""
    return root / REPOS / project


def workspace_folder(root: Path, colony: str) -> Path:
    """Where the working copy of a colony is."""
    return root / WORKSPACES / colony


def prepare_root(root: Path) -> None:
    """Makes both parents. Raises NotAllowed where others than the daemon's user and root could put something in its place there."""
    for folder in (root, root / REPOS, root / WORKSPACES):
        folder.mkdir(mode=0o711 if folder != root else 0o755, parents=True, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (0, os.geteuid()) or info.st_mode & stat.S_IWOTH:
            raise NotAllowed(
                "workspaces-root-unsafe",
                f"{folder} is not a folder of the daemon's own user, or everybody may write in it",
                "set workspaces.root to a folder that only the daemon's user may write in",
            )


def make_folder(folder: Path, user: User | None) -> None:
    """An empty folder of the user's; one that is there and empty is taken."""
    folder.mkdir(mode=0o755, exist_ok=True)
    if user is not None and user.uid != os.geteuid():
        os.chown(folder, user.uid, user.gid, follow_symlinks=False)


async def clear_folder(folder: Path, hands: Hands) -> None:
    """Removes a folder with all that is in it, in its user's name, as another's could not be trusted to lead nowhere else."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return
    if not folder.exists():
        return
    if not is_empty(folder):
        what, nowhere = f"{folder} cannot be removed", Path("/")  # its user may have shut themselves out of it
        await hands.do("chmod", "-R", "u+rwX", "--", str(folder), cwd=nowhere, what=what)
        await hands.do("find", str(folder), "-xdev", "-mindepth", "1", "-delete", cwd=nowhere, what=what)
    folder.rmdir()


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder; one that cannot be read counts as full."""
    try:
        return not any(folder.iterdir())
    except PermissionError:
        return False


async def check_entered(folder: Path, hands: Hands) -> None:
    """Raises NotAllowed where the user cannot come into a folder that is to be theirs."""
    if hands.user is None or hands.user.is_root:
        return
    try:
        await hands.do("test", "-x", str(folder), cwd=Path("/"), what="")
    except Exception as error:
        raise NotAllowed(
            "workspaces-unreachable",
            f"{hands.user.name or hands.user.uid} cannot enter {folder}",
            "set workspaces.root to a folder that everybody may enter, such as /srv/colony",
        ) from error


def user_for(kind: str, url: str, configured: str) -> User | None:
    """In whose name a new project is kept: the owner of the folder that it comes from, else as configured. None: the daemon's own.

    Raises Invalid, NotFound.
    """
    if os.geteuid() != 0:
        return None
    if kind == "path":
        return owner_of(Path(url))
    if not configured:
        return None
    try:
        entry = pwd.getpwnam(configured)
    except KeyError:
        raise Invalid(
            "unknown-user", f"workspaces.user: there is no user {configured}", "name one of this machine"
        ) from None
    return User(uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,), name=configured)


def keeper_of(folder: Path) -> User | None:
    """Whose a folder of ours is, as a user to run programs as; None: the daemon's own, or nobody's yet."""
    if os.geteuid() != 0:
        return None
    try:
        return owner_of(folder)
    except NotFound:
        return None


def home_of(user: User | None) -> str:
    """The home of a user, where their own settings and credentials are."""
    if user is None:
        return os.environ.get("HOME") or "/"
    try:
        return pwd.getpwuid(user.uid).pw_dir
    except KeyError:
        return "/"
