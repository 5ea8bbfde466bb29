"""Settings come from many places, and a mistake in any of them is told with its place."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core import config as configuration
from colony_core.config import Folders, default_folders, load_config, parse_duration, parse_port, parse_size, reloaded
from colony_core.errors import Invalid


@pytest.fixture(autouse=True)
def _no_system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(configuration, "SYSTEM_CONFIG", tmp_path / "system.toml")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_any_file_the_defaults_hold(tmp_path: Path) -> None:
    config = load_config({"HOME": str(tmp_path)})
    assert (config.server.bind, config.server.port, config.routing.port) == ("127.0.0.1", 8000, 8088)
    assert config.routing.domain == "colony.localhost"


def test_later_sources_win_over_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "system.toml", "[server]\nport = 1001\n[routing]\nport = 1001\n[isolation]\negress = false\n")
    own = write(tmp_path / "own.toml", '[server]\nport = 1002\n[routing]\nport = 1002\n[processes]\ngrace = "3s"\n')
    environ = {"HOME": str(tmp_path), "COLONY_CONFIG": str(own), "COLONY_ROUTING__PORT": "1003"}
    config = load_config(environ, overrides={"server.port": 1004})
    assert config.server.port == 1004
    assert config.routing.port == 1003
    assert config.processes.grace == 3.0
    assert config.isolation.egress is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sever]\nport = 1\n", "did you mean server?"),
        ("[server]\nprot = 1\n", "did you mean port?"),
        ("port = 1\n", "known:"),
        ("[server]\nport = 70000\n", "server.port"),
        ('[server]\nport = "x"\n', "server.port"),
        ('[isolation]\nmode = "docker"\n', "expected one of auto"),
        ('[isolation]\nbase = "10.0.0.1/8"\n', "isolation.base"),
        ('[caddy]\nlisten = "443"\n', 'expected ":443"'),
        ('[caddy]\nadmin = "run/admin.sock"\n', "a path from the root"),
        ('[caddy]\nacme_ca = "http://acme.example/dir"\n', "https://acme.example/directory"),
        ("[server\n", "own.toml"),
    ],
)
def test_a_mistake_names_its_file_its_key_and_what_was_meant(tmp_path: Path, text: str, said: str) -> None:
    own = write(tmp_path / "own.toml", text)
    with pytest.raises(Invalid) as caught:
        load_config({"HOME": str(tmp_path), "COLONY_CONFIG": str(own)})
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert str(own) in caught.value.message


def test_a_wrong_variable_names_itself(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"COLONY_SERVER__PROT"):
        load_config({"HOME": str(tmp_path), "COLONY_SERVER__PROT": "1"})


@pytest.mark.parametrize(
    ("environ", "uid", "state", "run"),
    [
        ({"HOME": "/root"}, 0, "/root/.local/state/colony", "/run/colony"),
        ({"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/h/.local/state/colony", "/run/user/7/colony"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, 7, "/s/colony", "/s/colony/run"),
        ({"HOME": "/h", "COLONY_STATE": "/x"}, 0, "/x", "/x/run"),
        ({"HOME": "/h", "COLONY_STATE": "/x", "COLONY_RUN": "/y"}, 0, "/x", "/y"),
    ],
)
def test_folders_follow_the_xdg_rules(environ: dict[str, str], uid: int, state: str, run: str) -> None:
    folders = default_folders(environ, uid)
    assert (str(folders.state), str(folders.run)) == (state, run)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("24h", 86400), ("7d", 604800), (3, 3), (0, 0)]
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "count"), [("4M", 4 * 2**20), ("512K", 2**19), ("1G", 2**30), (7, 7), ("0", 0)])
def test_sizes(text: Any, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_port])
@given(
    value=st.one_of(
        st.text(max_size=8), st.floats(), st.booleans(), st.none(), st.integers(max_value=-1), st.lists(st.integers())
    )
)
def test_parsers_answer_or_raise_value_error(parse: Any, value: Any) -> None:
    try:
        result = parse(value)
    except ValueError:
        return
    assert 0 <= result < float("inf")


def test_what_can_change_at_once_is_taken_over_and_the_rest_waits(tmp_path: Path) -> None:
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    old = load_config({}, folders=folders)
    new = load_config({}, folders=folders, overrides={"processes.grace": "3s", "server.port": 1234})
    found = reloaded(old, new)
    assert (found.changed, found.waiting) == (("processes.grace",), ("server.port",))
    assert found.config.processes == new.processes
    assert found.config.server == old.server
    assert reloaded(old, old).config is old


def test_previews_are_where_people_ask_for_them(tmp_path: Path) -> None:
    def url(**caddy: Any) -> str:
        overrides = {f"caddy.{key}": value for key, value in caddy.items()}
        return load_config({"HOME": str(tmp_path)}, overrides=overrides).preview_url("web.a.b", 8088)

    assert url() == "http://web.a.b:8088/"
    assert url(enabled=True) == "https://web.a.b/"
    assert url(enabled=True, listen="[::1]:8443") == "https://web.a.b:8443/"
    assert url(enabled=True, tls="off", listen=":80") == "http://web.a.b/"


def test_what_another_user_may_enter_lies_apart(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "COLONY_RUN": str(tmp_path / "run")}
    assert load_config(environ).preview_socket == tmp_path / "run/previews.sock"
    shared = load_config(environ, overrides={"caddy.group": "caddy"})
    assert shared.preview_socket == tmp_path / "run-previews/previews.sock"


def test_files_of_ones_own_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="needs caddy"):
        load_config({"HOME": str(tmp_path)}, overrides={"caddy.tls": "files"})


@pytest.mark.parametrize(
    "given", ["https://a.example,http://b.example:81", ["https://a.example", "http://b.example:81"]]
)
def test_origins_are_a_list_or_words_between_commas(given: object, tmp_path: Path) -> None:
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    config = load_config({}, folders=folders, overrides={"server.origins": given})
    assert config.server.origins == ("https://a.example", "http://b.example:81")


@pytest.mark.parametrize("given", ["a.example", "https://a.example/", ["https://*"], "ftp://a", 5, "https://A"])
def test_what_is_no_origin_is_refused(given: object, tmp_path: Path) -> None:
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    with pytest.raises(Invalid, match="expected addresses such as"):
        load_config({}, folders=folders, overrides={"server.origins": given})


def test_trusted_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    config = load_config({}, folders=folders, overrides={"server.trusted_proxies": "127.0.0.1, 10.0.0.0/8,::1"})
    assert config.server.trusted_proxies == ("127.0.0.1", "10.0.0.0/8", "::1")


@pytest.mark.parametrize("given", ["front.example", "10.0.0.1/8", "unix", [""], [5], 5])
def test_what_is_no_proxy_to_trust_is_refused(given: object, tmp_path: Path) -> None:
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    with pytest.raises(Invalid, match=r"server\.trusted_proxies"):
        load_config({}, folders=folders, overrides={"server.trusted_proxies": given})


@pytest.mark.parametrize(("key", "given"), [("access.group", "no group"), ("access.others", "all"), ("events.keep", 0)])
def test_access_and_events_take_no_nonsense(key: str, given: object, tmp_path: Path) -> None:
    folders = Folders(state=tmp_path, run=tmp_path, templates=tmp_path)
    with pytest.raises(Invalid, match=key):
        load_config({}, folders=folders, overrides={key: given})
