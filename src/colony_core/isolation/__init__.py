"""Walls: one Cell per colony, a network namespace with its cable, addresses, names and firewall.

The story: `trial` finds out which of the `modes` works here; `kernel` is the one thread that changes networks; `builder` says what it
does, with requests that `netlink` has encoded, and marks all it makes as ours; `opening` opens the `walls`, which keep the slots and pace
what the kernel has to clean up; `cell` is the handle, whose sockets are born inside; `firewall` keeps colonies apart with one static
ruleset, and `passages` lets some of them reach others; `names` answers inside a cell at the addresses of the host's resolvers, in the words
of `dns`. Where the cables lead nowhere, `way_out` serves a proxy inside: it reads what is `asked`, and lets to what is `outside`. `fake` is
cardboard, for tests that ask for it.
"""

from .addresses import Addresses, AddressPlan
from .cell import Cell, Listener, Step, Traffic, kill_namespace, pids_in
from .fake import FakeIsolation, open_fake_isolation
from .firewall import EgressReport, docker_blocks_forwarding, firewall_stands
from .modes import Mode, ModeReport
from .names import Lookup, host_nameservers, needs_forwarding, serve_names
from .opening import PROXIED, open_isolation
from .passages import Passage
from .rootless import enter_rootless, is_rootless
from .trial import choose_mode, probe
from .usage import Processes, processes_in
from .walls import Isolation
from .way_out import PORT as WAY_OUT_PORT
from .way_out import serve_way_out

__all__ = [
    "PROXIED",
    "WAY_OUT_PORT",
    "AddressPlan",
    "Addresses",
    "Cell",
    "EgressReport",
    "FakeIsolation",
    "Isolation",
    "Listener",
    "Lookup",
    "Mode",
    "ModeReport",
    "Passage",
    "Processes",
    "Step",
    "Traffic",
    "choose_mode",
    "docker_blocks_forwarding",
    "enter_rootless",
    "firewall_stands",
    "host_nameservers",
    "is_rootless",
    "kill_namespace",
    "needs_forwarding",
    "open_fake_isolation",
    "open_isolation",
    "pids_in",
    "probe",
    "processes_in",
    "serve_names",
    "serve_way_out",
]
