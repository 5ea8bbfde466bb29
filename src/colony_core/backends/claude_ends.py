"""How a run of Claude Code ended, what it used, and whether a limit of the account was the reason: read off its lines, without I/O."""

import re
from typing import Any

import attrs

from .happenings import Ended, LimitReached, Notice, Usage
from .loose import as_dict, as_dicts, as_number

_EPOCH = re.compile(r"limit reached\|(\d{10,13})")
_LIMIT = re.compile(r"usage limit reached|hit your [\w ]*limit|exceed[\w ]* rate limit|\brate[- ]limit", re.IGNORECASE)
_CODES = {"error_max_turns": "max-turns", "error_max_budget_usd": "budget"}
_BY_CAUSE = {
    "rate_limit": "limit",
    "billing_error": "limit",
    "authentication_failed": "not-logged-in",
    "oauth_org_not_allowed": "not-logged-in",
}
_NOT_LOGGED_IN = re.compile(r"not logged in|please run /login|invalid api key", re.IGNORECASE)
WAITS_LONG_SECONDS = 60.0
"""A retry that is further away than this is not waited for by anybody: it is told as a limit."""


def texts(value: Any) -> str:
    """The text of a content that is a string, or a list of blocks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    parts = (part if isinstance(part, dict) else {"type": "text", "text": part} for part in value)
    shown = (
        part.get("text") if isinstance(part.get("text"), str) else f"[{part.get('type', 'something')}]"
        for part in parts
    )
    return "\n".join(str(part) for part in shown)


def count(value: Any) -> int:
    """How many; 0 where that is not said."""
    return max(int(as_number(value) or 0), 0)


def ended(line: dict[str, Any], *, stopping: bool, cause: str = "") -> Ended:
    """The end that a result line tells. `is_error` decides; its subtype is `success` for failures of the API, too.

    `cause` is the word for what the API refused, where an earlier line told one.
    """
    subtype = str(line.get("subtype", ""))
    status = line.get("api_error_status")
    failed = line.get("is_error") is not False
    errors = [str(error) for error in line.get("errors") or ()] if isinstance(line.get("errors"), list) else []
    text = "\n".join(errors) or texts(line.get("result")) or (subtype if failed else "")
    evidence = [f"claude told its result: {subtype or 'without a name'}{', as an error' if failed else ''}"]
    if type(status) is int:
        evidence.append(f"the model's API answered {status}")
    denials = line.get("permission_denials")
    if isinstance(denials, list) and denials:
        evidence.append(f"uses of tools that were denied: {len(denials)}")
    if not failed:  # what is interrupted ends with an error: this had ended before it heard us
        return Ended(outcome="done", text=text, evidence=tuple(evidence))
    if stopping:
        return Ended(outcome="stopped", evidence=("we asked it to stop", *evidence))
    return Ended(outcome="failed", text=text, code=_code(subtype, status, text, line, cause), evidence=tuple(evidence))


def _code(subtype: str, status: Any, text: str, line: dict[str, Any], cause: str) -> str:
    if subtype in _CODES:
        return _CODES[subtype]
    if "No conversation found" in text:
        return "session-lost"
    if cause in _BY_CAUSE:
        return _BY_CAUSE[cause]
    if status == 429 or (type(status) is not int and _LIMIT.search(text)):
        return "limit"
    if status == 401 or _NOT_LOGGED_IN.search(text):
        return "not-logged-in"
    if line.get("stop_reason") == "refusal":
        return "refused"
    return "agent-error" if subtype == "error_during_execution" else "api-error"


@attrs.define
class Limits:
    """What has been heard of the account's limits."""

    until: float | None = None
    told: bool = False

    def event(self, info: Any) -> list[LimitReached | Notice]:
        """From a line `rate_limit_event`."""
        if not isinstance(info, dict):
            return []
        name = str(info.get("rateLimitType", "usage")).replace("_", " ")
        if info.get("status") == "rejected" and not info.get("isUsingOverage"):
            return [self._reached(f"the {name} limit of the account is reached", as_number(info.get("resetsAt")))]
        used = as_number(info.get("utilization"))
        if info.get("status") == "allowed_warning" and used is not None:
            return [Notice(text=f"{used:.0%} of the account's {name} limit is used", code="limit-near")]
        return []

    def retry(self, line: dict[str, Any], now: float) -> list[LimitReached | Notice]:
        """From a line `api_retry`."""
        delay = (as_number(line.get("retry_delay_ms")) or 0.0) / 1000
        status, why = line.get("error_status"), str(line.get("error", "unknown")).replace("_", " ")
        what = f"the model's API answered {status} ({why})" if status else f"the model's API cannot be reached ({why})"
        attempt = f"attempt {line.get('attempt')} of {line.get('max_retries')} in {delay:.1f} s"
        found: list[LimitReached | Notice] = [Notice(text=f"{what}: {attempt}", code="retry")]
        if status == 429 and delay >= WAITS_LONG_SECONDS:
            found.append(self._reached(what, now + delay))
        return found

    def result(self, end: Ended) -> list[LimitReached | Notice]:
        """From the end itself, where nothing told it before."""
        if end.code != "limit" or self.told:
            return []
        found = _EPOCH.search(end.text)
        until = float(found[1]) if found else None
        return [self._reached(end.text, until / 1000 if until and until > 1e11 else until)]

    def _reached(self, text: str, until: float | None) -> LimitReached:
        self.told, self.until = True, until
        return LimitReached(text=text, until=until)


@attrs.define
class Meter:
    """What the run has used: counted from the model's messages as they come, corrected upwards by the result line."""

    usage: Usage = attrs.field(factory=Usage)

    def message_began(self) -> None:
        self.usage = attrs.evolve(self.usage, turns=(self.usage.turns or 0) + 1)

    def message(self, usage: Any) -> Usage | None:
        """From the end of one message of the model's."""
        if not isinstance(usage, dict):
            return None
        used = _tokens(usage)
        self.usage = attrs.evolve(self.usage, **{name: getattr(self.usage, name) + used[name] for name in used})
        return self.usage

    def result(self, line: dict[str, Any]) -> Usage:
        """From the result line. Its cost counts from the start of the process, and a process of ours has one turn."""
        parts = as_dicts(list(as_dict(line.get("modelUsage")).values()))
        sums = {name: sum(count(part.get(field)) for part in parts) for name, field in _OF_MODELS.items()}
        plain = _tokens(as_dict(line.get("usage")))
        cost = as_number(line.get("total_cost_usd"))
        tokens = {name: max(getattr(self.usage, name), sums[name], plain[name]) for name in sums}
        turns = self.usage.turns or count(line.get("num_turns"))  # which also counts tools and interrupts
        self.usage = Usage(cost_usd=max(cost, 0.0) if cost is not None else None, turns=turns, **tokens)
        return self.usage


_OF_MESSAGES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}
_OF_MODELS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheCreationInputTokens",
}


def _tokens(usage: Any) -> dict[str, int]:
    return {name: count(usage.get(field)) for name, field in _OF_MESSAGES.items()}
