"""Words for people."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_cli.output import formatted
from colony_cli.tables import Cell, Column, aligned, cut, tabbed, width_of
from colony_cli.words import age, clean, clean_log, duration, plural, shape_of
from colony_core.errors import Invalid


@given(st.text())
def test_cleaned_text_holds_nothing_that_steers_a_terminal(text: str) -> None:
    assert not [char for char in clean(text) if unicodedata.category(char) == "Cc"]


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S"))))
def test_plain_text_is_left_alone(text: str) -> None:
    assert clean(text) == text
    assert clean_log(text, colour=False) == text


@given(st.text(alphabet="\x1b[]0123456789;:mHJK\x07\x9b\r\tab", max_size=40))
def test_a_log_line_passes_colours_and_nothing_else(text: str) -> None:
    import re

    shown = re.sub(r"\x1b\[[0-9;:]*m", "", clean_log(text, colour=True))
    assert not set(shown) & set("\x1b\x07\x9b\r")
    assert "\x1b" not in clean_log(text, colour=False)


def test_a_coloured_log_line_ends_its_colour() -> None:
    assert clean_log("\x1b[31mred", colour=True) == "\x1b[31mred\x1b[0m"
    assert clean_log("\x1b[31mred", colour=False) == "red"


def test_a_window_title_a_cursor_move_and_a_direction_mark_are_made_visible() -> None:
    assert clean_log("\x1b]0;pwned\x07", colour=True) == "^[]0;pwned^G"
    assert clean_log("a\x1b[2Jb\rc", colour=True) == "a^[[2Jb^Mc"
    assert clean_log("x\u202ey", colour=True) == "x\\u202ey"
    assert clean_log("ends\r", colour=True) == "ends"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0004, "0.4 ms"),
        (0.078, "78 ms"),
        (0.9996, "1.0 s"),
        (1.9, "1.9 s"),
        (59.96, "1m 0s"),
        (252, "4m 12s"),
        (7300, "2h"),
    ],
)
def test_measured_times_are_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (90000, "25h"), (172800, "2d")]
)
def test_ages_are_one_number(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_nouns_are_counted() -> None:
    assert plural(1, "colony", "colonies") == "1 colony"
    assert plural(2, "colony", "colonies") == "2 colonies"


def test_shapes_tell_states_apart_without_colour() -> None:
    marks = {shape_of(state).mark for state in ("running", "starting", "waiting", "finished", "stopped", "failed")}
    assert len(marks) == 6
    assert (
        len({shape_of(state).ascii for state in ("running", "starting", "waiting", "finished", "stopped", "failed")})
        == 6
    )


COLUMNS = [Column("NAME", whole=True), Column("URL"), Column("N", right=True, whole=True)]


@given(
    st.lists(st.tuples(*[st.text(alphabet="abc日é-", max_size=30)] * 3), max_size=5),
    st.integers(min_value=1, max_value=120),
)
def test_no_line_of_a_table_is_wider_than_the_terminal(rows: list[tuple[str, ...]], width: int) -> None:
    for line in aligned(COLUMNS, [[Cell(text) for text in row] for row in rows], width=width):
        assert width_of(line) <= width


def test_what_may_be_cut_is_cut_first_and_marked() -> None:
    lines = aligned(COLUMNS, [[Cell("agent-frontend"), Cell("agent-frontend.colony.localhost"), Cell("12")]], width=36)
    assert lines == ["NAME            URL                N", "agent-frontend  agent-frontend.…  12"]


def test_without_a_width_nothing_is_cut() -> None:
    (_, line) = aligned(COLUMNS, [[Cell("a"), Cell("b" * 300), Cell("1")]], width=None)
    assert "b" * 300 in line


def test_fields_stand_between_tabs() -> None:
    assert tabbed(COLUMNS, [[Cell("a"), Cell("b"), Cell("1")]]) == ["NAME\tURL\tN", "a\tb\t1"]


@given(st.text(), st.integers(min_value=0, max_value=40))
def test_cut_text_fits(text: str, width: int) -> None:
    assert width_of(cut(clean(text), width)) <= width or width == 0


def test_a_format_fills_fields_inner_fields_and_escapes() -> None:
    view = {"name": "a", "port": None, "on": True, "services": [{"url": "u"}], "limits": {"memory": "4G"}}
    assert formatted(r"{name}\t{services.0.url}\n{{{limits.memory}}} {port}|{on}", view) == "a\tu\n{4G} |true"


@pytest.mark.parametrize("template", ["{nam}", "{name", "name}", "{services.3.url}", "{name.__class__}", "{}"])
def test_a_format_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(Invalid):
        formatted(template, {"name": "a", "services": []})


def test_an_unknown_field_is_told_the_nearest() -> None:
    with pytest.raises(Invalid) as caught:
        formatted("{nmae}", {"name": "a"})
    assert caught.value.hint == "did you mean name?"
