"""colony.toml in any of its accepted spellings, checked and brought into one normal form. Pure.

The normal form is plain dicts, lists and scalars with the field names of `manifest`. Every mistake of the text is collected before any
is told.

The file is long because the three spellings of a service are brought together in it.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import attrs

from colony_core.errors import Invalid, did_you_mean
from colony_core.naming import check_colony_name, check_service_name

from . import checks as check
from .agent import normal_agent
from .completion import normal_checks
from .environment import normal_environment
from .lines import Path, locate
from .mistakes import DOCS, Mistake, Mistakes, Table, shortened
from .services import normal_services

MAX_BYTES = 2**20
MOST_SERVICES = 100
MOST_KEY_PARTS = 32
_LONG_KEY = re.compile(
    r"""(?<![\w.-])(?:(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.){0,200}+"|'[^'\n]{0,200}+')[ \t]*+\.[ \t]*+)"""
    rf"{{{MOST_KEY_PARTS}}}"
)
SECTIONS = ("colony", "services", "service", "setup", "terminal", "network", "limits", "agent", "checks")
INSTEAD = {
    "links": 'write links = ["other"] in [network]',
    "environment": "write [colony.environment]",
    "env": "write [colony.environment] for all services, or env in one service",
    "ports": "write `port` in a service: [services.web] with port = 4001",
    "template": 'write template = "..." in [colony]',
    "name": 'write name = "..." in [colony]',
    "description": 'write description = "..." in [colony]',
    "command": "write it in a service: [services.web] with command and port",
}


@attrs.frozen
class _Found:
    """A service's table and where the text has it; None where it comes from the template."""

    table: dict[str, Any]
    at: Path | None


@attrs.define
class _Document:
    """The sections of one text, services by name, nothing checked below them."""

    colony: dict[str, Any] = attrs.field(factory=dict)
    services: dict[str, _Found] = attrs.field(factory=dict)
    setup: dict[str, Any] = attrs.field(factory=dict)
    terminal: dict[str, Any] = attrs.field(factory=dict)
    network: dict[str, Any] = attrs.field(factory=dict)
    limits: dict[str, Any] = attrs.field(factory=dict)
    agent: dict[str, Any] = attrs.field(factory=dict)
    checks: dict[str, Any] = attrs.field(factory=dict)


def decode_manifest(data: bytes, *, where: str) -> str:
    """The text of a file; raises Invalid where it is not UTF-8 or too large."""
    if len(data) > MAX_BYTES:
        raise _too_large(where)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _broken("not-utf8", where, line, "not UTF-8", "save the file as UTF-8") from None


