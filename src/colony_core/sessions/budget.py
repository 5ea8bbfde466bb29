"""How much agents may use, how much they have used, and what follows from it. Pure.

Two purses stand over a run: the colony's, for its whole life, and the machine's, for the day. A run that begins sets a share of each aside,
so that runs that begin at the same time cannot together spend what only one of them may. What a run uses beyond its share it must get
from what nobody has set aside; where nothing is left it is interrupted. Overshoot is so at most what a backend lets grow before it tells
it: with Claude Code what one call of the model costs.
"""

from collections.abc import Iterable

import attrs

from colony_core.errors import Invalid

WARN_AT = 0.8
SHARE_USD = 0.25
SHARE_TOKENS = 50_000


@attrs.frozen(kw_only=True)
class Budget:
    """The most that may be used; None: no limit."""

    usd: float | None = None
    tokens: int | None = None
    turns: int | None = None
    minutes: float | None = None


@attrs.frozen(kw_only=True)
class Spent:
    """What was used."""

    usd: float = 0.0
    tokens: int = 0
    turns: int = 0
    minutes: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            usd=self.usd + other.usd,
            tokens=self.tokens + other.tokens,
            turns=self.turns + other.turns,
            minutes=self.minutes + other.minutes,
        )


NOTHING = Spent()
SHARE = Spent(usd=SHARE_USD, tokens=SHARE_TOKENS)


def total(spent: Iterable[Spent]) -> Spent:
    """All of them together."""
    return sum(spent, NOTHING)


@attrs.frozen(kw_only=True)
class Standing:
    """Where a purse stands: the part used of the scarcest means (0.0 to 1.0 and beyond), and that in words."""

    part: float
    words: str

    @property
    def warned(self) -> bool:
        return self.part >= WARN_AT

    @property
    def over(self) -> bool:
        return self.part >= 1.0


def standing(budget: Budget, spent: Spent) -> Standing:
    """Where a purse stands after `spent`."""
    found = Standing(part=0.0, words="no limit")
    for name in ("usd", "tokens", "turns", "minutes"):
        most, used = getattr(budget, name), getattr(spent, name)
        if most is not None:
            part = used / most if most else 1.0
            if found.words == "no limit" or part > found.part:
                found = Standing(part=part, words=_words(name, used, most))
    return found


def check_counted(backend: str, uncounted: Iterable[str], *budgets: Budget) -> None:
    """Raises Invalid (`setting-refused`) where a budget limits what a backend does not tell, and so could not hold."""
    for name in sorted(uncounted):
        if any(getattr(budget, name) is not None for budget in budgets):
            hint = "leave that budget away, limit what is told (docs/agents.md), or take the backend claude"
            raise Invalid("setting-refused", f"{backend} does not tell its {name}: no budget of them would hold", hint)


def share_of(budget: Budget, taken: Spent) -> Spent | None:
    """What a run that begins sets aside of a purse of which `taken` is spent or set aside; None where nothing is left."""
    if standing(budget, taken).over:
        return None
    return Spent(
        usd=SHARE.usd if budget.usd is None else min(SHARE.usd, budget.usd - taken.usd),
        tokens=SHARE.tokens if budget.tokens is None else min(SHARE.tokens, budget.tokens - taken.tokens),
    )


def held(share: Spent, used: Spent) -> Spent:
    """What a run keeps from others: its share, or what it has used where that is more."""
    return Spent(
        usd=max(share.usd, used.usd),
        tokens=max(share.tokens, used.tokens),
        turns=used.turns,
        minutes=used.minutes,
    )


def _words(name: str, used: float, most: float) -> str:
    match name:
        case "usd":
            return f"${used:.2f} of ${most:.2f}"
        case "minutes":
            return f"{used:.0f} of {most:.0f} minutes"
        case _:
            return f"{used:,.0f} of {most:,.0f} {name}"
