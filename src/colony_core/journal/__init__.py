"""The one event log: every event is numbered, kept on disk within bounds, and told in order to whoever reads from outside.

The bus gives a number at once and wakes the house's own listeners. The journal writes what the bus has numbered, many events to a commit,
and shows an event to readers outside only when it is on the disk. So a number that was told is never given to another event, and whoever
comes back with the last number that they saw goes on exactly behind it, whatever was killed meanwhile.

Where the store refuses (a full disk), the house goes on and events are told from memory; numbers are set aside for that beforehand in a
file that needs no room. When there is room again, what memory still holds is written, and the rest is noted as a hole.
"""

from .entries import EVERYTHING, KINDS, Entry, Selection
from .journal import Journal, open_journal

__all__ = ["EVERYTHING", "KINDS", "Entry", "Journal", "Selection", "open_journal"]
