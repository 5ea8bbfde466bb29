"""Two people edit one manifest: what is applied is what was looked at, or nothing. Over a real daemon."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from colony_core.errors import WrongState
from colony_core.remote import calls

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

MANIFEST = """
[services.talk]
command = "echo hello; exec sleep 6000"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with one colony."""
    with Daemon(tmp_path).running() as running:
        running.spawn("hello", MANIFEST)
        running.until_ready("hello")
        yield running


def edit(daemon: Daemon, word: str) -> None:
    (daemon.folder / "app-hello/colony.toml").write_text(MANIFEST.replace("hello;", f"{word};"))


def test_an_edit_of_somebody_else_is_not_applied_unseen(daemon: Daemon) -> None:
    edit(daemon, "mine")
    seen = daemon.send(calls.apply("hello", dry_run=True))["version"]
    edit(daemon, "theirs")
    done = daemon.cli("apply", "hello", "--only", seen, check=5)
    assert "somebody else has edited or applied" in done.stderr
    assert "colony apply hello --dry-run" in done.stderr
    assert "echo hello" in daemon.service("hello", "talk")["command"], "nothing was done"


def test_what_somebody_else_has_applied_is_told(daemon: Daemon) -> None:
    edit(daemon, "mine")
    seen = daemon.send(calls.apply("hello", dry_run=True))["version"]
    daemon.send(calls.apply("hello"))
    with pytest.raises(WrongState) as refused:
        daemon.send(calls.apply("hello", version=seen))
    assert refused.value.code == "changed-meanwhile"


def test_what_was_looked_at_is_applied(daemon: Daemon) -> None:
    edit(daemon, "mine")
    told = daemon.cli("apply", "hello", "--dry-run")
    seen = (told.stdout + told.stderr).rpartition("--only ")[2].split()[0]
    daemon.cli("apply", "hello", "--only", seen)
    assert "echo mine" in daemon.service("hello", "talk")["command"]
