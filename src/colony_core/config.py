"""Settings: defaults, then files, then environment, then flags; validated once.

Sources, later wins: the defaults below, `/etc/colony/config.toml`, `$COLONY_CONFIG` or `~/.config/colony/config.toml`,
`COLONY_<SECTION>__<KEY>`, and what the caller gives. An unknown key is an error that names the nearest known one.

The file is long because every setting of every room stands in it, with its sentence.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from .errors import Invalid, did_you_mean

SYSTEM_CONFIG = Path("/etc/colony/config.toml")
SIBLING_VARIABLES = "COLONY_SERVICE_"
"""What services are told of each other (`naming.service_variable`); no setting begins so."""
BACKENDS = ("auto", "claude", "acp", "hld", "script", "fake")
"""The kinds of coding agents."""
DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_ORIGIN = re.compile(r"^https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = re.compile(r"^(\d+)([KMGT]?)$")
_USUAL = {"http": 80, "https": 443}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_duration(value: Any) -> float:
    """Seconds from `"500ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`, or a number of seconds; raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    found = DURATION.match(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f'expected a duration such as "500ms", "30s" or "5m", got {value!r}')
    return float(found[1]) * _SECONDS[found[2]]


def parse_size(value: Any) -> int:
    """Bytes from `"4M"`, `"512K"`, `"4G"`, or a number of bytes; raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = SIZE.match(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f'expected a size such as "64M" or "4G", got {value!r}')
    return int(found[1]) * _BYTES[found[2]]


def parse_port(value: Any) -> int:
    """A TCP port, 1 to 65535; raises ValueError."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if type(number) is not int or not 1 <= number <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {value!r}")
    return number


def parse_scrollback(value: Any) -> int:
    """Bytes from 4 KiB to 256 MiB; raises ValueError."""
    size = parse_size(value)
    if not 2**12 <= size <= 2**28:
        raise ValueError(f'expected a size from "4K" to "256M", got {value!r}')
    return size


def parse_port_or_zero(value: Any) -> int:
    """A TCP port, or 0 for any free one; raises ValueError."""
    return 0 if value in (0, "0") and value is not False else parse_port(value)


def _count(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if type(number) is not int or number < 1:
        raise ValueError(f"expected a number from 1 on, got {value!r}")
    return number


def _count_or_zero(value: Any) -> int:
    return 0 if value in (0, "0") and value is not False else _count(value)


def _amount(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < float("inf"):
        raise ValueError(f"expected a number from 0 on, got {value!r}")
    return number


def _words(value: Any) -> tuple[str, ...]:
    given = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) and each for each in given):
        raise ValueError(f"expected a list of words, got {value!r}")
    return tuple(given)


def _flag(value: Any) -> bool:
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    if isinstance(value, (bool, str)) and value in known:
        return known[value]
    raise ValueError(f"expected true or false, got {value!r}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def _group(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z_][a-z0-9_-]*\$?|", value):
        raise ValueError(f"expected the name of a group, got {value!r}")
    return value


def _origins(value: Any) -> tuple[str, ...]:
    given = [part for part in value.split(",") if part] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) and _ORIGIN.match(each) for each in given):
        raise ValueError(f"expected addresses such as https://colony.example:8443, got {value!r}")
    return tuple(given)


def _proxies(value: Any) -> tuple[str, ...]:
    given = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"expected addresses or networks such as 127.0.0.1 or 10.0.0.0/8, got {value!r}")
    if {"", "unix"} & set(given):
        raise ValueError("whoever asks over the socket is known by the kernel's word: lead the front to the port")
    return tuple(str(ipaddress.ip_network(each)) if "/" in each else _address(each) for each in given)


def _collector(value: Any) -> str:
    if value != "" and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", _text(value)):
        raise ValueError(f"expected an address such as http://127.0.0.1:4318, got {value!r}")
    return str(value)


def _directory(value: Any) -> str:
    if value != "" and not re.fullmatch(r"https://[^\s/?#@]+(/[^\s?#]*)?", _text(value)):
        raise ValueError(f"expected an address such as https://acme.example/directory, got {value!r}")
    return str(value)


def _address(value: Any) -> str:
    return str(ipaddress.ip_address(_text(value)))


def _network(value: Any) -> str:
    network = ipaddress.ip_network(_text(value))
    if network.version != 4 or network.prefixlen > 28:
        raise ValueError(f"expected an IPv4 network of /28 or larger, got {value!r}")
    return str(network)


