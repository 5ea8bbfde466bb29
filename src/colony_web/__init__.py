"""Colony's HTTP face: a Quart-Trio app over the verbs of a Mycelium, and the hardened server that carries it.

    app        create_app, mount: blueprints, doors and problems put together
    serve      runs the app on a Unix socket and a port until told to stop
    api        one file per noun: read the request, call one verb, write the view
    live       what does not end: log streams, events, commands in a cell
    auth       who is asking, and may they
    problems   any ColonyError as an RFC 9457 problem

`import colony_web` is cheap: Quart is loaded when `create_app` is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colony_web.app import create_app as create_app
    from colony_web.app import mount as mount

__all__ = ["create_app", "mount"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("colony_web.app"), name)
    raise AttributeError(f"module 'colony_web' has no attribute {name!r}")
