"""What an agent may plant in its working copy and in the shared repository, and that none of it ever runs."""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colony_core.errors import Invalid, WrongState
from colony_core.views import PushRequest, UndoRequest

from .conftest import KINDS, Repo, Room, run_git

HOOKS = (
    "pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "post-checkout", "pre-push", "post-merge",
    "reference-transaction", "post-index-change", "pre-merge-commit", "post-rewrite", "fsmonitor-watchman", "pre-receive",
)  # fmt: skip


class Traps:
    """Programs that leave a mark with their name when they are run, and the settings that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True)
        self.marks.chmod(0o777)

    def program(self, name: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\ntouch {self.marks}/{name}\ncat\n")
        path.chmod(0o755)
        return str(path)

    def sprung(self) -> list[str]:
        return sorted(each.name for each in self.marks.iterdir())

    def settings(self) -> dict[str, str]:
        named = (
            "core.fsmonitor", "diff.external", "core.pager", "core.editor", "core.askPass", "core.sshCommand",
            "core.alternateRefsCommand", "core.gitProxy", "gpg.program", "gpg.ssh.program", "credential.helper",
            "filter.trap.clean", "filter.trap.smudge", "filter.trap.process", "diff.trap.command", "diff.trap.textconv",
            "merge.trap.driver", "merge.default", "sequence.editor", "uploadpack.packObjectsHook", "pager.diff", "pager.log",
            "remote.origin.uploadpack", "remote.origin.receivepack", "interactive.diffFilter", "trailer.x.command",
            "core.alias", "alias.status", "gc.recentObjectsHook",
        )  # fmt: skip
        found = {key: self.program(f"config-{key}") for key in named}
        return found | {
            "commit.gpgSign": "true", "tag.gpgSign": "true", "log.showSignature": "true", "filter.trap.required": "true",
            "merge.default": "trap", "protocol.ext.allow": "always", "protocol.file.allow": "always",
            "submodule.lib.update": f"!{self.program('config-submodule-update')}",
        }  # fmt: skip

    def plant(self, git_dir: Path) -> None:
        """In a repository's own settings, its hooks, and its list of attributes."""
        for key, value in self.settings().items():
            run_git(git_dir, "config", key, value)
        included = self.folder / "included"
        included.write_text(f'[core]\n\tfsmonitor = "{self.program("config-included")}"\n')
        run_git(git_dir, "config", "include.path", str(included))
        (git_dir / "hooks").mkdir(exist_ok=True)
        for hook in HOOKS:
            shutil.copy(self.program(f"hook-{hook}"), git_dir / "hooks" / hook)
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info" / "attributes").write_text("* filter=trap diff=trap merge=trap\n")

    def plant_jj(self, folder: Path, repo: Path) -> None:
        """In jj's settings of repository and workspace, where older and newer versions look for them."""
        text = "".join(
            f"[{section}]\n{key} = {json.dumps(self.program(f'jj-{section}-{key}'))}\n"
            for section, key in (
                ("git", "executable-path"), ("ui", "pager"), ("signing.backends.ssh", "program"),
            )
        ) + (
            f'[fsmonitor]\nbackend = "watchman"\n[signing]\nbehavior = "force"\nbackend = "ssh"\nkey = "x"\n'
            f'[aliases]\nlog = ["util", "exec", "--", {json.dumps(self.program("jj-alias"))}]\n'
            f'[merge-tools.trap]\nprogram = {json.dumps(self.program("jj-tool"))}\n'
        )  # fmt: skip
        for place in (repo / ".jj" / "repo" / "config.toml", folder / ".jj" / "workspace-config.toml"):
            if place.parent.is_dir():
                place.unlink(missing_ok=True)
                place.write_text(text)


@pytest.fixture
def traps(tmp_path: Path) -> Traps:
    return Traps(tmp_path / "traps")


async def use_every_verb(room: Room, name: str, folder: Path) -> None:
    """Everything that Colony ever does in a working copy."""
    view = room.workspaces.view(name)
    assert view is not None
    (folder / "work.txt").write_text("1\n")
    await room.workspaces.diff(name)
    await room.workspaces.history(name)
    await room.workspaces.describe(name, "One")
    (folder / "work.txt").write_text("2\n")
    await room.merge(name, dry_run=True)
    await room.merge(name, ff="never")
    await room.workspaces.push(name, PushRequest())
    (folder / "work.txt").write_text("3\n")
    await room.workspaces.undo(name, UndoRequest())
    (folder / "work.txt").write_text("4\n")
    with pytest.raises(WrongState):
        await room.workspaces.check_loss(name, confirm=None)
    other = await room.spawn("other", view.project, kind=view.kind)
    (other / "a.txt").write_text("other\n")
    (folder / "a.txt").write_text("this\n")
    await room.merge(name)
    with pytest.raises(WrongState):
        await room.merge("other")
    await room.workspaces.close("other")
    await room.workspaces.close(name)


