"""How far a tool reaches, decided on paths whose links are followed already."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.backends.happenings import Kind
from colony_core.backends.permits import GUARDED, File, Reach, is_plain, kind_to_ask, reach_of

names = st.sampled_from(["a", "w", "ws", ".git", ".mcp.json", "b.txt"])
places = st.lists(names, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.lists(places, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3), places)
def test_an_edit_is_mere_only_where_every_place_lies_in_the_workspace_and_none_guards_it(
    led: list[tuple[str, ...]], workdir: str
) -> None:
    prefix = workdir.rstrip("/") + "/"
    reach = reach_of("edit", [File(written="x", leads_to=each) for each in led], workdir)
    mere = all(
        place == workdir or (place.startswith(prefix) and not GUARDED & set(place.removeprefix(prefix).split("/")))
        for each in led
        for place in each
    )
    assert (kind_to_ask("edit", reach) == "edit") == mere
    assert bool(reach.beyond) != mere


def test_what_guards_a_workspace_may_be_looked_at() -> None:
    settings = File(written=".git/config", leads_to=("/w/.git/config",))
    assert reach_of("read", [settings], "/w") == Reach(known=True)
    assert reach_of("edit", [settings], "/w").beyond == ".git is acted on outside of the colony"


def test_folders_above_the_workspace_have_no_part_in_what_guards_it() -> None:
    file = File(written="a", leads_to=("/home/.claude/worktrees/w/a",))
    assert reach_of("edit", [file], "/home/.claude/worktrees/w") == Reach(known=True)


@pytest.mark.parametrize(
    ("kind", "reach", "asked"),
    [
        ("read", Reach(known=False), "read"),
        ("edit", Reach(known=False), "other"),
        ("read", Reach(known=True, beyond="leads to /etc"), "other"),
        ("execute", Reach(known=True, beyond="leads to /etc"), "execute"),
    ],
)
def test_as_what_a_question_is_put(kind: Kind, reach: Reach, asked: Kind) -> None:
    assert kind_to_ask(kind, reach) == asked


@pytest.mark.parametrize("path", ["", "~/x", "~ann/x", " /etc/passwd", "/etc/passwd\n", "file:///etc/passwd"])
def test_a_path_that_programs_read_in_several_ways_is_not_plain(path: str) -> None:
    assert not is_plain(path)


@given(places)
def test_ordinary_paths_are_plain(path: str) -> None:
    assert is_plain(path)
    assert is_plain(posixpath.relpath(path, "/a"))
