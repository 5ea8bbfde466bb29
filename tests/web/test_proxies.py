"""Whose request it is behind a front, and who may say so."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest

from colony_web import create_app
from colony_web.auth import FAILURES
from colony_web.proxies import MOST_HOPS, client_address

from .house import CardboardHouse, config_in

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("::1")]


def seen(peer: str, *told: str) -> str:
    return client_address(peer, [(b"X-Forwarded-For", each.encode()) for each in told], TRUSTED)


@pytest.mark.parametrize(
    ("told", "client"),
    [
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["192.0.2.7"], "192.0.2.7"),
        (["192.0.2.66, 192.0.2.7"], "192.0.2.7"),
        (["192.0.2.66", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.66, 192.0.2.7, 10.0.0.2,10.9.9.9"], "192.0.2.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["192.0.2.66, unknown, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["192.0.2.66,", "10.0.0.2"], "10.0.0.2"),
        ([",".join(["192.0.2.66", *["10.0.0.2"] * MOST_HOPS])], "10.0.0.2"),
    ],
)
def test_the_last_who_is_no_front_of_ours_is_the_client(told: list[str], client: str) -> None:
    assert seen("10.0.0.1", *told) == client


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1", "", "<local>"])
def test_nobody_else_is_believed(peer: str) -> None:
    assert seen(peer, "192.0.2.7") == peer


def test_a_front_over_the_other_protocol_is_known() -> None:
    assert seen("::ffff:10.0.0.1", "192.0.2.7") == "192.0.2.7"
    assert seen("::1", "192.0.2.7") == "192.0.2.7"


class Front:
    """A house that trusts these proxies, and who asks it over one at 127.0.0.1 with a wrong token."""

    def __init__(self, folder: Path, *proxies: str) -> None:
        config = config_in(folder)
        self.house = CardboardHouse(attrs.evolve(config, server=attrs.evolve(config.server, trusted_proxies=proxies)))
        self.client: Any = create_app(self.house).test_client()

    async def tried(self, told: str) -> int:
        headers = {"Host": "localhost", "Authorization": "Bearer wrong", "X-Forwarded-For": told}
        base = {"client": ("127.0.0.1", 4711)}
        return int((await self.client.post("/api/colonies/hello/stop", headers=headers, scope_base=base)).status_code)

    @property
    def sources(self) -> list[str]:
        return [entry.source for entry in self.house.audit.entries]


@pytest.mark.parametrize("proxies", [(), ("10.0.0.1",)])
async def test_a_header_of_somebody_who_is_no_front_changes_nothing(proxies: tuple[str, ...], tmp_path: Path) -> None:
    front = Front(tmp_path, *proxies)
    answers = [await front.tried(f"192.0.2.{number}") for number in range(FAILURES + 1)]
    assert answers == [401] * FAILURES + [429]
    assert set(front.sources) == {"127.0.0.1"}


async def test_behind_a_front_each_client_has_failures_and_an_address_of_its_own(tmp_path: Path) -> None:
    front = Front(tmp_path, "127.0.0.0/8")
    answers = [await front.tried(f"192.0.2.{number}, 192.0.2.77") for number in range(FAILURES + 1)]
    assert answers == [401] * FAILURES + [429]
    assert await front.tried("192.0.2.77, 192.0.2.78") == 401
    assert front.sources == ["192.0.2.77"] * (FAILURES + 1) + ["192.0.2.78"]
