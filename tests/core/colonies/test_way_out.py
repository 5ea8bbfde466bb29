"""Where a proxy in the cell is the way out, everything that runs in a colony is told of it, and may be told otherwise."""

import json
from pathlib import Path

import pytest

from colony_core.colonies.environment import overlaid, service_environment, setup_environment, way_out_environment
from colony_core.colonies.manifest import read_manifest
from colony_core.isolation import WAY_OUT_PORT
from colony_core.sessions.surroundings import environment_of
from colony_core.views import NewTerminal

from .homes import listen, open_home, service
from .test_terminals import looking

PROXY = f"http://127.0.0.1:{WAY_OUT_PORT}"
ASK = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
TO_THE_HOST = "http://10.200.0.2:9/"
"""An address that is told by the proxy alone: refused, because it is one of colonies. `no_proxy` in ranges is not known to urllib."""


def variables(text: str = "") -> dict[str, str]:
    manifest = read_manifest(f'{text}\n[services.api]\ncommand = "x"\n[network]\nlinks = ["data"]\n', templates={})
    return way_out_environment(PROXY, manifest=manifest, colony="shop", networks=["10.200.0.0/16"])


def test_programs_are_told_in_each_of_the_ways_they_read() -> None:
    told = variables()
    assert told["http_proxy"] == told["HTTP_PROXY"] == told["https_proxy"] == told["HTTPS_PROXY"] == PROXY
    assert told["NODE_USE_ENV_PROXY"] == "1"
    without = told["no_proxy"].split(",")
    assert told["NO_PROXY"] == told["no_proxy"]
    assert {"localhost", "127.0.0.1", "::1", ".colony.internal", "10.200.0.0/16", "shop", "api", "data"} <= {*without}


def test_where_there_is_no_proxy_nothing_is_told() -> None:
    manifest = read_manifest("", templates={})
    assert way_out_environment(None, manifest=manifest, colony="shop", networks=[]) == {}


def test_what_the_manifest_says_of_a_proxy_goes_before_in_either_spelling() -> None:
    text = '[colony.environment]\nHTTPS_PROXY = "http://own:1"\n[services.api]\ncommand = "x"\nenv = { no_proxy = "own" }\n'
    manifest = read_manifest(text, templates={})
    (api,) = manifest.services
    told = service_environment(
        base={}, manifest=manifest, service=api, colony="shop", way_out=variables(), env_file={"Http_Proxy": "file"}
    )
    assert {name: value for name, value in told.items() if "proxy" in name.lower()} == {
        "HTTPS_PROXY": "http://own:1",
        "Http_Proxy": "file",
        "no_proxy": "own",
        "NODE_USE_ENV_PROXY": "1",
    }
    setup = setup_environment(base={}, manifest=manifest, colony="shop", way_out=variables())
    assert "https_proxy" not in setup
    assert setup["http_proxy"] == PROXY


def test_only_words_on_a_proxy_are_one_in_both_spellings() -> None:
    assert overlaid({"a": "1", "HTTP_PROXY": "1"}, {"A": "2", "http_proxy": "2"}) == {
        "a": "1",
        "A": "2",
        "http_proxy": "2",
    }


@pytest.mark.kernel
async def test_setup_services_commands_and_terminals_go_out_by_the_proxy(tmp_path: Path) -> None:
    ask = json.dumps(["python3", "-S", "ask.py", TO_THE_HOST])
    text = f"[setup]\ncommands = [{ask}]\n" + service("asks", ask, restart='{ policy = "never" }')
    async with open_home(tmp_path, egress=True) as home:
        await home.spawn("app", text, **{"ask.py": ASK})
        assert "proxy" in home.house.system().egress
        expected = "403 colony: 10.200.0.2 is in the network of colonies"
        assert (await home.line("app", "setup", "403")).startswith(expected)
        assert (await home.line("app", "asks")).startswith(expected)
        code, out, _ = await home.run("app", "python3", "-S", "ask.py", TO_THE_HOST)
        assert (code, out.decode().startswith(expected)) == (0, True)
        opened = await home.house.open_terminal(
            "app", NewTerminal(command=("python3", "-S", "ask.py", TO_THE_HOST)), opened_by="ape"
        )
        async with looking(home, "app", opened.id) as screen:
            await screen.until("in the network of colonies")


@pytest.mark.kernel
async def test_siblings_are_reached_without_it(tmp_path: Path) -> None:
    async with open_home(tmp_path, egress=True) as home:
        await home.up("app", service("web", listen("127.0.0.1", 4001), port="4001"), **{"ask.py": ASK})
        for host in ("127.0.0.1", "localhost"):
            code, out, _ = await home.run("app", "python3", "-S", "ask.py", f"http://{host}:4001/")
            assert (code, out) == (0, b"ok\n")


@pytest.mark.kernel
async def test_an_agent_goes_by_it_rather_than_by_the_proxy_of_the_daemons_user(tmp_path: Path) -> None:
    around = {"HTTPS_PROXY": "http://proxy.office:3128", "ANTHROPIC_API_KEY": "k"}
    async with open_home(tmp_path, egress=True) as home:
        await home.up("app", service("one"))
        assert await environment_of(home.colony("app"), around) == {"ANTHROPIC_API_KEY": "k"}
        (tmp_path / "app-app" / ".env").write_text("HTTPS_PROXY=http://own:1\n")
        assert (await environment_of(home.colony("app"), around))["HTTPS_PROXY"] == "http://own:1"
    async with open_home(tmp_path / "other") as home:
        await home.up("app", service("one"))
        assert await environment_of(home.colony("app"), around) == around


@pytest.mark.kernel
async def test_without_egress_there_is_no_proxy_and_no_word_of_one(tmp_path: Path) -> None:
    async with open_home(tmp_path) as home:
        await home.up("app", service("one"))
        assert "(egress)" not in home.house.tree_text()
        code, out, _ = await home.run("app", "sh", "-c", "env | grep -ci proxy")
        assert (code, out) == (1, b"0\n")
