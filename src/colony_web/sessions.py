"""A browser's session: a one-time code in a link becomes a cookie that no script can read and no other site can send.

The cookie has no Domain, so it is for one host only; over HTTPS its name begins with `__Host-`, which a browser takes from that host alone.
A page of another host below the same domain can still send one more cookie of the plain name; two of them open nothing.
"""

from typing import Any

from quart import Response, request

from colony_core.access import Identity
from colony_core.errors import ColonyError, LimitReached, NotAllowed, WrongState

from .context import current_scope
from .house import House
from .scope import IDENTITY, SECURE

COOKIE = "colony_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
FORGET = "Max-Age=0"


def cookie_name(*, secure: bool) -> str:
    """The only name that is taken."""
    return SECURE_COOKIE if secure else COOKIE


def session_token(cookies: list[str], *, secure: bool) -> str | None:
    """The token in the `Cookie` headers; None where there is none. Raises NotAllowed where there are several."""
    name = cookie_name(secure=secure)
    pairs = [pair.strip().partition("=") for line in cookies for pair in line.split(";")]
    found = [value for given, _, value in pairs if given == name]
    if len(found) > 1:
        raise NotAllowed(
            "cookie-doubled",
            f"the cookie {name} was sent {len(found)} times: one of them was set by a page of another host",
            "remove the cookies of this address in the browser, then: colony login",
        )
    return found[0] if found else None


async def log_in(house: House, failed: Any) -> Response:
    """Takes a one-time code for a session and goes on to the start page. The code is used up by it, and stands in no log."""
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    if request.method != "GET" or "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return Response(b"", 204, headers=headers)  # whoever only looks ahead uses nothing up
    codes = request.args.getlist("code")
    identity = house.logins.redeem(codes[0]) if len(codes) == 1 else None
    if identity is None:
        raise failed(
            NotAllowed(
                "login-code-unknown", "this link opens nothing: it was used, or is older than a minute", "colony login"
            )
        )
    current_scope()[IDENTITY] = identity
    seconds = house.config.access.session
    view = await house.keys.open_session(identity, seconds=seconds)
    headers |= {"Location": f"{request.root_path}/", "Set-Cookie": _cookie(view.token or "", f"Max-Age={seconds:.0f}")}
    return Response(b"", 303, headers=headers)


async def log_out(house: House, identity: Identity) -> Response:
    """Ends the browser's session."""
    if not identity.browser:
        raise WrongState("no-session", "no cookie told who asks, so there is no session", "colony token revoke ID")
    await house.keys.revoke(identity.id)
    return Response(b"", 204, headers={"Set-Cookie": _cookie("", FORGET)}, content_type="text/plain")


def _cookie(value: str, age: str) -> str:
    secure = bool(current_scope().get(SECURE))
    parts = [f"{cookie_name(secure=secure)}={value}", "Path=/", age, "HttpOnly", "SameSite=Strict"]
    return "; ".join([*parts, "Secure"] if secure else parts)


def too_many(error: ColonyError, wait: float) -> ColonyError:
    """What is said instead of `error` where an address failed too often."""
    return (
        LimitReached(
            "too-many-failures",
            "too many wrong tokens from this address",
            f"wait {wait:.0f} s; a right token is let in at once",
            details={"retry_after": max(1, round(wait))},
        )
        if wait
        else error
    )
