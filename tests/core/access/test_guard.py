"""Keys open the API until they are revoked, and nothing that is kept opens it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import text

from colony_core import clock
from colony_core.access import Identity, Keys, Role, house_owner
from colony_core.errors import Invalid, NotAllowed, NotFound
from colony_core.store import Store


async def loaded(store: Store) -> Keys:
    keys = Keys(store)
    await keys.load()
    return keys


async def test_a_key_opens_also_after_a_restart(store: Store) -> None:
    keys = await loaded(store)
    view = await keys.mint("ci", "viewer")
    assert view.token
    expected = Identity(id=view.id, name="ci", role=Role.VIEWER, person=house_owner(), house=True)
    assert keys.authenticate(view.token) == expected
    assert (await loaded(store)).authenticate(view.token) == expected


async def test_the_token_is_told_once(store: Store) -> None:
    keys = await loaded(store)
    view = await keys.mint("ci", Role.APE)
    (listed,) = keys.list()
    assert listed.token is None
    assert (listed.id, listed.name, listed.role, listed.created_at) == (view.id, "ci", "ape", view.created_at)
    assert (await loaded(store)).list() == (listed,)


async def test_no_secret_reaches_the_disk_or_a_repr(store: Store, tmp_path: Path) -> None:
    keys = await loaded(store)
    token = (await keys.mint("ci", "ape")).token or ""
    secret = token.split("_")[3]
    files = list((tmp_path / "store").iterdir())
    assert any(b"ci" in file.read_bytes() for file in files)
    assert not any(secret.encode() in file.read_bytes() for file in files)
    assert secret not in repr(keys) + repr(keys.list()) + repr(keys.authenticate(token))


async def test_a_revoked_key_opens_nothing(store: Store) -> None:
    keys = await loaded(store)
    gone, kept = await keys.mint("a", "ape"), await keys.mint("b", "ape")
    await keys.revoke(gone.id)
    for guard in (keys, await loaded(store)):
        assert guard.authenticate(gone.token or "") is None
        assert guard.authenticate(kept.token or "") is not None
        assert [view.name for view in guard.list()] == ["b"]
    with pytest.raises(NotFound) as caught:
        await keys.revoke(gone.id)
    assert caught.value.code == "token-not-found"


async def test_a_key_whose_end_could_not_be_written_is_still_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = await loaded(store)
    view = await keys.mint("a", "ape")

    async def fail(fn: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(store, "write", fail)
    with pytest.raises(OSError, match="no disk"):
        await keys.revoke(view.id)
    assert [listed.id for listed in keys.list()] == [view.id]


async def test_what_is_no_key_opens_nothing(store: Store) -> None:
    keys = await loaded(store)
    one, two = (await keys.mint("a", "ape")).token or "", (await keys.mint("b", "ape")).token or ""
    head, _, rest = two.rpartition("_")
    swapped = "_".join([*one.split("_")[:3], *two.split("_")[3:]])
    for token in ("", "cut_1_", one[:-1], one + "x", swapped, head, rest, "x" * 1_000_000, one.replace("_1_", "_2_")):
        assert keys.authenticate(token) is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m", " a"])
async def test_a_bad_name_is_refused(store: Store, name: str) -> None:
    keys = await loaded(store)
    with pytest.raises(Invalid) as caught:
        await keys.mint(name, "ape")
    assert caught.value.code == "invalid-name"
    assert keys.list() == ()


async def test_the_name_of_the_daemons_own_key_and_unknown_roles_are_refused(store: Store) -> None:
    keys = await loaded(store)
    for name, role, code in (("local", "ape", "reserved-name"), ("a", "queen", "unknown-role")):
        with pytest.raises(Invalid) as caught:
            await keys.mint(name, role)
        assert caught.value.code == code


async def test_the_last_use_is_recorded(store: Store) -> None:
    keys = await loaded(store)
    used, idle = await keys.mint("a", "ape"), await keys.mint("b", "ape")
    keys.authenticate(used.token or "")
    await keys.save_use()
    rows = await store.read(lambda c: c.execute(text("SELECT id, last_used_at FROM keys")).all())
    found = {row.id: row.last_used_at for row in rows}
    assert found[used.id] is not None
    assert found[idle.id] is None


async def test_the_local_token_is_made_once_and_used_again(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "run" / "token"
    previous = os.umask(0)
    try:
        token = await (await loaded(store)).local_token(path)
    finally:
        os.umask(previous)
    assert path.read_text() == f"{token}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    keys = await loaded(store)
    assert await keys.local_token(path) == token
    assert keys.authenticate(token) == Identity(
        id=keys.list()[0].id, name="local", role=Role.APE, person=house_owner(), house=True
    )
    assert [view.name for view in keys.list()] == ["local"]


def _lose(path: Path) -> None:
    path.unlink()


def _open_to_all(path: Path) -> None:
    path.chmod(0o644)


def _spoil(path: Path) -> None:
    path.write_bytes(b"\xff" * 10_000)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("harm", [_lose, _open_to_all, _spoil, _link, _pipe])
async def test_a_local_token_that_cannot_be_trusted_is_replaced_and_revoked(
    store: Store, tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    keys = await loaded(store)
    path = tmp_path / "token"
    old = await keys.local_token(path)
    harm(path)
    new = await keys.local_token(path)
    assert new != old
    assert keys.authenticate(old) is None
    assert path.read_text().strip() == new
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [view.name for view in keys.list()] == ["local"]


async def test_another_key_in_the_local_file_is_not_taken_for_the_daemons_own(store: Store, tmp_path: Path) -> None:
    keys = await loaded(store)
    viewer = (await keys.mint("someone", "viewer")).token or ""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(viewer)
    assert await keys.local_token(path) != viewer
    assert keys.authenticate(viewer) is not None


async def test_a_run_folder_that_cannot_be_written_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotAllowed) as caught:
        await (await loaded(store)).local_token(tmp_path / "file" / "token")
    assert caught.value.code == "token-file"


async def test_a_key_of_another_person_is_not_the_houses(store: Store) -> None:
    keys = await loaded(store)
    view = await keys.mint("laptop", "ape", owner="ann")
    found = keys.authenticate(view.token or "")
    assert found == Identity(id=view.id, name="laptop", role=Role.APE, person="ann", house=False)


async def test_a_key_ends_with_its_time_and_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = await loaded(store)
    brief, lasting = await keys.mint("brief", "ape", seconds=60), await keys.mint("lasting", "ape")
    assert keys.authenticate(brief.token or "") is not None
    now = clock.unix_now()
    monkeypatch.setattr(clock, "unix_now", lambda: now + 61)
    for guard in (keys, await loaded(store)):
        assert guard.authenticate(brief.token or "") is None
        assert guard.authenticate(lasting.token or "") is not None
        assert [view.name for view in guard.list()] == ["lasting"]
    await keys.save_use()
    monkeypatch.undo()
    assert [view.name for view in (await loaded(store)).list()] == ["lasting"]


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e12])
async def test_a_time_that_is_none_is_refused(store: Store, seconds: float) -> None:
    with pytest.raises(Invalid, match="no time that a key may last"):
        await (await loaded(store)).mint("a", "ape", seconds=seconds)


async def test_an_agents_key_is_for_one_colony_and_no_other_key_is(store: Store) -> None:
    keys = await loaded(store)
    view = await keys.mint("a", "agent", colony="col_1")
    found = (await loaded(store)).authenticate(view.token or "")
    assert found is not None
    assert (found.role, found.colony) == (Role.AGENT, "col_1")
    for role, colony in (("agent", None), ("ape", "col_1")):
        with pytest.raises(Invalid, match="role agent is for one colony"):
            await keys.mint("b", role, colony=colony)


async def test_a_browsers_session_is_good_in_a_cookie_only_and_a_token_never(store: Store) -> None:
    keys = await loaded(store)
    owner = keys.authenticate((await keys.mint("a", "viewer", owner="ann")).token or "")
    assert owner is not None
    session = (await keys.open_session(owner, seconds=60)).token or ""
    found = keys.authenticate(session, browser=True)
    assert found is not None
    assert (found.person, found.role, found.browser) == ("ann", Role.VIEWER, True)
    assert keys.authenticate(session) is None
    assert keys.authenticate((await keys.mint("b", "ape")).token or "", browser=True) is None


async def test_a_browsers_session_ends_with_the_time_of_the_key_that_opened_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = await loaded(store)
    owner = keys.authenticate((await keys.mint("a", "ape", seconds=60)).token or "")
    assert owner is not None
    session = (await keys.open_session(owner, seconds=86400)).token or ""
    later = clock.unix_now() + 61
    monkeypatch.setattr(clock, "unix_now", lambda: later)
    assert keys.authenticate(session, browser=True) is None


async def test_a_key_that_is_revoked_while_it_opens_a_session_opens_none(store: Store) -> None:
    keys = await loaded(store)
    key = await keys.mint("a", "ape")
    owner = keys.authenticate(key.token or "")
    assert owner is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.revoke, key.id)
        with pytest.raises(NotAllowed, match="was revoked"):
            await keys.open_session(owner, seconds=60)
    assert keys.list() == (await loaded(store)).list() == ()
