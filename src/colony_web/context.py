"""What the door noted of the request, or WebSocket, that is being handled."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from quart import has_websocket_context, request, websocket

from colony_core.access import Identity, masked_command

from .scope import COMMAND, IDENTITY, REQUEST_ID, TARGET


def current_scope() -> dict[str, Any]:
    """The ASGI scope."""
    return cast("dict[str, Any]", websocket.scope if has_websocket_context() else request.scope)


def current_identity() -> Identity:
    """Who asks."""
    identity: Identity = current_scope()[IDENTITY]
    return identity


def current_request_id() -> str:
    """The name of the request in logs and answers; empty where no door stands before the app."""
    return str(current_scope().get(REQUEST_ID, ""))


def note_command(words: Sequence[str], variables: Mapping[str, str]) -> None:
    """Says for the audit log what a write runs, without the secrets that are known from their names."""
    current_scope()[COMMAND] = masked_command(words, variables)


def note_target(what: str) -> None:
    """Says for the audit log what a write is about."""
    current_scope()[TARGET] = what
