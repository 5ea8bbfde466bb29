"""What each kind of event looks like where it is told: its class, beneath the number, the moment and the name of its kind."""

from collections.abc import Iterator
from typing import Any

import msgspec

from colony_core.events import Event, Missed

_NUMBER = {"type": "integer", "minimum": 1}
_HEAD = {"seq": _NUMBER, "at": {"type": "string", "description": "RFC 3339, in UTC"}}


def kinds(event: type[Event] = Event) -> Iterator[type[Event]]:
    """The classes of events that there are."""
    below = event.__subclasses__()
    for each in below:
        yield from kinds(each)
    if not below:
        yield event


def event_schemas(ref: str) -> dict[str, Any]:
    """A schema for each kind by the name of its class, for a hole, and `Event` for any of them; `ref` is how they name each other."""
    found = sorted(kinds(), key=lambda kind: kind.type_name)
    _, schemas = msgspec.json.schema_components(found, ref_template=ref)
    for kind in found:
        _headed(schemas[kind.__name__], kind.type_name, _HEAD)
    _, holes = msgspec.json.schema_components([Missed], ref_template=ref)
    schemas["Missed"] = _headed(holes["Missed"], "missed", {"seq": _NUMBER})
    names = [*(kind.__name__ for kind in found), "Missed"]
    whole = {"title": "Event", "description": "Something that happened, by its `type`; or numbers that are gone."}
    return {**schemas, "Event": {**whole, "oneOf": [{"$ref": ref.format(name=name)} for name in names]}}


def _headed(schema: dict[str, Any], kind: str, head: dict[str, Any]) -> dict[str, Any]:
    # What has a default was added later: events that were kept before are told without.
    schema["required"] = [*head, "type", *schema.get("required", ())]
    schema["properties"] = {**head, "type": {"const": kind}, **schema["properties"]}
    return schema
