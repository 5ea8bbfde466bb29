"""From a request to a running process, or to an answer that says why not."""

import errno
import os
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from . import kernel
from .tree import PROCESS_TAG

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}", re.ASCII)
UMASK_OF_CHILDREN = 0o022


class Refusal(Exception):
    """A request that cannot be met; `kind` names the class of error at the daemon's side."""

    def __init__(self, kind: str, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.answer = {"kind": kind, "code": code, "message": message, "hint": hint}


class Command(NamedTuple):
    """What a start request says, checked."""

    key: str
    label: str
    argv: list[str]
    cwd: str
    env: dict[str, str]
    umask: int
    user: tuple[int, int, list[int]] | None
    netns: str | None
    netns_inode: int | None
    note: dict[str, str]

    @classmethod
    def of(cls, request: dict[str, Any]) -> "Command":
        try:
            user = request.get("user")
            command = cls(
                key=str(request["key"]),
                label=str(request["label"]),
                argv=[str(word) for word in request["argv"]],
                cwd=str(request["cwd"]),
                env={str(name): str(value) for name, value in request["env"].items()},
                umask=int(request.get("umask", UMASK_OF_CHILDREN)),
                user=user and (int(user[0]), int(user[1]), [int(group) for group in user[2]]),
                netns=request.get("netns"),
                netns_inode=request.get("netns_inode"),
                note={str(name): str(value) for name, value in request.get("note", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise Refusal("Invalid", "bad-launch", f"a start request lacks or garbles {error}") from error
        command.check()
        return command

    def check(self) -> None:
        if KEY.fullmatch(self.key) is None:
            raise Refusal("Invalid", "bad-process-key", f"{self.key!r} cannot be the key of a process")
        if not self.argv or not self.argv[0]:
            raise Refusal("Invalid", "empty-command", f"the command of {self.label} is empty")
        words = [*self.argv, self.cwd, *self.env, *self.env.values()]
        if any("\0" in word for word in words) or any("=" in name or not name for name in self.env):
            raise Refusal("Invalid", "bad-launch", f"the command of {self.label} holds a NUL or a bad variable name")


class Spawner:
    """Starts commands from the thread that made it, which must have given up what children may not inherit."""

    def __init__(
        self, tags: dict[str, str], *, descriptors: tuple[int, int] | None = None, oom: "OomScore | None" = None
    ) -> None:
        self._tags = tags
        self._descriptors = descriptors
        self._oom = oom or OomScore(-1, 0, 0)
        self._own_inode = os.stat("/proc/thread-self/ns/net").st_ino

    def spawn(self, command: Command, stdio: tuple[int, int, int]) -> tuple[int, int | None]:
        """Starts the command and gives its pid, which the caller must reap, and its network's inode; raises Refusal.

        The inode is None for a process in the keeper's own network.
        """
        if command.netns is None:
            return self._popen(command, stdio), None
        target = _open_network(command)
        try:
            inode = os.fstat(target).st_ino
            if inode == self._own_inode:  # an ordinary user may not even enter the network that it is in
                return self._popen(command, stdio), None
            return self._popen_inside(target, command, stdio), inode
        finally:
            os.close(target)

    def _popen_inside(self, target: int, command: Command, stdio: tuple[int, int, int]) -> int:
        """Starts the command from a thread that enters its network and ends there.

        This thread stays where it is: whoever kills all that lives in a namespace looks at a process by its first thread, and from a cell
        of a user namespace nobody returns to a network of the machine's.
        """
        answer: list[int | BaseException] = []

        def start() -> None:
            try:
                _enter(target, command)
                answer.append(self._popen(command, stdio))
            except BaseException as error:
                answer.append(error)

        thread = threading.Thread(target=start, name="birth")
        thread.start()
        thread.join()
        told = answer[0]
        if isinstance(told, BaseException):
            raise told
        return told

    def _popen(self, command: Command, stdio: tuple[int, int, int]) -> int:
        marks = {PROCESS_TAG: command.key, **self._tags}
        self._oom.as_children()
        try:
            process = subprocess.Popen(
                command.argv,
                stdin=stdio[0],
                stdout=stdio[1],
                stderr=stdio[2],
                cwd=command.cwd,
                env={**marks, **command.env, **marks},  # first, so that they are found early; last, so that they count
                close_fds=True,
                start_new_session=True,
                umask=command.umask,
                preexec_fn=self._limit_descriptors,
                **_identity(command.user),
            )
        except OSError as error:
            raise _refusal(command, error) from error
        except (ValueError, subprocess.SubprocessError) as error:
            raise Refusal("Broken", "start-failed", f"{command.label} could not be started: {error}") from error
        finally:
            self._oom.as_keeper()
        process.returncode = 0  # the end is awaited through a pidfd, not by this object
        return process.pid

    @property
    def _limit_descriptors(self) -> Callable[[], None] | None:
        """What a child does before its program begins, which may look at once; allowed, since nothing else of a keeper runs meanwhile."""
        limits = self._descriptors
        if limits is None or limits == resource.getrlimit(resource.RLIMIT_NOFILE):
            return None
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class OomScore(NamedTuple):
    """The keeper's own readiness to be killed when memory is short, lower than that of its processes."""

    fd: int
    keeper: int
    children: int

    @classmethod
    def lower(cls, keeper: int) -> "OomScore":
        """Lowers the score of this process where it may; the file stays open, for later it may be out of reach."""
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        children = int(os.read(fd, 16))
        score = cls(fd, keeper, children)
        try:
            os.pwrite(fd, b"%d" % keeper, 0)
        except PermissionError:
            return score._replace(keeper=children)
        return score

    def as_children(self) -> None:
        if self.keeper != self.children:
            os.pwrite(self.fd, b"%d" % self.children, 0)

    def as_keeper(self) -> None:
        if self.keeper != self.children:
            os.pwrite(self.fd, b"%d" % self.keeper, 0)


def raise_descriptor_limit(children: int) -> tuple[int, int]:
    """Lets this process hold as many descriptors as it may; gives the limits of its children, for which at most `children` are wanted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(children, hard), hard


def on_terminal(command: Command, terminal: int) -> Command:
    """The command with the terminal behind the descriptor `terminal` as its own, so that Ctrl-C and job control work in it.

    A session leader that has no terminal gets the first one that it opens. A shell does so and is then replaced: no code of ours has to
    run between fork and exec, which would be unsafe beside other threads. What is not there is told here, while there is somebody to tell.
    """
    name = command.argv[0]
    path = os.path.join(command.cwd, name) if "/" in name else name
    if os.path.isdir(command.cwd) and shutil.which(path, path=command.env.get("PATH", os.defpath)) is None:
        raise _refusal(command, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name))
    script = 'exec "$@" <>"$0" >&0 2>&1'
    return command._replace(argv=["/bin/sh", "-c", script, os.ttyname(terminal), *command.argv])


def _identity(user: tuple[int, int, list[int]] | None) -> dict[str, Any]:
    """What Popen needs to become `user`; nothing where it is already so, which lets Popen use vfork."""
    if user is None:
        return {}
    uid, gid, groups = user
    if uid == os.geteuid():
        mine = os.getegid(), set(os.getgroups()) | {os.getegid()}
        if uid != 0 or mine == (gid, set(groups) | {gid}):  # only root can change its groups
            return {}
    return {"user": uid, "group": gid, "extra_groups": groups}


def _open_network(command: Command) -> int:
    try:
        target = os.open(str(command.netns), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Refusal("NotFound", "namespace-missing", f"{command.netns} is not there: {error.strerror}") from error
    inode = os.fstat(target).st_ino
    if command.netns_inode is not None and inode != command.netns_inode:
        os.close(target)
        raise Refusal(
            "WrongState", "namespace-changed", f"{command.netns} is another namespace than expected", "rebuild the cell"
        )
    return target


def _enter(target: int, command: Command) -> None:
    try:
        kernel.enter_network(target)
    except OSError as error:
        raise Refusal(
            "NotAllowed", "namespace-refused", f"the keeper may not enter {command.netns}: {error.strerror}"
        ) from error


def _nowhere(command: Command, error: OSError) -> bool:
    """Whether "permission denied" comes from a closed folder in PATH, while the command is in none of them."""
    name = command.argv[0]
    if not isinstance(error, PermissionError) or error.filename != name or "/" in name or error.errno != errno.EACCES:
        return False
    return not any(os.path.exists(os.path.join(folder, name)) for folder in os.get_exec_path(command.env))


def _refusal(command: Command, error: OSError) -> Refusal:
    name = command.argv[0]
    if error.filename == command.cwd and not os.path.isdir(command.cwd):
        return Refusal(
            "NotFound", "cwd-missing", f"the working directory {command.cwd} of {command.label} is not there"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError) or _nowhere(command, error):
        path = os.path.join(command.cwd, name)
        if "/" in name and os.path.exists(path):
            hint = f"look at the first line of {path}"
            return Refusal("NotFound", "interpreter-missing", f"the interpreter of {name} is not there", hint)
        hint = "check its spelling and PATH, or install it"
        return Refusal("NotFound", "command-not-found", f"{command.label}: command not found: {name}", hint)
    if isinstance(error, PermissionError) and error.errno == errno.EPERM and command.user is not None:
        what = f"the keeper may not start {command.label} as user {command.user[0]}"
        return Refusal("NotAllowed", "user-refused", what, "run the daemon as root, or as the owner of the workspace")
    if isinstance(error, PermissionError):
        what = command.cwd if error.filename == command.cwd else name
        hint = "check the rights of the file and its folders for the workspace's owner"
        return Refusal("NotAllowed", "permission-denied", f"{command.label}: not allowed: {what}", hint)
    if isinstance(error, BlockingIOError | MemoryError) or error.errno in (errno.ENOMEM, errno.ENFILE, errno.EMFILE):
        hint = "stop something, or raise the limits"
        return Refusal("LimitReached", "out-of-resources", f"no room for {command.label}: {error.strerror}", hint)
    return Refusal("Broken", "start-failed", f"{command.label} could not be started: {error.strerror or error}")
