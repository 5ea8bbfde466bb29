"""The services of colony.toml, checked one by one and together, in their normal form. Pure."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from colony_core.errors import did_you_mean

from . import checks as check
from .mistakes import Mistake, Table, unknown_key

READY_SECONDS = 30.0
INSTEAD = {
    "cmd": "write command",
    "exec": "write command",
    "run": "write command",
    "start": "write command",
    "dir": "write cwd",
    "directory": "write cwd",
    "workdir": "write cwd",
    "working_directory": "write cwd",
    "environment": "write env",
    "health": 'write ready = { http = "/health" }',
    "healthcheck": 'write ready = { http = "/health" }',
    "ports": "a service has one port: write port = 4001",
    "requires": "write depends_on",
    "restart_policy": "write restart",
    "timeout": 'write ready = { port = true, timeout = "30s" }, or grace for the stop',
}


def normal_services(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """The normal forms of all services; what is wrong with one of them, or between them, is noted by their tables."""
    forms = [_normal_service(name, table) for name, table in tables.items()]
    ports: dict[int, str] = {}
    for form in forms:
        port = form["port"]
        if port is not None and ports.setdefault(port, form["name"]) != form["name"]:
            mistake = Mistake(f"port {port} is taken by {ports[port]}", "one port, one service", code="duplicate-port")
            tables[form["name"]].wrong(mistake, "port")
    _dependencies(forms, tables)
    return forms


def find_cycle(needs: Mapping[str, list[str]]) -> list[str]:
    """A way from a name back to itself, its first name at both ends; empty where there is none."""
    left = dict(needs)
    while free := [name for name, others in left.items() if not any(other in left for other in others)]:
        for name in free:
            del left[name]
    if not left:
        return []
    path = [next(iter(left))]
    while (ahead := next(other for other in left[path[-1]] if other in left)) not in path:
        path.append(ahead)
    return [*path[path.index(ahead) :], ahead]


def _normal_service(name: str, table: Table) -> dict[str, Any]:
    """The normal form of the service `name`; what is wrong is noted by `table`."""
    command, text = _command(table)
    port = table.take("port", check.a_port)
    form = {
        "name": name,
        "command": list(command),
        "command_text": text,
        "port": port,
        "env": table.take("env", partial(_variables, port=port), {}),
        "env_file": list(table.take("env_file", check.one_or_more(check.a_path_inside), ())),
        "cwd": _below(table.take("cwd", check.a_path_inside)),
        "depends_on": _unique(table),
        "restart": table.take("restart", _restart, {}),
        "ready": table.take("ready", partial(_ready, port=port), _port_ready() if port else None),
        "grace": table.take("grace", partial(check.a_duration, positive=False)),
        "autostart": table.take("autostart", check.a_flag, True),
        "preview": table.take("preview", partial(_preview, port=port), {}),
    }
    table.finish(INSTEAD)
    return form


def _command(table: Table) -> tuple[tuple[str, ...], str]:
    nothing = ((), "")
    given = [key for key in ("command", "start_command") if table.has(key)]
    if len(given) == 2:
        table.wrong(Mistake("command and start_command say the same", "write one of them"), "start_command")
    if not given:
        table.wrong(Mistake("the command is missing", 'write command = "npm start", or start from a template'))
    found = [table.take(key, check.a_command, nothing) for key in ("command", "start_command")]
    return next((each for each in found if each[0]), nothing)


def _below(path: str | None) -> str | None:
    return None if path == "." else path


def _variables(value: Any, *, port: int | None) -> dict[str, str]:
    if port is not None and "PORT" in check.a_table(value):
        raise Mistake("PORT is set from the service's port", "change `port` instead", below=("PORT",))
    return check.variables(value)


def _unique(table: Table) -> list[dict[str, Any]]:
    dependencies = list(table.take("depends_on", check.listed(_dependency), ()))
    names = [dependency["name"] for dependency in dependencies]
    for number, name in enumerate(names):
        if name in names[:number]:
            table.wrong(Mistake(f"{name} is named twice", "once is enough"), "depends_on", number)
    return dependencies


def _dependency(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"name": check.a_line(value, most=63)}
    if not isinstance(value, dict):
        check.expected("the name of a service", value, 'or { name = "api", restart = true }')
    if "name" not in value:
        raise Mistake("the name is missing", 'write { name = "api", restart = true }')
    checks = {"name": partial(check.a_line, most=63), "restart": check.a_flag}
    return _inner(value, checks)


def _restart(value: Any) -> dict[str, Any]:
    policy = check.one_of("always", "on-failure", "never")
    if not isinstance(value, dict):
        return {"policy": policy(value)}
    form = _inner(
        value,
        {
            "policy": policy,
            "count": check.a_count,
            "window": check.a_duration,
            "backoff": check.a_duration,
            "backoff_most": check.a_duration,
        },
    )
    if form.get("backoff", 0.1) > form.get("backoff_most", 5.0):
        if "backoff_most" in form:
            raise Mistake(
                "backoff_most is less than backoff", "waits grow from backoff to backoff_most", below=("backoff_most",)
            )
        form["backoff_most"] = form["backoff"]
    return form


def _ready(value: Any, *, port: int | None) -> dict[str, Any]:
    if value == "port":
        value = {"port": True}
    if not isinstance(value, dict):
        check.expected('"port" or a table', value, 'ready = { http = "/health", timeout = "30s" }')
    kinds = {"port": check.a_flag, "http": check.a_url_path, "log": check.a_pattern}
    form = _inner(value, {**kinds, "timeout": check.a_duration})
    named = [kind for kind in kinds if kind in form]
    if len(named) != 1:
        raise Mistake("expected one of port, http, log", 'ready = { http = "/health" }')
    kind = named[0]
    if form[kind] is False:
        raise Mistake("port = false says nothing", "name http or log instead", below=("port",))
    if kind != "log" and port is None:
        raise Mistake(f"{kind} needs the service's port", "write port = 4001, or ready = { log = ... }", below=(kind,))
    target = "" if kind == "port" else form[kind]
    return {"kind": kind, "target": target, "timeout": form.get("timeout", READY_SECONDS)}


def _preview(value: Any, *, port: int | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        check.expected("a table", value, 'preview = { host = "rewrite" }')
    if port is None:
        raise Mistake("a preview needs the service's port", "write port = 4001")
    return _inner(value, {"host": check.one_of("keep", "rewrite")})


def _port_ready() -> dict[str, Any]:
    return {"kind": "port", "target": "", "timeout": READY_SECONDS}


def _inner(value: dict[str, Any], checks: dict[str, Any]) -> dict[str, Any]:
    """The keys of an inline table; its first mistake is raised."""
    form = {}
    for key, item in value.items():
        if key not in checks:
            mistake = unknown_key(key, checks, {})
            mistake.below = (key,)
            raise mistake
        try:
            form[key] = checks[key](item)
        except Mistake as mistake:
            mistake.below = (key, *mistake.below)
            raise
    return form


def _dependencies(forms: list[dict[str, Any]], tables: Mapping[str, Table]) -> None:
    needs = {form["name"]: [dependency["name"] for dependency in form["depends_on"]] for form in forms}
    for name, names in needs.items():
        for number, other in enumerate(names):
            if other == name:
                mistake = Mistake(f"{name} depends on itself", "remove it", code="cyclic-dependency")
                tables[name].wrong(mistake, "depends_on", number)
            elif other not in needs:
                nearest = did_you_mean(other, list(needs))
                hint = f"did you mean {nearest}?" if nearest else f"services: {', '.join(needs)}"
                mistake = Mistake(f"there is no service {other!r}", hint, code="unknown-dependency")
                mistake.nearest = nearest
                tables[name].wrong(mistake, "depends_on", number)
    cycle = find_cycle({name: [other for other in names if other != name] for name, names in needs.items()})
    if cycle:
        what = f"the services wait for each other: {' → '.join(cycle)}"
        mistake = Mistake(what, "remove one of these dependencies", code="cyclic-dependency")
        tables[cycle[0]].wrong(mistake, "depends_on")
