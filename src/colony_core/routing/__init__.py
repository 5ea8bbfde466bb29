"""From a host name to a cell: the addresses of previews, and the proxy that serves them all on one port.

The story of a request: `routes` reads its Host into a Target; the house says how to reach that target (an `Upstream`) or why not (a
`Refusal`, shown as a page); `connection` carries the request there and the answer back. `heads` and `bodies` decide, without any I/O,
what HTTP allows and what must be rewritten; `wires` move the bytes; `listeners` open ports and say who holds a taken one.
Where a Caddy stands in front, `site` decides what its configuration must hold and `caddy` keeps it so.
"""

from .caddy import keep_site, reconcile, withdraw
from .dnsmasq import dnsmasq_settings
from .exchange import Upstream
from .listeners import open_tcp_listener, open_unix_listener, port_holder
from .pages import Refusal
from .proxy import serve_proxy
from .routes import NotOurs, Target, parse_host
from .site import ASK_PATH, Site

__all__ = [
    "ASK_PATH",
    "NotOurs",
    "Refusal",
    "Site",
    "Target",
    "Upstream",
    "dnsmasq_settings",
    "keep_site",
    "open_tcp_listener",
    "open_unix_listener",
    "parse_host",
    "port_holder",
    "reconcile",
    "serve_proxy",
    "withdraw",
]
