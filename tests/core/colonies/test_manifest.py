"""colony.toml: three spellings, one meaning, and every mistake told with its line."""

import contextlib
import itertools
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colony_core import wire
from colony_core.colonies.environment import INHERITED
from colony_core.colonies.manifest import (
    Dependency,
    Link,
    Manifest,
    Preview,
    Ready,
    RestartPolicy,
    Service,
    SetupCommand,
    read_manifest,
    read_manifest_file,
    start_order,
)
from colony_core.colonies.reading.lines import locate
from colony_core.colonies.reading.requirements import MANAGERS, TOOLS
from colony_core.colonies.templates import BUILTIN, load_templates
from colony_core.errors import Invalid, NotFound

HEAD = '[services.web]\ncommand = "x"\n'


def read(text: str, **templates: str) -> Manifest:
    return read_manifest(text, templates=templates)


def refused(text: str, **templates: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        read(text, **templates)
    assert caught.value.hint
    assert caught.value.details["errors"]
    return caught.value


# ---- what is accepted


@pytest.mark.parametrize(
    "text",
    [
        '[services.web]\ncommand = "npm start"\nport = 3000\n',
        '[[services]]\nname = "web"\ncommand = "npm start"\nport = 3000\n',
        '[[service]]\nname = "web"\nport = 3000\nstart_command = "npm start"\n',
        'services.web = { command = "npm start", port = 3000 }\n',
    ],
)
def test_the_three_spellings_of_a_service_mean_the_same(text: str) -> None:
    assert read(text).services == (
        Service(
            name="web",
            command=("/bin/sh", "-c", "npm start"),
            command_text="npm start",
            port=3000,
            ready=Ready("port", "", 30.0),
        ),
    )


def test_spellings_may_be_mixed_and_keep_the_order_of_the_text() -> None:
    text = '[[service]]\nname = "one"\ncommand = "x"\n[services.two]\ncommand = "x"\n[[service]]\nname = "three"\ncommand = "x"\n'
    assert [service.name for service in read(text).services] == ["one", "two", "three"]


def test_a_service_says_everything_that_it_can() -> None:
    text = """
    [services.api]
    command = ["python3", "-c", "print('two words')"]
    port = 4002
    env = { TOKEN = "s", http_proxy = "p" }
    env_file = [".env", "sub/../.env.local"]
    cwd = "./server/"
    depends_on = ["db", { name = "cache", restart = true }]
    restart = { policy = "on-failure", count = 3, window = "1m", backoff = "500ms", backoff_most = 8 }
    ready = { http = "/health?full=1", timeout = "2m" }
    grace = "1.5s"
    autostart = false
    preview = { host = "rewrite" }
    [services.db]
    command = "db"
    [services.cache]
    command = "cache"
    restart = "never"
    ready = { log = "ready * now" }
    """
    api, db, cache = read(text).services
    assert api == Service(
        name="api",
        command=("python3", "-c", "print('two words')"),
        command_text="python3 -c 'print('\"'\"'two words'\"'\"')'",
        port=4002,
        env={"TOKEN": "s", "http_proxy": "p"},
        env_file=(".env", ".env.local"),
        cwd="server",
        depends_on=(Dependency("db"), Dependency("cache", restart=True)),
        restart=RestartPolicy("on-failure", 3, 60.0, 0.5, 8.0),
        ready=Ready("http", "/health?full=1", 120.0),
        grace=1.5,
        autostart=False,
        preview=Preview("rewrite"),
    )
    assert (db.ready, db.restart, db.grace, db.autostart) == (None, RestartPolicy(), None, True)
    assert cache.restart == RestartPolicy("never")
    assert cache.ready == Ready("log", "ready * now", 30.0)


def test_the_other_tables_say_everything_that_they_can() -> None:
    manifest = read("""
    [colony]
    name = "shop"
    description = "A shop"
    [colony.environment]
    node = ">=20,<23"
    package_manager = "pnpm@9"
    TOKEN = "s"
    [setup]
    commands = ["npm ci", ["npm", "run", "build"]]
    timeout = "5m"
    [terminal]
    command = "bash -l"
    [network]
    links = ["data", "books:api"]
    [limits]
    memory = "512M"
    swap = 1024
    cpu = 1.5
    pids = 256
    """)
    assert manifest.name == "shop"
    assert manifest.description == "A shop"
    assert manifest.requirements == {"node": ">=20,<23", "package_manager": "pnpm@9"}
    assert manifest.environment == {"TOKEN": "s"}
    assert manifest.setup == (
        SetupCommand(("/bin/sh", "-c", "npm ci"), "npm ci", 300.0),
        SetupCommand(("npm", "run", "build"), "npm run build", 300.0),
    )
    assert manifest.terminal == "bash -l"
    assert manifest.links == (Link("data"), Link("books", "api"))
    assert [str(link) for link in manifest.links] == ["data", "books:api"]
    assert manifest.limits == {"memory": "512M", "swap": "1024", "cpu": "1.5", "pids": "256"}


def test_an_empty_text_is_a_colony_without_services() -> None:
    assert read("") == Manifest()


def test_the_text_is_kept() -> None:
    assert read(HEAD).text == HEAD


def test_a_command_of_several_lines_keeps_them_and_is_shown_in_one() -> None:
    (service,) = read("[services.web]\ncommand = '''\nset -e\nexec x\n'''\n").services
    assert service.command == ("/bin/sh", "-c", "set -e\nexec x")
    assert service.command_text == "set -e exec x"


def test_the_folder_itself_as_cwd_is_no_cwd() -> None:
    assert read(HEAD + 'cwd = "a/.."').services[0].cwd is None


def test_a_backoff_above_the_usual_most_lifts_it() -> None:
    assert read(HEAD + 'restart = { backoff = "9s" }').services[0].restart.backoff_most == 9.0


# ---- what is refused

CASES: list[tuple[str, str, str, int]] = [
    # text, code, the message's beginning behind the place, line
    ("[colony\n", "malformed-toml", "not TOML", 1),
    ('a = "x\n', "malformed-toml", "not TOML", 1),
    ("a = [1,\n", "malformed-toml", "not TOML", 2),
    ("a = 1\na = 2\n", "malformed-toml", "not TOML", 2),
    ("[colony]\nnam = 'x'\n", "unknown-key", "colony.nam: unknown key 'nam'", 2),
    ("[colonny]\n", "unknown-key", "colonny: unknown key 'colonny'", 1),
    ("[colony]\n[colony.ports]\nweb = 1\n", "unknown-key", "colony.ports: unknown key 'ports'", 2),
    ("[colony]\nname = 'a/b'\n", "invalid-name", "colony.name: 'a/b' is not a colony name", 2),
    ("[colony]\nname = '..'\n", "invalid-name", "colony.name: ", 2),
    ("[colony]\nname = 'a b'\n", "invalid-name", "colony.name: ", 2),
    (f"[colony]\nname = '{'a' * 300}'\n", "invalid-name", "colony.name: ", 2),
    ('[colony]\nname = "a\\u0007"\n', "invalid-name", "colony.name: ", 2),
    ("[colony]\nname = 'www'\n", "reserved-name", "colony.name: ", 2),
    ("[colony]\nname = 5\n", "invalid-manifest", "colony.name: expected text, got the number 5", 2),
    ("[colony]\ndescription = 'a'\ntemplate = 'web-ap'\n", "unknown-template", "colony.template: no template", 3),
    ("colony = 1\n", "invalid-manifest", "colony: expected a table", 1),
    ("[colony.environment]\nnode = 20\n", "invalid-manifest", "colony.environment.node: expected a version as text", 2),
    ("[colony.environment]\nnode = 'new'\n", "invalid-manifest", "colony.environment.node: expected a version", 2),
    ("[colony.environment]\nnodee = '20'\n", "unknown-key", "colony.environment.nodee: unknown key", 2),
    ("[colony.environment]\nMixed = '20'\n", "unknown-key", "colony.environment.Mixed: unknown key", 2),
    ("[colony.environment]\nPORT = '20'\n", "invalid-manifest", "colony.environment.PORT: PORT is set", 2),
    ("[colony.environment]\nCOLONY_NAME = 'x'\n", "invalid-manifest", "colony.environment.COLONY_NAME: ", 2),
    ("[colony.environment]\npackage_manager = 'pnmp'\n", "invalid-manifest", "colony.environment.package_manager: ", 2),
    ("services = 3\n", "invalid-manifest", "services: expected tables", 1),
    ("[services]\ncommand = 'x'\n", "invalid-manifest", "services.command: expected a table", 2),
    ("[service.web]\ncommand = 'x'\n", "invalid-manifest", "service: [service] is a list", 1),
    ("[[services]]\ncommand = 'x'\n", "invalid-manifest", "services[0]: the name is missing", 1),
    ("[[service]]\nname = 3\ncommand = 'x'\n", "invalid-manifest", "service[0].name: expected text", 2),
    ("[services.'a.b']\ncommand = 'x'\n", "invalid-service-name", "services.'a.b': 'a.b' is not a service name", 1),
    ("[services.Web]\ncommand = 'x'\n", "invalid-service-name", "services.Web: ", 1),
    ("[services.setup]\ncommand = 'x'\n", "reserved-name", "services.setup: ", 1),
    ("[services.web]\nname = 'api'\ncommand = 'x'\n", "invalid-manifest", "services.web.name: ", 2),
    ("[services.web]\nport = 1\n", "invalid-manifest", "services.web: the command is missing", 1),
    ("[services.web]\ncommand = ' '\n", "invalid-manifest", "services.web.command: the command is empty", 2),
    ("[services.web]\ncommand = []\n", "invalid-manifest", "services.web.command: the command is empty", 2),
    ("[services.web]\ncommand = ['']\n", "invalid-manifest", "services.web.command: the command is empty", 2),
    ("[services.web]\ncommand = [\n'x',\n3]\n", "invalid-manifest", "services.web.command[1]: expected text", 4),
    ('[services.web]\ncommand = "a\\u0000b"\n', "invalid-manifest", "services.web.command: control", 2),
    ('[services.web]\ncommand = "a\\u001b[2J"\n', "invalid-manifest", "services.web.command: control", 2),
    ("[services.web]\ncommand = 'x'\nstart_command = 'x'\n", "invalid-manifest", "services.web.start_command: ", 3),
    (HEAD + "comand = 'y'\n", "unknown-key", "services.web.comand: unknown key 'comand'", 3),
    (
        HEAD + "port = 0\n",
        "invalid-manifest",
        "services.web.port: expected a port from 1 to 65535, got the number 0",
        3,
    ),
    (HEAD + "port = 70000\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + "port = -1\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + "port = '80'\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + "port = true\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + "port = 80.0\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + "port = 1979-05-27\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + f"port = {'9' * 4000}\n", "invalid-manifest", "services.web.port: expected a port", 3),
    (HEAD + "env = 'A=1'\n", "invalid-manifest", "services.web.env: expected a table", 3),
    (HEAD + "[services.web.env]\nA = 1\n", "invalid-manifest", "services.web.env.A: expected text", 4),
    (HEAD + "env = { A = true }\n", "invalid-manifest", "services.web.env.A: expected text", 3),
    (HEAD + "env = { '1A' = 'x' }\n", "invalid-manifest", "services.web.env.1A: '1A' is no name", 3),
    (HEAD + "env = { 'A=B' = 'x' }\n", "invalid-manifest", "services.web.env.'A=B': ", 3),
    (HEAD + 'env = { A = "x\\u0000" }\n', "invalid-manifest", "services.web.env.A: control", 3),
    (HEAD + f"env = {{ A = '{'x' * 100_001}' }}\n", "invalid-manifest", "services.web.env.A: longer", 3),
    (
        HEAD + "env = { COLONY_SERVICE_API_URL = 'x' }\n",
        "invalid-manifest",
        "services.web.env.COLONY_SERVICE_API_URL",
        3,
    ),
    (HEAD + "port = 1\nenv = { PORT = '2' }\n", "invalid-manifest", "services.web.env.PORT: PORT is set", 4),
    (HEAD + "env_file = 1\n", "invalid-manifest", "services.web.env_file: expected text", 3),
    (HEAD + "env_file = ['.env', '/etc/passwd']\n", "invalid-manifest", "services.web.env_file[1]: ", 3),
    (HEAD + "env_file = '../.env'\n", "invalid-manifest", "services.web.env_file: '../.env' leads out", 3),
    (HEAD + "cwd = '/tmp'\n", "invalid-manifest", "services.web.cwd: '/tmp' is not inside", 3),
    (HEAD + "cwd = '~/x'\n", "invalid-manifest", "services.web.cwd: '~/x' is not inside", 3),
    (HEAD + "cwd = 'a/../../b'\n", "invalid-manifest", "services.web.cwd: 'a/../../b' leads out", 3),
    (HEAD + "cwd = ''\n", "invalid-manifest", "services.web.cwd: the path is empty", 3),
    (HEAD + 'cwd = "a\\nb"\n', "invalid-manifest", "services.web.cwd: control", 3),
    (HEAD + "depends_on = 'api'\n", "invalid-manifest", "services.web.depends_on: expected a list", 3),
    (HEAD + "depends_on = [1]\n", "invalid-manifest", "services.web.depends_on[0]: expected the name", 3),
    (HEAD + "depends_on = ['wbe']\n", "unknown-dependency", "services.web.depends_on[0]: there is no service", 3),
    (HEAD + "depends_on = ['web']\n", "cyclic-dependency", "services.web.depends_on[0]: web depends on itself", 3),
    (HEAD + "depends_on = [{ restart = true }]\n", "invalid-manifest", "services.web.depends_on[0]: the name", 3),
    (
        HEAD + "depends_on = [{ name = 'web', restart = 1 }]\n",
        "invalid-manifest",
        "services.web.depends_on[0].restart: expected true or false",
        3,
    ),
    (HEAD + "restart = true\n", "invalid-manifest", "services.web.restart: expected one of", 3),
    (HEAD + "restart = 'allways'\n", "invalid-manifest", "services.web.restart: expected one of", 3),
    (HEAD + "restart = { count = -1 }\n", "invalid-manifest", "services.web.restart.count: ", 3),
    (HEAD + "restart = { window = 'soon' }\n", "invalid-manifest", "services.web.restart.window: ", 3),
    (HEAD + "restart = { windw = '1s' }\n", "unknown-key", "services.web.restart.windw: ", 3),
    (
        HEAD + "restart = { backoff = 2, backoff_most = 1 }\n",
        "invalid-manifest",
        "services.web.restart.backoff_most",
        3,
    ),
    (HEAD + "ready = 'port'\n", "invalid-manifest", "services.web.ready.port: port needs the service's port", 3),
    (HEAD + "ready = 'htpp'\n", "invalid-manifest", "services.web.ready: expected", 3),
    (HEAD + "port = 1\nready = { timeout = 3 }\n", "invalid-manifest", "services.web.ready: expected one of", 4),
    (
        HEAD + "port = 1\nready = { port = true, log = 'x' }\n",
        "invalid-manifest",
        "services.web.ready: expected one",
        4,
    ),
    (HEAD + "port = 1\nready = { port = false }\n", "invalid-manifest", "services.web.ready.port: ", 4),
    (HEAD + "port = 1\nready = { http = 'health' }\n", "invalid-manifest", "services.web.ready.http: ", 4),
    (HEAD + 'port = 1\nready = { http = "/a\\r\\nB: c" }\n', "invalid-manifest", "services.web.ready.http: ", 4),
    (HEAD + "port = 1\nready = { http = '/ä' }\n", "invalid-manifest", "services.web.ready.http: ", 4),
    (HEAD + "ready = { log = '*' }\n", "invalid-manifest", "services.web.ready.log: expected text of a log line", 3),
    (HEAD + "ready = { log = 'x', timeout = 0 }\n", "invalid-manifest", "services.web.ready.timeout: ", 3),
    (HEAD + "grace = 'long'\n", "invalid-manifest", "services.web.grace: expected a duration", 3),
    (HEAD + "grace = inf\n", "invalid-manifest", "services.web.grace: expected a duration", 3),
    (HEAD + "grace = nan\n", "invalid-manifest", "services.web.grace: expected a duration", 3),
    (HEAD + "grace = '90d'\n", "invalid-manifest", "services.web.grace: the text '90d' is out of range", 3),
    (HEAD + "preview = 'x'\n", "invalid-manifest", "services.web.preview: expected a table", 3),
    (HEAD + "port = 1\npreview = { host = 'drop' }\n", "invalid-manifest", "services.web.preview.host: expected", 4),
    (
        HEAD + "preview = { host = 'keep' }\n",
        "invalid-manifest",
        "services.web.preview: a preview needs the service's port",
        3,
    ),
    (HEAD + "autostart = 'yes'\n", "invalid-manifest", "services.web.autostart: expected true or false", 3),
    ("[setup]\ncommand = 'x'\n", "unknown-key", "setup.command: unknown key", 2),
    ("[setup]\ncommands = 'x'\n", "invalid-manifest", "setup.commands: expected a list", 2),
    ("[setup]\ncommands = [\n 'x',\n '']\n", "invalid-manifest", "setup.commands[1]: the command is empty", 4),
    ("[terminal]\ncommand = 1\n", "invalid-manifest", "terminal.command: expected text or a list", 2),
    ("[terminal]\nshell = 'x'\n", "unknown-key", "terminal.shell: unknown key", 2),
    ("[limits]\nmemory = 'much'\n", "invalid-manifest", "limits.memory: expected a size", 2),
    ("[limits]\nmemory = 0\n", "invalid-manifest", "limits.memory: expected a size above 0", 2),
    ("[limits]\ncpu = '1'\n", "invalid-manifest", "limits.cpu: expected a number of processors", 2),
    ("[limits]\ncpu = nan\n", "invalid-manifest", "limits.cpu: expected a number of processors", 2),
    ("[limits]\npids = 0\n", "invalid-manifest", "limits.pids: expected a whole number", 2),
    ("[limits]\nmemmory = '1G'\n", "unknown-key", "limits.memmory: unknown key", 2),
]


@pytest.mark.parametrize(("text", "code", "message", "line"), CASES, ids=[case[2][:60] for case in CASES])
def test_a_mistake_is_told_with_its_place(text: str, code: str, message: str, line: int) -> None:
    error = refused(text)
    assert (error.code, error.details["line"]) == (code, line)
    assert error.message.startswith(f"colony.toml:{line}: {message}")
    assert len(error.details["errors"]) == 1, "one mistake is told once"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[colony]\nnam = 'x'\n", "did you mean name?"),
        (HEAD + "comand = 'y'\n", "did you mean command?"),
        (HEAD + "restart = 'allways'\n", "did you mean always?"),
        (HEAD + "healthcheck = 'y'\n", 'write ready = { http = "/health" }'),
        (HEAD + "zzz = 'y'\n", "known here: autostart, command, cwd, "),
        ("[colony.environment]\nnodee = '20'\n", "did you mean node?"),
        ("[colony.environment]\nhttp_proxy = 'x'\n", "variables of all services are UPPER_CASE"),
        ("[colony.ports]\nweb = 1\n", "named ports gave way to services: write [services.web]"),
        ("[services.a]\n[[services]]\n", "[services.NAME] and [[services]] cannot stand in one file"),
        ("[[services]]\n[services.a]\n[services.a]\n", "[services.NAME] and [[services]] cannot stand in one file"),
        ("[a]\n[a]\n", "see https://toml.io"),
        ("[environment]\nA = '1'\n", "write [colony.environment]"),
        ("links = ['other']\n", 'write links = ["other"] in [network]'),
        ("[network]\nlink = ['other']\n", "did you mean links?"),
        ("[network]\nlinks = 'other'\n", "see "),
        ("[network]\nlinks = [1]\n", "write it in quotes"),
        ("[network]\nlinks = ['a', 'b:c', 'a']\n", "leave one out"),
        ("[network]\nlinks = ['Other']\n", "1 to 32 of a-z"),
        ("[network]\nlinks = ['other:']\n", "1 to 63 of a-z"),
        ("[network]\nlinks = ['other:a:b']\n", "1 to 63 of a-z"),
        ("[network]\nlinks = ['bloom']\n", "take another name"),
        ("[colony.environment]\nnode = 20\n", 'write it in quotes: node = ">=3.10"'),
    ],
)
def test_a_mistake_comes_with_what_to_write(text: str, hint: str) -> None:
    assert refused(text).hint.startswith(hint)