def normal_form(text: str, *, where: str, templates: Mapping[str, str] | None, template: str | None) -> dict[str, Any]:
    """The normal form of `text` over its template (which is read with `templates` None); raises Invalid."""
    raw = _parse(text, where)
    mistakes = Mistakes(where, lru_cache(1)(partial(locate, text)))
    document = _document(raw, mistakes)
    name = _template_name(document, templates, template, mistakes)
    if name is not None and templates is not None:
        document = _over(_template(name, templates), document)
    form = _form(document, mistakes)
    mistakes.tell()
    return form | {"template": name, "text": text}


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        if len(text.encode()) > MAX_BYTES:
            raise _too_large(where)
        if found := _LONG_KEY.search(text):  # tomllib's time grows with the square of a key's parts: 20,000 take 20 s
            line = text.count("\n", 0, found.start()) + 1
            message = f"a key of more than {MOST_KEY_PARTS} parts"
            raise _broken("malformed-toml", where, line, message, "no key of a manifest has more than four")
        return tomllib.loads(text)
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise _broken("not-utf8", where, line, "not UTF-8", "save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
        message = found[1] if found else str(error)
        number = int(found[2]) if found and found[2] else text.count("\n") + 1
        place = f", column {found[3]}" if found and found[3] else ""
        raise _broken("malformed-toml", where, number, f"not TOML{place}: {message}", _toml_hint(text)) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists to no end
        raise _broken("malformed-toml", where, None, f"not TOML that can be read: {error}", DOCS) from None


def _toml_hint(text: str) -> str:
    tables, lists = (
        re.search(rf"^[ \t]*{start}", text, re.MULTILINE) for start in (r"\[services\.", r"\[\[services\]\]")
    )
    if tables and lists:
        return "[services.NAME] and [[services]] cannot stand in one file: spell all services the same way"
    return "see https://toml.io"


def _document(raw: dict[str, Any], mistakes: Mistakes) -> _Document:
    top = Table(raw, (), mistakes)
    document = _Document()
    for section in ("colony", "setup", "terminal", "network", "limits", "agent", "checks"):
        setattr(document, section, top.take(section, check.a_table, {}))
    for key in ("services", "service"):
        if key in raw:
            _services(key, top.take(key, _tables), document, mistakes)
    top.finish(INSTEAD)
    if "service" in raw and "services" in raw:
        document.services = dict(
            sorted(document.services.items(), key=lambda item: mistakes.line(item[1].at or ()) or 0)
        )
    return document


def _tables(value: Any) -> list[Any] | dict[str, Any]:
    return value if isinstance(value, (list, dict)) else check.expected("tables", value, "write [services.web]")


def _services(key: str, value: Any, document: _Document, mistakes: Mistakes) -> None:
    """Adds the services of [services.NAME], [[services]] or [[service]]."""
    if isinstance(value, dict) and key == "service":
        mistakes.add(Mistake("[service] is a list", "write [[service]] with a name, or [services.NAME]"), (key,))
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value or ())
    for index, table in pairs:
        at = (key, index)
        try:
            name, body = _named(index, check.a_table(table))
        except Mistake as mistake:
            mistakes.add(mistake, at)
            continue
        if name in document.services:
            first = mistakes.line(document.services[name].at or ())
            mistakes.add(
                Mistake(f"the name {name!r} is taken in line {first}", "names are unique", code="duplicate-service"), at
            )
        else:
            document.services[name] = _Found(body, at)


