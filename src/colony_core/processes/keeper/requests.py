"""What a daemon may ask of a keeper, and how each question is answered."""

import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .children import Child
from .records import is_label
from .segments import Limits, LogInUseError, LogWriter
from .spawning import Command, Refusal, on_terminal
from .streams import KINDS, Source
from .terminals import Settings, Size, Terminal, open_pair
from .viewers import Viewer
from .wire import Connection, Message

if TYPE_CHECKING:
    from .engine import Engine

PROTOCOL = 2
"""Raised when there is more to be asked for."""
OLDEST_PROTOCOL = 1
"""Raised when a daemon of the version before could not talk to this keeper any more."""
TERMINALS_PROTOCOL = 2
"""From here on there are terminals."""


class Desk:
    """Answers requests, one at a time, in order."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._operations: dict[str, Callable[[Message, tuple[int, ...]], Any]] = {
            "start": self._start,
            "stop": self._stop,
            "signal": self._signal,
            "view": self._view,
            "terminals": self._terminals,
            "forget": self._forget,
            "note": self._note,
            "shutdown": self._shutdown,
        }

    def answer(self, connection: Connection, message: Message, fds: tuple[int, ...]) -> None:
        """Sends the reply to one request; descriptors that came with it are closed here in any case."""
        reply: Message = {"id": message.get("id")}
        try:
            reply["ok"] = self._act(connection, message, fds)
        except Refusal as refusal:
            reply["error"] = refusal.answer
        except Exception as error:  # a keeper outlives its own mistakes: its processes depend on it
            self._engine.say(f"{message.get('op')}: {error!r}")
            reply["error"] = {
                "kind": "Broken",
                "code": "keeper-failed",
                "message": f"the keeper failed at {message.get('op')!r}: {error!r}",
                "hint": "look into keeper.log in the state folder",
            }
        finally:
            for fd in fds:
                os.close(fd)
        connection.send(reply)

    def _act(self, connection: Connection, message: Message, fds: tuple[int, ...]) -> Any:
        op = message.get("op")
        if op == "hello":
            return self._hello(connection, message)
        if not connection.greeted:
            raise Refusal("WrongState", "hello-first", "a conversation with a keeper starts with hello")
        operation = self._operations.get(str(op))
        if operation is None:
            raise Refusal("Invalid", "unknown-request", f"this keeper does not know {op!r}", "restart the keeper")
        return operation(message, fds)

    def _hello(self, connection: Connection, message: Message) -> Message:
        spoken = message.get("protocol")
        if not isinstance(spoken, int) or spoken < OLDEST_PROTOCOL:
            raise Refusal(
                "WrongState",
                "keeper-too-new",
                f"the running keeper speaks protocols {OLDEST_PROTOCOL} to {PROTOCOL}, this daemon speaks {spoken}",
                "stop the colonies with the newer Colony first",
            )
        if not self._engine.welcome(connection):
            raise Refusal("AlreadyExists", "keeper-in-use", "another daemon uses this keeper", "stop it first")
        engine = self._engine
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "identity": engine.identity,
            "started_at": engine.started_at,
            "living": [child.view() for child in engine.children.living.values()],
            "ended": list(engine.exits.known.values()),
            "logs": engine.logs.open_now(),
        }

    def _start(self, message: Message, fds: tuple[int, ...]) -> Message:
        engine = self._engine
        command = Command.of(message)
        if engine.closing:
            raise Refusal("WrongState", "keeper-closing", "the keeper is being shut down")
        if command.key in engine.children.living or command.key in engine.exits.known:
            raise Refusal("AlreadyExists", "process-key-in-use", f"there is a process with the key {command.key}")
        if not is_label(command.label):
            raise Refusal("Invalid", "bad-label", f"{command.label!r} cannot be a label in a log")
        if fds:
            if len(fds) != 3:
                raise Refusal("Invalid", "bad-launch", "a process takes three descriptors or none")
            if message.get("tty") is True:
                command = on_terminal(command, fds[0])
            child = self._launch(command, (fds[0], fds[1], fds[2]), [])
        elif message.get("terminal") is not None:
            child = self._launch_on_terminal(command, message["terminal"])
        else:
            child = self._launch_logged(command, message.get("log"))
        engine.adopt(child)
        return child.view()

    def _launch_logged(self, command: Command, log: Any) -> Child:
        """Starts a command whose output goes to a log, or nowhere."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        theirs, sources = {1: null, 2: null}, []
        try:
            if log is not None:
                for number, kind in KINDS.items():
                    writer = self._acquire(log)
                    ours, theirs[number] = os.pipe2(os.O_CLOEXEC)
                    sources.append(
                        Source(
                            ours,
                            command.label,
                            kind,
                            logs=self._engine.logs,
                            writer=writer,
                            gone=self._engine.unwatch,
                        )
                    )
            return self._launch(command, (null, theirs[1], theirs[2]), sources)
        except BaseException:
            for source in sources:
                source.finish()
            raise
        finally:
            for fd in {null, *theirs.values()}:
                os.close(fd)

    def _launch_on_terminal(self, command: Command, wanted: Any) -> Child:
        try:
            settings = Settings.of(wanted)
        except (KeyError, TypeError, ValueError) as error:
            raise Refusal(
                "Invalid", "bad-terminal", f"a start request lacks or garbles its terminal: {error}"
            ) from error
        engine = self._engine
        try:
            master, slave = open_pair(settings.size, command.user and command.user[0])
        except OSError as error:
            raise Refusal("LimitReached", "out-of-terminals", f"no terminal for {command.label}: {error}") from error
        try:
            pid, network = engine.spawner.spawn(on_terminal(command, slave), (slave, slave, slave))
        except BaseException:
            os.close(master)
            os.close(slave)
            raise
        terminal = Terminal((master, slave), settings, loop=engine, expired=lambda: engine.children.expire(command.key))
        return Child(command, pid, network, [], terminal)

    def _launch(self, command: Command, stdio: tuple[int, int, int], sources: list[Source]) -> Child:
        pid, network = self._engine.spawner.spawn(command, stdio)
        return Child(command, pid, network, sources)

    def _acquire(self, log: Any) -> LogWriter:
        directory, limits = _log_target(log)
        try:
            return self._engine.logs.acquire(directory, limits)
        except LogInUseError as error:
            raise Refusal(
                "AlreadyExists", "log-in-use", f"another keeper writes to the log {directory}", "stop it first"
            ) from error
        except OSError as error:
            raise Refusal(
                "Broken", "log-unusable", f"the log {directory} cannot be opened: {error.strerror}", "check its folder"
            ) from error

    def _stop(self, message: Message, _: tuple[int, ...]) -> None:
        child = self._engine.children.require(str(message.get("key")))
        self._engine.children.stop(child, max(float(message.get("grace", 0.0)), 0.0))

    def _signal(self, message: Message, _: tuple[int, ...]) -> None:
        child = self._engine.children.require(str(message.get("key")))
        try:
            number = signal.Signals(int(message.get("signal", 0)))
        except ValueError as error:
            raise Refusal("Invalid", "bad-signal", str(error)) from error
        self._engine.children.signal(child, number, group=message.get("group") is True)

    def _view(self, message: Message, fds: tuple[int, ...]) -> None:
        """Hands the terminal's bytes to the socket that came with the request, from now on."""
        terminal = self._terminal(str(message.get("key")))
        after, size = message.get("after"), message.get("size")
        try:
            wanted = None if size is None else Size.of(size)
            if len(fds) != 1 or not (after is None or (type(after) is int and after >= 0)):
                raise ValueError("one socket, and a place or none")
            sock = socket.socket(fileno=os.dup(fds[0]))
        except (OSError, TypeError, ValueError) as error:
            raise Refusal("Invalid", "bad-view", f"this cannot be a view of a terminal: {error}") from error
        Viewer(sock, terminal, after=after, size=wanted, loop=self._engine)

    def _terminals(self, message: Message, _: tuple[int, ...]) -> Message:
        """Where the terminals stand whose keys begin with a prefix."""
        prefix = str(message.get("prefix", ""))
        living = self._engine.children.living.values()
        return {c.key: c.terminal.view() for c in living if c.terminal is not None and c.key.startswith(prefix)}

    def _terminal(self, key: str) -> Terminal:
        children = self._engine.children
        terminal = children.lingering.get(key) or children.require(key).terminal
        if terminal is None:
            raise Refusal("WrongState", "no-terminal", f"the process {key} has no terminal")
        return terminal

    def _forget(self, message: Message, _: tuple[int, ...]) -> bool:
        return self._engine.exits.forget(str(message.get("key")))

    def _note(self, message: Message, _: tuple[int, ...]) -> int:
        directory, limits = _log_target(message.get("log"))
        try:
            return self._engine.logs.note(directory, limits, str(message.get("text", "")))
        except LogInUseError as error:
            raise Refusal("AlreadyExists", "log-in-use", f"another keeper writes to the log {directory}") from error
        except OSError as error:
            raise Refusal("Broken", "log-unusable", f"the log {directory}: {error.strerror}") from error

    def _shutdown(self, message: Message, _: tuple[int, ...]) -> None:
        self._engine.close_down(max(float(message.get("grace", 0.0)), 0.0))


def _log_target(log: Any) -> tuple[str, Limits]:
    try:
        directory = str(log["directory"])
        limits = Limits(int(log["segment_bytes"]), int(log["total_bytes"]), float(log["segment_seconds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal("Invalid", "bad-log", f"the target of a log lacks or garbles {error}") from error
    if not os.path.isabs(directory) or limits.segment_bytes < 1 or limits.total_bytes < 1:
        raise Refusal("Invalid", "bad-log", f"{directory!r} cannot be the folder of a log")
    return directory, limits
