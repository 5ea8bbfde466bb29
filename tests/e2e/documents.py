"""The fenced blocks of the documents, and which of them are for reading only.

A block under `<!-- not run: reason -->` is not run. In the others each line is what a user types, but for two kinds that would never end: a
follower (`… -f`) is ended by Ctrl-C after its first output, and `… serve` goes on in the background once the daemon answers.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_PREAMBLE = """
set -euo pipefail -m
curl() { command curl --fail-with-body --silent --show-error --max-time 60 "$@"; }
follow() {
    local shown; shown=$(mktemp)
    "$@" >"$shown" & local pid=$!
    until [ -s "$shown" ]; do kill -0 $pid; sleep 0.05; done
    kill -INT $pid
    local code=0; wait $pid || code=$?
    cat "$shown"
    [ $code = 130 ]
}
serving() {
    "$@" </dev/null >daemon.log 2>&1 &
    until [ -n "$("$1" status -q 2>/dev/null)" ]; do kill -0 $!; sleep 0.05; done
}
"""


class Block(NamedTuple):
    """A fenced block: where it stands, its language, its text, and why it is not run (empty: it is)."""

    file: Path
    heading: str
    language: str
    text: str
    why_not: str


def blocks(file: Path) -> list[Block]:
    """Every fenced block of a document, in order."""
    text = file.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        headings = _HEADING.findall(re.sub(r"^```.*?^```$", "", text[: match.start()], flags=re.MULTILINE | re.DOTALL))
        found.append(Block(file, headings[-1], match["language"], match["text"], match["why"] or ""))
    return found


def script(block: Block) -> str:
    """A program for bash that types the lines of a block and ends with the first one that fails."""
    lines = []
    for line in block.text.splitlines():
        typed = line.partition(" #")[0].rstrip()
        if re.search(r"\bcolony\b.* -f$", typed):
            line = f"follow {line}"
        elif typed.endswith("colony serve"):
            line = f"serving {line}"
        lines.append(line)
    return _PREAMBLE + "\n".join(lines) + "\n"
