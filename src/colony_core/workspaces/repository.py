"""The shared repository of a project: `repos/<project>/repo.git`, bare, and beside it what jj needs.

Nobody works in it. Colonies have working copies of it, and their work comes together here by merges that touch no file: they are made of
objects, and a branch is moved last, only if it still is where it was.
"""

import re
from collections.abc import Callable
from pathlib import Path

import attrs

from colony_core import clock
from colony_core.errors import Broken, ColonyError, Invalid, NotFound, Unreachable, WrongState
from colony_core.views import CommitView, DiffView, FileChangeView

from .hands import Git, Hands, Jj, open_git
from .programs import NETWORK_SECONDS, Ran, failure
from .sources import Source, check_ref, is_commit

GIT_DIR, JJ_DIR, JJ_READY, HOME = "repo.git", ".jj", "colony-ready", "home"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
BEGINNING = "Begin\n\nThis repository was empty; Colony has made this commit so that work can begin from it.\n"
MOST_PATCH_BYTES = 2 * 2**20
MOST_CONFLICT_BYTES = 2**15
MOST_COMMITS = 1000
CONTEXT_LINES = 3
NOBODY_THERE = re.compile(
    r"could not resolve host|connection (refused|timed out|reset)|network is unreachable|could not read from remote"
    r"|no route to host|unable to access|operation timed out|host key verification",
    re.IGNORECASE,
)


@attrs.frozen(kw_only=True)
class Base:
    """Where work begins: a commit; and where it is to go: a branch."""

    commit: str
    target: str


@attrs.frozen(kw_only=True)
class Trial:
    """A merge that was tried: its tree, or the files in conflict, each with its conflicts as git writes them."""

    tree: str
    conflicts: tuple[tuple[str, str], ...]
    messages: tuple[str, ...] = ()


