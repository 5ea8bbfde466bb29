"""Marks that need something of the machine, and a run in which nothing may be skipped."""

import os
import shutil
from collections.abc import Generator
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's affair: tests do not judge by the clock.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

PROGRAMS = (
    ("caddy", "caddy", "apt install caddy"),
    ("browser", "chromium", "apt install chromium"),
    ("dnsmasq", "dnsmasq", "apt install dnsmasq-base"),
    ("jj", "jj", "scripts/get-jj --git"),
    ("pebble", "pebble", "apt install pebble"),
    ("sshd", "sshd", "apt install openssh-server"),
    ("tmux", "tmux", "apt install tmux"),
)
NAMED = (
    ("claude", "COLONY_TESTS_CLAUDE", "claude", "npm install @anthropic-ai/claude-code"),
    ("acp", "COLONY_TESTS_CLAUDE", "claude", "npm install @anthropic-ai/claude-code"),
    ("acp", "COLONY_TESTS_ACP", "claude-agent-acp", "npm install @agentclientprotocol/claude-agent-acp"),
    ("hld", "COLONY_HLD", "hld", "scripts/get-hld, which needs Go and a C compiler"),
)
"""Marks for programs that are found by a variable, or else on PATH."""

NODE_MODULES = {"vite": ["vite"], "next": ["next", "react", "react-dom"]}

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


def _lacks(module: str) -> bool:
    modules = os.environ.get("COLONY_TESTS_NODE_MODULES")
    return not modules or shutil.which("node") is None or not os.path.exists(f"{modules}/{module}/package.json")


def _found(variable: str, program: str) -> bool:
    named = os.environ.get(variable)
    return bool(named and os.access(named, os.X_OK)) or shutil.which(program) is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what this machine cannot do, with the reason."""
    refusal = ""
    if item.get_closest_marker("root") and os.getuid() != 0:
        refusal = "needs to be root: sudo make test"
    elif item.get_closest_marker("kernel"):
        refusal = _kernel_refusal()
    for mark, program, package in PROGRAMS:
        if not refusal and item.get_closest_marker(mark) and shutil.which(program) is None:
            refusal = f"needs {program}: {package}"
    for mark, variable, program, source in NAMED:
        if not refusal and item.get_closest_marker(mark) and not _found(variable, program):
            refusal = f"needs {program}: {source}, and {variable}=…/{program}"
    for mark, packages in NODE_MODULES.items():
        if not refusal and item.get_closest_marker(mark) and any(map(_lacks, packages)):
            refusal = f"needs npm install {' '.join(packages)}, and COLONY_TESTS_NODE_MODULES=…/node_modules"
    if refusal:
        pytest.skip(refusal)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip into a failure where nothing may be skipped, whoever skipped."""
    report = yield
    # hld is not to be had as a package, and its makers have given it up: where it cannot be built, its stand-in has to do.
    if report.skipped and not item.get_closest_marker("hld") and os.environ.get("COLONY_TESTS_ALLOW_SKIPS") == "0":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"nothing may be skipped here: {reason}"
    return report
