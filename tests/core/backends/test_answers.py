"""One message for several questions: what each of them is answered."""

import pytest

from colony_core.backends.answers import each_answered

QUESTIONS = [{"question": "Which colour?", "header": "Colour"}, {"question": "And why?", "header": "Why"}]


@pytest.mark.parametrize(
    ("message", "colour", "why"),
    [
        ("blue", "blue", "blue"),
        ("1: blue\n2: it is calm: very", "blue", "it is calm: very"),
        ("why: it is calm\nCOLOUR : blue", "blue", "it is calm"),
        ("Colour: blue\nas I said", "Colour: blue\nas I said", "Colour: blue\nas I said"),
        ("3: blue", "3: blue", "3: blue"),
        (": blue", ": blue", ": blue"),
    ],
)
def test_lines_that_name_questions_answer_each_and_any_other_message_all(message: str, colour: str, why: str) -> None:
    assert each_answered(QUESTIONS, message) == {"Which colour?": colour, "And why?": why}


def test_a_question_without_a_line_gets_no_answer() -> None:
    assert each_answered(QUESTIONS, "2: calm") == {"And why?": "calm"}


def test_questions_of_odd_shape_are_no_error() -> None:
    assert each_answered([{}, {"question": 3, "header": []}], "x") == {"": "x"}
    assert each_answered([], "1: x") == {}