def test_all_mistakes_are_told_in_the_order_of_their_lines_and_the_first_is_the_message() -> None:
    error = refused("[services.web]\ncommand = 'x'\nport = 0\ncwd = '/x'\n[colony]\nnam = 'x'\n")
    found = error.details["errors"]
    assert [(entry["line"], entry["path"]) for entry in found] == [
        (3, "services.web.port"),
        (4, "services.web.cwd"),
        (6, "colony.nam"),
    ]
    assert found[2]["nearest"] == "name"
    assert error.message.startswith("colony.toml:3: services.web.port: ")
    assert error.message.endswith("(and 2 more mistakes)")
    assert error.details["path"] == "services.web.port"


def test_the_same_port_twice_names_who_has_it() -> None:
    error = refused("[services.a]\ncommand = 'x'\nport = 80\n[services.b]\ncommand = 'x'\nport = 80\n")
    assert error.code == "duplicate-port"
    assert error.message == "colony.toml:6: services.b.port: port 80 is taken by a"


def test_the_same_name_twice_over_two_spellings_names_the_first_line() -> None:
    error = refused("[services.web]\ncommand = 'x'\n[[service]]\nname = 'web'\ncommand = 'y'\n")
    assert error.code == "duplicate-service"
    assert "taken in line 1" in error.message
    assert error.details["line"] == 3