def _domain(value: Any) -> str:
    text = _text(value).lower().rstrip(".")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", text):
        raise ValueError(f"expected a domain name, got {value!r}")
    return text


def _any_text(value: Any) -> str:
    return "" if value == "" else _text(value)


def _absolute(value: Any) -> str:
    if value != "" and not Path(_text(value)).is_absolute():
        raise ValueError(f"expected a path from the root, got {value!r}")
    return str(value)


def _listen(value: Any) -> str:
    found = re.fullmatch(r"([0-9.]+|\[[0-9a-fA-F:]+\]|):([0-9]+)", _text(value))
    if not found:
        raise ValueError(f'expected ":443" or "192.0.2.1:443", got {value!r}')
    parse_port(found[2])
    if found[1]:
        ipaddress.ip_address(found[1].strip("[]"))
    return str(value)


@attrs.frozen
class OneOf:
    """A parser of a few words."""

    known: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        """The word; raises ValueError for any other."""
        if value not in self.known:
            raise ValueError(f"expected one of {', '.join(self.known)}, got {value!r}")
        return str(value)


def _choice(*known: str) -> OneOf:
    return OneOf(known)


def _key(default: Any, parse: Callable[[Any], Any], text: str, *, live: bool = False, private: bool = False) -> Any:
    """`live`: it is read at each use, so that a running daemon can take over another value. `private`: it is shown nowhere."""
    return attrs.field(default=default, metadata={"parse": parse, "text": text, "live": live, "private": private})


@attrs.frozen(kw_only=True)
class Server:
    """Where the API listens, besides its Unix socket in the run folder."""

    bind: str = _key("127.0.0.1", _address, "address of the API")
    port: int = _key(8000, parse_port_or_zero, "port of the API; 0 takes any free one")
    origins: tuple[str, ...] = _key(
        (), _origins, "further addresses under which the API is reached, by a front with TLS"
    )
    trusted_proxies: tuple[str, ...] = _key(
        (), _proxies, "addresses and networks of fronts whose X-Forwarded-For says who asks"
    )
    connections: int = _key(512, _count, "connections to the API's port at once, and as many to its socket")


@attrs.frozen(kw_only=True)
class Routing:
    """The built-in preview proxy."""

    bind: str = _key("127.0.0.1", _address, "address of the previews")
    port: int = _key(8088, parse_port_or_zero, "port of the previews; 0 takes any free one")
    domain: str = _key("colony.localhost", _domain, "previews are http://<service>.<colony>.<domain>:<port>")


@attrs.frozen(kw_only=True)
class Caddy:
    """A Caddy of yours in front of the previews, for TLS, HTTP/2 and port 443. docs/previews.md tells how."""

    enabled: bool = _key(False, _flag, "put our site into a running Caddy")
    admin: str = _key("/var/lib/caddy/admin.sock", _absolute, "Unix socket of its admin API")
    listen: str = _key(":443", _listen, "where Caddy serves the previews")
    tls: Literal["internal", "acme", "files", "off"] = _key(
        "internal",
        _choice("internal", "acme", "files", "off"),
        "certificates: Caddy's own authority, a public one (Let's Encrypt), files of yours, or none",
    )
    certificate: str = _key("", _absolute, "with tls = files: the certificate, for the names that you use")
    key: str = _key("", _absolute, "with tls = files: its key")
    email: str = _key("", _any_text, "with tls = acme: whom the authority may write to")
    acme_ca: str = _key(
        "", _directory, "with tls = acme: the directory of another authority than Caddy's own choice, by https"
    )
    acme_root: str = _key(
        "", _absolute, "with tls = acme: the certificate that acme_ca's own is held to, if not the system's"
    )
    group: str = _key("", _any_text, "the group that Caddy runs as, where it is another user than the daemon")


@attrs.frozen(kw_only=True)
class Isolation:
    """Walls between colonies."""

    mode: str = _key(
        "auto", _choice("auto", "root", "ambient", "rootless"), "how to get the rights; auto tries the whole chain"
    )
    base: str = _key("10.200.0.0/16", _network, "colonies get their addresses from here")
    egress: bool = _key(
        True,
        _flag,
        "whether colonies reach the outside: by NAT (sets net.ipv4.ip_forward while the daemon runs), rootless by a proxy",
    )