async def test_nothing_that_is_planted_runs(room: Room, origin: Repo, kind: str, traps: Traps) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    shared = room.root / "repos" / "app"
    traps.plant(shared / "repo.git")
    (folder / ".gitattributes").write_text("* filter=trap diff=trap merge=trap\n")
    if kind == "jj":
        traps.plant_jj(folder, shared)
    await use_every_verb(room, "scout", folder)
    assert traps.sprung() == []


def as_anybody(*words: str, cwd: Path, env: dict[str, str]) -> None:
    """A program as somebody runs it who takes no care."""
    subprocess.run(words, cwd=cwd, env=env, capture_output=True, check=False)


async def test_the_traps_are_armed(room: Room, origin: Repo, traps: Traps) -> None:
    """Else the test before would prove nothing."""
    folder = await room.spawn("scout", origin.folder, kind="git")
    traps.plant(room.root / "repos" / "app" / "repo.git")
    who = {f"GIT_{role}_{part}": "ada@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **who}
    (folder / "a.txt").write_text("x\n")
    (folder / ".gitattributes").write_text("* diff=trap\n")
    harmless = ["config", "--remove-section", "filter.trap"]
    for words in (["status"], harmless, ["diff"], ["add", "-A"], ["commit", "-m", "x"]):
        as_anybody("git", *words, cwd=folder, env=env)
    wanted = {
        "config-included",
        "config-filter.trap.process",
        "config-diff.trap.command",
        "hook-pre-commit",
        "config-gpg.program",
    }
    assert wanted - set(traps.sprung()) == set()


@pytest.mark.jj
async def test_the_traps_for_jj_are_armed(room: Room, origin: Repo, traps: Traps, tmp_path: Path) -> None:
    folder = await room.spawn("scout", origin.folder, kind="jj")
    traps.plant_jj(folder, room.root / "repos" / "app")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "victim")}
    (tmp_path / "victim").mkdir()
    as_anybody("jj", "git", "fetch", cwd=folder, env=env)
    assert traps.sprung() == ["jj-git-executable-path"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_user_s_own_settings_and_the_systems_are_not_in_force_in_a_repository(
    open_room: Callable[..., Any],
    origin: Repo,
    kind: str,
    traps: Traps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "jj").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    elsewhere = ("core.sshCommand", "core.alternateRefs", "credential", "protocol", "uploadpack")
    lines = [f"[{key.rpartition('.')[0]}]\n\t{key.rpartition('.')[2]} = {value}\n" for key, value in traps.settings().items()
             if key.count(".") == 1 and not key.startswith(elsewhere)]  # fmt: skip
    (home / ".gitconfig").write_text("".join(lines) + f"[core]\n\thooksPath = {tmp_path}/hooks\n")
    (home / ".config" / "jj" / "config.toml").write_text('[fsmonitor]\nbackend = "watchman"\n')
    (tmp_path / "hooks").mkdir()
    for hook in HOOKS:
        shutil.copy(traps.program(f"hook-{hook}"), tmp_path / "hooks" / hook)
    async with open_room() as room:
        folder = await room.spawn("scout", origin.folder, kind=kind)
        await use_every_verb(room, "scout", folder)
    # The origin's own side of a push to a folder, or of a clone of it, obeys its user's settings, as any of theirs would.
    assert [name for name in traps.sprung() if name not in ("hook-pre-receive", "hook-reference-transaction")] == []


async def test_links_and_odd_names_in_a_working_copy_lead_nowhere(
    room: Room, origin: Repo, kind: str, tmp_path: Path
) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (folder / "link").symlink_to(outside)
    (folder / "--upload-pack=x").write_text("1")
    (folder / "new\nline").write_text("1")
    (folder / "\x1b[31mred").write_text("1")
    closed = folder / "closed"
    closed.mkdir()
    (closed / "file").write_text("1")
    closed.chmod(0o500)
    names = {each.path for each in (await room.workspaces.diff("scout")).files}
    assert names == {"link", "--upload-pack=x", "new\nline", "\x1b[31mred", "closed/file"}
    await room.merge("scout")
    await room.workspaces.close("scout")
    assert not folder.exists()
    assert (outside / "precious").read_text() == "mine"


async def test_a_workspace_that_became_a_link_is_removed_as_a_link(room: Room, origin: Repo, tmp_path: Path) -> None:
    folder = await room.spawn("scout", origin.folder, kind="git")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    with pytest.raises(WrongState) as raised:
        await room.workspaces.diff("scout")
    assert raised.value.code == "workspace-gone"
    await room.workspaces.close("scout")
    assert (outside / "precious").read_text() == "mine"
    assert not folder.is_symlink()


@pytest.mark.parametrize("branch", ["--upload-pack=touch x", "-c", "a..b", "x\ny", "@{-1}", "HEAD"])
async def test_a_branch_that_looks_like_an_option_is_refused(room: Room, origin: Repo, branch: str) -> None:
    with pytest.raises(Invalid):
        await room.plan("scout", origin.folder, branch=branch)
    await room.spawn("other", origin.folder, kind="git")
    for call in (
        lambda: room.merge("other", target=branch),
        lambda: room.workspaces.push("other", PushRequest(branch=branch)),
        lambda: room.workspaces.undo("other", UndoRequest(to=branch)),
    ):
        with pytest.raises(Invalid):
            await call()


async def test_a_repository_whose_files_look_like_options_is_a_repository(room: Room, origin: Repo, kind: str) -> None:
    origin.write("-rf", "1")
    origin.write("--exec/-c", "2")
    origin.commit("Odd")
    origin.git("branch", "feature/--x")
    folder = await room.spawn("scout", origin.folder, kind=kind, branch="feature/--x")
    assert (folder / "-rf").read_text() == "1"
    (folder / "-rf").write_text("3")
    await room.merge("scout")
    assert room.file("app", "feature/--x", "-rf") == "3"


async def test_a_message_that_looks_like_options_is_a_message(room: Room, origin: Repo, kind: str) -> None:
    folder = await room.spawn("scout", origin.folder, kind=kind)
    for text in ("--amend", "-m x", "--message=y\n\n--reset-author"):
        (folder / "work.txt").write_text(text)
        await room.workspaces.describe("scout", text)
        assert (await room.workspaces.history("scout"))[0].message == text
    (folder / "work.txt").write_text("last")
    await room.merge("scout", message="--no-edit", ff="never")
    assert room.shared("app", "log", "-1", "--format=%s", "main") == "--no-edit"


async def test_a_file_changed_within_the_second_of_the_checkout_is_a_change(room: Room, origin: Repo) -> None:
    """git goes by the second, and by whether the index is newer: a copy of it must not be."""
    folder = await room.spawn("scout", origin.folder, kind="git")
    for text in ("one\nTWO\nthree\n", "ONE\ntwo\nthree\n"):
        (folder / "a.txt").write_text("one\ntwo\nthree\n")
        run_git(folder, "checkout", "-q", "-f", "HEAD")
        (folder / "a.txt").write_text(text)
        assert [each.path for each in (await room.workspaces.diff("scout")).files] == ["a.txt"]


async def test_programs_hear_of_nothing_in_our_environment_and_ask_nobody(
    room: Room, origin: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_CANARY", "1")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch /nowhere")
    seen = tmp_path / "seen"
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nenv > {seen}\ncat /proc/$$/status >> {seen}\nexec {shutil.which("git")} "$@"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    await room.spawn("scout", origin.folder, kind="git")
    hands = room.workspaces.projects.hands_for(None)
    from attrs import evolve

    from colony_core.workspaces.hands import open_git

    spied = evolve(hands, tools=evolve(hands.tools, git=str(fake)))
    repo = room.root / "repos" / "app"
    git = await open_git(spied, repo / "repo.git", home=repo / "home")
    await git("log", "-1", "main")
    text = seen.read_text()
    assert "SECRET_CANARY" not in text
    assert "GIT_TERMINAL_PROMPT=0" in text
    assert "GIT_ALLOW_PROTOCOL=none" in text
    assert "GIT_CONFIG_NOSYSTEM=1" in text
    assert f"GIT_DIR={repo}/repo.git" in text
    assert "NoNewPrivs:\t1" in text
    assert "CapEff:\t0000000000000000" in text
