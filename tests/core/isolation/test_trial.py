"""What works here is found out by trying it, in a process that is thrown away; nothing of the trial stays, and no answer is made up."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from colony_core.isolation import Mode, choose_mode, probe, trial

RIGHT_MODE = Mode.ROOT if os.geteuid() == 0 else Mode.ROOTLESS


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@contextmanager
def another_thread() -> Iterator[None]:
    """This process has more than one thread, so that it must not fork."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def children() -> set[str]:
    """The processes that this one has to wait for."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update((task / "children").read_text().split())
    return found


@pytest.mark.kernel
def test_the_mode_that_works_is_found_and_the_trial_leaves_nothing(tmp_path: Path) -> None:
    namespaces = {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("net", "mnt", "user")}
    before, open_before = children(), len(os.listdir("/proc/self/fd"))
    assert choose_mode() in (RIGHT_MODE, Mode.AMBIENT)
    assert {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in namespaces} == namespaces
    assert children() <= before
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kernel
def test_beside_other_threads_a_new_interpreter_says_the_same(tmp_path: Path) -> None:
    alone = trial.try_mode(RIGHT_MODE)
    with another_thread():
        assert trial.try_mode(RIGHT_MODE) == alone
    assert alone.works
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kernel
async def test_inside_a_running_loop_it_works_as_well() -> None:
    assert trial.try_mode(RIGHT_MODE).works


def test_every_mode_is_reported_and_those_that_do_not_work_with_a_reason() -> None:
    reports = probe()
    assert [report.mode for report in reports] == list(Mode)
    assert all(report.works or report.reason for report in reports)


def test_a_new_interpreter_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr(trial, "INTERPRETED", "import signal; signal.pause()")
    monkeypatch.setattr(trial, "TRY_SECONDS", 0.05)
    with another_thread():
        assert "took longer than 0.05 s" in trial.try_mode(RIGHT_MODE).reason
    assert children() <= before


def test_a_user_is_told_of_the_way_without_root_and_root_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for user, hint in ((0, "first"), (1000, "last")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        reports = [
            trial.ModeReport(Mode.ROOT, False, "a", "first"),
            trial.ModeReport(Mode.ROOTLESS, False, "b", "last"),
        ]
        assert trial._next_step(reports) == hint