@attrs.frozen(kw_only=True)
class Processes:
    """Services and their logs."""

    grace: float = _key(
        10.0, parse_duration, "time between SIGTERM and SIGKILL where a service says nothing", live=True
    )
    log_segment: int = _key(4 * 2**20, parse_size, "a log's file is closed at this size", live=True)
    log_age: float = _key(86400.0, parse_duration, "or at this age", live=True)
    log_total: int = _key(64 * 2**20, parse_size, "the oldest files of a colony's log go beyond this size", live=True)


@attrs.frozen(kw_only=True)
class Events:
    """The event log."""

    keep: int = _key(100_000, _count, "so many of the newest events are kept")
    age: float = _key(30 * 86400.0, parse_duration, "and none that is older", live=True)


@attrs.frozen(kw_only=True)
class Terminals:
    """Terminals in colonies, which nobody has to look at to keep them."""

    scrollback: int = _key(
        2**20, parse_scrollback, "so many bytes of a terminal's output are kept and shown again", live=True
    )
    idle: float = _key(
        86400.0, parse_duration, "ends a terminal without viewer, output and input for so long; 0: never", live=True
    )
    most: int = _key(32, _count, "terminals that a colony may have at once", live=True)


@attrs.frozen(kw_only=True)
class Access:
    """Who may come in, and what they may do."""

    group: str = _key(
        "", _group, "members of this group of the machine may use the Unix socket; none where it is empty"
    )
    others: str = _key(
        "look", _choice("look", "nothing"), "what a person may do with the colonies of others", live=True
    )
    session: float = _key(12 * 3600.0, parse_duration, "how long a browser stays logged in", live=True)
    audit_keep: int = _key(100_000, _count, "so many of the newest writes are kept in the audit log")


@attrs.frozen(kw_only=True)
class Log:
    """The daemon's own log, on its stderr."""

    format: Literal["auto", "text", "json"] = _key(
        "auto", _choice("auto", "text", "json"), "auto: text at a terminal, else JSON lines", live=True
    )
    level: Literal["debug", "info", "warning", "error"] = _key(
        "warning", _choice("debug", "info", "warning", "error"), "info tells every request", live=True
    )


@attrs.frozen(kw_only=True)
class Agent:
    """Coding agents, where neither the colony nor the instruction says otherwise. Numbers: 0 is no limit."""

    backend: str = _key(
        "auto",
        _choice(*BACKENDS),
        "which agent works; auto: hld where its daemon answers, else claude, else acp",
        live=True,
    )
    model: str = _key("sonnet", _any_text, "the model; empty: the agent's own choice", live=True)
    max_turns: int = _key(50, _count_or_zero, "rounds with the model that an instruction may take", live=True)
    allowed_tools: tuple[str, ...] = _key((), _words, "the only tools that agents have; none: all", live=True)
    disallowed_tools: tuple[str, ...] = _key((), _words, "tools that agents do not have", live=True)
    system_prompt: str = _key("", _any_text, "instead of the agent's own system prompt", live=True)
    append_system_prompt: str = _key("", _any_text, "behind the agent's own system prompt", live=True)
    permissions: str = _key(
        "edits", _choice("ask", "edits", "all"), "what agents may do without asking a person", live=True
    )
    timeout: float = _key(1800.0, parse_duration, "the time that an instruction may take; 0: any", live=True)
    budget_usd: float = _key(0.0, _amount, "US dollars that a colony's agent may cost", live=True)
    budget_tokens: int = _key(0, _count_or_zero, "tokens that it may use", live=True)
    budget_turns: int = _key(0, _count_or_zero, "rounds with the model that it may take in all", live=True)
    budget_minutes: float = _key(0.0, _amount, "minutes that it may work in all", live=True)
    day_usd: float = _key(0.0, _amount, "US dollars that all agents together may cost in a day (UTC)", live=True)
    day_tokens: int = _key(0, _count_or_zero, "tokens that they may use in a day", live=True)
    acp_command: tuple[str, ...] = _key(
        (), _words, "the ACP agent to run, with its arguments; none: the first found", private=True
    )
    feed_keep: int = _key(20_000, _count, "so many of the newest lines of a colony's feed are kept", live=True)


@attrs.frozen(kw_only=True)
class Telemetry:
    """Traces, for whoever keeps an OpenTelemetry collector."""

    otlp: str = _key("", _collector, "the collector that gets traces: http://127.0.0.1:4318; none where it is empty")


