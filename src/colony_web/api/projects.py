"""Projects: the repositories that colonies work on."""

from urllib.parse import quote

import attrs
from quart import request

from colony_core.access import CHANGING, PEOPLE, Identity
from colony_core.errors import NotAllowed, NotFound
from colony_core.views import NewProject, ProjectView
from colony_web.context import note_target
from colony_web.house import House
from colony_web.pages import MOST, After, Limit, page
from colony_web.routes import Call, Reply, Route


@attrs.frozen(kw_only=True)
class ProjectsQuery:
    """Which page."""

    limit: Limit = MOST
    after: After | None = None


@attrs.frozen(kw_only=True)
class DiscardQuery:
    """The project's own name, where work that exists nowhere else may go with it."""

    discard: str | None = None


async def list_projects(house: House, call: Call) -> Reply:
    """All projects, by name."""
    query: ProjectsQuery = call.query
    found = (view for view in house.workspaces.project_views() if _visible(house, call.identity, view))
    return page(found, lambda view: view.name, after=query.after, limit=query.limit)


async def add_project(house: House, call: Call) -> Reply:
    """Begins to clone a repository. Answers once that is recorded; events tell how far it is."""
    body: NewProject = call.body
    view = await house.workspaces.add_project(body.repo, name=body.name, owner=call.identity.person)
    note_target(view.name)
    return Reply(value=view, headers={"Location": f"{request.root_path}/api/projects/{quote(view.name)}"})


async def show_project(house: House, call: Call) -> ProjectView:
    """One project."""
    return _project_for(house, call.identity, call.path["project"])


async def remove_project(house: House, call: Call) -> None:
    """Removes a project with its repository; a clone under way is given up. Refused while colonies work on it."""
    view = _project_for(house, call.identity, call.path["project"])
    note_target(view.name)
    if not (call.identity.house or view.owner == call.identity.person):
        raise NotAllowed("not-your-project", f"the project {view.name} is {view.owner}'s", f"ask {view.owner}")
    await house.workspaces.remove_project(view.name, confirm=call.query.discard)


def _visible(house: House, identity: Identity, view: ProjectView) -> bool:
    return identity.house or view.owner == identity.person or house.config.access.others == "look"


def _project_for(house: House, identity: Identity, name: str) -> ProjectView:
    for view in house.workspaces.project_views():
        if view.name == name and _visible(house, identity, view):
            return view
    raise NotFound("project-not-found", f"there is no project {name[:80]!r}", "colony project ls")


ROUTES = (
    Route(
        method="GET",
        rule="/api/projects",
        handler=list_projects,
        query=ProjectsQuery,
        returns=tuple[ProjectView, ...],
        paged=True,
        tag="projects",
        roles=PEOPLE,
    ),
    Route(
        method="POST",
        rule="/api/projects",
        handler=add_project,
        body=NewProject,
        body_required=True,
        returns=ProjectView,
        status=202,
        tag="projects",
        roles=CHANGING,
        problems=(404, 409, 422, 501),
    ),
    Route(
        method="GET",
        rule="/api/projects/<project>",
        handler=show_project,
        returns=ProjectView,
        tag="projects",
        roles=PEOPLE,
        problems=(404,),
    ),
    Route(
        method="DELETE",
        rule="/api/projects/<project>",
        handler=remove_project,
        query=DiscardQuery,
        returns=None,
        status=204,
        tag="projects",
        roles=CHANGING,
        problems=(404, 409),
    ),
)
