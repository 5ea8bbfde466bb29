"""Our site in somebody's Caddy: which parts of its configuration are ours, and how they are put in and taken out. Pure.

One route hands everything below the preview domain to the proxy's Unix socket. It never changes while colonies come and go, since Caddy
ends every open WebSocket when any part of its configuration changes. The route stands in a server of its own, or, where another server of
the same Caddy listens at the same address, as the first route of that one.
"""

import copy
from typing import Any, Literal

import attrs

SERVER = "colony-previews"
"""The name of our server, and the mark of everything else of ours."""
ASK_PATH = f"/{SERVER}"
"""Where the proxy says whether a name deserves a certificate."""
_TLS = f"{SERVER}-tls"
_SNI = f"{SERVER}-sni"

Config = dict[str, Any]
Tls = Literal["internal", "acme", "files", "off"]


@attrs.frozen(kw_only=True)
class Site:
    """What Caddy shall serve: every name below `domain` at `listen` (`":443"`), from the proxy at `socket`.

    `internal` and `acme` make a certificate for a name when it is first asked for; with `acme` Caddy asks at the URL `ask` whether the name
    leads anywhere. `acme_ca` is the authority's directory, where Caddy is not to choose, and `acme_root` the certificate to hold its own
    to. The authority, which comes to port 443, is answered at `listen`. `files` are a certificate and its key. `off` is plain HTTP.
    """

    domain: str
    socket: str
    listen: str = ":443"
    tls: Tls = "internal"
    certificate: str = ""
    key: str = ""
    email: str = ""
    acme_ca: str = ""
    acme_root: str = ""
    ask: str = ""

    @property
    def hosts(self) -> list[str]:
        """The names that are ours; not the domain itself, which may be somebody's home page."""
        return [f"*.{self.domain}", f"*.*.{self.domain}"]


class Clash(Exception):
    """The site does not fit into this configuration."""


def with_site(config: Config | None, site: Site) -> Config:
    """`config` with the site in it, and everything else as it was; what was ours before is replaced. Raises Clash."""
    new = without_site(config)
    servers = _below(new, "apps", "http", "servers")
    shared = next((server for server in servers.values() if site.listen in (server.get("listen") or ())), None)
    if shared is None:
        servers[SERVER] = _own_server(site)
    else:
        shared["routes"] = [_route(site, others=False), *(shared.get("routes") or ())]
        if shared.get("tls_connection_policies"):
            shared["tls_connection_policies"].insert(0, {"@id": _SNI, "match": {"sni": site.hosts}})
    if site.tls in ("internal", "acme"):
        _automate(_below(new, "apps", "tls", "automation"), site)
    elif site.tls == "files":
        loaded = _below(new, "apps", "tls", "certificates")
        file = {"certificate": site.certificate, "key": site.key, "tags": [SERVER]}
        loaded["load_files"] = [*(loaded.get("load_files") or ()), file]
    return new


def without_site(config: Config | None) -> Config:
    """`config` without anything of ours."""
    new = copy.deepcopy(config) or {}
    apps = new.get("apps") or {}
    http, tls = apps.get("http") or {}, apps.get("tls") or {}
    servers = http.get("servers") or {}
    servers.pop(SERVER, None)
    for server in servers.values():
        _drop(server, "routes", lambda route: route.get("@id") == SERVER)
        _drop(server, "tls_connection_policies", lambda policy: policy.get("@id") == _SNI)
    automation, certificates = tls.get("automation") or {}, tls.get("certificates") or {}
    if any(policy.get("@id") == _TLS and policy.get("on_demand") for policy in automation.get("policies") or ()):
        ours = (automation.get("on_demand") or {}).get("ask", "").endswith(ASK_PATH)
        if ours:
            del automation["on_demand"]
    _drop(automation, "policies", lambda policy: policy.get("@id") == _TLS)
    _drop(certificates, "load_files", lambda file: SERVER in (file.get("tags") or ()))
    for owner, key in (
        (http, "servers"), (apps, "http"), (tls, "automation"), (tls, "certificates"), (apps, "tls"), (new, "apps"),
    ):  # fmt: skip
        if owner.get(key) == {}:
            del owner[key]
    return new


def _own_server(site: Site) -> Config:
    server: Config = {"listen": [site.listen], "routes": [_route(site, others=True)]}
    if site.tls == "off":
        return server | {"automatic_https": {"disable": True}}
    automatic = {"disable_redirects": not site.listen.endswith(":443"), "disable_certificates": site.tls == "files"}
    return server | {
        "tls_connection_policies": [{}],
        "automatic_https": {key: True for key, wanted in automatic.items() if wanted},
    }


def _route(site: Site, *, others: bool) -> Config:
    """Everything for the proxy; with `others` also names that are not ours, which the proxy answers with a page."""
    match: list[Config] = [{"host": site.hosts}]
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{site.socket}"}],
        # a restart of the daemon shall be a pause, not a failure
        "load_balancing": {"try_duration": "5s", "try_interval": "250ms"},
        # less than the proxy keeps an idle connection: nothing is sent into one that is just being closed
        "transport": {"protocol": "http", "keep_alive": {"idle_timeout": "60s"}},
    }
    return {"@id": SERVER, "match": [*match, {}] if others else match, "handle": [proxy], "terminal": True}


def _automate(automation: Config, site: Site) -> None:
    issuer: Config = {"module": site.tls}
    if site.tls == "acme":
        roots = [site.acme_root] if site.acme_root else []
        told = {"email": site.email, "ca": site.acme_ca, "trusted_roots_pem_files": roots}
        issuer |= {key: value for key, value in told.items() if value}
        port = int(site.listen.rpartition(":")[2])
        if port != 443:
            # else Caddy takes 80 or 443 for itself while the authority looks, which are not every user's to take
            issuer["challenges"] = {"http": {"disabled": True}, "tls-alpn": {"alternate_port": port}}
        demand = automation.setdefault("on_demand", {})
        if demand.setdefault("ask", site.ask) != site.ask:
            raise Clash(f"this Caddy asks {demand['ask']} before it makes certificates on demand, and can ask only one")
    policy = {"@id": _TLS, "subjects": site.hosts, "on_demand": True, "issuers": [issuer]}
    automation["policies"] = [policy, *(automation.get("policies") or ())]


def _below(config: Config, *path: str) -> Config:
    for key in path:
        if not config.get(key):
            config[key] = {}
        config = config[key]
    return config


def _drop(owner: Config, key: str, ours: Any) -> None:
    """Takes what is ours out of a list; the list itself goes with the last of it, as it was not there before."""
    items = owner.get(key) or ()
    kept = [item for item in items if not (isinstance(item, dict) and ours(item))]
    if len(kept) < len(items):
        owner[key] = kept
        if not kept:
            del owner[key]
