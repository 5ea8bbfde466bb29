"""Processes, their logs and their last words, kept by a keeper that outlives the daemon.

A *keeper* is a small program (standard library only, one per daemon) that starts commands inside their cells, owns their pipes, drains
them into numbered segments on disk, records how they ended and stops whole process trees. The daemon talks to it over a Unix socket and
may be killed at any time: the next one finds the same pids, the next log line, and every end that nobody has acknowledged.

    async with open_keeper(run_dir=run, state_dir=state) as keeper:
        process = await keeper.start(Launch(key="web.1", argv=("python3", "-m", "http.server"), ...))
        exited = await process.wait()
        await keeper.forget(process.key)

If the keeper itself dies, `keeper.lost` is set and every wait raises KeeperLost; a new keeper first ends what the dead one left behind.
A program that embeds Colony may have the same engine in a thread of its own: `open_inline_keeper`.
"""

from .client import Keeper, Process, open_inline_keeper, open_keeper
from .finding import living_keeper
from .keeper.records import is_label
from .keeper.scrollback import Modes
from .launch import Exited, KeeperLost, Launch, LogTarget, OnTerminal, User, owner_of
from .leftovers import kill_leftovers
from .logs import LogBook
from .piped import Ends, Output, open_pipes, see_off, start_piped
from .ring_log import LogLine, Missed, Page
from .terminals import Seen, TerminalState, View, checked_size, open_terminal, resize_terminal

__all__ = [
    "Ends",
    "Exited",
    "Keeper",
    "KeeperLost",
    "Launch",
    "LogBook",
    "LogLine",
    "LogTarget",
    "Missed",
    "Modes",
    "OnTerminal",
    "Output",
    "Page",
    "Process",
    "Seen",
    "TerminalState",
    "User",
    "View",
    "checked_size",
    "is_label",
    "kill_leftovers",
    "living_keeper",
    "open_inline_keeper",
    "open_keeper",
    "open_pipes",
    "open_terminal",
    "owner_of",
    "resize_terminal",
    "see_off",
    "start_piped",
]
