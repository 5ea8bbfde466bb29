"""What does not end: a colony's log as it is written, events as they happen, a command in a cell, a terminal."""

from . import commands, events, fanout, logs, terminals

__all__ = ["commands", "events", "fanout", "logs", "terminals"]
