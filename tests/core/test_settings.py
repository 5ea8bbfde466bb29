"""Settings as people meet them: where each comes from, everything that is wrong, and the schema for editors."""

import json
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from colony_core import config
from colony_core.config import SECTIONS, load_config, parse_duration, parse_size
from colony_core.settings import Setting, mistakes, schema, settings, written

KEYS = [(section, field) for section, kind in SECTIONS.items() for field in attrs.fields(kind)]
VALUES: list[Any] = [
    "", "x", "4M", "30s", "1d", "-1s", "auto", "look", "edits", "text", "info", "internal", "10.200.0.0/16", "127.0.0.1", ":443",
    "colony.localhost", "/a/file", "a", "https://a.example", 0, 1, 7, 50, 8000, 65535, 65536, 2**20, -1, 0.5, -0.5,
    True, False, [], ["a"], ["https://a.example"], [1], {},
]  # fmt: skip


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A system's file and a user's."""
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "system.toml")
    (tmp_path / "system.toml").write_text('[server]\nport = 1\nbind = "127.0.0.2"\n[terminals]\nidle = 90\n')
    (tmp_path / "own.toml").write_text('[server]\nport = 2\n[agent]\nacp_command = ["agent", "--key", "geheim"]\n')
    return {"HOME": str(tmp_path), "COLONY_CONFIG": str(tmp_path / "own.toml"), "COLONY_LOG__LEVEL": "info"}


def test_each_setting_has_the_value_in_force_and_who_said_so(environ: dict[str, str], tmp_path: Path) -> None:
    found = {each.name: each for each in settings(environ)}
    said = lambda name: (found[name].value, found[name].origin)  # noqa: E731
    assert said("server.port") == (2, str(tmp_path / "own.toml"))
    assert said("server.bind") == ("127.0.0.2", str(tmp_path / "system.toml"))
    assert said("terminals.idle") == ("90s", str(tmp_path / "system.toml"))
    assert said("log.level") == ("info", "$COLONY_LOG__LEVEL")
    assert said("events.age") == ("30d", "default")
    assert list(found) == [f"{section}.{field.name}" for section, field in KEYS]


def test_what_may_be_a_secret_is_shown_neither_as_a_value_nor_in_a_mistake(environ: dict[str, str]) -> None:
    acp = next(each for each in settings(environ) if each.name == "agent.acp_command")
    assert isinstance(acp, Setting)
    assert acp.value is None
    assert "geheim" not in str(settings(environ))
    Path(environ["COLONY_CONFIG"]).write_text("[agent]\nacp_command = { key = 'geheim' }\n")
    (wrong,) = mistakes(environ)
    assert "agent.acp_command" in wrong.message
    assert "geheim" not in str(wrong)


def test_everything_that_is_wrong_is_told_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text("[server\n")
    (tmp_path / "own.toml").write_text('[sever]\nport = 1\n[server]\nprot = 1\nport = "x"\n')
    told = [f"{each.message} {each.hint}" for each in mistakes(environ | {"COLONY_LOG__LEVL": "info"})]
    for words, hints in zip(
        told,
        (
            ["system.toml"],
            ["did you mean server?"],
            ["did you mean port?"],
            ["server.port"],
            ["$COLONY_LOG__LEVL", "level?"],
        ),
        strict=True,
    ):
        assert all(hint in words for hint in hints), words


def test_values_that_are_right_each_but_not_together_are_a_mistake(environ: dict[str, str]) -> None:
    (wrong,) = mistakes(environ | {"COLONY_CADDY__TLS": "files"})
    assert "needs caddy.certificate" in wrong.message
    assert mistakes(environ) == []


def test_a_named_file_that_is_not_there_is_a_mistake(environ: dict[str, str], tmp_path: Path) -> None:
    (wrong,) = mistakes(environ | {"COLONY_CONFIG": str(tmp_path / "none.toml")})
    assert "there is no" in wrong.message


@pytest.mark.parametrize(("section", "field"), KEYS, ids=lambda key: key if isinstance(key, str) else key.name)
def test_a_default_as_it_is_written_is_read_as_the_default(section: str, field: "attrs.Attribute[Any]") -> None:
    loaded = load_config(
        {"COLONY_CONFIG": "/dev/null"}, overrides={f"{section}.{field.name}": written(field, field.default)}
    )
    assert getattr(getattr(loaded, section), field.name) == field.default


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_is_written_as_one(seconds: float) -> None:
    assert parse_duration(written(attrs.fields(config.Events).age, seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_is_written_as_one(size: int) -> None:
    assert parse_size(written(attrs.fields(config.Processes).log_total, size)) == size


def test_the_documented_file_is_good_by_the_schema() -> None:
    text = (
        (Path(__file__).parents[2] / "docs/configuration.md").read_text().partition("```toml\n")[2].partition("```")[0]
    )
    made = json.loads(json.dumps(schema()))
    Draft202012Validator.check_schema(made)
    validator = Draft202012Validator(made)
    assert list(validator.iter_errors(tomllib.loads(text))) == []
    for wrong in ({"sever": {}}, {"server": {"prot": 1}}, {"server": {"port": "x"}}, {"log": {"level": "loud"}}):
        assert list(validator.iter_errors(wrong)) != []


@pytest.mark.parametrize(("section", "field"), KEYS, ids=lambda key: key if isinstance(key, str) else key.name)
def test_what_the_schema_refuses_the_daemon_refuses_too(section: str, field: "attrs.Attribute[Any]") -> None:
    """But for numbers, words and lists within a string, which variables of the environment need and a file does not."""
    validator = Draft202012Validator(schema()["properties"][section]["properties"][field.name])
    refused = 0
    for value in VALUES:
        if validator.is_valid(value) or (isinstance(value, str) and not isinstance(field.default, str)):
            continue
        refused += 1
        with pytest.raises(ValueError):
            field.metadata["parse"](value)
    assert refused > 5