def test_a_circle_of_dependencies_is_named_whole() -> None:
    error = refused("".join(f"[services.{a}]\ncommand = 'x'\ndepends_on = ['{b}']\n" for a, b in ("ab", "bc", "cb")))
    assert error.code == "cyclic-dependency"
    assert "b → c → b" in error.message
    assert error.details["line"] == 6


def test_a_circle_is_named_too_where_other_dependencies_are_wrong() -> None:
    error = refused("[services.a]\ncommand='x'\ndepends_on=['b','zz']\n[services.b]\ncommand='x'\ndepends_on=['a']\n")
    assert {entry["code"] for entry in error.details["errors"]} == {"cyclic-dependency", "unknown-dependency"}


def test_values_of_variables_are_never_told() -> None:
    for text in (
        HEAD + "env = { A = ['hunter2'] }\n",
        HEAD + 'env = { A = "hunter2\\u0000" }\n',
        HEAD + "env = { A = 'hunter2', PORT = 'hunter2' }\nport = 1\n",
        '[colony.environment]\nA = { hunter2 = "hunter2" }\n',
        "[colony.environment]\nA = 4711\n",
    ):
        error = refused(text)
        assert "hunter2" not in repr((error.message, error.hint, error.details))
        assert "4711" not in repr((error.message, error.hint, error.details))