class Repository:
    """One project's shared repository. Changes of refs are the caller's to put in a row (a lock per project)."""

    def __init__(self, hands: Hands, folder: Path, source: Source) -> None:
        self.hands = hands
        self.folder = folder
        self.source = source

    @property
    def git_dir(self) -> Path:
        """The bare repository."""
        return self.folder / GIT_DIR

    @property
    def home(self) -> Path:
        """The home that git and jj see here: empty, so that nobody's settings are in force."""
        return self.folder / HOME

    async def git(self) -> Git:
        """git in the shared repository, for one piece of work."""
        return await open_git(self.hands, self.git_dir, home=self.home)

    async def jj(self, folder: Path | None = None) -> Jj:
        """jj in the shared repository or in a workspace of it, for one piece of work."""
        git = await self.git()
        return Jj(hands=self.hands, folder=folder or self.folder, home=self.home, settings=git.settings)

    # ---- making it

    async def fill(self, *, hear: Callable[[bytes], object] | None = None) -> None:
        """Makes the repository in its folder, which is there and empty, and fetches everything. Not atomic: done apart, then moved."""
        await self.hands.do("mkdir", "--", str(self.home), cwd=self.folder, what="no room for the repository")
        plain = Git(hands=self.hands, git_dir=self.git_dir, work_tree=None, home=self.home, settings={})
        await self.hands.do("mkdir", "--", str(self.git_dir), cwd=self.folder, what="no room for the repository")
        await plain("init", "--quiet", "--bare", "--initial-branch=main", what="git made no repository")
        git = await self.git()
        await git("config", "remote.origin.url", self.source.url)
        await git("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
        head = await self._far(git, "ls-remote", "--symref", "--end-of-options", self.source.url, "HEAD")
        await self.fetch(hear=hear)
        found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", head.text, re.MULTILINE)
        await self._set_default(git, found[1] if found else "main")

    async def _set_default(self, git: Git, name: str) -> None:
        """The default branch, with a first commit where there is none."""
        check_ref(name)
        await git("symbolic-ref", "HEAD", f"refs/heads/{name}")
        if await self.commit_of(git, f"refs/remotes/origin/{name}") is None:
            heads = (await git("for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin")).text.split()
            name = heads[0] if heads else await self._unborn(git)
            await git("symbolic-ref", "HEAD", f"refs/heads/{name}")
            if not heads:
                await git("update-ref", f"refs/heads/{name}", await self.beginning(git), "")
                return
        await git("update-ref", f"refs/heads/{name}", f"refs/remotes/origin/{name}")

    async def _unborn(self, git: Git) -> str:
        """What an empty repository will call its branch: git tells that to a clone alone."""
        folder = self.folder / "empty.git"
        await self._far(git, "clone", "--quiet", "--bare", "--end-of-options", self.source.url, str(folder))
        empty = attrs.evolve(git, git_dir=folder)
        name = (await empty("symbolic-ref", "--short", "HEAD")).text
        await self.hands.do("rm", "-rf", "--", str(folder), cwd=self.folder, what=f"{folder} stays")
        return check_ref(name)

    async def beginning(self, git: Git) -> str:
        """The one first commit of every empty repository, so that all that begins with it has it in common."""
        when = "2000-01-01T00:00:00Z"
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "Colony"), ("EMAIL", "colony@localhost"), ("DATE", when))}  # fmt: skip
        tree = (await git("mktree")).text
        return (await git("commit-tree", tree, stdin=BEGINNING.encode(), env=who)).text

    async def ensure_jj(self) -> None:
        """Puts a repository of jj's beside the bare one, if there is none yet or only half of one."""
        ready = self.folder / JJ_DIR / JJ_READY
        if ready.exists():
            return
        await self.hands.do("rm", "-rf", "--", JJ_DIR, cwd=self.folder, what="half a jj repository stays")
        # Nothing is to be checked out here: so HEAD is nowhere for the moment, and whatever lies in the folder is ignored.
        await self.hands.do("tee", "--", ".gitignore", cwd=self.folder, what="no room for the repository", stdin=b"*\n")
        git = await self.git()
        head = (await git("symbolic-ref", "HEAD")).text
        await git("symbolic-ref", "HEAD", "refs/heads/colony/nowhere")
        try:
            jj = Jj(hands=self.hands, folder=self.folder, home=self.home, settings=git.settings)
            await jj("git", "init", "--git-repo", GIT_DIR, str(self.folder), new=True, what="jj made no repository")
        finally:
            await git("symbolic-ref", "HEAD", head)
        await self.hands.do("touch", "--", str(ready), cwd=self.folder, what="no room for the repository")

    async def fetch(self, *, hear: Callable[[bytes], object] | None = None) -> None:
        """Brings what the project's origin has. Raises Unreachable, Broken."""
        git = await self.git()
        await self._far(
            git, "fetch", "--quiet" if hear is None else "--progress", "--no-write-fetch-head", "--no-recurse-submodules",
            "--no-auto-maintenance", "--prune", "--end-of-options", self.source.url, "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*", hear=hear,
        )  # fmt: skip

    async def follow(self, branch: str) -> None:
        """Moves a branch to where its origin's is, if it lies behind. One with work of its own stays, a missing one is made."""
        git = await self.git()
        far = await self.commit_of(git, f"refs/remotes/origin/{branch}")
        near = await self.commit_of(git, f"refs/heads/{branch}")
        if far is None or far == near:
            return
        if near is None:
            await git("update-ref", f"refs/heads/{branch}", far, "")
        elif await self.has(git, far, near) and branch not in await self.checked_out(git):
            await git("update-ref", f"refs/heads/{branch}", far, near)

    async def _far(self, git: Git, *args: str, hear: Callable[[bytes], object] | None = None) -> Ran:
        return await git.far(
            *args,
            seconds=NETWORK_SECONDS,
            files=self.source.kind == "path",
            what=f"{self.source.url} was not reached",
            hear=hear,
            error=lambda ran: _far_away(ran, self.source),
        )

    # ---- looking

    async def default_branch(self, git: Git) -> str:
        """The branch that is taken where none is named."""
        return (await git("symbolic-ref", "--short", "HEAD")).text

    async def base(self, wanted: str | None) -> Base:
        """What `--branch` means: a branch, else a tag, a kept ref or a commit, whose work goes to the default branch. Raises NotFound."""
        git = await self.git()
        default = await self.default_branch(git)
        name = check_ref(wanted) if wanted else default
        await self.follow(name)
        commit = await self.commit_of(git, f"refs/heads/{name}")
        if commit is not None:
            return Base(commit=commit, target=name)
        candidates = [f"refs/tags/{name}", *([name] if name.startswith("refs/") or is_commit(name) else [])]
        for candidate in candidates:
            commit = await self.commit_of(git, candidate)
            if commit is not None:
                return Base(commit=commit, target=default)
        raise NotFound("branch-not-found", f"there is no branch, tag or commit {name}", "see the project's branches")

    async def commit_of(self, git: Git, ref: str) -> str | None:
        """The commit that a full ref or a commit's name stands for."""
        ran = await git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", ok=(0, 1, 128))
        return ran.text if ran.code == 0 and ran.text else None

    async def tree_of(self, git: Git, commit: str) -> str:
        """The hash of everything that is in a commit."""
        return (await git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")).text

    async def has(self, git: Git, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is in the history of `commit`."""
        return (await git("merge-base", "--is-ancestor", ancestor, commit, ok=(0, 1))).code == 0

    async def common(self, git: Git, one: str, other: str) -> str:
        """Where two histories parted; the empty tree where they have nothing in common."""
        ran = await git("merge-base", one, other, ok=(0, 1))
        return ran.text if ran.code == 0 else EMPTY_TREE

    async def checked_out(self, git: Git) -> set[str]:
        """Branches that some working copy has checked out: to move them would make that one dirty."""
        listed = await git("worktree", "list", "--porcelain")
        return set(re.findall(r"^branch refs/heads/(.+)$", listed.text, re.MULTILINE))

    async def is_elsewhere(self, git: Git, commit: str, *, own: str) -> bool:
        """Whether a branch other than `own`, a remote's branch or a tag has the commit."""
        ran = await git(
            "for-each-ref", f"--contains={commit}", "--format=%(refname)", "refs/heads", "refs/remotes", "refs/tags"
        )
        return any(ref != f"refs/heads/{own}" for ref in ran.text.split("\n") if ref)

    async def only_here(self, git: Git, commit: str, *, own: str) -> tuple[str, ...]:
        """Commits that only `commit` has: neither a branch, a remote's, nor a tag. One line each, the newest first."""
        ran = await git(
            "log", "--no-show-signature", "--format=%h %s", f"--max-count={MOST_COMMITS}", commit, "--not",
            f"--exclude={own}", "--branches", "--remotes", "--tags",
        )  # fmt: skip
        return tuple(ran.text.splitlines())

    async def diff(self, git: Git, base: str, tip: str, *, colony: str, target: str, cut: int) -> DiffView:
        """What changed from one commit to another."""
        how = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--submodule=short", base, tip, "--")
        counted = await git("diff", "--numstat", "-z", *how)
        named = await git("diff", "--name-status", "-z", *how)
        patch = await git("diff", "--patch", *how, most=cut)
        return DiffView(
            colony=colony,
            base=base,
            commit=tip,
            target=target,
            files=_changes(counted.words, named.words),
            patch=patch.out.decode(errors="replace"),
            cut=patch.cut,
        )

    async def history(self, git: Git, base: str, tip: str) -> tuple[CommitView, ...]:
        """Commits that `tip` has and `base` has not, the newest first."""
        not_base = [] if base == EMPTY_TREE else [f"^{base}"]
        ran = await git(
            "log", "--no-show-signature", "--topo-order", "-z", f"--max-count={MOST_COMMITS}",
            "--format=%H%x1f%an%x1f%aI%x1f%B", tip, *not_base, "--",
        )  # fmt: skip
        return tuple(_commit_view(record) for record in ran.words)

    # ---- changing

    async def trial(self, git: Git, ours: str, theirs: str) -> Trial:
        """Merges two commits without touching anything."""
        ran = await git(
            "merge-tree", "--write-tree", "--messages", "--name-only", "-z", "--allow-unrelated-histories", ours, theirs,
            ok=(0, 1), what="git could not try the merge",
        )  # fmt: skip
        said = ran.out.decode(errors="replace").split("\0")
        tree, rest = said[0], said[1:]
        files = tuple(dict.fromkeys(rest[: rest.index("")])) if ran.code == 1 and "" in rest else ()
        messages = tuple(part.strip() for part in rest if part.startswith("CONFLICT"))
        if ran.code == 1 and not files:
            raise failure(ran, "git could not try the merge")
        return Trial(
            tree=tree, conflicts=tuple([(f, await self._conflict(git, tree, f)) for f in files]), messages=messages
        )

    async def _conflict(self, git: Git, tree: str, file: str) -> str:
        ran = await git("cat-file", "blob", f"{tree}:{file}", ok=(0, 128), most=MOST_PATCH_BYTES)
        return conflict_hunks(ran.out.decode(errors="replace"))[:MOST_CONFLICT_BYTES]

    async def merge_commit(self, git: Git, tree: str, parents: tuple[str, ...], message: str) -> str:
        """A commit of a merge."""
        words = [word for parent in parents for word in ("-p", parent)]
        return (await git("commit-tree", tree, *words, stdin=message.encode())).text

    async def move(self, git: Git, branch: str, new: str, old: str) -> None:
        """Moves a branch, if it is still where it was. Raises WrongState (`target-moved`, `target-checked-out`)."""
        if branch in await self.checked_out(git):
            raise WrongState(
                "target-checked-out",
                f"the branch {branch} is checked out in a working copy, which would become dirty",
                "git switch --detach there, then again",
            )

        def moved(_: Ran) -> ColonyError:
            return WrongState("target-moved", f"the branch {branch} was moved meanwhile", "try again")

        await git("update-ref", f"refs/heads/{branch}", new, old, error=moved)

    async def keep(self, git: Git, commit: str, colony: str) -> str:
        """A ref that keeps a commit, whatever becomes of the colony: `refs/colony/<name>/<time>`. The same commit is kept once."""
        kept = await git("for-each-ref", f"--points-at={commit}", "--format=%(refname)", f"refs/colony/{colony}")
        if kept.text:
            return kept.text.splitlines()[0]
        moment = re.sub(r"[^0-9TZ]", "", clock.rfc3339(clock.unix_now()))
        ref = f"refs/colony/{colony}/{moment}"
        await git("update-ref", ref, commit)
        return ref

    async def push(self, git: Git, commit: str, branch: str, *, replaces: bool) -> None:
        """Puts a commit onto a branch of the origin. With `replaces` what we have pushed there before may go. Raises Unreachable."""
        known = await self.commit_of(git, f"refs/remotes/origin/{branch}")
        lease = [f"--force-with-lease=refs/heads/{branch}:{known or ''}"] if replaces else []
        await self._far(
            git, "push", "--quiet", "--no-verify", "--no-recurse-submodules", "--receive-pack=git-receive-pack", *lease,
            "--end-of-options", self.source.url, f"{commit}:refs/heads/{branch}",
        )  # fmt: skip
        await git("update-ref", f"refs/remotes/origin/{branch}", commit)


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


def _far_away(ran: Ran, source: Source) -> ColonyError | None:
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


def _changes(counted: list[str], named: list[str]) -> tuple[FileChangeView, ...]:
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


def _commit_view(record: str) -> CommitView:
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
