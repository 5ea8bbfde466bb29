"""Errors, and groups of them."""

import pytest

from colony_core.errors import Broken, NotFound, first_of


def test_the_first_error_of_a_group_is_found_in_however_many_groups_it_is_wrapped() -> None:
    first, second = Broken("first", "first"), NotFound("second", "second")
    inner = ExceptionGroup("inner", [first, second])
    assert first_of(ExceptionGroup("outer", [ExceptionGroup("middle", [inner]), second])) is first
    assert first_of(BaseExceptionGroup("", [KeyboardInterrupt(), first])).__class__ is KeyboardInterrupt


@pytest.mark.parametrize("hint", ["", "try again"])
def test_an_error_says_what_to_try_next(hint: str) -> None:
    assert str(Broken("it", "it is broken", hint)) == ("it is broken (hint: try again)" if hint else "it is broken")