@attrs.frozen(kw_only=True)
class Workspaces:
    """Projects and the working copies of colonies."""

    root: str = _key("", _absolute, "the folder of repos/ and workspaces/; the state folder where it is empty")
    user: str = _key(
        "", _group, "whose they are where a URL was cloned and the daemon is root's; the daemon's own if empty"
    )
    kind: str = _key(
        "auto", _choice("auto", "jj", "git"), "what keeps working copies; auto: jj where it is there", live=True
    )
    fresh: float = _key(
        60.0, parse_duration, "a project is fetched before a workspace unless it was within this", live=True
    )


@attrs.frozen(kw_only=True)
class Folders:
    """Where things lie. The state folder is not the cache folder: systems may wipe caches."""

    state: Path
    run: Path
    templates: Path

    @property
    def store(self) -> Path:
        """The database."""
        return self.state / "colony.db"

    @property
    def logs(self) -> Path:
        """One folder per colony's log."""
        return self.state / "logs"

    @property
    def event_ceiling(self) -> Path:
        """Up to which number events may have been told that the database does not hold."""
        return self.state / "events.ceiling"

    @property
    def socket(self) -> Path:
        """The API's Unix socket."""
        return self.run / "colony.sock"


@attrs.frozen(kw_only=True)
class Config:
    """Everything that can be set, one section per room."""

    folders: Folders
    server: Server = attrs.field(factory=Server)
    routing: Routing = attrs.field(factory=Routing)
    caddy: Caddy = attrs.field(factory=Caddy)
    isolation: Isolation = attrs.field(factory=Isolation)
    processes: Processes = attrs.field(factory=Processes)
    events: Events = attrs.field(factory=Events)
    terminals: Terminals = attrs.field(factory=Terminals)
    access: Access = attrs.field(factory=Access)
    workspaces: Workspaces = attrs.field(factory=Workspaces)
    log: Log = attrs.field(factory=Log)
    agent: Agent = attrs.field(factory=Agent)
    telemetry: Telemetry = attrs.field(factory=Telemetry)

    @property
    def preview_socket(self) -> Path:
        """Where the previews listen for Caddy. What another user may enter lies apart from everything else of ours."""
        run = self.folders.run
        return (run.with_name(f"{run.name}-previews") if self.caddy.group else run) / "previews.sock"

    @property
    def workspaces_root(self) -> Path:
        """The folder of `repos` and `workspaces`."""
        return Path(self.workspaces.root) if self.workspaces.root else self.folders.state

    def preview_url(self, host: str, port: int) -> str:
        """The address of a preview; `port` is the built-in proxy's, which counts where no Caddy stands in front."""
        scheme = "http"
        if self.caddy.enabled:
            scheme = "http" if self.caddy.tls == "off" else "https"
            port = int(self.caddy.listen.rpartition(":")[2])
        return f"{scheme}://{host}/" if port == _USUAL[scheme] else f"{scheme}://{host}:{port}/"


SECTIONS: Mapping[str, type] = {
    "server": Server,
    "routing": Routing,
    "caddy": Caddy,
    "isolation": Isolation,
    "processes": Processes,
    "events": Events,
    "terminals": Terminals,
    "access": Access,
    "log": Log,
    "agent": Agent,
    "telemetry": Telemetry,
    "workspaces": Workspaces,
}


def default_folders(environ: Mapping[str, str] | None = None, uid: int | None = None) -> Folders:
    """State, run and template folders by the XDG rules; root's run folder is `/run/colony`. `COLONY_STATE`, `COLONY_RUN` override."""
    env = os.environ if environ is None else environ
    uid = os.getuid() if uid is None else uid
    home = Path(env.get("HOME") or "/")
    state = Path(env.get("COLONY_STATE") or Path(env.get("XDG_STATE_HOME") or home / ".local/state") / "colony")
    if env.get("COLONY_RUN"):
        run = Path(env["COLONY_RUN"])
    elif env.get("COLONY_STATE"):
        run = state / "run"
    elif uid == 0:
        run = Path("/run/colony")
    elif env.get("XDG_RUNTIME_DIR"):
        run = Path(env["XDG_RUNTIME_DIR"]) / "colony"
    else:
        run = state / "run"
    return Folders(
        state=state, run=run, templates=Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "colony/templates"
    )


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """The user's own file."""
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or "/")
    return Path(env.get("COLONY_CONFIG") or Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "colony/config.toml")


