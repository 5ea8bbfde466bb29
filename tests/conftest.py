"""Marks that need something of the machine, and a run in which nothing may be skipped."""

import os
import shutil
from collections.abc import Generator
from functools import cache

import pytest

PROGRAMS = (("caddy", "caddy", "caddy"), ("browser", "chromium", "chromium"), ("dnsmasq", "dnsmasq", "dnsmasq-base"))

# nft and its like live where the search path of an ordinary user does not lead.
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@cache
def _kernel_refusal() -> str:
    from colony_core import isolation
    from colony_core.errors import ColonyError

    try:
        isolation.choose_mode()
    except ColonyError as error:
        return str(error)
    return ""


def _has_vite() -> bool:
    modules = os.environ.get("COLONY_TESTS_NODE_MODULES")
    return bool(modules) and shutil.which("node") is not None and os.path.exists(f"{modules}/vite/bin/vite.js")


def _claude() -> str | None:
    named = os.environ.get("COLONY_TESTS_CLAUDE")
    return named if named and os.access(named, os.X_OK) else shutil.which("claude")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what this machine cannot do, with the reason."""
    refusal = ""
    if item.get_closest_marker("root") and os.getuid() != 0:
        refusal = "needs to be root: sudo make test"
    elif item.get_closest_marker("kernel"):
        refusal = _kernel_refusal()
    for mark, program, package in PROGRAMS:
        if not refusal and item.get_closest_marker(mark) and shutil.which(program) is None:
            refusal = f"needs {program}: apt install {package}"
    if not refusal and item.get_closest_marker("vite") and not _has_vite():
        refusal = "needs Vite: npm install vite, and COLONY_TESTS_NODE_MODULES=…/node_modules"
    if not refusal and item.get_closest_marker("claude") and _claude() is None:
        refusal = "needs Claude Code: npm install @anthropic-ai/claude-code, and COLONY_TESTS_CLAUDE=…/node_modules/.bin/claude"
    if refusal:
        pytest.skip(refusal)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip into a failure where nothing may be skipped, whoever skipped."""
    report = yield
    if report.skipped and os.environ.get("COLONY_TESTS_ALLOW_SKIPS") == "0":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"nothing may be skipped here: {reason}"
    return report
