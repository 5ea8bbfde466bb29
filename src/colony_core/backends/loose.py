"""Values of JSON that somebody else wrote, taken for what they should be: what is of another type counts as absent. Pure."""

from typing import Any

DEEPEST = 100
LARGEST = 2**53


def as_dict(value: object) -> dict[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: object) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Text, or none."""
    return value if isinstance(value, str) else ""


def as_number(value: object) -> float | None:
    """A number, of a size that means something."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LARGEST < value < LARGEST:
        return None
    return float(value)


def as_arguments(value: object) -> dict[str, Any]:
    """An object to be handed on; one that is nested so deeply that writing it could break its writer is left out."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        if not level:
            return as_dict(value)
        level = [inner for outer in level for inner in _inside(outer)]
    return {}


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
