"""One message that answers several questions. Pure."""

from collections.abc import Sequence
from typing import Any

from .loose import as_text


def each_answered(questions: Sequence[dict[str, Any]], message: str) -> dict[str, str]:
    """By question, what a message answers it.

    Where every line begins with a question's header or its number and a colon, a line answers its question; any other message answers all.
    """
    asked = [as_text(question.get("question")) for question in questions]
    named = {str(number): each for number, each in enumerate(asked, 1)}
    for question, each in zip(questions, asked, strict=True):
        named.setdefault(as_text(question.get("header")).strip().casefold(), each)
    found: dict[str, str] = {}
    for line in message.strip().splitlines():
        name, colon, answer = line.partition(":")
        key = name.strip().casefold()
        if not colon or not key or key not in named:
            return dict.fromkeys(asked, message)
        found[named[key]] = answer.strip()
    return found