def test_more_than_a_mebibyte_is_refused_before_it_is_read() -> None:
    assert refused("#" * (2**20 + 1)).code == "manifest-too-large"
    assert read("#" * 2**20).services == ()


def test_more_than_a_hundred_services_are_refused() -> None:
    assert "more than 100" in refused("".join(f"[services.s{n}]\ncommand = 'x'\n" for n in range(101))).message


def test_more_than_a_hundred_links_are_refused() -> None:
    names = ", ".join(f"'a{number}'" for number in range(101))
    assert refused(f"[network]\nlinks = [{names}]\n").message.startswith("colony.toml:2: network.links: more than 100")


def test_links_of_a_template_are_replaced_as_a_whole() -> None:
    templates = {"linked": "[network]\nlinks = ['data']\n"}
    assert read_manifest("[colony]\ntemplate = 'linked'\n", templates=templates).links == (Link("data"),)
    own = "[colony]\ntemplate = 'linked'\n[network]\nlinks = ['books']\n"
    assert read_manifest(own, templates=templates).links == (Link("books"),)


def test_hostile_nesting_is_refused_and_not_followed() -> None:
    assert refused("a = " + "[" * 100_000).code == "malformed-toml"
    assert refused("a = " + "[" * 200 + "]" * 200).code == "unknown-key"
    for part in ("a", "'a'", r'"\""', " a "):
        error = refused("\n" + ".".join([part] * 50_000) + " = 1")
        assert (error.code, error.details["line"]) == ("malformed-toml", 2)
    assert read("#" + "a" * 500_000 + " " * 500_000).services == ()
    assert refused(f"a = {'9' * 10_000}").code == "malformed-toml"
    assert refused("\ud800").code == "not-utf8"


