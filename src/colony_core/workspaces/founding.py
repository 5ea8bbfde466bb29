"""How a shared repository begins: made from its origin, with a first commit where that is empty, and with what jj needs."""

import re
from collections.abc import Callable

import attrs

from .hands import Git, Jj
from .repository import GIT_DIR, Repository
from .sources import check_ref

JJ_DIR, JJ_READY = ".jj", "colony-ready"
BEGINNING = "Begin\n\nThis repository was empty; Colony has made this commit so that work can begin from it.\n"


async def fill(repository: Repository, *, hear: Callable[[bytes], object] | None = None) -> None:
    """Makes the repository in its folder, which is there and empty, and fetches everything. Not atomic: done apart, then moved."""
    hands, folder = repository.hands, repository.folder
    await hands.do("mkdir", "--", str(repository.home), cwd=folder, what="no room for the repository")
    plain = Git(hands=hands, git_dir=repository.git_dir, work_tree=None, home=repository.home, settings={})
    await hands.do("mkdir", "--", str(repository.git_dir), cwd=folder, what="no room for the repository")
    await plain("init", "--quiet", "--bare", "--initial-branch=main", what="git made no repository")
    git = await repository.git()
    await git("config", "remote.origin.url", repository.source.url)
    await git("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    head = await repository.far(git, "ls-remote", "--symref", "--end-of-options", repository.source.url, "HEAD")
    await repository.fetch(hear=hear)
    found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", head.text, re.MULTILINE)
    await _set_default(repository, git, found[1] if found else "main")


async def _set_default(repository: Repository, git: Git, name: str) -> None:
    """The default branch, with a first commit where there is none."""
    check_ref(name)
    await git("symbolic-ref", "HEAD", f"refs/heads/{name}")
    if await repository.commit_of(git, f"refs/remotes/origin/{name}") is None:
        heads = (await git("for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin")).text.split()
        name = heads[0] if heads else await _unborn(repository, git)
        await git("symbolic-ref", "HEAD", f"refs/heads/{name}")
        if not heads:
            await git("update-ref", f"refs/heads/{name}", await beginning(git), "")
            return
    await git("update-ref", f"refs/heads/{name}", f"refs/remotes/origin/{name}")


async def _unborn(repository: Repository, git: Git) -> str:
    """What an empty repository will call its branch: git tells that to a clone alone."""
    folder = repository.folder / "empty.git"
    await repository.far(git, "clone", "--quiet", "--bare", "--end-of-options", repository.source.url, str(folder))
    empty = attrs.evolve(git, git_dir=folder)
    name = (await empty("symbolic-ref", "--short", "HEAD")).text
    await repository.hands.do("rm", "-rf", "--", str(folder), cwd=repository.folder, what=f"{folder} stays")
    return check_ref(name)


async def beginning(git: Git) -> str:
    """The one first commit of every empty repository, so that all that begins with it has it in common."""
    when = "2000-01-01T00:00:00Z"
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "Colony"), ("EMAIL", "colony@localhost"), ("DATE", when))}  # fmt: skip
    tree = (await git("mktree")).text
    return (await git("commit-tree", tree, stdin=BEGINNING.encode(), env=who)).text


async def ensure_jj(repository: Repository) -> None:
    """Puts a repository of jj's beside the bare one, if there is none yet or only half of one."""
    hands, folder = repository.hands, repository.folder
    ready = folder / JJ_DIR / JJ_READY
    if ready.exists():
        return
    await hands.do("rm", "-rf", "--", JJ_DIR, cwd=folder, what="half a jj repository stays")
    # Nothing is to be checked out here: so HEAD is nowhere for the moment, and whatever lies in the folder is ignored.
    await hands.do("tee", "--", ".gitignore", cwd=folder, what="no room for the repository", stdin=b"*\n")
    git = await repository.git()
    head = (await git("symbolic-ref", "HEAD")).text
    await git("symbolic-ref", "HEAD", "refs/heads/colony/nowhere")
    try:
        jj = Jj(hands=hands, folder=folder, home=repository.home, settings=git.settings)
        await jj("git", "init", "--git-repo", GIT_DIR, str(folder), new=True, what="jj made no repository")
    finally:
        await git("symbolic-ref", "HEAD", head)
    await hands.do("touch", "--", str(ready), cwd=folder, what="no room for the repository")
