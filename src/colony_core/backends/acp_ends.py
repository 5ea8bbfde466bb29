"""How a prompt over ACP ended: stop reasons and errors, in neutral words. Pure."""

import re
from collections.abc import Mapping

import attrs

from .happenings import Ended, LimitReached
from .jsonrpc import RpcError

AUTH_REQUIRED = -32000
NOT_FOUND = -32002

_STOPS: Mapping[str, tuple[str, str]] = {
    "max_tokens": ("max-tokens", "the model's answer reached its greatest length"),
    "max_turn_requests": ("max-turns", "the agent reached its greatest number of turns"),
    "refusal": ("refused", "the model refused to go on"),
    "cancelled": ("agent-stopped", "the agent stopped by itself, as if it had been asked to"),
}
_KINDS: Mapping[str, str] = {
    "rate_limit": "limit",
    "billing_error": "limit",
    "authentication_failed": "not-logged-in",
    "oauth_org_not_allowed": "not-logged-in",
}
_WORDS: tuple[tuple[str, str], ...] = (
    (r"maximum number of turns", "max-turns"),
    (r"maximum budget", "budget"),
    (r"process exited|session has ended", "agent-died"),
    (r"\b429\b|rate.?limit|usage limit|quota|resource.?exhausted", "limit"),
    (r"(hit|reached) your [\w ]*limit|out of [\w ]*(usage|credits)|credit balance", "limit"),
    (r"\b401\b|not logged in|/login|authenticat|invalid api key|oauth token", "not-logged-in"),
    (r"API Error|\b[45]\d\d\b", "api-error"),
)
_UNTIL = re.compile(r"limit reached\|(\d{10})\b")


@attrs.frozen(kw_only=True)
class Failure:
    """What went wrong, as `Ended` tells it; `limit` where it was the account's."""

    code: str
    text: str
    limit: LimitReached | None = None


def ended_by(reason: object, text: str) -> Ended:
    """The end that a stop reason means; `text` is the agent's last."""
    if reason == "end_turn":
        return Ended(outcome="done", text=text, evidence=("the agent ended its turn",))
    code, what = _STOPS.get(
        str(reason), ("protocol", f"the agent stopped for a reason that we do not know: {reason!s:.80}")
    )
    return Ended(outcome="failed", code=code, text=text or what, evidence=(what,))


def failure_of(error: RpcError) -> Failure:
    """What an error of an agent means, by its code, its kind where it gives one, and its words."""
    text = error.message.removeprefix("Internal error: ")
    kind = error.data.get("errorKind") if isinstance(error.data, dict) else None
    if error.code == AUTH_REQUIRED:
        return Failure(code="not-logged-in", text=text)
    if error.code == NOT_FOUND:
        return Failure(code="session-lost", text=text)
    code = _KINDS.get(str(kind)) or code_of(text)
    if code != "limit":
        return Failure(code=code or "agent-error", text=text)
    return Failure(code=code, text=text, limit=limit_of(text))


def code_of(text: str) -> str:
    """What the words of an error mean, where nothing better tells; empty when they say nothing that we know."""
    return next((code for words, code in _WORDS if re.search(words, text, re.IGNORECASE)), "")


def limit_of(text: str) -> LimitReached:
    """A limit as the words of an error tell it."""
    until = _UNTIL.search(text)
    return LimitReached(text=text, until=float(until[1]) if until else None)
