"""colony.toml: what a colony runs, as values; and in which order its services start.

The text goes through two hands: `reading` turns TOML in any of the accepted spellings into one checked normal form and tells every
mistake with its line; the values here are structured from that form, and have the same form in the store.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import attrs

from colony_core import wire
from colony_core.errors import Invalid, NotFound
from colony_core.views import AgentSettings

from .files import open_ordinary
from .reading import MAX_BYTES, decode_manifest, find_cycle, normal_form

MANIFEST_FILE = "colony.toml"


@attrs.frozen
class Dependency:
    """A service that must be ready first; with `restart` its restart is followed by one of the service that names it."""

    name: str
    restart: bool = False


@attrs.frozen
class RestartPolicy:
    """When a service is started again, and when it is given up: more than `count` restarts within `window` seconds."""

    policy: Literal["always", "on-failure", "never"] = "always"
    count: int = 5
    window: float = 30.0
    backoff: float = 0.1
    backoff_most: float = 5.0


@attrs.frozen
class Ready:
    """What shows that a service is ready; `target` is the path for http and what the line holds for log (`*`: anything). Seconds."""

    kind: Literal["port", "http", "log"]
    target: str = ""
    timeout: float = 30.0


@attrs.frozen
class Preview:
    """How a service is shown: asked by the preview's own name (`keep`), or as localhost and its port (`rewrite`)."""

    host: Literal["keep", "rewrite"] = "keep"


@attrs.frozen
class SetupCommand:
    """A command of the building state. Seconds."""

    command: tuple[str, ...]
    command_text: str
    timeout: float = 600.0


@attrs.frozen
class Link:
    """Another colony that this one may reach, or one service of it."""

    colony: str
    service: str | None = None

    def __str__(self) -> str:
        return self.colony if self.service is None else f"{self.colony}:{self.service}"


@attrs.frozen(kw_only=True)
class Check:
    """A command that shows whether an agent's work is done; one that is not `required` may fail. Seconds."""

    name: str
    command: tuple[str, ...]
    command_text: str
    timeout: float = 600.0
    required: bool = True


@attrs.frozen(kw_only=True)
class Service:
    """One service. `command` is an argument list, `command_text` one line for people; `grace` None means the house's."""

    name: str
    command: tuple[str, ...]
    command_text: str
    port: int | None = None
    env: dict[str, str] = attrs.field(factory=dict)
    env_file: tuple[str, ...] = ()
    cwd: str | None = None
    depends_on: tuple[Dependency, ...] = ()
    restart: RestartPolicy = attrs.field(factory=RestartPolicy)
    ready: Ready | None = None
    grace: float | None = None
    autostart: bool = True
    preview: Preview = attrs.field(factory=Preview)


@attrs.frozen(kw_only=True)
class Manifest:
    """A whole colony.toml.

    `requirements` are runtimes and package managers, `environment` the variables of all services, `agent` how its agent works."""

    name: str | None = None
    description: str = ""
    template: str | None = None
    requirements: dict[str, str] = attrs.field(factory=dict)
    environment: dict[str, str] = attrs.field(factory=dict)
    services: tuple[Service, ...] = ()
    setup: tuple[SetupCommand, ...] = ()
    terminal: str | None = None
    links: tuple[Link, ...] = ()
    limits: dict[str, str] = attrs.field(factory=dict)
    agent: AgentSettings = attrs.field(factory=AgentSettings)
    checks: tuple[Check, ...] = ()
    text: str = ""


def read_manifest(
    text: str, *, where: str = MANIFEST_FILE, templates: Mapping[str, str], template: str | None = None
) -> Manifest:
    """The manifest that `text` says; `template` is started from where the text names none.

    Raises Invalid: the first mistake is the message, every one is in `details["errors"]` with code, message, path, line and hint.
    """
    return wire.load(normal_form(text, where=where, templates=templates, template=template), Manifest)


def read_manifest_file(path: Path, *, templates: Mapping[str, str], template: str | None = None) -> Manifest:
    """As `read_manifest`, from a file of at most 1 MiB; raises NotFound where there is none."""
    return read_manifest(
        decode_manifest(_bytes(path), where=str(path)), where=str(path), templates=templates, template=template
    )


def start_order(services: Iterable[Service]) -> tuple[tuple[str, ...], ...]:
    """Ranks of names: each rank needs only earlier ones. Raises Invalid naming the cycle, or the service that there is not."""
    waiting = {service.name: [d.name for d in service.depends_on] for service in services}
    unknown = next((name for needs in waiting.values() for name in needs if name not in waiting), None)
    if unknown is not None:
        raise Invalid("unknown-dependency", f"there is no service {unknown!r}", f"services: {', '.join(waiting)}")
    if cycle := find_cycle(waiting):
        what = f"the services wait for each other: {' → '.join(cycle)}"
        raise Invalid("cyclic-dependency", what, "remove one of these dependencies", details={"cycle": cycle})
    ranks: list[tuple[str, ...]] = []
    done: set[str] = set()
    while len(done) < len(waiting):
        ranks.append(tuple(name for name, needs in waiting.items() if name not in done and done.issuperset(needs)))
        done.update(ranks[-1])
    return tuple(ranks)


def _bytes(path: Path) -> bytes:
    try:
        with open_ordinary(path) as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            "manifest-not-found",
            f"there is no {path}",
            "write one (`colony init`), or name a template: `--template web-app`",
        ) from error
    except OSError as error:
        hint = "name a folder that holds a colony.toml which the daemon may read"
        raise Invalid("unreadable-manifest", f"{path}: {error.strerror}", hint) from error
