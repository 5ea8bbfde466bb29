"""The loop of a keeper: one thread, epoll, bounded work per turn.

The file is long because everything that may wake the loop is in it.
"""

import fcntl
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import kernel
from .children import Child, Children
from .exits import Exits
from .requests import Desk
from .segments import LogWriter
from .spawning import Spawner
from .streams import Logs
from .timers import Timer, Timers
from .tree import network_inode
from .wire import Connection, Message, WireError

EVENTS_PER_TURN = 32
"""With READ_BYTES per pipe this bounds a turn to 2 MiB, so that requests and other pipes never wait long."""
NEWS_SECONDS = 0.01
"""Log news are told at most so often."""
LONELY_SECONDS = 60.0
"""A keeper with no daemon, no process and no end to report leaves after so long."""
PREDECESSOR_SECONDS = 5.0
"""How long a keeper that is just leaving may take."""


class Engine:
    """Everything a keeper does, once its process or thread has been prepared for it."""

    def __init__(self, state: "StateFolder", *, spawner: Spawner, program: bool, say: Callable[[str], None]) -> None:
        """`program` tells a keeper of its own, which adopts orphans and waits for daemons, from one inside a daemon."""
        self.identity = state.identity
        self.started_at = time.time()
        self.closing = False
        self.timers = Timers()
        self.exits = Exits(os.path.join(state.path, "exits"))
        self.logs = Logs(self.timers, self._log_advanced)
        self.spawner = spawner
        self.children = Children(
            self.exits,
            self.timers,
            keeper=state.identity,
            subreaper=program,
            ended=self._ended,
            stuck=self._stuck,
        )
        self.desk = Desk(self)
        self.say = say
        self._state = state
        self._program = program
        self._network = network_inode(os.getpid())
        self._sees_all = bool(kernel.permitted() >> kernel.CAP_SYS_PTRACE & 1)
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._new: set[int] = set()
        """Watched since the last poll: what that has told of their numbers was meant for others, by now closed."""
        self._daemon: Connection | None = None
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._news: dict[str, int] = {}
        self._news_timer: Timer | None = None
        self._reap_timer: Timer | None = None
        self._lonely: Timer | None = None
        self._finished = False

    # -- the loop

    def serve(self, *, before_end: Callable[[], None] = lambda: None) -> None:
        """Works until it is told to end, or is lonely for a minute; `before_end` is called while its folder is still locked."""
        self._check_lonely()
        try:
            while not self._finished:
                self._new.clear()
                for fd, mask in self._poll.poll(self.timers.wait_seconds(), EVENTS_PER_TURN):
                    if (handler := self._handlers.get(fd)) is not None and fd not in self._new:
                        handler(mask)
                self.timers.fire()
                self._check_done()
        finally:
            before_end()
            self._close()

    def watch(self, fd: int, handler: Callable[[int], None], mask: int = select.EPOLLIN) -> None:
        self._handlers[fd] = handler
        self._new.add(fd)
        self._poll.register(fd, mask)

    def change_watch(self, fd: int, mask: int) -> None:
        if fd in self._handlers:
            self._poll.modify(fd, mask)

    def unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def listen(self, listener: socket.socket) -> None:
        """Accepts daemons; peers of another user or in another network are sent away."""
        listener.setblocking(False)
        self._listener = listener
        self.watch(listener.fileno(), lambda _: self._accept(listener))

    def connect(self, sock: socket.socket) -> None:
        """Takes a connected socket as a possible daemon."""
        connection = Connection(sock)
        self._connections.add(connection)
        self.watch(sock.fileno(), lambda mask: self._converse(connection, mask))

    def on_child_signal(self) -> None:
        """Soon reaps what was re-parented to this process."""
        if self._reap_timer is None:
            self._reap_timer = self.timers.later(0.05, self._reap)

    # -- processes

    def adopt(self, child: Child) -> None:
        """Watches a process that was just started."""
        self.children.add(child)
        pidfd = child.pidfd

        def main_ended(_: int) -> None:
            self.unwatch(pidfd)
            self.children.main_ended(child)

        self.watch(pidfd, main_ended)
        for source in child.sources:
            self.watch(source.fd, source.on_readable)
        if child.terminal is not None:
            self.watch(child.terminal.fd, child.terminal.on_readable)

    def close_down(self, grace: float) -> None:
        """Stops every process, then ends the loop."""
        self.closing = True
        for child in list(self.children.living.values()):
            self.children.stop(child, grace)

    def _ended(self, child: Child, record: dict[str, Any]) -> None:
        self._tell_news()
        self._tell({"event": "exit", "exit": record})

    def _stuck(self, child: Child, pids: list[int]) -> None:
        self.say(f"{child.key}: SIGKILL did not end {pids}")
        self._tell({"event": "stuck", "key": child.key, "pids": pids})

    def _reap(self) -> None:
        self._reap_timer = None
        self.children.reap_orphans()

    # -- the daemon

    def welcome(self, connection: Connection) -> bool:
        """Makes a connection the daemon's; False while another daemon is connected."""
        if self._daemon is not None and self._daemon is not connection:
            if not self._daemon.dead:
                return False
            self._drop(self._daemon)
        self._daemon = connection
        connection.greeted = True
        return True

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid in (0, os.geteuid()) and self._is_outside(pid):
            self.connect(sock)
        else:
            sock.close()

    def _is_outside(self, pid: int) -> bool:
        """Whether a peer lives in no colony: one from there would start processes outside of it.

        Where the keeper may look at all its processes, who cannot be looked at hides or is gone.
        """
        seen = network_inode(pid)
        return seen == self._network or (seen is None and not self._sees_all)

    def _converse(self, connection: Connection, mask: int) -> None:
        try:
            if mask & select.EPOLLOUT:
                connection.flush()
                self._tell_news()
            alive = not mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) or connection.receive(
                lambda message, fds: self.desk.answer(connection, message, fds)
            )
        except WireError as error:
            self.say(f"a peer was sent away: {error}")
            alive = False
        if not alive:
            self._drop(connection)
        elif connection in self._connections:
            wanted = select.EPOLLIN | (select.EPOLLOUT if connection.blocked else 0)
            self._poll.modify(connection.sock.fileno(), wanted)

    def _drop(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self.unwatch(connection.sock.fileno())
        connection.close()
        if self._daemon is connection:
            self._daemon = None
            self._news.clear()
        if not self._program:
            self.close_down(0.0)

    def _tell(self, message: Message) -> None:
        if self._daemon is not None:
            self._daemon.send(message)
            if self._daemon.blocked:
                self._poll.modify(self._daemon.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _log_advanced(self, writer: LogWriter) -> None:
        self._news[writer.directory] = writer.next - 1
        if self._news_timer is None:
            self._news_timer = self.timers.later(NEWS_SECONDS, self._tell_news)

    def _tell_news(self) -> None:
        """Tells which logs have grown; a daemon that does not read gets one message for all of it later."""
        if self._news_timer is not None:
            self._news_timer.cancel()
            self._news_timer = None
        if self._news and self._daemon is not None and not self._daemon.blocked:
            news, self._news = self._news, {}
            self._tell({"event": "logs", "logs": news})

    # -- the end

    def _check_done(self) -> None:
        if self.closing and not self.children.living:
            self._tell_news()
            self._finished = True
            return
        self._check_lonely()

    def _check_lonely(self) -> None:
        lonely = not (self._connections or self.children.living or self.exits.known)
        if lonely and self._lonely is None:
            self._lonely = self.timers.later(LONELY_SECONDS, self._leave)
        elif not lonely and self._lonely is not None:
            self._lonely.cancel()
            self._lonely = None

    def _leave(self) -> None:
        self.say("no daemon and nothing to do: leaving")
        self._finished = True

    def _close(self) -> None:
        for connection in list(self._connections):
            connection.flush()
            self._drop(connection)
        if self._listener is not None:
            self._listener.close()
        if self._program:
            self.children.end_orphans()
        self.logs.close()
        self._poll.close()
        self._state.unlock()


class StateFolder:
    """The state folder of a keeper, locked for as long as it works there; its keepers share a lasting id."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, mode=0o700, exist_ok=True)
        self._lock = self._lock_patiently()
        self.identity = self._read_identity()

    def unlock(self) -> None:
        os.close(self._lock)

    def _lock_patiently(self) -> int:
        fd = os.open(os.path.join(self.path, "keeper.alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    os.close(fd)
                    raise RuntimeError(f"another keeper works in {self.path}") from error
                time.sleep(0.02)
            else:
                os.truncate(fd, 0)
                os.pwrite(fd, b"%d\n" % os.getpid(), 0)
                return fd

    def _read_identity(self) -> str:
        path = os.path.join(self.path, "keeper.id")
        with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            if identity := file.read().strip():
                return identity
        identity = secrets.token_hex(8)
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(identity)
        os.replace(path + ".new", path)
        return identity
