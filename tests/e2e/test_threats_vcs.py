"""Threats 15 and 16 of docs/security.md, tried against the running daemon: arguments of git and jj, and what a repository could run."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colony_core.errors import ColonyError
from colony_core.remote import calls

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
KINDS = ["git", pytest.param("jj", marks=pytest.mark.jj)]


def git(folder: Path, *words: str) -> str:
    # nothing that goes on in the background: it would make and remove files while we look at them
    who = (
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.org",
        "-c",
        "safe.directory=*",
        "-c",
        "maintenance.auto=false",
    )
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    return folder


def refused(daemon: Daemon, call: Any) -> str:
    with pytest.raises(ColonyError) as raised:
        daemon.send(call)
    return raised.value.code


# ---- 15: arguments


def test_15_what_could_be_an_option_or_another_transport_reaches_no_program(daemon: Daemon, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    repo = repository(tmp_path / "user" / "app")
    for text in (
        f"--upload-pack=touch {mark}", "-ccore.sshCommand=x", f"ext::sh -c touch% {mark}", f"ssh://-oProxyCommand=touch%20{mark}/x",
        f"-oProxyCommand=touch {mark}:x/y", f"git@-oProxyCommand=touch:{mark}", f"https://example.org/x\n--upload-pack=touch {mark}",
        f"file://{repo}", "fd::7/x", "https://user:secret@example.org/x", "x" * 3000,
    ):  # fmt: skip
        assert refused(daemon, calls.add_project(text)) == "invalid-repository", text
        assert refused(daemon, calls.spawn("scout", repo=text)) == "invalid-repository", text
    for branch in (f"--upload-pack=touch {mark}", "-x", "a..b", "a\nb", "@{-1}", "a:b", "x.lock"):
        assert refused(daemon, calls.spawn("scout", repo=str(repo), branch=branch)) == "invalid-ref", branch
    for name in ("--force", "../x", ".git", "a/b", "", "A"):
        assert refused(daemon, calls.add_project(str(repo), name=name)) == "invalid-project-name", name
    daemon.cli("spawn", "scout", "--repo", str(repo))
    for call in (
        calls.merge("scout", target="--hard"), calls.push("scout", branch="--force"), calls.undo("scout", to="--hard"),
        calls.push("scout", branch="main:main"), calls.merge("scout", target="HEAD"),
    ):  # fmt: skip
        assert refused(daemon, call) == "invalid-ref"
    (_work(daemon, "scout") / "b").write_text("1")
    daemon.send(calls.describe("scout", "--amend\n\n-m x"))
    assert daemon.send(calls.history("scout"))[0]["message"] == "--amend\n\n-m x"
    assert not mark.exists()
    assert "secret" not in (daemon.folder / "daemon.log").read_text()


def _work(daemon: Daemon, name: str) -> Path:
    return Path(daemon.colony(name)["source"])


# ---- 16: programs that a repository names

PLANT = """
set -eu
trap_() { printf '#!/bin/sh\\necho "$(id -u) $0" >> {marks}\\ncat\\n' > "{bin}/$1"; chmod 755 "{bin}/$1"; echo "{bin}/$1"; }
cd {shared}
for key in core.fsmonitor diff.external core.sshCommand core.pager core.editor gpg.program credential.helper \\
           filter.x.clean filter.x.smudge filter.x.process diff.x.command diff.x.textconv merge.x.driver; do
  git config $key "$(trap_ $key)"
done
mkdir -p hooks info
git config commit.gpgSign true
git config filter.x.required true
for hook in pre-commit post-commit post-checkout pre-push reference-transaction post-index-change prepare-commit-msg; do
  cp "$(trap_ $hook)" hooks/$hook
done

echo '* filter=x diff=x merge=x' | tee info/attributes > {work}/.gitattributes
if [ -d {work}/.jj ]; then
  for place in {shared}/../.jj/repo/config.toml {work}/.jj/workspace-config.toml; do
    printf '[git]\\nexecutable-path = "%s"\\n[fsmonitor]\\nbackend = "watchman"\\n[signing]\\nbehavior = "force"\\nbackend = "gpg"\\n' \\
      "$(trap_ jj-git)" > $place
    printf '[signing.backends.gpg]\\nprogram = "%s"\\n[ui]\\npager = "%s"\\n' "$(trap_ jj-gpg)" "$(trap_ jj-pager)" >> $place
  done
fi
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="colony-threat-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_16_nothing_that_an_agent_plants_in_a_repository_runs_when_the_daemon_looks_at_it(
    place: Path, kind: str
) -> None:
    """The project is nobody's, as its folder is; so is what the agent plants from inside of its colony."""
    nobody = pwd.getpwnam("nobody")
    repo = repository(place / "theirs")
    for each in (repo, *repo.rglob("*")):
        os.chown(each, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    (place / "bin").mkdir()
    (place / "bin").chmod(0o777)
    marks = place / "marks"
    marks.touch()
    marks.chmod(0o666)
    (place / "house").mkdir()
    daemon = Daemon(place / "house")
    daemon.environment["COLONY_WORKSPACES__ROOT"] = str(place)
    with daemon.running():
        daemon.cli("spawn", "scout", "--repo", str(repo), "--workspace", kind)
        work, shared = _work(daemon, "scout"), place / "repos/theirs/repo.git"
        assert work.stat().st_uid == nobody.pw_uid
        script = PLANT
        for name, value in (("marks", marks), ("bin", place / "bin"), ("shared", shared), ("work", work)):
            script = script.replace(f"{{{name}}}", str(value))
        daemon.cli("exec", "scout", "--", "bash", "-c", script)
        daemon.cli("exec", "scout", "--", "sh", "-c", "echo two > a.txt; echo new > b.txt")
        daemon.cli("diff", "scout")
        daemon.cli("describe", "scout", "-m", "Work")
        daemon.cli("merge", "scout", "--ff", "never")
        daemon.cli("push", "scout")
        daemon.cli("exec", "scout", "--", "sh", "-c", "echo three > a.txt")
        daemon.cli("undo", "scout")
        daemon.cli("undo", "scout", "--all", check=None)
        daemon.cli("spawn", "other", "--repo", "theirs", "--workspace", kind)
        daemon.cli("rm", "scout", "other", "--yes", "--discard", "scout")
        assert marks.read_text() == ""
        assert git(repo, "show", "colony/scout:b.txt") == "new"