def _named(index: str | int, table: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    body = dict(table)
    if isinstance(index, str):
        name = index
        if body.pop("name", name) != name:
            raise Mistake("name says otherwise than the table's header", "remove it", below=("name",))
    elif "name" in body:
        name = body.pop("name")
    else:
        raise Mistake("the name is missing", 'write name = "web"')
    try:
        name = check.by_rule(check_service_name)(name)
    except Mistake as mistake:
        mistake.below = () if isinstance(index, str) else ("name",)
        raise
    return name, body


def _template_name(
    document: _Document, templates: Mapping[str, str] | None, given: str | None, mistakes: Mistakes
) -> str | None:
    name = document.colony.get("template", given)
    if name is None:
        return None
    if templates is None:
        mistake = Mistake("a template cannot start from another one", "write what it needs into it")
        mistakes.add(mistake, ("colony", "template"))
        return None
    if not isinstance(name, str) or name not in templates:
        nearest = did_you_mean(name, list(templates)) if isinstance(name, str) else ""
        hint = f"did you mean {nearest}?" if nearest else f"templates: {', '.join(sorted(templates)) or 'none'}"
        mistake = Mistake(
            f"no template is called {shortened(name) if isinstance(name, str) else check.described(name)}",
            hint,
            code="unknown-template",
        )
        mistake.nearest = nearest
        mistakes.add(mistake, ("colony", "template"))
        return None
    return name


def _template(name: str, templates: Mapping[str, str]) -> _Document:
    """The document of a template, which must be a good manifest by itself."""
    where = f"template {name}"
    normal_form(templates[name], where=where, templates=None, template=None)
    return _document(_parse(templates[name], where), Mistakes(where, dict))


def _over(base: _Document, own: _Document) -> _Document:
    """`own` laid over `base`: tables key by key, everything else whole; new services come behind the template's."""
    services = {name: _Found(found.table, None) for name, found in base.services.items()}
    for name, found in own.services.items():
        below = services[name].table if name in services else {}
        services[name] = _Found(_service_over(below, found.table), found.at)
    return _Document(
        colony=_deep(base.colony, own.colony),
        services=services,
        setup=_deep(base.setup, own.setup),
        terminal=_deep(base.terminal, own.terminal),
        network=_deep(base.network, own.network),
        limits=_deep(base.limits, own.limits),
        agent=_deep(base.agent, own.agent),
        checks=_deep(base.checks, own.checks),
    )


def _service_over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    hidden = {"ready"} & own.keys()  # its keys exclude each other, so that it is replaced as one
    if {"command", "start_command"} & own.keys():
        hidden |= {"command", "start_command"}
    return _deep({key: value for key, value in base.items() if key not in hidden}, own)


def _deep(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        merged[key] = below | value if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def _form(document: _Document, mistakes: Mistakes) -> dict[str, Any]:
    colony = Table(document.colony, ("colony",), mistakes)
    form = {
        "name": colony.take("name", check.by_rule(check_colony_name)),
        "description": colony.take("description", partial(check.a_line, most=500), ""),
    }
    colony.take("template", lambda name: name)
    raw = colony.take("environment", check.a_table, {})
    form |= normal_environment(Table(raw, ("colony", "environment"), mistakes), tuple(raw))
    colony.finish(
        {
            "ports": "named ports gave way to services: write [services.web] with command and port = 4001 instead",
            "env": "write [colony.environment]",
            "services": "write [services.web], without colony in front",
        }
    )
    form["services"] = normal_services(_service_tables(document, mistakes))
    form["setup"] = _setup(Table(document.setup, ("setup",), mistakes))
    terminal = Table(document.terminal, ("terminal",), mistakes)
    form["terminal"] = terminal.take("command", lambda value: check.a_command(value)[1])
    terminal.finish()
    network = Table(document.network, ("network",), mistakes)
    form["links"] = network.take("links", check.links, ())
    network.finish()
    form["limits"] = _limits(Table(document.limits, ("limits",), mistakes))
    form["agent"] = normal_agent(Table(document.agent, ("agent",), mistakes))
    form["checks"] = normal_checks(document.checks, mistakes)
    return form


def _service_tables(document: _Document, mistakes: Mistakes) -> dict[str, Table]:
    if len(document.services) > MOST_SERVICES:
        mistakes.add(Mistake(f"more than {MOST_SERVICES} services", "make several colonies of them"), ("services",))
        return {}
    return {
        name: Table(found.table, ("services", name), mistakes, at=found.at or ("services", name))
        for name, found in document.services.items()
    }


def _setup(table: Table) -> list[dict[str, Any]]:
    timeout = table.take("timeout", check.a_duration, 600.0)
    commands = table.take("commands", check.listed(check.a_command), ())
    table.finish({"command": 'write commands = ["..."], a list'})
    return [{"command": list(command), "command_text": text, "timeout": timeout} for command, text in commands]


def _limits(table: Table) -> dict[str, str]:
    limits = {
        "memory": table.take("memory", check.a_size),
        "swap": table.take("swap", check.a_size),
        "cpu": table.take("cpu", _cpus),
        "pids": table.take("pids", lambda value: str(check.a_count(value, least=1))),
    }
    table.finish()
    return {name: value for name, value in limits.items() if value is not None}


def _cpus(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.01 <= value <= 4096:
        check.expected("a number of processors from 0.01 to 4096", value, "cpu = 1.5 is one and a half")
    return f"{value:g}"


def _too_large(where: str) -> Invalid:
    return _broken("manifest-too-large", where, None, f"larger than {MAX_BYTES} bytes", "a manifest is a page of text")


def _broken(code: str, where: str, line: int | None, message: str, hint: str) -> Invalid:
    entry = {"code": code, "message": message, "hint": hint, "path": "", "line": line}
    place = where if line is None else f"{where}:{line}"
    return Invalid(
        code, f"{place}: {message}", hint, details={"file": where, "path": "", "line": line, "errors": [entry]}
    )
