"""Colony's library: supervised colonies in network namespaces of their own.

The floors of the house, from the ground up; a room may use only what lies below it (checked by `make check`):

    errors clock tracing naming events views config settings wire bus   the ground: values and words, no machinery
    supervision  store  remote                            foundations, each usable alone
    journal                                               the event log: numbered, kept, told in order
    isolation                                             walls: one Cell per colony (namespace, cable, address)
    processes                                             commands, the keeper that holds them, their logs
    routing  backends  workspaces                         from a host name to a cell; coding agents behind one protocol;
                                                          projects and working copies
    access                                                who may come in
    colonies                                              one colony, and all of them on this machine
    sessions                                              the agents at work in colonies: instructions, feeds, questions, budgets
    tools                                                 what an agent may know and do from inside of its colony
    mycelium                                              the roof: opens every room, runs the tree, offers the verbs
    doctor  testing                                       what is missing here; houses for your tests

`import colony_core` is cheap: the public names below are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colony_core.config import Config as Config
    from colony_core.config import load_config as load_config
    from colony_core.errors import ColonyError as ColonyError
    from colony_core.mycelium import Mycelium as Mycelium
    from colony_core.mycelium import open_mycelium as open_mycelium

__version__ = "0.1.0"

_DOORS = {
    "ColonyError": "colony_core.errors",
    "Config": "colony_core.config",
    "Mycelium": "colony_core.mycelium",
    "load_config": "colony_core.config",
    "open_mycelium": "colony_core.mycelium",
}

__all__ = ["ColonyError", "Config", "Mycelium", "__version__", "load_config", "open_mycelium"]


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'colony_core' has no attribute {name!r}")
