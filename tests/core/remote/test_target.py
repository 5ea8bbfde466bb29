"""Which daemon is meant, and with which token."""

from pathlib import Path

import pytest

from colony_core.errors import Invalid, NotAllowed
from colony_core.remote import Target, discover, local_token_path


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "COLONY_RUN": str(tmp_path), **more}


def test_without_words_it_is_the_socket_in_the_run_folder(tmp_path: Path) -> None:
    assert discover(environ=environ(tmp_path)) == Target(socket=f"{tmp_path}/colony.sock")


def test_the_flag_wins_over_the_environment(tmp_path: Path) -> None:
    env = environ(tmp_path, COLONY_SERVER="http://127.0.0.1:9", COLONY_TOKEN="env")
    assert discover(environ=env) == Target(host="127.0.0.1", port=9, token="env")
    assert discover("unix:/x.sock", token="flag", environ=env) == Target(socket="/x.sock", token="flag")


@pytest.mark.parametrize(
    ("spelled", "authority"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost:8000/", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://127.0.0.1", "127.0.0.1:80"),
        ("https://127.0.0.1:8443", "127.0.0.1:8443"),
        ("https://Colony.example.org", "colony.example.org"),
        ("https://colony.example.org:443/", "colony.example.org"),
        ("https://colony.example.org:80", "colony.example.org:80"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
        ("unix:///run/c.sock", "localhost"),
        ("unix:/run/c.sock", "localhost"),
    ],
)
def test_an_address_is_understood(tmp_path: Path, spelled: str, authority: str) -> None:
    assert discover(spelled, environ=environ(tmp_path)).authority == authority


@pytest.mark.parametrize(
    "spelled",
    [
        "127.0.0.1:8000",
        "localhost:8000",
        "https://",
        "https://127.0.0.1:0",
        "https://colony.example.org/api",
        "https://user:word@colony.example.org",
        "https://colony example.org",
        "https://colony.example.org\x1b",
        "https://cölony.example.org",
        "unix:relative.sock",
        "unix:",
        "http://",
        "http://127.0.0.1:0",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:x",
        "http://user:word@127.0.0.1:8000",
        "http://127.0.0.1:8000/api",
        "http://127.0.0.1:8000?a=b",
        "http://[::1",
        "ftp://127.0.0.1",
        "/run/colony.sock",
    ],
)
def test_other_spellings_are_refused_with_the_right_ones(tmp_path: Path, spelled: str) -> None:
    with pytest.raises(Invalid) as caught:
        discover(spelled, environ=environ(tmp_path))
    assert caught.value.code == "invalid-server"
    assert "unix:/path" in caught.value.hint


@pytest.mark.parametrize("host", ["127.evil.com", "localhost.evil.com", "10.0.0.1", "[2001:db8::1]", "0.0.0.0"])
def test_plain_http_to_another_machine_is_refused_unless_told(tmp_path: Path, host: str) -> None:
    local_token_path(environ(tmp_path)).write_text("local\n")
    with pytest.raises(NotAllowed) as caught:
        discover(f"http://{host}:8000", environ=environ(tmp_path))
    assert caught.value.code == "plain-http"
    assert "https://" in caught.value.hint
    assert "ssh" in caught.value.hint
    told = discover(f"http://{host}:8000", environ=environ(tmp_path), plain_http_anywhere=True)
    assert told.token is None


def test_https_reaches_another_machine_with_a_token_of_ones_own_and_holds_it_to_a_named_authority(
    tmp_path: Path,
) -> None:
    local_token_path(environ(tmp_path)).write_text("local\n")
    env = environ(tmp_path, COLONY_SERVER="https://colony.example.org")
    assert discover(environ=env) == Target(host="colony.example.org", port=443, tls=True)
    env |= {"COLONY_TOKEN": "afar", "COLONY_CA_FILE": "/root.crt"}
    found = discover(environ=env)
    assert found == Target(host="colony.example.org", port=443, tls=True, ca_file="/root.crt", token="afar")
    assert str(found) == "https://colony.example.org"
    assert discover("http://127.0.0.1:8000", environ=env).ca_file is None


def test_the_token_of_the_local_daemon_is_used_for_this_machine_only(tmp_path: Path) -> None:
    env = environ(tmp_path)
    assert discover("http://127.0.0.1:8000", environ=env).token is None
    local_token_path(env).write_text("cut_1_local\n")
    assert discover("http://127.0.0.1:8000", environ=env).token == "cut_1_local"
    assert discover("http://127.0.0.1:8000", token="mine", environ=env).token == "mine"
    assert discover(environ=env).token is None
    local_token_path(env).write_bytes(b"\xff\xff")
    assert discover("http://127.0.0.1:8000", environ=env).token is None


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "ä"])
def test_a_token_that_cannot_stand_in_a_header_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(Invalid) as caught:
        discover(token=token, environ=environ(tmp_path))
    assert token not in str(caught.value)


@pytest.mark.parametrize("server", ["unix:/x.sock", "http://127.0.0.1:8000", None])
def test_a_span_of_whoever_runs_us_goes_along_and_nothing_else_that_bears_its_name(server: str | None) -> None:
    span = f"00-{'a' * 32}-{'b' * 16}-01"
    assert discover(server, token="t", environ={"TRACEPARENT": span}).headers["traceparent"] == span
    for other in ("", "x", f"{span}\r\nX: y", f" {span}"):
        assert "traceparent" not in discover(server, token="t", environ={"TRACEPARENT": other}).headers
