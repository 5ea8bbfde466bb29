"""What people see when no service can answer: a small page with the right status, or the same as JSON or plain text. Pure.

The pages load nothing, run nothing and escape everything; a page about something that is about to change reloads itself.
"""

import base64
import hashlib
import json
import os
from html import escape
from http import HTTPStatus

import attrs

from .routes import NotOurs

_SHOWN_CHARACTERS = 100
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 36rem; margin: 18vh auto 0; padding: 0 1.5rem;
  color: light-dark(#1d2330, #e4e7ee); background: light-dark(#fbfbf9, #14171d); }
h1 { font-size: 1.4rem; margin: 0 0 .6rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
.status { font: 600 .85rem ui-monospace, monospace; color: light-dark(#8a5a00, #e5b454); }
.hint { color: light-dark(#586174, #9aa3b5); }
"""
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


@attrs.frozen
class Refusal:
    """Why a preview cannot be shown. With `retry_after` (seconds) the page reloads itself; `code` is for programs."""

    status: int
    title: str
    message: str
    hint: str = ""
    retry_after: int | None = None
    code: str = "preview-refused"


def render(refusal: Refusal, *, accept: bytes = b"", method: bytes = b"GET", keep_alive: bool = False) -> bytes:
    """The whole response, head and body, in the form that `accept` asks for; without a body for HEAD."""
    wanted = accept.lower()
    if b"text/html" in wanted:
        kind, body = "text/html; charset=utf-8", _html(refusal, reload=method in (b"GET", b"HEAD"))
    elif b"json" in wanted:
        kind, body = "application/problem+json", _json(refusal)
    else:
        kind, body = "text/plain; charset=utf-8", _text(refusal)
    lines = [
        f"HTTP/1.1 {refusal.status} {_phrase(refusal.status)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Content-Security-Policy: {_POLICY}",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Vary: Accept",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if refusal.retry_after is not None:
        lines.append(f"Retry-After: {refusal.retry_after}")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if method == b"HEAD" else head + body


def no_such_host(host: NotOurs, shown: bytes, domain: str) -> Refusal:
    """Nothing in this garden answers to the host; where the host is no host name, 400."""
    name = shown.decode("latin-1")[:_SHOWN_CHARACTERS]
    if host.why == "malformed":
        return bad_request(400, f"{name!r} is not a host name")
    forms = f"Previews are at <service>.<colony>.{domain}, <colony>-<port>.{domain} and <colony>.{domain}."
    if host.why == "unknown" and host.name:
        title = f"There is no colony {host.name[:_SHOWN_CHARACTERS]} here"
        return Refusal(
            404,
            title,
            f"{name} leads nowhere.",
            f"{forms} `colony ls` shows which colonies live here.",
            code="colony-not-found",
        )
    return Refusal(
        404,
        "No preview has this address",
        f"{name or 'A request without a host'} leads nowhere.",
        forms,
        code="no-such-host",
    )


def not_listening(label: str, error: OSError, *, comes_back: bool = False) -> Refusal:
    """The connection to a service was refused; with `comes_back` the page tries again."""
    return Refusal(
        502,
        "Nothing listens here",
        f"{label} does not accept connections ({_words(error)}).",
        "Is the service running, and does it listen on this port? Its log may say why not.",
        retry_after=2 if comes_back else None,
        code="not-listening",
    )


def too_slow(label: str, seconds: float) -> Refusal:
    """A service did not take the connection in time."""
    return Refusal(
        504, "No answer", f"{label} did not accept a connection within {seconds} s.", code="connect-too-slow"
    )


def broke_off(label: str, *, comes_back: bool = False) -> Refusal:
    """A service closed the connection instead of answering; with `comes_back` the page tries again.

    It waits long for it: where the request itself is what the service dies of, an open page must not use up the service's restarts.
    """
    return Refusal(
        502,
        "The service broke off",
        f"{label} closed the connection without an answer.",
        "Did it crash or restart? Its log may say why.",
        retry_after=10 if comes_back else None,
        code="service-broke-off",
    )


def bad_answer(label: str, what: str) -> Refusal:
    """A service answered something that is not HTTP/1.1, or could be read in two ways."""
    return Refusal(502, "The service's answer cannot be passed on", f"{label}: {what}.", code="bad-answer")


def bad_request(status: int, what: str) -> Refusal:
    """A request that goes to no service, because it could be read in two ways, is too large or too slow."""
    return Refusal(status, "This request is refused", f"{what[:1].upper()}{what[1:]}.", code="bad-request")


def mistake(what: str) -> Refusal:
    """Colony's own fault."""
    return Refusal(
        500,
        "Colony made a mistake",
        f"{what[:1].upper()}{what[1:]}.",
        "The daemon's log says more.",
        code="internal-error",
    )


def busy(connections: int) -> Refusal:
    """More clients than the proxy serves at once."""
    return Refusal(
        503,
        "Too many connections",
        f"{connections} connections are open.",
        "Try again in a moment.",
        retry_after=2,
        code="busy",
    )


def _words(error: OSError) -> str:
    # Trio tells where it tried to connect, which says nothing to people who asked for a name
    return os.strerror(error.errno) if error.errno else str(error)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def _html(refusal: Refusal, *, reload: bool) -> bytes:
    again = f'<meta http-equiv="refresh" content="{refusal.retry_after}">' if reload and refusal.retry_after else ""
    hint = f'<p class="hint">{escape(refusal.hint)}</p>' if refusal.hint else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">{again}'
        f"<title>{escape(refusal.title)}</title><style>{_STYLE}</style></head><body>"
        f'<p class="status">{refusal.status} · Colony</p><h1>{escape(refusal.title)}</h1>'
        f"<p>{escape(refusal.message)}</p>{hint}</body></html>\n"
    ).encode("utf-8", "replace")


def _json(refusal: Refusal) -> bytes:
    problem = {
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.message,
        "code": refusal.code,
        "hint": refusal.hint,
    }
    return json.dumps(problem).encode() + b"\n"


def _text(refusal: Refusal) -> bytes:
    lines = [refusal.title, refusal.message] + ([f"hint: {refusal.hint}"] if refusal.hint else [])
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
