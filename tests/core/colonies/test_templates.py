"""Templates: usable as they are with nothing but python3, and a base that a manifest is laid over."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from colony_core.colonies.environment import service_environment
from colony_core.colonies.manifest import Dependency, Manifest, Ready, RestartPolicy, Service, read_manifest
from colony_core.colonies.templates import BUILTIN, load_templates
from colony_core.errors import Invalid

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "hello-colony"
START_SECONDS = 120.0

BASE = """
[colony]
name = "base"
description = "The base"
[colony.environment]
A = "1"
B = "2"
python = ">=3"
[services.web]
start_command = "base web"
port = 80
env = { ONE = "1", TWO = "2" }
restart = { policy = "never", count = 9 }
ready = { http = "/health", timeout = "5s" }
depends_on = ["db"]
[services.db]
command = "base db"
[setup]
commands = ["one"]
timeout = 7
"""


def over(text: str) -> Manifest:
    return read_manifest('[colony]\ntemplate = "base"\n' + text, templates={"base": BASE})


def test_a_manifest_that_only_names_its_template_is_the_template() -> None:
    base = read_manifest(BASE, templates={})
    text = '[colony]\ntemplate = "base"\n'
    assert over("") == attrs.evolve(base, template="base", text=text)


def test_what_a_manifest_says_is_laid_over_its_template_key_by_key() -> None:
    manifest = over("""
    name = "own"
    [colony.environment]
    B = "3"
    [services.web]
    command = "own web"
    env = { TWO = "3" }
    restart = { policy = "always" }
    ready = { log = "up" }
    [[service]]
    name = "extra"
    command = "own extra"
    """)
    assert (manifest.name, manifest.description) == ("own", "The base")
    assert manifest.environment == {"A": "1", "B": "3"}
    assert manifest.requirements == {"python": ">=3"}
    assert manifest.setup[0].timeout == 7
    web, db, extra = manifest.services
    assert web.command_text == "own web"
    assert (web.port, web.env) == (80, {"ONE": "1", "TWO": "3"})
    assert web.restart == RestartPolicy("always", 9)
    assert web.ready == Ready("log", "up")
    assert web.depends_on == (Dependency("db"),)
    assert (db.name, extra.name) == ("db", "extra")


def test_a_template_given_from_outside_counts_where_the_text_names_none() -> None:
    templates = {"base": BASE, "other": '[services.other]\ncommand = "x"\n'}
    assert read_manifest("", templates=templates, template="other").services[0].name == "other"
    own = read_manifest('[colony]\ntemplate = "base"\n', templates=templates, template="other")
    assert (own.template, own.services[0].name) == ("base", "web")
    with pytest.raises(Invalid, match="no template") as caught:
        read_manifest("", templates=templates, template="othr")
    assert caught.value.code == "unknown-template"
    assert caught.value.hint == "did you mean other?"


def test_a_mistake_that_only_the_mixture_has_is_told_in_the_line_of_the_manifest() -> None:
    with pytest.raises(Invalid) as caught:
        over('[services.extra]\ncommand = "x"\nport = 80\n')
    assert caught.value.message == "colony.toml:5: services.extra.port: port 80 is taken by web"
    with pytest.raises(Invalid) as caught:
        over('[services.db]\ndepends_on = ["web"]\n')
    assert caught.value.code == "cyclic-dependency"


def test_a_mistake_of_a_template_names_the_template() -> None:
    for text in ("[colony", "[services.web]\nport = 1", '[colony]\ntemplate = "base"'):
        with pytest.raises(Invalid, match=r"^template bad:"):
            read_manifest("", templates={"base": BASE, "bad": text}, template="bad")


def test_users_templates_stand_beside_and_before_our_own(tmp_path: Path) -> None:
    assert set(load_templates(tmp_path / "none")) == set(BUILTIN)
    (tmp_path / "mine.toml").write_text(BASE)
    (tmp_path / "web-app.toml").write_text(BASE)
    (tmp_path / ".hidden.toml").write_text("no")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "notes.txt").write_text("no")
    templates = load_templates(tmp_path)
    assert set(templates) == {*BUILTIN, "mine"}
    assert templates["web-app"] == BASE
    assert read_manifest("", templates=templates, template="mine").services[0].name == "web"


def test_a_bad_file_in_the_templates_folder_harms_only_who_uses_it(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe4")
    (tmp_path / "huge.toml").write_bytes(b"#" * (2**20 + 1))
    templates = load_templates(tmp_path)
    assert read_manifest("", templates=templates, template="web-app").services
    for name, code in (("latin", "not-utf8"), ("huge", "manifest-too-large")):
        with pytest.raises(Invalid, match=f"template {name}") as caught:
            read_manifest("", templates=templates, template=name)
        assert caught.value.code == code


# ---- they run


@contextmanager
def free_port() -> Iterator[int]:
    """A port that nobody else is given while the block lasts: it is bound, so that whoever may share it can listen on it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@contextmanager
