"""The schema of colony.toml against the reader that the daemon has: editors are told nothing that it does not hold to."""

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from colony_cli.manifest_schema import manifest_schema
from colony_core.colonies import read_manifest
from colony_core.errors import Invalid

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    *FENCE.findall((ROOT / "docs/manifest.md").read_text()),
    *(path.read_text() for path in sorted(ROOT.glob("src/colony_core/colonies/builtin_templates/*.toml"))),
    *(path.read_text() for path in sorted(ROOT.glob("examples/**/colony.toml"))),
]
WRONG = [
    '[services.web]\ncommand = "x"\nport = "4001"\n',
    '[services.web]\ncommand = "x"\nport = 65536\n',
    '[services.web]\ncommand = 5\n',
    '[services.web]\ncommand = []\n',
    '[services.web]\ncommand = "x"\nrestart = "sometimes"\n',
    '[services.web]\ncommand = "x"\nport = 1\nready = "http"\n',
    '[services.web]\ncommand = "x"\nport = 1\nready = { port = false }\n',
    '[services.web]\ncommand = "x"\ngrace = "ten"\n',
    '[services.web]\ncommand = "x"\nenv = { A = 1 }\n',
    '[services.web]\ncommand = "x"\nautostart = "yes"\n',
    '[[services]]\ncommand = "x"\n',
    '[service]\ncommand = "x"\n',
    "[limits]\ncpu = 0\n",
    '[limits]\nmemory = "much"\n',
    '[agent]\nbackend = "gpt"\n',
    "[agent.budget]\nusd = -1\n",
    "[network]\nlinks = [5]\n",
    "[checks.tests]\nrequired = true\n",
]  # fmt: skip
validator = Draft202012Validator(manifest_schema())


def readable(text: str) -> bool:
    """Whether the daemon takes it; a template may be any of the built-in ones."""
    templates = {path.stem: path.read_text() for path in ROOT.glob("src/colony_core/colonies/builtin_templates/*.toml")}
    try:
        read_manifest(text, templates=templates)
    except Invalid:
        return False
    return True


def tables(value: Any) -> Iterator[dict[str, Any]]:
    """Every table of a schema's example."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from tables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from tables(inner)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(manifest_schema())


@pytest.mark.parametrize("text", BLOCKS)
def test_every_manifest_that_we_show_is_good_by_the_schema(text: str) -> None:
    assert [error.message for error in validator.iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize("text", WRONG)
def test_what_the_schema_refuses_the_daemon_refuses_too(text: str) -> None:
    assert not validator.is_valid(tomllib.loads(text))
    assert not readable(text)


@pytest.mark.parametrize("text", [block for block in BLOCKS if "[colony.environment]" not in block])
def test_an_unknown_key_is_refused_wherever_it_stands(text: str) -> None:
    raw = tomllib.loads(text)
    for number, _ in enumerate(tables(raw)):
        wrong = copy.deepcopy(raw)
        list(tables(wrong))[number]["colour"] = 1
        assert not validator.is_valid(wrong), number
