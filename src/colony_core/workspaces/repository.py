"""The shared repository of a project: `repos/<project>/repo.git`, bare, and beside it what jj needs.

Nobody works in it. Colonies have working copies of it, and their work comes together here by merges that touch no file: they are made of
objects, and a branch is moved last, only if it still is where it was.
"""

import re
from collections.abc import Callable
from pathlib import Path

import attrs

from colony_core import clock
from colony_core.errors import ColonyError, NotFound, WrongState
from colony_core.views import CommitView, DiffView

from .gitwords import changes, commit_view, conflict_hunks, far_away
from .hands import Git, Hands, Jj, open_git
from .programs import NETWORK_SECONDS, Ran, failure
from .sources import Source, check_ref, is_commit

GIT_DIR, HOME = "repo.git", "home"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
MOST_PATCH_BYTES = 2 * 2**20
MOST_CONFLICT_BYTES = 2**15
MOST_COMMITS = 1000
MOST_IDS_BYTES = 2**26


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

    # ---- its origin

    async def fetch(self, *, hear: Callable[[bytes], object] | None = None) -> None:
        """Brings what the project's origin has. Raises Unreachable, Broken."""
        git = await self.git()
        await self.far(
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

    async def far(self, git: Git, *args: str, hear: Callable[[bytes], object] | None = None) -> Ran:
        """Runs git where it speaks to the origin. Raises Unreachable, Broken, WrongState."""
        return await git.far(
            *args,
            seconds=NETWORK_SECONDS,
            files=self.source.kind == "path",
            what=f"{self.source.url} was not reached",
            hear=hear,
            error=lambda ran: far_away(ran, self.source),
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
            files=changes(counted.words, named.words),
            patch=patch.out.decode(errors="replace"),
            cut=patch.cut,
        )

    async def history(
        self, git: Git, base: str, tip: str, *, after: str | None = None, limit: int = MOST_COMMITS
    ) -> tuple[CommitView, ...]:
        """Commits that `tip` has and `base` has not, the newest first; those behind the commit `after`.

        That one may have been written anew since, as what nobody has committed is at each look: then its parent stands for it.
        Raises NotFound (`commit-not-found`) where neither is one of them.
        """
        own = [tip, *([] if base == EMPTY_TREE else [f"^{base}"]), "--"]
        skip = 0
        if after is not None:
            ids = (await git("rev-list", "--topo-order", *own, most=MOST_IDS_BYTES)).text.split()
            parent = await self.commit_of(git, f"{after}^") if after not in ids and is_commit(after) else None
            if after in ids:
                skip = ids.index(after) + 1
            elif parent in ids:
                skip = ids.index(parent)
            else:
                raise NotFound(
                    "commit-not-found", f"{after[:80]!r} is no commit of the colony's own", "begin again without after"
                )
        ran = await git(
            "log", "--no-show-signature", "--topo-order", "-z", f"--skip={skip}", f"--max-count={limit}",
            "--format=%H%x1f%an%x1f%aI%x1f%B", *own,
        )  # fmt: skip
        return tuple(commit_view(record) for record in ran.words)

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
        await self.far(
            git, "push", "--quiet", "--no-verify", "--no-recurse-submodules", "--receive-pack=git-receive-pack", *lease,
            "--end-of-options", self.source.url, f"{commit}:refs/heads/{branch}",
        )  # fmt: skip
        await git("update-ref", f"refs/remotes/origin/{branch}", commit)
