"""A login code is good once, and for a minute."""

import trio

from colony_core.access import CODE_SECONDS, Identity, Logins, Role
from colony_core.access.logins import MOST_CODES

ANN = Identity(id="uid:1", name="ann", role=Role.APE)


async def test_a_code_is_good_once(autojump_clock: object) -> None:
    logins = Logins()
    code = logins.issue(ANN)
    assert logins.redeem(code + "x") is None
    assert logins.redeem(code) == ANN
    assert logins.redeem(code) is None


async def test_a_code_is_good_for_a_minute(autojump_clock: object) -> None:
    logins = Logins()
    early, late = logins.issue(ANN), logins.issue(ANN)
    await trio.sleep(CODE_SECONDS - 1)
    assert logins.redeem(early) == ANN
    await trio.sleep(1)
    assert logins.redeem(late) is None


async def test_of_many_codes_the_oldest_goes_and_none_is_held_as_it_is() -> None:
    logins = Logins()
    codes = [logins.issue(ANN) for _ in range(MOST_CODES + 1)]
    assert not any(code in repr(logins.__dict__) for code in codes)
    assert logins.redeem(codes[0]) is None
    assert logins.redeem(codes[1]) == ANN
