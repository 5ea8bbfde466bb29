"""A browser's way in: a link with a one-time code, and the way out."""

import re

from quart import Response, request

from colony_core.access import CODE_SECONDS, PEOPLE
from colony_core.errors import NotAllowed
from colony_core.views import LoginView
from colony_web.house import House
from colony_web.routes import Call, Reply, Route
from colony_web.sessions import log_out


async def create_login(house: House, call: Call) -> Reply:
    """Makes a link that opens a browser's session for whoever asks: once, within a minute. A browser's session makes none."""
    if call.identity.browser:
        raise NotAllowed("session-makes-no-login", "a browser's session makes no further ones", "colony login")
    path = f"{request.root_path}/login?code={house.logins.issue(call.identity)}"
    view = LoginView(url=f"{_address(house)}{path}", path=path, seconds=CODE_SECONDS)
    stored = LoginView(url="", path="", seconds=0.0)
    return Reply(value=view, stored=stored, headers={"Cache-Control": "no-store"})


def _address(house: House) -> str:
    """Where a browser finds us: behind TLS, if something does that for us. Nobody is at the address that stands for all addresses."""
    secure = [origin for origin in house.config.server.origins if origin.startswith("https://")]
    if secure:
        return secure[0]
    found = house.system().api_url or f"http://localhost:{house.config.server.port}"
    return re.sub(r"//(0\.0\.0\.0|\[::\]):", "//localhost:", found)


async def end_login(house: House, call: Call) -> Response:
    """Ends the browser's session that asks."""
    return await log_out(house, call.identity)


ROUTES = (
    Route(
        method="POST",
        rule="/api/logins",
        handler=create_login,
        returns=LoginView,
        status=201,
        tag="access",
        roles=PEOPLE,
    ),
    Route(
        method="POST",
        rule="/api/logout",
        handler=end_login,
        returns=None,
        status=204,
        tag="access",
        roles=PEOPLE,
        browser=True,
    ),
)
