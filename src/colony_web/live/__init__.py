"""What does not end: a colony's log as it is written, events as they happen, a command in a cell."""

from . import commands, events, logs

__all__ = ["commands", "events", "logs"]
