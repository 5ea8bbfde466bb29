"""The coding agents that Colony knows, by name."""

from .backend import Backend


def standard_backends() -> dict[str, Backend]:
    """All of them; whether one can work on this machine it tells itself (`Backend.check`)."""
    return {}
