"""Values are checked when they are built, and say which field is wrong."""

from math import inf, nan

import pytest

from colony_core.supervision import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Exit,
    ExitKind,
    Kind,
    Limit,
    Restart,
    State,
    Strategy,
    open_supervisor,
    supervisor_spec,
)  # fmt: skip


async def idle(*, status):
    status.started()


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"grace": -1}, ValueError, "ChildSpec.grace must be >= 0, not -1"),
        ({"grace": nan}, ValueError, "ChildSpec.grace must be >= 0, not nan"),
        ({"grace": "5"}, TypeError, "ChildSpec.grace must be a number, not '5'"),
        ({"restart": "always"}, TypeError, "ChildSpec.restart must be a Restart, not 'always'"),
        ({"run": 3}, TypeError, "ChildSpec.run must be callable, not 3"),
        ({"id": []}, TypeError, "ChildSpec.id must be hashable"),
        ({"significant": 1}, TypeError, "ChildSpec.significant must be a bool, not 1"),
        ({"significant": True}, ValueError, "ChildSpec.significant must be False for a permanent child"),
    ],
)
def test_a_wrong_field_of_a_spec_is_named_with_its_value(fields, error, words):
    with pytest.raises(error) as caught:
        ChildSpec(**{"id": "a", "run": idle, **fields})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Limit(-1, 5), ValueError, "Limit.count must be >= 0, not -1"),
        (lambda: Limit(1.5, 5), TypeError, "Limit.count must be a int, not 1.5"),
        (lambda: Limit(1, 0), ValueError, "Limit.period must be > 0, not 0"),
        (lambda: Backoff(first=-1), ValueError, "Backoff.first must be >= 0, not -1"),
        (lambda: Backoff(factor=0.5), ValueError, "Backoff.factor must be >= 1, not 0.5"),
        (lambda: Backoff(jitter=2), ValueError, "'jitter' must be <= 1: 2"),
    ],
)
def test_a_wrong_limit_or_backoff_is_refused(make, error, words):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_defaults_are_those_of_otp():
    spec = ChildSpec(id="a", run=idle)
    assert (spec.restart, spec.grace, spec.significant, spec.kind) == (Restart.PERMANENT, 5.0, False, Kind.WORKER)
    inner = supervisor_spec("s", [])
    assert (inner.grace, inner.kind, inner.restart) == (inf, Kind.SUPERVISOR, Restart.PERMANENT)
    assert [len(kind) for kind in (Restart, Strategy, AutoShutdown, State)] == [3, 3, 3, 5]


def test_twins_are_refused_before_anything_starts():
    with pytest.raises(ValueError, match=r"ChildSpec\.id must be unique under its supervisor, 'a' is there twice"):
        open_supervisor([ChildSpec(id="a", run=idle), ChildSpec(id="a", run=idle)])
    with pytest.raises(ValueError, match="must be unique"):
        supervisor_spec("s", [ChildSpec(id="a", run=idle), ChildSpec(id="a", run=idle)])


def test_significance_that_nobody_looks_at_is_refused():
    spec = ChildSpec(id="a", run=idle, restart=Restart.TRANSIENT, significant=True)
    with pytest.raises(ValueError, match="must be False under auto_shutdown NEVER"):
        open_supervisor([spec])
    open_supervisor([spec], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)


def test_what_is_not_a_spec_is_refused():
    with pytest.raises(TypeError, match="described by a ChildSpec, not by 3"):
        open_supervisor([3])


def test_an_exit_reads_as_a_sentence():
    assert str(Exit(ExitKind.KILLED, None, 1.0, 1)) == "killed"
    assert str(Exit(ExitKind.FAILED, ValueError("x"), 1.0, 1)) == "failed: ValueError('x')"
    assert ExitKind.FAILED == "failed"
    assert [Exit(kind, None, 0, 1).planned for kind in ExitKind] == [True, True, False, False]
