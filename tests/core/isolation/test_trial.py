"""What works here is found out by trying it, in a process that is thrown away; nothing of the trial stays, and no answer is made up."""

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colony_core.errors import Missing
from colony_core.isolation import Mode, choose_mode, firewall, probe, trial

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
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


@pytest.mark.kernel
def test_the_mode_that_works_is_found_and_the_trial_leaves_nothing(tmp_path: Path) -> None:
    namespaces = {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("net", "mnt", "user")}
    before = children(), len(os.listdir("/proc/self/fd"))
    assert choose_mode() in (RIGHT_MODE, Mode.AMBIENT)
    assert {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in namespaces} == namespaces
    assert (children(), len(os.listdir("/proc/self/fd"))) == before
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


@pytest.mark.kernel
def test_what_is_missing_is_told_with_the_next_thing_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall.shutil, "which", lambda *_, **__: None)
    report = trial.try_mode(RIGHT_MODE)
    assert (report.works, report.hint) == (False, "sudo apt install nftables")
    with pytest.raises(Missing, match="nft is not installed") as caught:
        choose_mode()
    assert caught.value.code == "no-isolation"
    assert all(mode.value in caught.value.message for mode in Mode)
    assert caught.value.hint == "sudo apt install nftables"


@pytest.mark.kernel
def test_a_name_that_cannot_be_bound_is_no_working_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "mounts are not for you")

    monkeypatch.setattr(trial.syscalls, "bind_mount", refuse)
    report = trial.try_mode(RIGHT_MODE)
    assert not report.works
    assert "mounts are not for you" in report.reason


def test_a_trial_that_dies_or_hangs_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr(trial, "_try", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert trial.try_mode(RIGHT_MODE).reason == "the trial died"
    monkeypatch.setattr(trial, "_try", lambda *_: signal.pause())
    monkeypatch.setattr(trial, "TRY_SECONDS", 0.05)
    assert "took longer than 0.05 s" in trial.try_mode(RIGHT_MODE).reason
    with another_thread():
        assert "took longer than 0.05 s" in trial.try_mode(RIGHT_MODE).reason
    assert children() == before


def test_an_answer_that_cannot_be_read_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (b"", b"{}", b"[1]", b"\xff"):
        monkeypatch.setattr(trial, "_try", lambda *_, answer=answer: answer)
        assert not trial.try_mode(RIGHT_MODE).works


def test_a_user_is_told_of_the_way_without_root_and_root_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for user, hint in ((0, "first"), (1000, "last")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        reports = [
            trial.ModeReport(Mode.ROOT, False, "a", "first"),
            trial.ModeReport(Mode.ROOTLESS, False, "b", "last"),
        ]
        assert trial._next_step(reports) == hint
