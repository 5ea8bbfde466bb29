"""The processes of a keeper: starting, draining, stopping the whole tree, the last words.

A process that has ended stays a zombie until its whole tree is gone: its pid, which is also the number of its session and group, cannot
be another's while members are sought by it. Its end is told after that, so that a restart never runs beside leftovers.

The file is long because asking a tree to end, insisting and making sure of it are read together.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from .exits import Exits
from .spawning import Command, Refusal
from .streams import Source
from .terminals import Terminal
from .timers import Timer, Timers
from .tree import ProcessTable, Seen, Snapshot, Tags, network_inode, read_stat, send_signal

LEFTOVER_GRACE_SECONDS = 2.0
"""What the rest of a tree gets after SIGTERM when its main process ended by itself."""
KILL_PATIENCE_SECONDS = 10.0
"""How long SIGKILL may take before the survivors are named and given up."""
ORPHAN_SECONDS = 2.0
LINGER_SECONDS = 10.0
LOOK_SECONDS = 0.005
LOOK_SECONDS_MAX = 0.1
EMPTY_LOOKS = 2
EMPTY_LOOKS_AFTER_STRAYS = 6


class Child:
    """One process and what is known of it."""

    def __init__(
        self, command: Command, pid: int, network: int | None, sources: list[Source], terminal: Terminal | None = None
    ) -> None:
        self.key = command.key
        self.label = command.label
        self.note = command.note
        self.terminal = terminal
        self.why = ""
        """Why the keeper itself ended it."""
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.network = network
        self.sources = sources
        self.started_at = time.time()
        fields = read_stat(pid)
        self.started_ticks = int(fields[19]) if fields else 0
        self.code: int | None = None
        self.ended_at = 0.0
        self.stopping = False
        self.term_at = 0.0
        self.kill_at = 0.0
        self.insist_at = math.inf
        self.give_up_at = 0.0
        self.look_at = 0.0
        self.look_seconds = LOOK_SECONDS
        self.asked: set[tuple[int, int]] = set()
        self.empty_looks = 0
        self.stuck = False
        self.survivors: list[int] = []

    @property
    def empty_looks_needed(self) -> int:
        """How often in a row nobody must be found: a look takes a while, and who forks and dies meanwhile can be missed by it."""
        return EMPTY_LOOKS_AFTER_STRAYS if any(pid != self.pid for pid, _ in self.asked) else EMPTY_LOOKS

    @property
    def farewell(self) -> tuple[int, ...]:
        """How its tree is asked to end. Shells at a terminal ignore SIGTERM, but not that the terminal is gone.

        They are told so again when half of the grace is over: bash 5.2 forgets a SIGHUP that comes between its prompt and its reading.
        """
        if self.terminal is None:
            return (signal.SIGTERM, signal.SIGCONT)
        return (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT)

    @property
    def ending(self) -> bool:
        return self.stopping or self.code is not None

    def view(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "pid": self.pid,
            "label": self.label,
            "started_at": self.started_at,
            "started_ticks": self.started_ticks,
            "note": self.note,
            "terminal": self.terminal is not None,
        }

    def record(self) -> dict[str, Any]:
        assert self.code is not None
        return {**self.view(), "code": self.code, "at": self.ended_at, "survivors": self.survivors, "why": self.why}


class Children:
    """All processes; `ended` is told each end after its record is kept."""

    def __init__(
        self,
        exits: Exits,
        timers: Timers,
        *,
        keeper: str,
        subreaper: bool,
        ended: Callable[[Child, dict[str, Any]], None],
        stuck: Callable[[Child, list[int]], None],
    ) -> None:
        self.living: dict[str, Child] = {}
        self.lingering: dict[str, Terminal] = {}
        """Terminals whose program ended before anybody had looked."""
        self._exits = exits
        self._timers = timers
        self._keeper = keeper
        self._subreaper = subreaper
        self._ended = ended
        self._stuck = stuck
        self._table = ProcessTable()
        self._look: Timer | None = None

    def add(self, child: Child) -> None:
        self.living[child.key] = child

    def require(self, key: str) -> Child:
        if (child := self.living.get(key)) is None:
            raise Refusal("NotFound", "process-not-found", f"no process with the key {key} is running")
        return child

    def stop(self, child: Child, grace: float) -> None:
        """Asks the tree to end, and makes sure of it after `grace` seconds; a second call may only shorten the wait."""
        now = time.monotonic()
        deadline = now + grace
        child.kill_at = min(child.kill_at, deadline) if child.ending else deadline
        child.stopping = True
        if child.terminal is not None:
            child.insist_at = (now + child.kill_at) / 2
        child.look_at = now
        self._look_soon()

    def expire(self, key: str) -> None:
        """Ends a process whose terminal nobody has used for too long."""
        if (child := self.living.get(key)) is not None and not child.ending:
            child.why = "idle"
            self.stop(child, LEFTOVER_GRACE_SECONDS)

    def signal(self, child: Child, number: int, *, group: bool) -> None:
        """Signals the main process or its group; quietly nothing when it has just ended."""
        if child.code is not None:
            return
        with suppress(ProcessLookupError):
            if group:
                os.killpg(child.pid, number)
            else:
                signal.pidfd_send_signal(child.pidfd, number)

    def main_ended(self, child: Child) -> None:
        """Takes note of an end without reaping it, and turns to what is left of its tree."""
        result = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None or child.code is not None:
            return
        child.code = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        child.ended_at = time.time()
        now = time.monotonic()
        if not child.stopping:
            child.kill_at = now + LEFTOVER_GRACE_SECONDS
        child.look_at = now
        self._look_soon()

    def reap_orphans(self) -> None:
        """Reaps descendants that were re-parented to the keeper; main processes are left for their turn."""
        mains = {child.pid for child in self.living.values()}
        for pid in self._own_children() - mains:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def end_orphans(self) -> None:
        """Ends whoever hid from the end of its tree: for the last moment of the keeper, to which all of them have come down."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (pids := self._own_children()) and time.monotonic() < deadline:
            for pid in pids:  # nobody else reaps them, so that the numbers are theirs
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(LOOK_SECONDS)

    def _own_children(self) -> set[int]:
        try:
            with open("/proc/thread-self/children", "rb") as file:
                return set(map(int, file.read().split()))
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            return set(self._table.look().children.get(os.getpid(), ()))

    def _look_soon(self) -> None:
        due = min((child.look_at for child in self.living.values() if child.ending), default=None)
        if due is None:
            return
        if self._look is not None:
            self._look.cancel()
        self._look = self._timers.later(max(due - time.monotonic(), 0.0), self._look_now)

    def _look_now(self) -> None:
        """One look at /proc for all that are ending."""
        self._look = None
        snapshot, now = self._table.look(), time.monotonic()
        for child in [child for child in self.living.values() if child.ending and child.look_at <= now]:
            self._press(child, self._members(child, snapshot), now)
        self._look_soon()

    def _press(self, child: Child, members: list[Seen], now: float) -> None:
        main_alive = any(member.pid == child.pid for member in members)
        if not members and child.code is None:
            self.main_ended(child)
        if not members and child.code is not None:
            child.empty_looks += 1
            if child.empty_looks >= child.empty_looks_needed:
                self._finish(child)
                return
        else:
            child.empty_looks = 0
        if members and now >= child.kill_at:
            child.give_up_at = child.give_up_at or now + KILL_PATIENCE_SECONDS
            if now >= child.give_up_at and self._give_up(child, members):
                return
            for member in members:
                send_signal(member, signal.SIGKILL)
        else:
            for member in members:
                if (identity := (member.pid, member.started)) not in child.asked:
                    child.asked.add(identity)
                    for number in child.farewell:
                        send_signal(member, number)
                elif now >= child.insist_at:
                    send_signal(member, signal.SIGHUP)
            if now >= child.insist_at:
                child.insist_at = math.inf
        self._plan_look(child, now, wait_for_main=main_alive and now < child.kill_at)

    def _give_up(self, child: Child, members: list[Seen]) -> bool:
        """Names those whom SIGKILL did not end; whether the end of the main process can be told at least."""
        pids = [member.pid for member in members]
        if child.code is not None:
            child.survivors = pids
            self._finish(child)
            return True
        if not child.stuck:
            child.stuck = True
            self._stuck(child, pids)
        return False

    def _plan_look(self, child: Child, now: float, *, wait_for_main: bool) -> None:
        if wait_for_main:
            child.look_at = min(child.kill_at, child.insist_at)
            return
        wait = child.look_seconds
        child.look_seconds = min(wait * 1.5, LOOK_SECONDS_MAX)
        child.look_at = min(now + wait, child.kill_at) if now < child.kill_at else now + wait

    def _members(self, child: Child, snapshot: Snapshot) -> list[Seen]:
        mains = {other.pid for other in self.living.values()}
        spare = mains - {child.pid} | {os.getpid()}
        return snapshot.tree(
            Tags(child.key, self._keeper), child.pid, extra=self._strays(child, snapshot, mains), spare=spare
        )

    def _strays(self, child: Child, snapshot: Snapshot, mains: set[int]) -> Iterable[int]:
        """Orphans in the child's own network namespace whom nobody else there can have left.

        A descendant that cleared its environment, left its session and lost its parents carries no mark but the namespace; it goes with
        the last process of that namespace.
        """
        if not self._subreaper or child.network is None:
            return []
        if any(other.network == child.network for other in self.living.values() if other is not child):
            return []
        orphans = (pid for pid in snapshot.children.get(os.getpid(), ()) if pid not in mains)
        return [pid for pid in orphans if network_inode(pid) == child.network]

    def _finish(self, child: Child) -> None:
        for source in child.sources:
            source.finish()
        if child.terminal is not None:
            child.terminal.finish()
        with suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
        os.close(child.pidfd)
        del self.living[child.key]
        record = child.record()
        self._exits.add(record)
        self._ended(child, record)
        if child.terminal is not None:
            if not (child.stopping or child.terminal.seen):
                self._let_linger(child.key, child.terminal)
            child.terminal.end(record["code"], child.why)

    def _let_linger(self, key: str, terminal: Terminal) -> None:
        """Whoever asked for a terminal may look at it a moment later, when its program has said why it ended."""
        self.lingering[key] = terminal
        self._timers.later(LINGER_SECONDS, partial(self._forget_lingering, key))

    def _forget_lingering(self, key: str) -> None:
        self.lingering.pop(key, None)
