"""The pytest plugin in a user's own test run, as whoever runs this and as an ordinary user; and what it leaves alone."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import colony_core

USER = 61_236
USERS_TESTS = Path(__file__).with_name("users_tests.py")
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", "-W", "error"]
PACKAGES = [str(Path(package.__file__ or "").parents[1]) for package in (colony_core, pytest)]
PROOF = (
    "import subprocess, sys, colony_core, pytest_trio, msgspec; subprocess.run([sys.executable, '-c', ''], check=True)"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an ordinary user can reach, which pytest's own of root is not."""
    with tempfile.TemporaryDirectory(prefix="colony-plugin-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


def users_python() -> list[str]:
    """Python as an ordinary user. Skips where such a user could run none that has these packages: root's own folder is closed to others."""
    if os.geteuid() != 0:
        return [sys.executable]
    for python in (sys.executable, "/usr/bin/python3"):
        command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--", python]
        if not subprocess.run(
            [*command, "-c", PROOF], env=environment("/"), capture_output=True, check=False
        ).returncode:
            return command
    pytest.skip(f"no ordinary user can run {sys.executable} with its packages")


def environment(home: Path | str) -> dict[str, str]:
    """An environment that has nothing of the one of this test."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join(PACKAGES),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(folder: Path, *command: str) -> str:
    """What a run of pytest in `folder` says."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.kernel
@pytest.mark.slow
def test_a_users_tests_have_real_colonies(folder: Path) -> None:
    shutil.copy(USERS_TESTS, folder / "test_shop.py")
    assert "4 passed" in run(folder, sys.executable, *PYTEST)


@pytest.mark.kernel
@pytest.mark.slow
def test_an_ordinary_users_tests_have_real_colonies_although_threads_exist(folder: Path) -> None:
    shutil.copy(USERS_TESTS, folder / "test_shop.py")
    assert "4 passed" in run(folder, *users_python(), *PYTEST)


@pytest.mark.parametrize("options", [[], ["--collect-only"]])
def test_a_run_that_does_not_ask_for_walls_is_left_where_it_is(folder: Path, options: list[str]) -> None:
    here = os.readlink("/proc/self/ns/user")
    users = "def test_walls(colony_cell):\n    pass\n" if options else ""
    (folder / "test_plain.py").write_text(f"{users}def test_nothing():\n    pass\n")
    (folder / "conftest.py").write_text(
        f"import os, sys\n\ndef pytest_unconfigure():\n    assert os.readlink('/proc/self/ns/user') == {here!r}\n"
        "    assert 'colony_core.isolation' not in sys.modules\n    print('left alone')\n"
    )
    assert "left alone" in run(folder, *users_python(), *PYTEST, *options)


@pytest.mark.kernel
def test_where_no_user_namespace_is_to_be_had_the_test_says_why(folder: Path) -> None:
    (folder / "test_shop.py").write_text("async def test_cell(colony_cell):\n    pass\n")
    (folder / "conftest.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    said = run(folder, *users_python(), *PYTEST)
    assert "rootless mode must be entered before any thread exists" in said
    assert "1 error" in said or "1 failed" in said
