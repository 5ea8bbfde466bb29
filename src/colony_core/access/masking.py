"""A command as it may be written down: its words, without the secrets that can be told from their names. Pure.

What is known: values of variables whose names say that they are secret, whatever follows such a name (`--password x`, `TOKEN=x`), what
follows `Bearer` and `Basic`, the password in an address (`https://ann:x@host`), and Colony's own tokens. A secret that nothing names is not
known, and is written down.
"""

import re
import shlex
from collections.abc import Mapping, Sequence

from .keys import redacted

MOST_LETTERS = 1000
SHORTEST_SECRET = 4
"""A shorter value would be cut out of ordinary words."""
_TELLING = r"[\w-]*(?:token|secret|passw|passphrase|credential|api[-_]?key|private[-_]?key|access[-_]?key)[\w-]*"
_NAME = re.compile(_TELLING, re.IGNORECASE)
_ASSIGNED = re.compile(rf"({_TELLING}\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s\"']+)", re.IGNORECASE)
_OPTION = re.compile(rf"(--?{_TELLING}\s+)(\"[^\"]*\"|'[^']*'|[^\s\"'-][^\s\"']*)", re.IGNORECASE)
_SCHEME = re.compile(r"(\b(?:bearer|basic)\s+)[^\s\"']+", re.IGNORECASE)
_ADDRESS = re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+(?=@)")


def masked_command(words: Sequence[str], variables: Mapping[str, str]) -> str:
    """One line of shell, cut where it is too long; `variables` are those that the command finds."""
    secrets = sorted(
        {value for name, value in variables.items() if len(value) >= SHORTEST_SECRET and _NAME.search(name)},
        key=len,
        reverse=True,
    )
    shown: list[str] = []
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if before.startswith("-") and "=" not in before and _NAME.search(before) and not word.startswith("-"):
            shown.append("…")
            continue
        for secret in secrets:
            word = word.replace(secret, "…")
        for pattern in (_SCHEME, _ASSIGNED, _OPTION, _ADDRESS):
            word = pattern.sub(r"\1…", word)
        shown.append(redacted(word))
    line = shlex.join(shown)
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"
