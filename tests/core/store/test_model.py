"""Whatever is written, refused and reopened: the store holds what a dict would hold."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from colony_core.store import Store, open_store, put_meta

KEYS = st.sampled_from("abcdefgh")
BATCH = st.dictionaries(KEYS, st.tuples(st.text(st.characters(codec="utf-8"), max_size=20), st.booleans()))
ACTIONS = st.lists(st.one_of(BATCH, st.just("reopen")), max_size=8)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "s.db"

    async def make() -> None:
        async with open_store(path):
            pass

    trio.run(make)
    return path


@given(actions=ACTIONS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_store_holds_what_a_dict_would_hold(tmp_path: Path, empty: Path, actions: list[object]) -> None:
    path = tmp_path / "s.db"
    for old in tmp_path.iterdir():
        old.unlink()
    shutil.copy(empty, path)
    trio.run(partial(act, path, actions))


async def act(path: Path, actions: list[object]) -> None:
    model: dict[str, str] = {}
    pending = list(actions)
    while True:
        async with open_store(path) as store:
            assert await store.read(everything) == model
            while pending and isinstance(batch := pending[0], dict):
                pending.pop(0)
                async with trio.open_nursery() as nursery:
                    for key, (value, fails) in batch.items():
                        nursery.start_soon(change, store, key, value, fails)
                model |= {key: value for key, (value, fails) in batch.items() if not fails}
                assert await store.read(everything) == model
        if not pending:
            return
        pending.pop(0)


async def change(store: Store, key: str, value: str, fails: bool) -> None:
    def unit(connection: Connection) -> None:
        put_meta(connection, key, value)
        if fails:
            raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            await store.write(unit)
    else:
        await store.write(unit)


def everything(connection: Connection) -> dict[str, str]:
    return {row.key: row.value for row in connection.execute(text("SELECT key, value FROM meta"))}
