"""Tokens are recognisable, wrong copies are told without a lookup, and secrets are never kept."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colony_core.access import Role, keys
from colony_core.errors import Invalid


def test_a_token_has_the_form_that_scanners_know() -> None:
    token, parsed = keys.mint()
    assert re.fullmatch(r"cut_1_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", token)
    assert keys.parse(token) == parsed
    assert len({keys.mint()[0] for _ in range(100)}) == 100


def test_the_check_is_that_of_the_first_release() -> None:
    token = "cut_1_" + "A" * 12 + "_" + "b" * 43
    assert keys.parse(f"{token}_1PiMxk") == keys.Parsed("A" * 12, "b" * 43)
    assert keys.parse(f"{token}_1PiMxl") is None


@given(st.integers(0, 67), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
def test_one_wrong_letter_is_noticed(place: int, letter: str) -> None:
    token, _ = keys.mint()
    wrong = token[:place] + letter + token[place + 1 :]
    assert (keys.parse(wrong) is None) == (wrong != token)


@given(st.text())
def test_no_other_text_is_a_token(text: str) -> None:
    assert keys.parse(text) is None


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t + "\n", lambda t: " " + t, lambda t: t[:-1], lambda t: t * 2]
)
def test_a_token_is_taken_as_it_is_or_not_at_all(change: object) -> None:
    token, _ = keys.mint()
    assert keys.parse(change(token)) is None  # type: ignore[operator]


def test_a_secret_matches_its_own_hash_only() -> None:
    _, one = keys.mint()
    _, two = keys.mint()
    assert keys.matches(one.secret, keys.hashed(one.secret))
    assert not keys.matches(two.secret, keys.hashed(one.secret))
    assert one.secret not in keys.hashed(one.secret)
    assert one.secret not in repr(one)


def test_roles_that_are_not_given_out_are_refused_with_those_that_are() -> None:
    assert [keys.parse_role(role.value) for role in Role] == list(Role)
    for text in ("Ape", "queen", ""):
        with pytest.raises(Invalid) as caught:
            keys.parse_role(text)
        assert caught.value.code == "unknown-role"
        assert "viewer" in caught.value.hint