def running(manifest: Manifest, folder: Path) -> Iterator[dict[str, int]]:
    """Runs every service of a manifest on a free port, without Colony; yields the ports by name."""
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as held:
        services = tuple(attrs.evolve(each, port=held.enter_context(free_port())) for each in manifest.services)
        manifest = attrs.evolve(manifest, services=services)
        held.callback(end, processes)
        for service in services:
            environment = service_environment(base=os.environ, manifest=manifest, service=service, colony="test")
            processes.append(
                subprocess.Popen(
                    service.command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
            )
        for service in services:
            assert service.port is not None
            await_port(service.port)
        yield {service.name: service.port for service in services if service.port is not None}


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=START_SECONDS)


def await_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"port {port} did not open")


def get(port: int, path: str, *, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("name", BUILTIN)
def test_a_template_serves_from_an_empty_folder(name: str, tmp_path: Path) -> None:
    manifest = read_manifest("", templates=load_templates(tmp_path), template=name)
    with running(manifest, tmp_path) as ports:
        assert set(ports) == {"web-app": {"web"}, "api-service": {"api"}, "full-stack": {"web", "api"}}[name]
        if "web" in ports:
            (tmp_path / "public" / "index.html").write_text("made by hand")
            assert get(ports["web"], "/") == (200, "made by hand")
            assert get(ports["web"], "/../colony.toml")[0] == 404
        if "api" in ports:
            status, text = get(ports["api"], "/health")
            assert (status, '"colony": "test"' in text) == (200, True)
            assert get(ports["api"], "/nothing")[0] == 404


def test_the_api_template_runs_the_folders_own_api(tmp_path: Path) -> None:
    (tmp_path / "api.py").write_text(
        "import http.server, os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n        self.send_response(204)\n        self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n"
    )
    manifest = read_manifest("", templates=load_templates(tmp_path), template="api-service")
    with running(manifest, tmp_path) as ports:
        assert get(ports["api"], "/")[0] == 204


def test_the_public_folder_of_the_web_template_is_a_variable(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "a.txt").write_text("from dist")
    text = '[colony]\ntemplate = "web-app"\n[colony.environment]\nPUBLIC = "dist"\n'
    with running(read_manifest(text, templates=load_templates(tmp_path)), tmp_path) as ports:
        assert get(ports["web"], "/a.txt") == (200, "from dist")


# ---- the example


def example() -> Manifest:
    return read_manifest((EXAMPLE / "colony.toml").read_text(), templates={})


def test_the_example_is_two_services_on_their_ports() -> None:
    web, api = example().services
    assert [(s.name, s.port, s.ready and s.ready.kind) for s in (web, api)] == [
        ("web", 4001, "http"),
        ("api", 4002, "http"),
    ]
    assert web.depends_on == (Dependency("api"),)


def test_the_examples_page_shows_colony_process_and_the_notes_of_its_api() -> None:
    with running(example(), EXAMPLE) as ports:
        assert get(ports["api"], "/notes", method="POST", body='{"text": "<i>new"}') == (
            201,
            '{"id": 2, "text": "<i>new"}\n',
        )
        status, page = get(ports["web"], "/")
        assert status == 200
        assert "Hello from <b>test</b>" in page
        assert "<dt>process</dt>" in page
        assert "&lt;i&gt;new" in page
        assert "<i>new" not in page
        assert get(ports["web"], "/about")[0] == 200
        assert '"ok": true' in get(ports["web"], "/health")[1]
        assert get(ports["web"], "/nothing")[0] == 404


def test_the_examples_api_does_what_rest_means() -> None:
    with running(example(), EXAMPLE) as ports:
        api = ports["api"]
        assert get(api, "/notes/1", method="PUT", body='{"text": "other"}')[0] == 200
        assert '"text": "other"' in get(api, "/notes/1")[1]
        assert get(api, "/notes/1", method="DELETE")[0] == 200
        assert get(api, "/notes/1")[0] == 404
        assert get(api, "/notes", method="POST", body="{")[0] == 400
        assert get(api, "/notes", method="POST", body="[]")[0] == 422
        assert get(api, "/notes", method="POST", body="x" * 70_000)[0] == 413
        assert '"notes": []' in get(api, "/notes")[1]


def test_the_examples_clock_streams_and_ends_with_its_service() -> None:
    with running(example(), EXAMPLE) as ports:
        connection = http.client.HTTPConnection("127.0.0.1", ports["web"], timeout=START_SECONDS)
        connection.request("GET", "/clock")
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream"
        first = answer.readline()
        assert first.startswith(b"data: ")
    assert (first + answer.read()).endswith(b"UTC\n\n"), "the stream ends between two events"
    connection.close()


def test_the_example_logs_a_line_per_request_and_ends_well() -> None:
    web = next(s for s in example().services if s.name == "web")
    with free_port() as port:
        logs_and_ends_well(attrs.evolve(web, port=port))


def logs_and_ends_well(service: Service) -> None:
    environment = service_environment(base=os.environ, manifest=example(), service=service, colony="test")
    process = subprocess.Popen(service.command, cwd=EXAMPLE, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert service.port is not None
    try:
        assert process.stdout.readline().startswith(b"listening on http://127.0.0.1:")
        assert get(service.port, "/health")[0] == 200
        assert process.stdout.readline().startswith(b"GET /health 200 ")
    finally:
        process.terminate()
    output, _ = process.communicate(timeout=START_SECONDS)
    assert output == b"stopped\n"
    assert process.returncode == 0