def test_only_the_first_hundred_mistakes_are_told() -> None:
    assert len(refused("".join(f"k{n} = 1\n" for n in range(500))).details["errors"]) == 100


# ---- files


def test_a_file_is_read_and_named_in_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "colony.toml"
    path.write_text(HEAD)
    assert read_manifest_file(path, templates={}).services[0].name == "web"
    path.write_text("[colony]\nnam = 'x'")
    with pytest.raises(Invalid, match=r"colony\.nam") as caught:
        read_manifest_file(path, templates={})
    assert caught.value.message.startswith(f"{path}:2: ")


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    for path in (tmp_path / "colony.toml", tmp_path / "no" / "colony.toml"):
        with pytest.raises(NotFound, match="there is no") as caught:
            read_manifest_file(path, templates={})
        assert "colony init" in caught.value.hint


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "colony.toml").write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(Invalid, match=r"colony\.toml:2: not UTF-8"):
        read_manifest_file(tmp_path / "colony.toml", templates={})


def test_a_file_without_end_is_read_only_so_far(tmp_path: Path) -> None:
    with (tmp_path / "colony.toml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(Invalid, match="larger than 1048576 bytes"):
        read_manifest_file(tmp_path / "colony.toml", templates={})


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(Invalid, match="is no ordinary file"):
            read_manifest_file(path, templates={})


# ---- the order of starts


def service(name: str, *needs: str) -> Service:
    return Service(name=name, command=("x",), command_text="x", depends_on=tuple(Dependency(n) for n in needs))


def test_services_start_in_ranks_behind_what_they_depend_on() -> None:
    services = [service("web", "api", "cache"), service("api", "db"), service("db"), service("cache"), service("docs")]
    assert start_order(services) == (("db", "cache", "docs"), ("api",), ("web",))
    assert start_order([]) == ()


def test_an_order_that_there_is_not_is_refused() -> None:
    with pytest.raises(Invalid, match="b → c → b") as caught:
        start_order([service("a", "b"), service("b", "c"), service("c", "b")])
    assert caught.value.details["cycle"] == ["b", "c", "b"]
    with pytest.raises(Invalid, match="no service 'zz'"):
        start_order([service("a", "zz")])


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("abcdefgh"), max_size=3), max_size=8))
def test_every_order_either_holds_or_names_a_real_circle(graph: dict[str, set[str]]) -> None:
    needs = {name: [n for n in sorted(others) if n in graph] for name, others in graph.items()}
    try:
        ranks = start_order(service(name, *others) for name, others in needs.items())
    except Invalid as error:
        cycle = error.details["cycle"]
        assert cycle[0] == cycle[-1]
        assert all(after in needs[before] for before, after in itertools.pairwise(cycle))
        return
    place = {name: number for number, rank in enumerate(ranks) for name in rank}
    assert place.keys() == needs.keys()
    assert all(place[other] < place[name] for name, others in needs.items() for other in others)


