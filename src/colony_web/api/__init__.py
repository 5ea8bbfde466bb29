"""The API, one file per noun: a table of routes, and handlers that read the request, call one verb and write the view."""

from colony_web.routes import Route

from . import (
    audit,
    backends,
    colonies,
    events,
    logins,
    logs,
    projects,
    services,
    sessions,
    system,
    terminals,
    tokens,
    usage,
    workspaces,
)

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *colonies.ROUTES,
    *services.ROUTES,
    *terminals.ROUTES,
    *sessions.ROUTES,
    *projects.ROUTES,
    *workspaces.ROUTES,
    *logs.ROUTES,
    *events.ROUTES,
    *tokens.ROUTES,
    *usage.ROUTES,
    *backends.ROUTES,
    *logins.ROUTES,
    *audit.ROUTES,
)

__all__ = ["ROUTES"]
