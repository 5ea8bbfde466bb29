"""attrs classes to JSON and back; the only (de)serialiser.

Structuring is strict: `"80"` is no integer, `1` is no boolean, unknown fields are refused, and every mistake is told with its path.
"""

from typing import Any, TypeVar, get_args

import attrs
import cattrs
import msgspec
from cattrs.preconf.msgspec import make_converter

from . import clock
from .errors import Invalid
from .events import Missed, Numbered

T = TypeVar("T")


def dump_json(value: object) -> bytes:
    """Any of our values as JSON bytes."""
    return msgspec.json.encode(dump(value))


def dump_flat(value: object) -> bytes:
    """As `dump_json`, many times faster, for a value whose fields are all text, numbers and None."""
    return msgspec.json.encode(value)


def dump(value: object) -> Any:
    """Any of our values as plain dicts, lists and scalars."""
    return _STRICT.unstructure(value)


def load_json(data: bytes | str, kind: type[T]) -> T:
    """A value of `kind` from JSON; raises Invalid (`malformed-json`, `invalid-body`) with every mistake in `details["errors"]`."""
    return load(parse_json(data), kind)


def parse_json(data: bytes | str) -> Any:
    """Plain dicts, lists and scalars from JSON; raises Invalid (`malformed-json`)."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("malformed-json", f"this is not JSON: {error}", "send one JSON object") from error


def load(raw: Any, kind: type[T]) -> T:
    """A value of `kind` from plain dicts, lists and scalars; raises Invalid (`invalid-body`)."""
    return _structure(_STRICT, raw, kind)


def load_reply(data: bytes | str, kind: type[T]) -> T:
    """As `load_json`, but fields that a newer daemon has added are passed over."""
    return _structure(_LENIENT, parse_json(data), kind)


def _structure(converter: cattrs.Converter, raw: Any, kind: type[T]) -> T:
    if attrs.has(kind) and not isinstance(raw, dict):
        errors = [f"expected an object, got {type(raw).__name__} @ $"]
    else:
        try:
            return converter.structure(raw, kind)
        except cattrs.BaseValidationError as error:
            errors = cattrs.transform_error(error)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            errors = [f"{error} @ $"]
    raise Invalid(
        "invalid-body",
        "; ".join(errors),
        "see /openapi.json for the fields and their types",
        details={"errors": errors},
    )


def event_object(item: Numbered | Missed) -> dict[str, Any]:
    """An event, or a hole in the sequence, as the flat object that the faces get."""
    if isinstance(item, Missed):
        return {"seq": item.last, "type": "missed", "first": item.first, "last": item.last}
    head = {"seq": item.seq, "at": clock.rfc3339(item.at), "type": item.event.type_name}
    body: dict[str, Any] = dump(item.event)
    return head | body


def _strict(kind: type) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return structure


def _strict_float(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected float, got {type(value).__name__}")
    return float(value)


def _tuple_hook(converter: cattrs.Converter) -> Any:
    def make(kind: Any) -> Any:
        element = get_args(kind)[0]

        def structure(value: Any, _: Any) -> tuple[Any, ...]:
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"expected array, got {type(value).__name__}")
            found, errors = [], []
            for number, part in enumerate(value):
                try:
                    found.append(converter.structure(part, element))
                except Exception as error:
                    note = cattrs.IterableValidationNote(f"at index {number}", number, element)
                    error.__notes__ = [*getattr(error, "__notes__", []), note]
                    errors.append(error)
            if errors:
                raise cattrs.IterableValidationError("wrong elements", errors, kind)
            return tuple(found)

        return structure

    return make


def _make_converter(*, strict: bool) -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=strict)
    for kind in (int, str, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(float, _strict_float)
    converter.register_structure_hook_factory(
        lambda kind: getattr(kind, "__origin__", None) is tuple, _tuple_hook(converter)
    )
    return converter


_STRICT = _make_converter(strict=True)
_LENIENT = _make_converter(strict=False)
