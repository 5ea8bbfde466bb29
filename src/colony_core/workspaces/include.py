"""What a new workspace gets besides its commit: ignored files that `.worktreeinclude` names, submodules, and a word on LFS."""

import re
from pathlib import Path

from colony_core.errors import ColonyError

from .hands import Git, Hands, open_git
from .programs import NETWORK_SECONDS
from .repository import Repository
from .sources import SCHEMES, Source

INCLUDE_FILE = ".worktreeinclude"
MOST_ATTRIBUTES_BYTES = 2**20
MOST_LIST_BYTES = 64 * 2**20


async def copy_included(repository: Repository, source: Path, workspace: Path) -> int:
    """Copies those files of `source` that `.worktreeinclude` names (in the words of .gitignore) and the workspace ignores; tells how many.

    The list of the workspace is taken, or that of the source where it has none. Nothing is written through a link, nor over a file.
    """
    listed = next((f / INCLUDE_FILE for f in (workspace, source) if (f / INCLUDE_FILE).is_file()), None)
    if listed is None or not source.is_dir():
        return 0
    hands, home = repository.hands, repository.home
    there = await open_git(hands, repository.git_dir, home=home, work_tree=source)
    nothing = repository.home / "no-index"
    found = await there(
        "ls-files", "--others", "--ignored", "-z", f"--exclude-from={listed}", "--", ".",
        index=nothing, most=MOST_LIST_BYTES, what=f"{INCLUDE_FILE} could not be read",
    )  # fmt: skip
    here = await open_git(hands, repository.git_dir, home=home, work_tree=workspace)
    wanted = [name for name in found.words if _may_be_written(workspace, name)]
    asked = "\0".join(wanted).encode(errors="surrogateescape")
    ignored = await here(
        "check-ignore", "-z", "--stdin", "--no-index", stdin=asked, ok=(0, 1), index=nothing, most=MOST_LIST_BYTES
    )
    files = ignored.words
    if files:
        await hands.do(
            "xargs", "-0", "cp", "--no-dereference", "--preserve=mode,timestamps", "--parents",
            f"--target-directory={workspace}", "--",
            cwd=source, what="ignored files could not be copied", stdin="\0".join(files).encode(errors="surrogateescape"),
        )  # fmt: skip
    return len(files)


def _may_be_written(workspace: Path, name: str) -> bool:
    path = workspace / name
    between = [parent for parent in path.parents if parent.is_relative_to(workspace) and parent != workspace]
    return not any(each.is_symlink() for each in between) and not path.is_symlink() and not path.exists()


async def fetch_submodules(git: Git, workspace: Path, source: Source) -> tuple[str, ...]:
    """Checks out the submodules of a workspace that git reads; gives notes.

    One that cannot be had does not keep the colony from starting.
    """
    if not (workspace / ".gitmodules").is_file():
        return ()
    named = await git("config", "--file", ".gitmodules", "--get-regexp", "-z", r"^submodule\..*\.url$", ok=(0, 1))
    refused = [url for word in named.words if not _may_be_fetched(url := word.partition("\n")[2], source)]
    if refused:
        return (f"submodules are not checked out: {refused[0][:200]!r} is no address that Colony may fetch from",)
    try:
        await git.far(
            "submodule", "--quiet", "update", "--init", "--recursive", "--checkout", "--force",
            seconds=NETWORK_SECONDS, files=source.kind == "path", what="submodules were not fetched",
        )  # fmt: skip
    except ColonyError as error:
        return (f"submodules are not checked out: {error.message}",)
    return ()


def _may_be_fetched(url: str, source: Source) -> bool:
    if url.startswith(("./", "../")):
        return True
    if url.startswith("/"):
        return source.kind == "path"
    scp = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:-].*", url)
    return scp is not None or url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def lfs_note(workspace: Path) -> tuple[str, ...]:
    """A word where large files are kept by LFS: what is checked out are its pointers."""
    file = workspace / ".gitattributes"
    if not file.is_file() or file.is_symlink():
        return ()
    with open(file, "rb") as opened:
        if b"filter=lfs" not in opened.read(MOST_ATTRIBUTES_BYTES):
            return ()
    return ("files kept by LFS are pointers here: git lfs pull in the workspace brings them",)


async def author_of(hands: Hands, folder: Path) -> tuple[str, str]:
    """Whose commits Colony makes in a user's name: as git knows the user, else what they are called here."""
    return await _asked(hands, folder, "user.name"), await _asked(hands, folder, "user.email")


async def _asked(hands: Hands, folder: Path, key: str) -> str:
    git = Git(hands=hands, git_dir=folder, work_tree=None, home=folder, settings={})
    ran = await git(
        "config", "--global", "--get", key, ok=tuple(range(256)), env={"GIT_CONFIG_GLOBAL": f"{hands.home}/.gitconfig"}
    )
    default = {"user.name": "Colony", "user.email": "colony@localhost"}[key]
    said = ran.text if ran.code == 0 else ""
    return said if said.isprintable() and said.strip() and not set(said) & set("<>") else default
