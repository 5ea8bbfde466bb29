"""What keeps a repository from running programs of its own choice when git or jj looks at it. Pure.

Three walls, each enough alone for most of what could be planted. The programs run as the user to whom the workspace belongs, through the
keeper, without capabilities (`programs`). Their environment is made here from nothing. And every setting by which a repository's own
files could name a program is overridden, from the environment, which git ranks above all files.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

NOWHERE = "/dev/null"
PATH = "/usr/local/bin:/usr/bin:/bin"

ALWAYS: Mapping[str, str] = {
    "core.hooksPath": NOWHERE,
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.attributesFile": NOWHERE,
    "core.excludesFile": NOWHERE,
    "core.editor": "false",
    "core.pager": "cat",
    "core.askPass": "",
    "core.gitProxy": "",
    "core.alternateRefsCommand": "",
    "core.sshCommand": "ssh -oBatchMode=yes",
    "core.autocrlf": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "push.gpgSign": "false",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "log.showSignature": "false",
    "diff.external": "",
    "diff.submodule": "short",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.recurseSubmodules": "false",
    "push.recurseSubmodules": "no",
    "submodule.recurse": "false",
    "protocol.ext.allow": "never",
    "uploadpack.packObjectsHook": "",
    "merge.renormalize": "false",
    "sequence.editor": "false",
    "worktree.guessRemote": "false",
}
"""In force for every command. Where an empty value stands, git takes it for none."""

TEXT_MERGE = "git merge-file --marker-size=%L -L ours -L base -L theirs %A %O %B"
"""What a merge driver of the repository's is replaced with: a merge of text as git makes it itself."""

_DANGEROUS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), value)
    for pattern, value in (
        (r"filter\..*\.(clean|smudge|process)", ""),
        (r"filter\..*\.required", "false"),
        (r"diff\..*\.(command|textconv)", ""),
        (r"diff\..*\.cachetextconv", "false"),
        (r"merge\..*\.driver", TEXT_MERGE),
        (r"submodule\..*\.update", "checkout"),
        (r"remote\..*\.(uploadpack)", "git-upload-pack"),
        (r"remote\..*\.(receivepack)", "git-receive-pack"),
        (r"remote\..*\.(vcs|proxy)", ""),
        (r"remote\..*\.promisor", "false"),
        (r"protocol\..*\.allow", "never"),
        (r"trailer\..*\.(command|cmd)", ""),
        (r"pager\..*", "false"),
        (r"http\.(.*\.)?(proxy|cookiefile|sslcert|sslkey|sslcainfo|sslcapath)", ""),
        (r"http\.(.*\.)?sslverify", "true"),
    )
)

JJ_CONFIG: tuple[str, ...] = (
    'fsmonitor.backend="none"',
    'signing.behavior="drop"',
    "git.sign-on-push=false",
    'ui.paginate="never"',
    'ui.editor="false"',
    'ui.diff-editor=":builtin"',
    'ui.merge-editor=":builtin"',
    'ui.diff-formatter=":git"',
    'ui.conflict-marker-style="diff"',
    "ui.color='never'",
    "ui.quiet=true",
    'snapshot.auto-track="all()"',
    "snapshot.max-new-file-size=0",
    "git.auto-local-bookmark=false",
    "git.abandon-unreachable-commits=false",
    'revset-aliases."immutable_heads()"="none()"',
    'revset-aliases."trunk()"="root()"',
    'working-copy.eol-conversion="none"',
)
"""jj's settings that could name a program, or would change what our questions mean. Given on the command line they rank above all files."""


def overrides(known: Iterable[str]) -> dict[str, str]:
    """What git is told beside `ALWAYS`, where a repository's own settings bear the names `known`."""
    found = {}
    for key in known:
        for pattern, value in _DANGEROUS:
            if pattern.fullmatch(key):
                found[key] = value
                break
    return found


def local_environment(*, home: Path, path: str, author: tuple[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of git and jj in a repository: no settings of system or user, no network, nobody to ask."""
    name, email = author
    return {
        **_common(home=str(home), path=path, protocols="", settings={**ALWAYS, **settings}),
        "GIT_CONFIG_GLOBAL": NOWHERE,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
        "XDG_CONFIG_HOME": str(home / ".config"),
        "JJ_CONFIG": "",
        "JJ_USER": name,
        "JJ_EMAIL": email,
    }


def network_environment(
    *, home: str, path: str, inherited: Mapping[str, str], settings: Mapping[str, str], files: bool
) -> dict[str, str]:
    """As above for what talks to another repository: with the user's own git settings and ssh agent, where credentials are kept.

    Only https and ssh are spoken; with `files` folders of this machine are read as well.
    """
    passed = {
        name: value for name in ("SSH_AUTH_SOCK", "http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")
        if (value := inherited.get(name))
    }  # fmt: skip
    return {
        **_common(
            home=home, path=path, protocols="file:https:ssh" if files else "https:ssh", settings={**ALWAYS, **settings}
        ),
        **passed,
    }


def jj_arguments(git: str) -> tuple[str, ...]:
    """The global options of every jj command; `git` is the one git that it may start."""
    settings = (*JJ_CONFIG, f"git.executable-path={_toml(git)}")
    return tuple(word for setting in settings for word in ("--config", setting))


def _common(*, home: str, path: str, protocols: str, settings: Mapping[str, str]) -> dict[str, str]:
    counted = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        counted[f"GIT_CONFIG_KEY_{number}"] = key
        counted[f"GIT_CONFIG_VALUE_{number}"] = value
    return {
        "PATH": path,
        "HOME": home,
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "",
        "TERM": "dumb",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "SSH_ASKPASS": "false",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_ALLOW_PROTOCOL": protocols or "none",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "false",
        "GIT_TEMPLATE_DIR": "",
        "GIT_OPTIONAL_LOCKS": "0",
        **counted,
    }


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
