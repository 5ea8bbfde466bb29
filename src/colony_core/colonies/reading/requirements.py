"""What a colony may require of its machine: runtimes and package managers, and which versions of them. Pure.

Only tools of this table can be required: each is asked for its version by running it, and not every program takes that question kindly.
"""

import re
from collections.abc import Callable, Iterator, Mapping

import attrs

_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<|\^|~)?\s*v?(\d+(?:\.\d+){0,3})(\.[x*])?\s*", re.ASCII)
_VERSION = re.compile(r"(?<![\d.])(\d+(?:\.\d+){1,3})|(?<![\w.])v?(\d+)(?![\w.])", re.ASCII)
_LONGEST = 100


@attrs.frozen
class Tool:
    """A tool that can be required: the programs that may be it, how it is asked for its version, and where it answers."""

    programs: tuple[str, ...]
    ask: tuple[str, ...] = ("--version",)
    manager: bool = False
    on_stderr: bool = False


TOOLS: dict[str, Tool] = {
    "bun": Tool(("bun",), manager=True),
    "cargo": Tool(("cargo",), manager=True),
    "composer": Tool(("composer",), manager=True),
    "deno": Tool(("deno",)),
    "elixir": Tool(("elixir",), ("--short-version",)),
    "erlang": Tool(
        ("erl",),
        ("-noshell", "-eval", 'io:put_chars(erlang:system_info(otp_release) ++ ".0"), halt().'),
    ),
    "gcc": Tool(("gcc",), ("-dumpfullversion",)),
    "git": Tool(("git",)),
    "gleam": Tool(("gleam",)),
    "go": Tool(("go",), ("version",)),
    "java": Tool(("java",), ("-version",), on_stderr=True),
    "jj": Tool(("jj",)),
    "make": Tool(("make",)),
    "node": Tool(("node", "nodejs")),
    "npm": Tool(("npm",), manager=True),
    "perl": Tool(("perl",), ("-e", "print substr($^V, 1)")),
    "php": Tool(("php",)),
    "pip": Tool(("pip3", "pip"), manager=True),
    "pnpm": Tool(("pnpm",), manager=True),
    "poetry": Tool(("poetry",), manager=True),
    "python": Tool(("python3", "python")),
    "ruby": Tool(("ruby",)),
    "rust": Tool(("rustc",)),
    "uv": Tool(("uv",), manager=True),
    "yarn": Tool(("yarn",), manager=True),
    "zig": Tool(("zig",), ("version",)),
}
MANAGERS = tuple(name for name, tool in TOOLS.items() if tool.manager)
PACKAGE_MANAGER = "package_manager"


def parse_versions(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Comparisons that must all hold, from `"20"`, `"20.x"`, `">=3.11,<4"`, `"^1.2"`, `"~1.2"` or `"*"`; raises ValueError."""
    if text.strip() == "*":
        return ()
    clauses = []
    for part in text.split(",") if len(text) <= _LONGEST else ():
        found = _CLAUSE.fullmatch(part)
        if not found or (found[1] and found[3]):
            break
        clauses.append((found[1] or "=", _numbers(found[2])))
    else:
        if clauses:
            return tuple(clauses)
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    raise ValueError(f'expected a version such as "20", "20.x", ">=3.11,<4", "^1.2" or "*", got {shown!r}')


def parse_manager(text: str) -> tuple[str, str]:
    """Name and version of `"pnpm"` or `"pnpm@9"`; raises ValueError."""
    name, at, versions = text.partition("@")
    if name not in MANAGERS:
        raise ValueError(f"expected one of {', '.join(MANAGERS)}")
    parse_versions(versions if at else "*")
    return name, versions if at else "*"


def satisfies(version: tuple[int, ...], wanted: str) -> bool:
    """Whether `version` fulfils all comparisons of `wanted`."""
    return all(_COMPARE[sign](version, than) for sign, than in parse_versions(wanted))


def find_version(output: str) -> tuple[int, ...] | None:
    """The first thing in a tool's words that looks like a version."""
    found = _VERSION.search(output)
    return _numbers(found[1] or found[2]) if found else None


def wanted_tools(requirements: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tool and wanted version for every requirement."""
    for name, wanted in requirements.items():
        yield parse_manager(wanted) if name == PACKAGE_MANAGER else (name, wanted)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part[:9]) for part in text.split("."))


def _order(version: tuple[int, ...], than: tuple[int, ...]) -> int:
    """-1, 0 or 1, where missing parts are zeros."""
    length = max(len(version), len(than))
    a, b = (each + (0,) * (length - len(each)) for each in (version, than))
    return (a > b) - (a < b)


def _starts(version: tuple[int, ...], with_: tuple[int, ...]) -> bool:
    return (version + (0,) * len(with_))[: len(with_)] == with_


def _caret(version: tuple[int, ...], than: tuple[int, ...]) -> bool:
    """At least `than`, and the same in all parts up to the first that is not zero."""
    fixed = next((number for number, part in enumerate(than, 1) if part), len(than))
    return _order(version, than) >= 0 and _starts(version, than[:fixed])


_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "=": _starts,
    "==": lambda version, than: _order(version, than) == 0,
    "!=": lambda version, than: _order(version, than) != 0,
    ">=": lambda version, than: _order(version, than) >= 0,
    "<=": lambda version, than: _order(version, than) <= 0,
    ">": lambda version, than: _order(version, than) > 0,
    "<": lambda version, than: _order(version, than) < 0,
    "^": _caret,
    "~": lambda version, than: _order(version, than) >= 0 and _starts(version, than[:2]),
}
