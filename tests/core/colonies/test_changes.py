"""What an edited manifest changes, and who must be restarted for it."""

import attrs
import pytest

from colony_core.colonies.changes import Changes, compare
from colony_core.colonies.manifest import Manifest, read_manifest

TEXT = """
[colony]
name = "shop"
description = "A shop"
[colony.environment]
SECRET = "hunter2"
python = ">=3.11"
[services.web]
command = "web"
port = 80
env = { TOKEN = "hunter2" }
depends_on = ["api"]
[services.api]
command = "api"
port = 81
ready = "port"
[services.worker]
command = "worker"
[setup]
commands = ["build"]
[limits]
memory = "1G"
"""


def manifest(text: str = TEXT) -> Manifest:
    return read_manifest(text, templates={})


def changed(old: str, new: str) -> Changes:
    assert old in TEXT
    return compare(manifest(), manifest(TEXT.replace(old, new, 1)))


def test_nothing_changes_where_only_comments_and_spelling_do() -> None:
    assert compare(manifest(), manifest()) == Changes()
    assert changed("[services.web]", "# new\n[services.web]") == Changes()
    assert changed(
        '[services.worker]\ncommand = "worker"', '[[service]]\nname = "worker"\nstart_command = "worker"'
    ) == (Changes())


@pytest.mark.parametrize(
    ("old", "new", "sentence", "restarted"),
    [
        ('"A shop"', '"The shop"', "description changed from A shop to The shop", ()),
        ('name = "shop"', 'name = "store"', "name changed from shop to store", ()),
        ('memory = "1G"', 'memory = "2G"', "limit memory changed from 1G to 2G", ()),
        ('">=3.11"', '">=3.12"', "requirement python changed from >=3.11 to >=3.12", ()),
        ('["build"]', '["build all"]', "the setup commands changed; they run when the colony is started again", ()),
        ("[setup]", '[network]\nlinks = ["data", "books:api"]\n[setup]', "linked to data", ()),
        ("[setup]", '[network]\nlinks = ["data", "books:api"]\n[setup]', "linked to books:api", ()),
        ("[setup]", '[terminal]\ncommand = "zsh"\n[setup]', "terminal set to zsh", ()),
        ('"hunter2"\npython', '"hunter3"\npython', "environment.SECRET changed", ("web", "api", "worker")),
        ('SECRET = "hunter2"\n', "", "environment.SECRET removed", ("web", "api", "worker")),
        ('TOKEN = "hunter2"', 'TOKEN = "hunter3"', "web: env.TOKEN changed", ("web",)),
        ('TOKEN = "hunter2"', 'TOKEN = "hunter2", X = "hunter3"', "web: env.X added", ("web",)),
        ('TOKEN = "hunter2"', "", "web: env.TOKEN removed", ("web",)),
        ('"worker"', '"worker --fast"', "worker: command changed from worker to worker --fast", ("worker",)),
        ("port = 80", "port = 90", "web: port changed from 80 to 90", ("web",)),
        ("port = 81", "port = 91", "api: port changed from 81 to 91", ("web", "api")),
        ('"worker"', '"worker"\ncwd = "a"', "worker: cwd set to a", ("worker",)),
        ('"worker"', '"worker"\ngrace = "2s"', "worker: grace set to 2.0", ("worker",)),
        ('"worker"', '"worker"\nenv_file = ".env"', "worker: env_file set to .env", ("worker",)),
        (
            '"worker"',
            '"worker"\nrestart = "never"',
            "worker: restart changed from always (5 in 30 s, waiting 0.1 to 5 s) to never (5 in 30 s, waiting 0.1 to 5 s)",
            ("worker",),
        ),
        (
            'ready = "port"',
            'ready = { http = "/" }',
            "api: ready changed from port within 30 s to http / within 30 s",
            ("api",),
        ),
        ('"worker"', '"worker"\ndepends_on = ["api"]', "worker: depends_on set to api", ()),
        (
            '["api"]',
            '[{ name = "api", restart = true }]',
            "web: depends_on changed from api to api (restart)",
            (),
        ),
        ('"worker"', '"worker"\nautostart = false', "worker: autostart changed from true to false", ()),
        (
            'ready = "port"',
            'ready = "port"\npreview = { host = "rewrite" }',
            "api: preview host changed from keep to rewrite",
            (),
        ),
    ],
)
def test_a_change_is_a_sentence_and_restarts_only_whom_it_concerns(
    old: str, new: str, sentence: str, restarted: tuple[str, ...]
) -> None:
    changes = changed(old, new)
    assert sentence in changes.sentences
    assert changes.restarted == restarted
    assert (changes.added, changes.removed) == ((), ())
    assert "hunter" not in repr(changes)


def test_who_depends_on_a_moved_service_is_told_its_new_address() -> None:
    assert "web: told the new address of api" in changed("port = 81", "port = 91").sentences


def test_services_come_and_go() -> None:
    changes = changed('[services.worker]\ncommand = "worker"', '[services.mail]\ncommand = "mail"\nport = 25')
    assert (changes.added, changes.removed, changes.restarted) == (("mail",), ("worker",), ())
    assert changes.sentences == ("mail: added on port 25", "worker: removed")


def test_another_order_of_services_is_told_and_restarts_nobody() -> None:
    old = manifest()
    changes = compare(old, attrs.evolve(old, services=old.services[::-1]))
    assert changes.sentences == ("the order of the services changed",)
    assert changes.restarted == ()


def test_environment_and_setup_are_marked() -> None:
    assert changed('">=3.11"', '">=3.12"').environment_changed
    assert changed('SECRET = "hunter2"\n', "").environment_changed
    assert changed('["build"]', "[]").setup_changed
    assert not changed('"A shop"', '"b"').environment_changed
    assert not changed('"A shop"', '"b"').setup_changed