# ---- properties

seconds = st.floats(0.001, 86_400, allow_nan=False)
words = st.text("abcxyz ÄÖ'\"\\$\n", min_size=1).filter(lambda text: text.strip())
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in ("colony", "setup")
)
readies = st.one_of(
    st.builds(Ready, st.just("port"), st.just(""), seconds),
    st.builds(Ready, st.just("http"), st.sampled_from(["/", "/health?a=b"]), seconds),
    st.builds(Ready, st.just("log"), st.sampled_from(["ready", "a+b"]), seconds),
)
variables = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "PORT"), words, max_size=3
)


@st.composite
def services_of(draw: st.DrawFn) -> tuple[Service, ...]:
    found: list[Service] = []
    for number, name in enumerate(draw(st.lists(names, unique=True, max_size=4))):
        port = draw(st.none() | st.just(4000 + number))
        ready = draw(st.none() | readies)
        if port is None and ready is not None and ready.kind != "log":
            ready = None
        text = draw(words).strip()
        first = draw(seconds)
        restart = st.builds(
            RestartPolicy,
            st.sampled_from(["always", "on-failure", "never"]),
            st.integers(0, 99),
            seconds,
            st.just(first),
            st.floats(first, 86_400),
        )
        found.append(
            Service(
                name=name,
                command=("/bin/sh", "-c", text),
                command_text=" ".join(text.split()),
                port=port,
                env=draw(variables),
                env_file=tuple(draw(st.lists(st.sampled_from([".env", "a/b"]), max_size=2))),
                cwd=draw(st.none() | st.just("sub/dir")),
                depends_on=tuple(Dependency(s.name, draw(st.booleans())) for s in found if draw(st.booleans())),
                restart=draw(restart),
                ready=Ready("port") if port is not None and ready is None else ready,
                grace=draw(st.none() | st.floats(0, 86_400)),
                autostart=draw(st.booleans()),
                preview=Preview(draw(st.sampled_from(["keep", "rewrite"]))) if port is not None else Preview(),
            )
        )
    return tuple(found)