def load_config(
    environ: Mapping[str, str] | None = None,
    *,
    folders: Folders | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of this machine and user; `overrides` are `{"routing.port": 0}`. Raises Invalid naming file and key."""
    env = os.environ if environ is None else environ
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for given in said(env):
        values[given.section][given.key] = given.value
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        values[section][key] = _checked(section, key, value, dotted)
    sections = {name: kind(**values[name]) for name, kind in SECTIONS.items()}
    if sections["caddy"].tls == "files" and not (sections["caddy"].certificate and sections["caddy"].key):
        raise Invalid("invalid-config", "caddy.tls = files needs caddy.certificate and caddy.key", "name both files")
    return Config(folders=folders or default_folders(env), **sections)


@attrs.frozen
class Said:
    """A value that a file or a variable gives, checked; `where` is the file's path, or the variable behind a `$`."""

    section: str
    key: str
    value: Any
    where: str


def _raise(error: Invalid) -> None:
    raise error


def said(environ: Mapping[str, str], mistake: Callable[[Invalid], None] = _raise) -> Iterator[Said]:
    """What files and environment say, in the order in which later wins. Each thing wrong in them goes to `mistake`, and is left out."""
    for section, key, value, where in _read_all(environ, mistake):
        try:
            given = Said(section, key, _checked(section, key, value, where), where)
        except Invalid as error:
            mistake(error)
        else:
            yield given


def _read_all(env: Mapping[str, str], mistake: Callable[[Invalid], None]) -> Iterator[tuple[str, str, Any, str]]:
    if env.get("COLONY_CONFIG") and not config_file(env).exists():
        missing = f"$COLONY_CONFIG: there is no {config_file(env)}"
        mistake(Invalid("invalid-config", missing, "unset it, or name a file that is there"))
    for path in (SYSTEM_CONFIG, config_file(env)):
        try:
            tables = _read(path)
        except Invalid as error:
            mistake(error)
            continue
        for section, table in tables.items():
            if section in SECTIONS and isinstance(table, dict):
                yield from ((section, key, value, str(path)) for key, value in table.items())
            else:
                mistake(_unknown(section, tuple(SECTIONS), str(path)))
    for variable, value in env.items():
        if variable.startswith("COLONY_") and "__" in variable and not variable.startswith(SIBLING_VARIABLES):
            section, _, key = variable.removeprefix("COLONY_").lower().partition("__")
            yield section, key, value, f"${variable}"


@attrs.frozen(kw_only=True)
class Reloaded:
    """What became of settings that were read again: the ones in force, which keys changed, and which wait for the next start."""

    config: Config
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def reloaded(old: Config, new: Config) -> Reloaded:
    """Takes over of `new` what can change while a daemon runs. Pure."""
    config = old
    changed: list[str] = []
    waiting: list[str] = []
    for section, kind in SECTIONS.items():
        before, after = getattr(old, section), getattr(new, section)
        for field in attrs.fields(kind):
            value = getattr(after, field.name)
            if value == getattr(before, field.name):
                continue
            (changed if field.metadata["live"] else waiting).append(f"{section}.{field.name}")
            if field.metadata["live"]:
                config = attrs.evolve(
                    config, **{section: attrs.evolve(getattr(config, section), **{field.name: value})}
                )
    return Reloaded(config=config, changed=tuple(changed), waiting=tuple(waiting))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid("invalid-config", f"{path}: {error}", "mend or move the file") from error


def _checked(section: str, key: str, value: Any, where: str) -> Any:
    if section not in SECTIONS:
        raise _unknown(section, tuple(SECTIONS), where)
    known = attrs.fields_dict(SECTIONS[section])
    if key not in known:
        raise _unknown(key, tuple(known), f"{where} [{section}]")
    try:
        return known[key].metadata["parse"](value)
    except ValueError as error:
        why = "expected another kind of value" if known[key].metadata["private"] else error
        raise Invalid("invalid-config", f"{where}: {section}.{key}: {why}", "see docs/configuration.md") from error


def _unknown(word: str, known: tuple[str, ...], where: str) -> Invalid:
    nearest = did_you_mean(word, known)
    hint = f"did you mean {nearest}?" if nearest else f"known: {', '.join(known)}"
    return Invalid("unknown-key", f"{where}: unknown key {word!r}", hint)
