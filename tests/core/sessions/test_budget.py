"""Budgets: where a purse stands, and that runs which begin together cannot overspend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends import standard_backends
from colony_core.errors import Invalid
from colony_core.sessions.budget import NOTHING, SHARE, Budget, Spent, check_counted, held, share_of, standing, total

amounts = st.floats(min_value=0, max_value=1e6, allow_nan=False)
spent = st.builds(Spent, usd=amounts, tokens=st.integers(0, 10**9), turns=st.integers(0, 1000), minutes=amounts)


def test_a_purse_without_limits_is_never_empty() -> None:
    stands = standing(Budget(), Spent(usd=1e9, tokens=10**12, turns=10**6, minutes=1e9))
    assert (stands.part, stands.words, stands.warned, stands.over) == (0.0, "no limit", False, False)


@pytest.mark.parametrize(
    ("usd", "warned", "over"), [(0.0, False, False), (7.99, False, False), (8, True, False), (10, True, True)]
)
def test_a_purse_warns_at_80_percent_and_is_empty_at_100(usd: float, warned: bool, over: bool) -> None:
    stands = standing(Budget(usd=10), Spent(usd=usd))
    assert (stands.warned, stands.over) == (warned, over)


def test_the_scarcest_means_counts_and_is_named() -> None:
    stands = standing(Budget(usd=10, turns=4, minutes=100), Spent(usd=1, turns=3, minutes=50))
    assert (stands.part, stands.words) == (0.75, "3 of 4 turns")


def test_a_budget_of_nothing_is_empty_at_once() -> None:
    assert standing(Budget(usd=0.0), NOTHING).over


@pytest.mark.parametrize(
    ("backend", "refused"), [("hld", {"tokens"}), ("acp", {"turns"}), ("claude", set()), ("script", set())]
)
def test_a_budget_of_what_is_never_told_is_refused_and_no_other(backend: str, refused: set[str]) -> None:
    found = set()
    for name in ("usd", "tokens", "turns", "minutes"):
        try:
            check_counted(backend, standard_backends()[backend].uncounted, Budget(), Budget(**{name: 1}))
        except Invalid:
            found.add(name)
    assert found == refused


@given(st.floats(min_value=0.01, max_value=100), st.integers(0, 200))
def test_runs_that_begin_together_never_set_more_aside_than_there_is(usd: float, wanting: int) -> None:
    taken = NOTHING
    for _ in range(wanting):
        share = share_of(Budget(usd=usd), taken)
        if share is None:
            break
        taken += Spent(usd=share.usd)
    assert taken.usd <= usd + 1e-6


@given(spent)
def test_a_run_keeps_its_share_from_others_or_what_it_has_used_where_that_is_more(used: Spent) -> None:
    kept = held(SHARE, used)
    assert kept.usd >= used.usd
    assert kept.usd >= SHARE.usd
    assert kept.tokens >= used.tokens
    assert kept.tokens >= SHARE.tokens


@given(st.lists(spent, max_size=5))
def test_what_several_runs_used_adds_up(parts: list[Spent]) -> None:
    assert total(parts).turns == sum(part.turns for part in parts)
    assert total(parts).usd == pytest.approx(sum(part.usd for part in parts))