manifests = st.builds(
    Manifest,
    name=st.none() | st.sampled_from(["shop", "a-b"]),
    description=st.text("abc ü", max_size=20),
    requirements=st.dictionaries(st.sampled_from(["node", "python"]), st.sampled_from(["20", ">=3.11,<4"])),
    environment=variables.map(lambda found: {name.upper(): text for name, text in found.items()}),
    services=services_of(),
    setup=st.lists(words.map(str.strip), max_size=2).map(
        lambda texts: tuple(SetupCommand(("/bin/sh", "-c", t), " ".join(t.split()), 9.5) for t in texts)
    ),
    links=st.sampled_from([(), (Link("data"), Link("data", "0"))]),
    limits=st.sampled_from([{}, {"memory": "1G", "pids": "5"}]),
)


def toml(value: Any) -> str:
    """A value as TOML, in the inline form."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items() if v is not None) + "}"
    return "[" + ", ".join(toml(item) for item in value) + "]"


def written(manifest: Manifest, spelling: str) -> str:
    """A manifest as people write it, in one of the spellings."""
    colony = {"name": manifest.name, "description": manifest.description}
    text = f"colony = {toml({**colony, 'environment': manifest.requirements | manifest.environment})}\n"
    for each in manifest.services:
        raw = wire.dump(each)
        name, command = raw.pop("name"), raw.pop("command")
        raw.pop("command_text")
        if each.port is None:
            raw.pop("preview")
        if each.ready is not None:
            target = True if each.ready.kind == "port" else each.ready.target
            raw["ready"] = {each.ready.kind: target, "timeout": each.ready.timeout}
        if spelling == "table":
            text += f"[services.{toml(name)}]\n"
        else:
            text += f"[[{spelling}]]\nname = {toml(name)}\n"
        text += f"{'start_command' if spelling == 'service' else 'command'} = {toml(command[2])}\n"
        text += "".join(f"{key} = {toml(value)}\n" for key, value in raw.items() if value is not None)
    if manifest.setup:
        text += f"[setup]\ntimeout = 9.5\ncommands = {toml([each.command[2] for each in manifest.setup])}\n"
    if manifest.links:
        text += f"[network]\nlinks = {toml([str(link) for link in manifest.links])}\n"
    limits = {key: int(value) if value.isdigit() else value for key, value in manifest.limits.items()}
    return text + "[limits]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in limits.items())


@given(manifests, st.sampled_from(["table", "services", "service"]))
def test_what_is_written_is_what_is_read_in_every_spelling(manifest: Manifest, spelling: str) -> None:
    text = written(manifest, spelling)
    assert read(text) == attrs.evolve(manifest, text=text)


@given(manifests)
def test_a_manifest_survives_the_store(manifest: Manifest) -> None:
    assert wire.load_json(wire.dump_json(manifest), Manifest) == manifest


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text("aé\n\t\x00\x1b/.~", max_size=6),
    st.sampled_from(["web", "api", "always", "port", "30s", "/x", "web-app", ">=3"]),
)
keys = st.sampled_from(
    [
        *(name for kind in (Service, Manifest, RestartPolicy) for name in attrs.fields_dict(kind)),
        *("colony", "service", "start_command", "commands", "timeout", "memory", "cpu", "pids", "http", "log"),
        *("web", "api", "PATH", "a.b"),
    ]
)


def trees(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, max_size=3) | st.dictionaries(keys, children, max_size=4)


documents = st.dictionaries(keys, st.recursive(scalars, trees, max_leaves=12), max_size=6)


def spelled(value: Any) -> str:
    if isinstance(value, float):
        return {float("inf"): "inf", -float("inf"): "-inf"}.get(value, "nan" if value != value else repr(value))
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() or c in "-/.>= " else f"\\u{ord(c):04x}" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{spelled(k)} = {spelled(v)}" for k, v in value.items()) + "}"
    return toml(value)


@settings(max_examples=300)
@given(documents)
def test_any_toml_is_read_or_refused_as_invalid_with_a_line(document: dict[str, Any]) -> None:
    text = "".join(f"{spelled(key)} = {spelled(value)}\n" for key, value in document.items())
    try:
        manifest = read(text, **{"web-app": HEAD})
    except Invalid as error:
        for entry in error.details["errors"]:
            assert 1 <= entry["line"] <= len(document)
            assert entry["message"]
            assert entry["hint"]
    else:
        assert wire.load_json(wire.dump_json(manifest), Manifest) == manifest
        assert start_order(manifest.services) is not None


@given(st.text())
def test_any_text_is_read_or_refused_as_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        read(text)


@given(documents)
def test_every_key_of_any_text_is_found_in_its_line(document: dict[str, Any]) -> None:
    pairs = [f"{spelled(key)} = {spelled(value)}" for key, value in document.items()]
    text = "# head\n\n" + "\n".join(pairs)
    lines = locate(text)
    assert tomllib.loads(text).keys() == document.keys()

    def check(value: Any, path: tuple[str | int, ...], line: int) -> None:
        assert lines[path[:8]] == line
        if isinstance(value, dict):
            for key, inner in value.items():
                check(inner, (*path, key), line)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                check(inner, (*path, number), line)

    for number, (key, value) in enumerate(document.items(), 3):
        check(value, (key,), number)


def test_lines_are_found_in_every_form_that_toml_has() -> None:
    text = '''# comment with [brackets] and a = 1
a = """
not = "a key" \\"""
""""
"b c".d = [ # items
  1,
  { e = 'x,]}' },
]
[f . "g"]
h = \'\'\'
[not.a.table]
\'\'\'
[[i]]
j = 1979-05-27 07:32:00
[[i]]
[i.k]
l = { m.n = [[1], [2,
  3]] }
