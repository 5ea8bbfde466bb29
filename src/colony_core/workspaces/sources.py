"""What people call a repository: a URL, a path, or `user/app`; and which words may be passed on to a program as a ref. Pure.

Everything here stands between what somebody typed and an argument of git: what could be an option, another transport or two lines is
refused before any program sees it.
"""

import re
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import attrs

from colony_core.errors import Invalid

GITHUB = "https://github.com/"
SCHEMES = ("https", "ssh")
MOST_CHARACTERS = 2000

_SHORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._][A-Za-z0-9._-]{0,99}")
_SCP = re.compile(r"(?:([A-Za-z0-9_][A-Za-z0-9._-]*)@)([A-Za-z0-9][A-Za-z0-9.-]*):(?!/?/?:)([^:].*)")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~%!$&'()*+,;=-]*(:[^@/]*)?")
_TOKEN = re.compile(r"gh[a-z]_|github_pat_|glpat-|x-|oauth|.{40}", re.IGNORECASE)
"""What stands in the place of a user and is a secret."""
PROJECT_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9_])?$"
_PROJECT = re.compile(PROJECT_PATTERN)
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)")
_COMMIT = re.compile(r"[0-9a-f]{4,64}")


@attrs.frozen(kw_only=True)
class Source:
    """Where a project comes from. `kind` says what the daemon may speak to it: `url` (https and ssh) or `path` (a folder here)."""

    kind: Literal["url", "path"]
    url: str
    name: str


def read_source(text: str) -> Source:
    """A repository from what somebody typed. Raises Invalid (`invalid-repository`) with what is wrong.

    `user/app` is GitHub's here: whoever knows projects and folders looks there first (`is_short`).
    """
    if not text or len(text) > MOST_CHARACTERS or re.search(r"[\x00-\x20\x7f]", text.replace(" ", "") or " "):
        raise _invalid(text, "it is empty, too long, or holds control characters")
    if text.startswith("-"):
        raise _invalid(text, "it begins with '-', as an option does")
    if text.startswith("/"):
        return Source(kind="path", url=text, name=project_name(text))
    if " " in text:
        raise _invalid(text, "it holds a space")
    if "://" in text:
        return Source(kind="url", url=_checked_url(text), name=project_name(text))
    if "::" in text:
        raise _invalid(text, "its transport is not allowed")
    if is_short(text):
        url = f"{GITHUB}{text.removesuffix('.git')}.git"
        return Source(kind="url", url=url, name=project_name(text))
    found = _SCP.fullmatch(text)
    if found and not found[3].startswith("-"):
        return Source(kind="url", url=text, name=project_name(found[3]))
    raise _invalid(text, "it is neither a URL, nor user/app, nor a path from the root")


def is_short(text: str) -> bool:
    """Whether this is the form `user/app`."""
    return _SHORT.fullmatch(text) is not None


def project_name(text: str) -> str:
    """The name of a project, which is that of its folder as well: the last two parts of where it comes from, as `user-app`.

    A folder's is its last part alone. Raises Invalid where nothing is left to call it by.
    """
    path = urlsplit(text).path if "://" in text else text
    parts = [part for part in path.removesuffix("/").removesuffix(".git").replace(":", "/").split("/") if part]
    wanted = parts[-1:] if text.startswith("/") else parts[-2:]
    name = re.sub(r"[^a-z0-9._-]+", "-", "-".join(wanted).lower())
    name = re.sub(r"\.{2,}", ".", name).strip("-._")[:64]
    name = re.sub(r"(\.lock|[.-])+$", "", name)  # none of which git would take
    if not _PROJECT.fullmatch(name):
        raise _invalid(text, "no name for a project can be made of it")
    return name


def check_project_name(name: str) -> str:
    """Returns `name`; raises Invalid where it is no project's."""
    if not _PROJECT.fullmatch(name) or name.endswith(".lock") or ".." in name:
        raise Invalid(
            "invalid-project-name",
            f"{name[:80]!r} is not a project's name",
            "1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


def check_ref(text: str, *, what: str = "branch") -> str:
    """Returns `text` where git takes it for the name of a branch or tag, or a full ref; raises Invalid (`invalid-ref`)."""
    bad = (
        not text
        or len(text) > 255
        or text.startswith(("-", "/", "."))
        or text.endswith(("/", "."))
        or text in ("@", "HEAD")
        or _BAD_IN_REF.search(text) is not None
        or not text.isprintable()
    )
    if bad:
        raise Invalid("invalid-ref", f"{text[:80]!r} is not the name of a {what}", "see git help check-ref-format")
    return text


def is_commit(text: str) -> bool:
    """Whether this may be the name of a commit, whole or its beginning."""
    return _COMMIT.fullmatch(text) is not None


def without_secret(url: str) -> str:
    """A URL without the password that may stand in it, nor a token in the place of a user."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)) if at and _holds_secret(parts.scheme, user) else url


def _holds_secret(scheme: str, user: str) -> bool:
    return ":" in user or (scheme != "ssh" and _TOKEN.match(user) is not None)


def _checked_url(text: str) -> str:
    scheme = text.partition("://")[0]
    if scheme not in SCHEMES:
        raise _invalid(text, f"{scheme[:20]}:// is not allowed, {' and '.join(f'{each}://' for each in SCHEMES)} are")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _invalid(text, "it is no URL") from None
    user, at, _ = parts.netloc.rpartition("@")
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(shown) or (at and not _USER.fullmatch(user)) or port == 0:
        raise _invalid(text, "its host or user is none that git may be given")
    if _holds_secret(scheme, user):
        raise _invalid(
            text, "it holds a password or token, which would be written down; keep that in git's credential helper"
        )
    if not parts.path.strip("/") or parts.query or parts.fragment or parts.path.lstrip("/").startswith("-"):
        raise _invalid(text, "its path is none of a repository")
    return text


def _invalid(text: str, why: str) -> Invalid:
    shown = without_secret(text[:80]) if text.isprintable() else repr(text[:80])
    return Invalid(
        "invalid-repository",
        f"{shown!r} is not a repository: {why}",
        "give https://…, ssh://…, git@host:user/app, user/app, or a path",
    )
