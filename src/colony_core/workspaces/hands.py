"""Who works on a project's repository: as which user, with which programs, with what over them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from colony_core.errors import ColonyError
from colony_core.processes import User

from .programs import LOCAL_SECONDS, MOST_BYTES, GetKeeper, Ran, failure, run_program
from .safety import jj_arguments, local_environment, network_environment, overrides
from .tools import Tools

CONFIG_SECONDS = 10.0


@attrs.frozen(kw_only=True)
class Hands:
    """`user` is in whose name everything runs (None: the daemon's own), `home` that user's home, `author` whose commits Colony makes."""

    get_keeper: GetKeeper = attrs.field(repr=False)
    tools: Tools
    user: User | None
    home: str
    author: tuple[str, str]
    inherited: Mapping[str, str] = attrs.field(repr=False)

    async def do(self, *argv: str, cwd: Path, what: str, stdin: bytes = b"") -> Ran:
        """Runs a program that has nothing to do with a repository (cp, rm, find). Raises Broken where it fails."""
        env = {"PATH": self.tools.path, "LC_ALL": "C.UTF-8", "HOME": "/"}
        ran = await run_program(self.get_keeper, argv, cwd=cwd, env=env, user=self.user, stdin=stdin)
        if ran.code != 0:
            raise failure(ran, what)
        return ran


@attrs.frozen(kw_only=True)
class Git:
    """git in one repository, with everything overridden by which that repository's settings could start a program.

    Made by `open_git`, for one piece of work: the settings are looked at anew for the next.
    """

    hands: Hands
    git_dir: Path
    work_tree: Path | None
    home: Path
    settings: Mapping[str, str]

    async def __call__(
        self,
        *args: str,
        ok: tuple[int, ...] = (0,),
        stdin: bytes = b"",
        index: Path | None = None,
        env: Mapping[str, str] | None = None,
        most: int = MOST_BYTES,
        what: str = "",
        error: Callable[[Ran], ColonyError | None] | None = None,
    ) -> Ran:
        """Runs `git args`; raises Broken with git's own words where the exit code is none of `ok`."""
        environment = local_environment(
            home=self.home, path=self.hands.tools.path, author=self.hands.author, settings=self.settings
        )
        return await self._run(args, environment, ok, stdin, index, env, most, what, error)

    async def far(
        self,
        *args: str,
        seconds: float,
        files: bool,
        what: str,
        hear: Callable[[bytes], object] | None = None,
        error: Callable[[Ran], ColonyError | None] | None = None,
    ) -> Ran:
        """Runs a git command that talks to another repository: with the credentials of the user."""
        environment = network_environment(
            home=self.hands.home,
            path=self.hands.tools.path,
            inherited=self.hands.inherited,
            settings=self.settings,
            files=files,
        )
        return await self._run(args, environment, (0,), b"", None, None, MOST_BYTES, what, error, seconds, hear)

    async def _run(
        self,
        args: tuple[str, ...],
        environment: dict[str, str],
        ok: tuple[int, ...],
        stdin: bytes,
        index: Path | None,
        env: Mapping[str, str] | None,
        most: int,
        what: str,
        error: Callable[[Ran], ColonyError | None] | None,
        seconds: float = LOCAL_SECONDS,
        hear: Callable[[bytes], object] | None = None,
    ) -> Ran:
        environment["GIT_DIR"] = str(self.git_dir)
        if self.work_tree is not None:
            environment["GIT_WORK_TREE"] = str(self.work_tree)
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        ran = await run_program(
            self.hands.get_keeper,
            (self.hands.tools.need_git(), *args),
            cwd=self.work_tree or self.git_dir,
            env={**environment, **(env or {})},
            user=self.hands.user,
            stdin=stdin,
            seconds=seconds,
            most=most,
            hear=hear,
        )
        if ran.code not in ok:
            raise (error(ran) if error else None) or failure(ran, what or f"git {args[0]} failed")
        return ran


async def open_git(hands: Hands, git_dir: Path, *, home: Path, work_tree: Path | None = None) -> Git:
    """git for one piece of work in the repository `git_dir`, with a look at what its settings name."""
    bare = Git(hands=hands, git_dir=git_dir, work_tree=work_tree, home=home, settings={})
    listed = await bare("config", "--list", "--includes", "--name-only", "-z", what="its settings cannot be read")
    return attrs.evolve(bare, settings=overrides(listed.words))


@attrs.frozen(kw_only=True)
class Jj:
    """jj in one workspace, deaf to the settings of user, repository and workspace where they could start a program."""

    hands: Hands
    folder: Path
    home: Path
    settings: Mapping[str, str]

    async def __call__(self, *args: str, new: bool = False, what: str = "") -> Ran:
        """Runs `jj args`, with `new` where there is no repository yet; raises Broken with jj's own words where it fails."""
        where = () if new else ("-R", str(self.folder))
        tools = self.hands.tools
        environment = local_environment(
            home=self.home, path=tools.path, author=self.hands.author, settings=self.settings
        )
        ran = await run_program(
            self.hands.get_keeper,
            (tools.need_jj(), *jj_arguments(tools.need_git()), "--no-pager", *where, *args),
            cwd=self.folder,
            env=environment,
            user=self.hands.user,
        )
        if ran.code != 0:
            raise failure(ran, what or f"jj {args[0]} failed")
        return ran