'''
    tomllib.loads(text)
    lines = locate(text)
    expected = {
        ("a",): 2,
        ("b c", "d"): 5,
        ("b c", "d", 0): 6,
        ("b c", "d", 1, "e"): 7,
        ("f", "g"): 9,
        ("f", "g", "h"): 10,
        ("i", 0): 13,
        ("i", 0, "j"): 14,
        ("i", 1): 15,
        ("i", 1, "k"): 16,
        ("i", 1, "k", "l", "m", "n", 1, 1): 18,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert not any("not" in path for path in lines)


# ---- the reference


DOCS = Path(__file__).resolve().parents[3] / "docs" / "manifest.md"
SNIPPETS = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", SNIPPETS, ids=[" ".join(text.split())[:40] for text in SNIPPETS])
def test_every_snippet_of_the_reference_is_a_good_manifest(text: str, tmp_path: Path) -> None:
    manifest = read_manifest(text, templates=load_templates(tmp_path))
    assert attrs.evolve(manifest, text="") != Manifest(), "each shows something"


def test_the_reference_names_every_tool_and_every_key() -> None:
    text = DOCS.read_text(encoding="utf-8")
    keys = {name for kind in (Service, RestartPolicy) for name in attrs.fields_dict(kind)} - {"name", "command_text"}
    for word in {*keys, *TOOLS, *MANAGERS, *BUILTIN, *INHERITED}:
        assert f"`{word}`" in text, word
