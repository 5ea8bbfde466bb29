"""Where paths lead, in folders with real links."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends.permits import Reach
from colony_core.backends.places import look, real_path

NAMES = ["a", "b", "c"]
steps = st.lists(st.sampled_from([*NAMES, "..", "."]), min_size=1, max_size=5).map("/".join)
trees = st.lists(st.tuples(steps, st.sampled_from(["folder", "file"]) | steps.map(lambda to: f"->{to}")), max_size=8)


def plant(root: Path, tree: list[tuple[str, str]]) -> None:
    """Makes what can be made of it."""
    for path, what in tree:
        try:
            if what.startswith("->"):
                os.symlink(what[2:], root / path)
            elif what == "folder":
                os.mkdir(root / path)
            else:
                os.close(os.open(root / path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
        except OSError:
            continue


@given(trees, steps)
def test_a_path_leads_where_the_kernel_would_open_it(tree: list[tuple[str, str]], path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.path.realpath(folder), "r", "r", "r", "r", "r")  # so deep that `..` stays in it
        root.mkdir(parents=True)
        plant(root, tree)
        told = real_path(f"{root}/{path}")
        try:
            opened = os.open(f"{root}/{path}", os.O_PATH)
        except OSError:
            return
        try:
            assert told == os.readlink(f"/proc/self/fd/{opened}")
        finally:
            os.close(opened)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    found = tmp_path / "real" / "w"
    (found / "sub").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    (found / "here").symlink_to("sub")
    (found / "out").symlink_to(tmp_path)
    (found / "dangling").symlink_to(tmp_path / "not-there-yet")
    (found / "round").symlink_to("round")
    (found / "self").symlink_to("/proc/self/cwd")
    (found / "far").symlink_to("out/deep")
    return found


@pytest.mark.parametrize(
    "path",
    ["a.txt", "new/folder/a.txt", "sub/../a.txt", "here/a.txt", "./", "{w}/a.txt", "{alias}/w/a.txt", "out/real/w/a"],
)
async def test_what_stays_in_the_workspace(workspace: Path, tmp_path: Path, path: str) -> None:
    written = path.format(w=workspace, alias=tmp_path / "alias")
    assert await look("edit", workspace, [written]) == Reach(known=True)
    assert await look("edit", tmp_path / "alias" / "w", [written]) == Reach(known=True), "by another name of it"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../w2/a.txt",
        "/etc/passwd",
        "out",
        "out/a.txt",
        "out/not/there/a.txt",
        "far/a.txt",
        "dangling",
        "round",
        "round/a.txt",
        "self/a.txt",
        "/proc/self/cwd/a.txt",
        "/dev/fd/3",
        "here/../../a.txt",
        "out/../a.txt",
        "~/a.txt",
        "",
        "a\0b",
        "\ud800",
        "x" * 5000,
        "sub/.git/hooks/pre-commit",
    ],
)
async def test_what_leaves_it(workspace: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)  # so that /proc/self/cwd lies in it for whoever asks
    assert (await look("edit", workspace, ["a.txt", path])).beyond


async def test_a_person_is_told_where_a_path_leads(workspace: Path, tmp_path: Path) -> None:
    assert (await look("read", workspace, ["out/a.txt"])).beyond == f"leads to {tmp_path.resolve()}/a.txt"


async def test_a_workspace_that_is_a_circle_is_no_workspace(workspace: Path) -> None:
    assert (await look("edit", workspace / "round", ["a.txt"])).beyond
