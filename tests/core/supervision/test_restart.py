"""Decisions, windows and delays, without any task."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.supervision import Backoff, Exit, ExitKind, Limit, Restart, Strategy
from colony_core.supervision.restart import Verdict, Window, delay, group, is_clean_stop, is_reported, verdict


def an_exit(kind):
    return Exit(kind, None, 0.0, 1)


@pytest.mark.parametrize(
    ("restart", "kind", "fate", "reported"),
    [
        (Restart.PERMANENT, ExitKind.NORMAL, Verdict.RESTART, True),
        (Restart.PERMANENT, ExitKind.SHUTDOWN, Verdict.RESTART, True),
        (Restart.PERMANENT, ExitKind.FAILED, Verdict.RESTART, True),
        (Restart.PERMANENT, ExitKind.KILLED, Verdict.RESTART, True),
        (Restart.TRANSIENT, ExitKind.NORMAL, Verdict.KEEP, False),
        (Restart.TRANSIENT, ExitKind.SHUTDOWN, Verdict.KEEP, False),
        (Restart.TRANSIENT, ExitKind.FAILED, Verdict.RESTART, True),
        (Restart.TRANSIENT, ExitKind.KILLED, Verdict.RESTART, True),
        (Restart.TEMPORARY, ExitKind.NORMAL, Verdict.FORGET, False),
        (Restart.TEMPORARY, ExitKind.SHUTDOWN, Verdict.FORGET, False),
        (Restart.TEMPORARY, ExitKind.FAILED, Verdict.FORGET, True),
        (Restart.TEMPORARY, ExitKind.KILLED, Verdict.FORGET, True),
    ],
)
def test_what_an_end_leads_to(restart, kind, fate, reported):
    assert verdict(restart, an_exit(kind)) is fate
    assert is_reported(restart, an_exit(kind)) is reported


@pytest.mark.parametrize(
    ("grace", "kind", "clean"),
    [
        (5, ExitKind.NORMAL, True), (5, ExitKind.SHUTDOWN, True), (5, ExitKind.KILLED, False), (5, ExitKind.FAILED, False),
        (0, ExitKind.KILLED, True), (0, ExitKind.FAILED, False),
    ],
)  # fmt: skip
def test_which_stops_are_clean(grace, kind, clean):
    assert is_clean_stop(grace, an_exit(kind)) is clean


def test_who_is_restarted_together():
    order = ["a", "b", "c"]
    assert group(Strategy.ONE_FOR_ONE, order, "b") == ["b"]
    assert group(Strategy.REST_FOR_ONE, order, "b") == ["b", "c"]
    assert group(Strategy.ONE_FOR_ALL, order, "b") == ["a", "b", "c"]


def test_a_limit_of_zero_allows_no_restart():
    assert Window(Limit(0, 5)).passes(0.0, ValueError())


def test_a_restart_exactly_one_period_old_still_counts():
    window = Window(Limit(1, 5))
    assert not window.passes(0.0, ValueError("1"))
    assert window.passes(5.0, ValueError("2"))
    assert [str(error) for error in window.errors] == ["1", "2"]
    window = Window(Limit(1, 5))
    assert not window.passes(0.0, ValueError())
    assert not window.passes(5.001, ValueError())


@given(st.integers(0, 4), st.floats(0.5, 10), st.lists(st.floats(0, 5), max_size=40))
def test_the_window_agrees_with_the_naive_count(count, period, gaps):
    window, seen, now = Window(Limit(count, period)), [], 0.0
    for gap in gaps:
        now += gap
        seen.append(now)
        expected = sum(at >= now - period for at in seen) > count
        assert window.passes(now, ValueError()) is expected


def test_delays_grow_up_to_the_most():
    backoff = Backoff(first=1, factor=2, most=10, jitter=0)
    assert [delay(backoff, row, random.Random()) for row in range(6)] == [1, 2, 4, 8, 10, 10]
    assert delay(Backoff(first=1, factor=10, most=30, jitter=0), 10_000, random.Random()) == 30


@given(st.integers(0, 50), st.floats(0, 1), st.integers())
def test_jitter_stays_within_its_share(row, jitter, seed):
    plain = delay(Backoff(jitter=0), row, random.Random())
    drawn = delay(Backoff(jitter=jitter), row, random.Random(seed))
    assert plain * (1 - jitter) - 1e-9 <= drawn <= plain * (1 + jitter) + 1e-9
