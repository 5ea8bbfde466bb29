"""Which coding agent works: hld where its daemon answers, else Claude Code, else one that speaks ACP."""

import pytest

from colony_core.backends import Health
from colony_core.backends.choosing import Choice, choose_backend
from colony_core.errors import Missing


def health(ready: bool, detail: str = "") -> Health:
    return Health(ready=ready, detail=detail or ("here" if ready else "away"), hint="" if ready else "install it")


@pytest.mark.parametrize(
    ("ready", "taken", "why"),
    [
        ({"hld", "claude", "acp"}, "hld", "here"),
        ({"claude", "acp"}, "claude", "here (hld: away)"),
        ({"acp"}, "acp", "here (hld: away; claude: away)"),
    ],
)
def test_auto_takes_the_first_that_is_ready_and_says_which_were_not(ready: set[str], taken: str, why: str) -> None:
    healths = {name: health(name in ready) for name in ("acp", "claude", "hld")} | {"script": health(True)}
    assert choose_backend("auto", healths) == Choice(name=taken, why=why)


def test_a_name_is_that_backend_or_none() -> None:
    assert choose_backend("script", {"script": health(True), "hld": health(True)}).name == "script"
    with pytest.raises(Missing, match="claude: away") as raised:
        choose_backend("claude", {"claude": health(False), "hld": health(True)})
    assert (raised.value.code, raised.value.hint) == ("claude-not-ready", "install it")


def test_where_none_is_ready_each_says_what_it_lacks() -> None:
    with pytest.raises(Missing, match="hld: away; claude: gone") as raised:
        choose_backend("auto", {"claude": health(False, "gone"), "hld": health(False), "script": health(True)})
    assert raised.value.code == "no-backend"
    with pytest.raises(Missing, match="none is known"):
        choose_backend("auto", {})
