"""The same verbs as the house, spoken over HTTP: what the command line, workers and gardens use to reach a daemon.

    with Client(discover()) as client:
        view = client.send(calls.colony("hello"))

`target` says which Colony and with which token, `calls` what is asked (pure), `Client` sends it with the standard library alone, so that
a command starts in a blink: neither Trio nor the serialiser is imported before it is needed. `colony_core.remote.streaming` is a door of
its own: it holds sockets open under Trio.
"""

from . import calls
from .blocking import Client
from .calls import Call
from .sse import SseEvent
from .target import Target, discover, local_token_path

__all__ = ["Call", "Client", "SseEvent", "Target", "calls", "discover", "local_token_path"]
