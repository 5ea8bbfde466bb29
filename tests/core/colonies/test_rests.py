"""What is written down of services before anything is done to them."""

from hypothesis import given
from hypothesis import strategies as st

from colony_core.colonies import rests
from colony_core.colonies.state import ServiceState, Verb

names = st.sampled_from(["web", "api", "db"])
states = st.sampled_from(list(ServiceState))
kept = st.dictionaries(names, st.builds(rests.rest, states, st.text(max_size=5)))
verbs: st.SearchStrategy[Verb] = st.sampled_from(["start", "stop", "restart"])


@given(kept, names, verbs)
def test_a_verb_changes_the_entry_of_its_service_and_no_other(
    before: dict[str, rests.Rest], service: str, verb: Verb
) -> None:
    after = rests.after_verb(before, service, verb)
    assert {n: how for n, how in after.items() if n != service} == {n: h for n, h in before.items() if n != service}
    expected = {"start": None, "stop": "stopped", "restart": "restarting"}[verb]
    assert (after[service]["state"] if service in after else None) == expected


@given(kept, st.sets(names))
def test_an_edit_restarts_what_it_changed_but_for_what_somebody_stopped(
    before: dict[str, rests.Rest], changed: set[str]
) -> None:
    after = rests.after_edit(before, changed)
    for name in {*before, *changed}:
        was_stopped = name in before and before[name]["state"] == "stopped"
        assert after.get(name) == (before.get(name) if was_stopped or name not in changed else rests.TO_RESTART)


@given(kept)
def test_what_is_done_is_no_longer_to_be_done(before: dict[str, rests.Rest]) -> None:
    marked = rests.after_edit(before, ["web"])
    assert rests.TO_RESTART not in rests.without_restarts(marked).values()
