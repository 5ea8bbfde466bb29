"""Which Colony are we talking to: a socket or an address, and the token."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from colony_core.errors import Invalid, NotAllowed

SPELLINGS = "unix:/path/to/colony.sock, http://127.0.0.1:8000 or https://colony.example.org"
MAX_TOKEN_BYTES = 4096
HTTPS_PORT = 443
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@attrs.frozen(kw_only=True)
class Target:
    """A daemon: either the path of its Unix `socket`, or `host` and `port`, with `tls` or without. The token never shows in a repr."""

    socket: str | None = None
    host: str = "localhost"
    port: int = 80
    tls: bool = False
    ca_file: str | None = None
    """With TLS: the authorities (PEM) whose certificates hold, instead of the system's."""
    token: str | None = attrs.field(default=None, repr=False)
    traceparent: str = ""
    """Within which span of a trace the requests are made (W3C Trace Context)."""

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else f"http{'s' if self.tls else ''}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        if self.socket:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.tls and self.port == HTTPS_PORT else f"{host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        told = {"Authorization": self.token and f"Bearer {self.token}", "traceparent": self.traceparent}
        return {name: value for name, value in told.items() if value}


def discover(
    server: str | None = None,
    *,
    token: str | None = None,
    environ: Mapping[str, str] | None = None,
    plain_http_anywhere: bool = False,
) -> Target:
    """The daemon that is meant: `server`, else `COLONY_SERVER`, else the socket in this user's run folder. Asks nobody, connects nowhere.

    The token is `token`, else `COLONY_TOKEN`, else, for an address of this machine, the one that the local daemon left in its run
    folder. A token sent over plain HTTP can be read on its way, so other machines are refused (`plain-http`) unless they are asked by
    `https://` or `plain_http_anywhere` is given. `COLONY_CA_FILE` names authorities that stand in for the system's with `https://`.
    Where `TRACEPARENT` names a span, requests are made within it.
    """
    env = os.environ if environ is None else environ
    token = token or env.get("COLONY_TOKEN") or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise Invalid("invalid-token", "the token holds characters that no token has", "see COLONY_TOKEN, --token")
    trace = env.get("TRACEPARENT", "")
    trace = trace if _TRACEPARENT.fullmatch(trace) else ""
    spelled = server or env.get("COLONY_SERVER")
    if not spelled:
        return Target(socket=str(_run_folder(env) / "colony.sock"), token=token, traceparent=trace)
    if spelled.startswith("unix:"):
        return Target(socket=_socket_path(spelled), token=token, traceparent=trace)
    tls, host, port = _address(spelled)
    if _is_this_machine(host):
        token = token or _left_token(local_token_path(env))
    elif not tls and not plain_http_anywhere:
        raise NotAllowed(
            "plain-http",
            f"{spelled} is another machine, and plain HTTP would show your token on its way",
            f"use https:// (docs/previews.md), or a tunnel: ssh -N -L 8000:127.0.0.1:{port} {host}, then http://127.0.0.1:8000",
        )
    ca_file = (env.get("COLONY_CA_FILE") or None) if tls else None
    return Target(host=host, port=port, tls=tls, ca_file=ca_file, token=token, traceparent=trace)


def local_token_path(environ: Mapping[str, str] | None = None) -> Path:
    """Where the local daemon leaves the token for programs of the same user."""
    return _run_folder(os.environ if environ is None else environ) / "token"


def _run_folder(environ: Mapping[str, str]) -> Path:
    from colony_core.config import default_folders  # reads TOML, which most runs do not need

    return default_folders(environ).run


def _socket_path(spelled: str) -> str:
    path = spelled.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/"):
        raise Invalid("invalid-server", f"{spelled!r} names no absolute path", f"expected {SPELLINGS}")
    return path


def _address(spelled: str) -> tuple[bool, str, int]:
    """Whether with TLS, the host and the port."""
    try:
        parts = urlsplit(spelled)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid("invalid-server", f"{spelled!r}: {error}", f"expected {SPELLINGS}") from error
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme not in ("http", "https") or not host or rest or not _HOST.fullmatch(host) or port == 0:
        raise Invalid("invalid-server", f"{spelled!r} is no address of a daemon", f"expected {SPELLINGS}")
    tls = parts.scheme == "https"
    return tls, host, port or (HTTPS_PORT if tls else 80)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _left_token(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOKEN_BYTES).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
