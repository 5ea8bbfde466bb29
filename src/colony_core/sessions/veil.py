"""Keys of an agent's, kept out of what is written down and told of it: an agent may print its environment. Pure.

A key is known by the variable that it came in. What an agent turns it into (base64, the half of it) is not known.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from colony_core.backends import Happening

SHORTEST = 8
"""A shorter value would be cut out of ordinary words."""
_SECRET = re.compile(r"KEY|TOKEN|HEADERS")

T = TypeVar("T")
H = TypeVar("H", bound=Happening)


class Veil:
    """Puts the name of a variable where its value was; made of what one run of an agent finds in its environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        known = {value.strip(): name for name, value in environment.items() if _is_secret(name, value)}
        found = {value: name for value, name in known.items() if len(value) >= SHORTEST}
        self._names = dict(sorted(found.items(), key=lambda item: -len(item[0])))
        self._held = ""

    def over(self, happening: H) -> H:
        """The same, without a key in any of its words."""
        fields = {field.name: getattr(happening, field.name) for field in attrs.fields(type(happening))}
        hidden = {name: veiled for name, value in fields.items() if (veiled := self._hidden(value)) is not value}
        return type(happening)(**{**fields, **hidden}) if hidden else happening

    def within(self, value: T) -> T:
        """The same text, list or mapping, without a key in any of its words."""
        hidden: T = self._hidden(value)
        return hidden

    def piece(self, text: str) -> str:
        """A piece of a text that is being written; what may be the beginning of a key waits for the next piece."""
        text = self._hidden(self._held + text)
        begun = (
            len(text) - at for at in range(max(len(text) - self._longest, 0), len(text)) if self._begins(text[at:])
        )
        held = next(begun, 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def whole(self) -> None:
        """The text is whole and told as such: nothing waits any more."""
        self._held = ""

    @property
    def _longest(self) -> int:
        return max(map(len, self._names), default=0)

    def _begins(self, tail: str) -> bool:
        return any(value.startswith(tail) for value in self._names)

    def _hidden(self, value: Any) -> Any:
        """The value itself where there is nothing to hide."""
        if isinstance(value, str):
            for secret, name in self._names.items():
                if secret in value:
                    value = value.replace(secret, f"‹{name}›")
            return value
        if isinstance(value, dict):
            pairs = {self._hidden(key): self._hidden(inner) for key, inner in value.items()}
            same = all(key in pairs and pairs[key] is inner for key, inner in value.items())
            return value if same else pairs
        if isinstance(value, (list, tuple)):
            items = [self._hidden(inner) for inner in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
        return value


def _is_secret(name: str, value: str) -> bool:
    return _SECRET.search(name) is not None or ("PROXY" in name and "@" in value)
