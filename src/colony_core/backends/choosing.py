"""Which coding agent works where nobody named one. Pure."""

from collections.abc import Mapping

import attrs

from colony_core.errors import Missing

from .backend import Health

AUTO = ("hld", "claude", "acp")
"""What `auto` takes, the first that is ready."""


@attrs.frozen(kw_only=True)
class Choice:
    """A backend's name, and why it."""

    name: str
    why: str


def candidates(wanted: str) -> tuple[str, ...]:
    """The backends that may be taken, the preferred one first."""
    return AUTO if wanted == "auto" else (wanted,)


def choose_backend(wanted: str, healths: Mapping[str, Health]) -> Choice:
    """The first candidate that is ready, of those in `healths`; passed over are told as well.

    Raises Missing (`no-backend`, or `<name>-not-ready`) saying what each lacks and what to do about the last.
    """
    looked: list[str] = []
    hint = ""
    for name in candidates(wanted):
        health = healths.get(name)
        if health is None:
            continue
        if health.ready:
            return Choice(name=name, why=health.detail + (f" ({'; '.join(looked)})" if looked else ""))
        looked.append(f"{name}: {health.detail}")
        hint = health.hint or hint
    code = "no-backend" if wanted == "auto" else f"{wanted}-not-ready"
    raise Missing(code, f"no coding agent is ready: {'; '.join(looked) or 'none is known'}", hint)
