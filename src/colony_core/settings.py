"""The settings as people meet them: what is in force and who said so, what is wrong, and a JSON schema for editors."""

from collections.abc import Mapping
from typing import Any

import attrs

from . import config
from .errors import Invalid

DEFAULT = "default"
_DURATIONS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES = (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10))
_SIZED = (config.parse_size, config.parse_scrollback)
_PORTS = (config.parse_port, config.parse_port_or_zero)


@attrs.frozen(kw_only=True)
class Setting:
    """One setting: its value as a file would have it, and where that comes from: a path, `$VARIABLE`, or `default`.

    The value of a private one that somebody gave is None.
    """

    name: str
    value: Any
    origin: str
    text: str


def settings(environ: Mapping[str, str]) -> list[Setting]:
    """Every setting that a daemon with this environment would have, flags apart. Raises Invalid as `load_config` does."""
    loaded = config.load_config(environ)
    origins = {(given.section, given.key): given.where for given in config.said(environ)}
    found = []
    for section, kind in config.SECTIONS.items():
        for field in attrs.fields(kind):
            value = getattr(getattr(loaded, section), field.name)
            origin = origins.get((section, field.name), DEFAULT)
            hidden = field.metadata["private"] and origin != DEFAULT
            found.append(
                Setting(
                    name=f"{section}.{field.name}",
                    value=None if hidden else written(field, value),
                    origin=origin,
                    text=field.metadata["text"],
                )
            )
    return found


def mistakes(environ: Mapping[str, str]) -> list[Invalid]:
    """Everything that is wrong in files and environment, in the order of their reading."""
    found: list[Invalid] = []
    for _ in config.said(environ, found.append):
        pass
    if not found:
        try:
            config.load_config(environ)
        except Invalid as error:  # values that are right each, but not together
            found.append(error)
    return found


def written(field: "attrs.Attribute[Any]", value: Any) -> Any:
    """A setting's value as a file would have it: "30s" for seconds, "4M" for bytes."""
    parse = field.metadata["parse"]
    if parse is config.parse_duration:
        return _duration(value)
    if parse in _SIZED:
        return next((f"{value // size}{unit}" for unit, size in _SIZES if value and value % size == 0), value)
    return list(value) if isinstance(value, tuple) else value


def schema() -> dict[str, Any]:
    """The JSON schema of a settings file, for editors: what it refuses, the daemon refuses."""
    sections = {
        section: {
            "type": "object",
            "description": (kind.__doc__ or "").strip(),
            "additionalProperties": False,
            "properties": {
                field.name: _shape(field)
                | {"description": field.metadata["text"], "default": written(field, field.default)}
                for field in attrs.fields(kind)
            },
        }
        for section, kind in config.SECTIONS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Colony",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }


def _shape(field: "attrs.Attribute[Any]") -> dict[str, Any]:
    parse = field.metadata["parse"]
    if isinstance(parse, config.OneOf):
        return {"enum": list(parse.known)}
    if parse is config.parse_duration:
        return {"type": ["string", "number"], "pattern": config.DURATION.pattern, "minimum": 0}
    if parse in _SIZED:
        return {"type": ["string", "integer"], "pattern": config.SIZE.pattern, "minimum": 0}
    if parse in _PORTS:
        return {"type": "integer", "minimum": 0, "maximum": 65535}
    if isinstance(field.default, tuple):
        return {"type": "array", "items": {"type": "string"}}
    kinds: dict[type, dict[str, Any]] = {
        bool: {"type": "boolean"},
        int: {"type": "integer", "minimum": 0},
        float: {"type": "number", "minimum": 0},
        str: {"type": "string"},
    }
    return kinds[type(field.default)]


def _duration(seconds: float) -> str:
    for unit, length in _DURATIONS:
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
