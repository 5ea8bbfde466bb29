"""What an edited manifest changes, and which services must be restarted for it. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs

from colony_core import wire
from colony_core.views import AgentSettings

from .manifest import Manifest, RestartPolicy, Service


@attrs.frozen(kw_only=True)
class Changes:
    """The difference of two manifests, as sentences and as deeds. Values of variables never appear in a sentence."""

    sentences: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    environment_changed: bool = False
    setup_changed: bool = False


def compare(old: Manifest, new: Manifest) -> Changes:
    """The changes from `old` to `new`; nothing at all where they mean the same.

    A service is restarted when what its process was started with has changed: something of its own, a variable of all services, or the
    address of a service that it depends on. What only matters later (depends_on, autostart) restarts nothing.
    """
    before = {service.name: service for service in old.services}
    after = {service.name: service for service in new.services}
    kept = [name for name in after if name in before]
    added = tuple(name for name in after if name not in before)
    removed = tuple(name for name in before if name not in after)
    moved = {name for name in kept if before[name].port != after[name].port}
    own = {name: _service_changes(before[name], after[name]) for name in kept}
    sentences = _manifest_changes(old, new)
    restarted = []
    for name in kept:
        sentences += [f"{name}: {sentence}" for sentence, _ in own[name]]
        followed = [d.name for d in after[name].depends_on if d.name in moved]
        sentences += [f"{name}: told the new address of {other}" for other in followed]
        if any(restarts for _, restarts in own[name]) or followed or old.environment != new.environment:
            restarted.append(name)
    sentences += [f"{name}: added{_at_port(after[name])}" for name in added]
    sentences += [f"{name}: removed" for name in removed]
    if not sentences and list(before) != list(after):
        sentences.append("the order of the services changed")
    return Changes(
        sentences=tuple(sentences),
        added=added,
        removed=removed,
        restarted=tuple(restarted),
        environment_changed=(old.environment, old.requirements) != (new.environment, new.requirements),
        setup_changed=old.setup != new.setup,
    )


def version(old: Manifest, new: Manifest) -> str:
    """A name for the step from `old` to `new`: another one as soon as somebody applies or edits."""
    both = b"\0".join(wire.dump_json(manifest) for manifest in (old, new))
    return hashlib.blake2b(both, digest_size=6).hexdigest()


def _manifest_changes(old: Manifest, new: Manifest) -> list[str]:
    sentences = []
    for what in ("name", "description", "template", "terminal"):
        if getattr(old, what) != getattr(new, what):
            sentences.append(_from_to(what, getattr(old, what), getattr(new, what)))
    was_linked, is_linked = ([str(link) for link in manifest.links] for manifest in (old, new))
    sentences += [f"unlinked from {to}" for to in was_linked if to not in is_linked]
    sentences += [f"linked to {to}" for to in is_linked if to not in was_linked]
    sentences += _variable_changes("environment", old.environment, new.environment)
    for what in ("requirements", "limits"):
        was, now = getattr(old, what), getattr(new, what)
        names = [*was, *(name for name in now if name not in was)]
        label = "requirement" if what == "requirements" else "limit"
        sentences += [_from_to(f"{label} {n}", was.get(n), now.get(n)) for n in names if was.get(n) != now.get(n)]
    for field in attrs.fields(AgentSettings):
        was, now = getattr(old.agent, field.name), getattr(new.agent, field.name)
        if was != now:
            sentences.append(_from_to(f"agent {field.name}", was, now))
    if old.checks != new.checks:
        sentences.append("the checks changed")
    if old.setup != new.setup:
        sentences.append("the setup commands changed; they run when the colony is started again")
    return sentences


def _service_changes(old: Service, new: Service) -> list[tuple[str, bool]]:
    """Sentences about one service, each with whether it calls for a restart."""
    found = []
    if old.command != new.command:
        found.append((_from_to("command", old.command_text, new.command_text), True))
    for what in ("port", "cwd", "grace"):
        if getattr(old, what) != getattr(new, what):
            found.append((_from_to(what, getattr(old, what), getattr(new, what)), True))
    found += [(sentence, True) for sentence in _variable_changes("env", old.env, new.env)]
    if old.env_file != new.env_file:
        found.append((_from_to("env_file", ", ".join(old.env_file), ", ".join(new.env_file)), True))
    if old.restart != new.restart:
        found.append((_from_to("restart", _policy(old.restart), _policy(new.restart)), True))
    if old.ready != new.ready:
        found.append((_from_to("ready", _ready(old), _ready(new)), True))
    if old.depends_on != new.depends_on:
        found.append((_from_to("depends_on", _dependencies(old), _dependencies(new)), False))
    if old.autostart != new.autostart:
        found.append((_from_to("autostart", str(old.autostart).lower(), str(new.autostart).lower()), False))
    if old.preview != new.preview:
        found.append((_from_to("preview host", old.preview.host, new.preview.host), False))
    return found


def _variable_changes(label: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    sentences = [f"{label}.{name} removed" for name in old if name not in new]
    sentences += [f"{label}.{name} added" for name in new if name not in old]
    return sentences + [f"{label}.{name} changed" for name in new if name in old and old[name] != new[name]]


def _from_to(what: str, old: Any, new: Any) -> str:
    if old in (None, ""):
        return f"{what} set to {new}"
    return f"{what} removed (was {old})" if new in (None, "") else f"{what} changed from {old} to {new}"


def _at_port(service: Service) -> str:
    return f" on port {service.port}" if service.port is not None else ""


def _policy(restart: RestartPolicy) -> str:
    return (
        f"{restart.policy} ({restart.count} in {restart.window:g} s, "
        f"waiting {restart.backoff:g} to {restart.backoff_most:g} s)"
    )


def _ready(service: Service) -> str:
    ready = service.ready
    return f"{ready.kind} {ready.target}".strip() + f" within {ready.timeout:g} s" if ready else ""


def _dependencies(service: Service) -> str:
    return ", ".join(d.name + (" (restart)" if d.restart else "") for d in service.depends_on)
