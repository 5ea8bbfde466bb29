"""What is written down of services that a later daemon shall not simply find again or start. Pure.

By name: the state a service stays in (stopped, finished, failed) with its reason, or `restarting` where its process is to be replaced.
"""

from collections.abc import Iterable, Mapping

from .state import ServiceState, Verb

Rest = Mapping[str, str]
Rests = Mapping[str, Rest]


def rest(state: ServiceState, reason: str) -> Rest:
    """One entry."""
    return {"state": state.value, "reason": reason}


NOT_STARTED = rest(ServiceState.STOPPED, "not started")
STOPPED = rest(ServiceState.STOPPED, "stopped on request")
TO_RESTART = rest(ServiceState.RESTARTING, "asked to restart")


def after_verb(rests: Rests, service: str, verb: Verb) -> dict[str, Rest]:
    """Once `verb` was asked of a service."""
    others = {name: how for name, how in rests.items() if name != service}
    return others if verb == "start" else others | {service: STOPPED if verb == "stop" else TO_RESTART}


def after_edit(rests: Rests, changed: Iterable[str]) -> dict[str, Rest]:
    """Once an edited manifest asks another process for the services `changed`; what somebody stopped stays so."""
    stopped = {name for name, how in rests.items() if how["state"] == ServiceState.STOPPED.value}
    return {**rests, **{name: TO_RESTART for name in changed if name not in stopped}}


def without_restarts(rests: Rests) -> dict[str, Rest]:
    """Once everything that was to be restarted is."""
    return {name: how for name, how in rests.items() if how != TO_RESTART}
