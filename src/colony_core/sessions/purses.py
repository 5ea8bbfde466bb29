"""Who may spend how much: the purses of colonies and of the machine's day, and what runs have set aside of them."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection

from colony_core import clock
from colony_core.errors import LimitReached
from colony_core.store import Store

from . import records
from .budget import NOTHING, Budget, Spent, Standing, held, share_of, standing, total

DAY_SECONDS = 86400.0


class Allowance:
    """What one run may spend: it was set aside when the run began, and is given back when the block ends."""

    def __init__(self, purses: "Purses", colony_id: str, budget: Budget, share: Spent) -> None:
        self.run = secrets.token_hex(8)
        self.colony_id = colony_id
        self.used = NOTHING
        self._purses = purses
        self._budget = budget
        self._share = share

    @property
    def held(self) -> Spent:
        """What others may not spend because of this run."""
        return held(self._share, self.used)

    def use(self, used: Spent) -> Callable[[Connection], None]:
        """Takes over what the run has used so far, in all; gives the unit that writes it down."""
        self.used = used
        return partial(records.spend, run=self.run, colony_id=self.colony_id, at=clock.unix_now(), spent=used)

    def standing(self) -> Standing:
        """Where the scarcer of the two purses stands, this run included; of the day's also what others have set aside."""
        mine = standing(self._budget, self._purses.spent(self.colony_id) + self.used)
        day = standing(self._purses.day_budget(), self._purses.day_taken(but=self) + self.used)
        return max(mine, day, key=lambda each: each.part)

    def left_usd(self) -> float | None:
        """Dollars until the first purse is empty; None without a limit."""
        mine, day = self._budget.usd, self._purses.day_budget().usd
        left = [] if mine is None else [mine - self._purses.spent(self.colony_id).usd]
        left += [] if day is None else [day - self._purses.day_taken(but=self).usd]
        return min(left) if left else None


class Purses:
    """All purses. What was spent is in the store; what is set aside ends with its run, also with the daemon."""

    def __init__(self, store: Store, day_budget: Callable[[], Budget]) -> None:
        self.day_budget = day_budget
        self._store = store
        self._ended: dict[str, Spent] = {}
        """By colony, of runs that are over."""
        self._day_ended = NOTHING
        self._day = 0.0
        self._runs: list[Allowance] = []

    async def load(self) -> None:
        """Takes over what earlier daemons have recorded."""
        self._ended = await self._store.read(records.spent_by_colony)
        self._turn_day()
        self._day_ended = await self._store.read(partial(records.spent_since, at=self._day))

    def spent(self, colony_id: str) -> Spent:
        """What a colony's runs have used that are over."""
        return self._ended.get(colony_id, NOTHING)

    def spent_with_running(self, colony_id: str) -> Spent:
        """What a colony's runs have used, the present one included."""
        return self.spent(colony_id) + total(each.used for each in self._runs if each.colony_id == colony_id)

    def day_taken(self, *, but: Allowance | None = None) -> Spent:
        """What is spent or set aside of the day's purse by others than `but`."""
        self._turn_day()
        return self._day_ended + total(each.held for each in self._runs if each is not but)

    def check(self, colony_id: str, budget: Budget) -> None:
        """Raises LimitReached (`budget-exhausted`) where a run could not even begin."""
        with self.allow(colony_id, budget):
            pass

    @contextmanager
    def allow(self, colony_id: str, budget: Budget) -> Iterator[Allowance]:
        """Sets a share of both purses aside for a run. Raises LimitReached (`budget-exhausted`) where one of them is empty."""
        mine = share_of(budget, self.spent(colony_id))
        if mine is None:
            raise _empty("the colony's budget", standing(budget, self.spent(colony_id)))
        taken = self.day_taken()
        days = share_of(self.day_budget(), taken)
        if days is None:
            raise _empty("the day's budget of this machine", standing(self.day_budget(), taken))
        allowance = Allowance(
            self, colony_id, budget, Spent(usd=min(mine.usd, days.usd), tokens=min(mine.tokens, days.tokens))
        )
        self._runs.append(allowance)
        try:
            yield allowance
        finally:
            self._runs.remove(allowance)
            self._ended[colony_id] = self.spent(colony_id) + allowance.used
            self._day_ended += allowance.used

    def _turn_day(self) -> None:
        today = clock.unix_now() // DAY_SECONDS * DAY_SECONDS
        if today != self._day:
            self._day, self._day_ended = today, NOTHING


def _empty(what: str, stands: Standing) -> LimitReached:
    return LimitReached(
        "budget-exhausted",
        f"{what} is used up: {stands.words}",
        "raise it: colony instruct --budget-usd (-tokens, -turns, -minutes), or [agent]; day_usd, day_tokens for the machine",
    )
