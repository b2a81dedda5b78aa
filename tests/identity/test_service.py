"""Users and keys in a real database, as the service's role."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from base.clock import ManualClock
from base.entropy import SeededEntropy
from identity.errors import (
    HandleTaken,
    InvalidHandle,
    InvalidKeyRequest,
    KeyExpired,
    KeyRevoked,
    ScopeMissing,
    UnknownKey,
    UnknownUser,
    WrongKey,
)
from identity.keys import make_secret
from identity.scopes import HOUSE_SCOPES, USER_SCOPES, Scope
from identity.service import MEMORY_SECONDS, Identity
from identity.tables import api_keys, users
from tests.support.postgres import Database

pytestmark = pytest.mark.slow


async def test_handle_is_kept_in_lower_case_and_found_in_any(identity: Identity):
    alice = await identity.create_user(handle="@Alice", name=" Alice A. ")
    assert (alice.handle, alice.name) == ("alice", "Alice A.")
    for who in ("alice", "@ALICE", alice.id):
        assert await identity.resolve(who) == alice.id
        assert await identity.user(who) == alice


async def test_handle_is_given_once_also_to_concurrent_askers(identity: Identity):
    await identity.create_user(handle="bob")
    with pytest.raises(HandleTaken):
        await identity.create_user(handle="BOB")
    asked = [identity.create_user(handle="carol") for _ in range(8)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["HandleTaken"] * 7 + ["User"]


@pytest.mark.parametrize("handle", ["ab", "a" * 33, "a b", "böb", "a-b", "usr_abc", "@", ""])
async def test_text_that_is_no_handle_is_refused(identity: Identity, handle):
    with pytest.raises(InvalidHandle):
        await identity.create_user(handle=handle)


@pytest.mark.parametrize("name", [" ", "a\nb", "x" * 101])
async def test_name_that_cannot_be_shown_is_refused(identity: Identity, name):
    with pytest.raises(InvalidHandle):
        await identity.create_user(handle="dora", name=name)


@pytest.mark.parametrize("who", ["nobody", "usr_01jd3v00000000000000000000", "", "@", "a/b"])
async def test_unknown_recipient_has_its_own_code(identity: Identity, who):
    with pytest.raises(UnknownUser) as caught:
        await identity.resolve(who)
    assert (caught.value.code, caught.value.param) == ("unknown_recipient", "recipient")


async def test_users_are_listed_newest_first_in_pages(identity: Identity, clock: ManualClock):
    made = []
    for number in range(5):
        clock.advance(timedelta(seconds=1))
        made.append(await identity.create_user(handle=f"user{number}"))
    newest = await identity.users(limit=2)
    assert newest == [made[4], made[3]]
    assert await identity.users(limit=2, before=made[3].id) == [made[2], made[1]]
    assert await identity.users(limit=2, after=made[1].id) == [made[2], made[3]]


async def test_key_is_shown_once_and_stored_as_a_hash(identity: Identity, database: Database):
    new = await identity.create_operator_key()
    assert new.key.scopes == HOUSE_SCOPES
    async with database.engine().connect() as connection:
        rows = (await connection.execute(text("SELECT k::text AS all FROM identity_api_keys k"))).scalars().all()
    assert len(rows) == 1
    assert new.secret not in rows[0]
    assert new.secret[8:60] not in rows[0]
    principal = await identity.authenticate(new.secret)
    assert (principal.key_id, principal.user_id, principal.owner) == (new.key.id, None, new.key.id)


async def test_users_key_acts_for_its_user(identity: Identity):
    alice = await identity.create_user(handle="alice")
    new = await identity.create_key(label="app", scopes=["user"], user="@alice", rate_per_minute=7)
    principal = await identity.authenticate(new.secret)
    assert (principal.user_id, principal.owner) == (alice.id, alice.id)
    assert (principal.scopes, principal.rate_per_minute) == (USER_SCOPES, 7)


async def test_unknown_key_is_refused(identity: Identity):
    with pytest.raises(WrongKey, match="unknown here"):
        await identity.authenticate(make_secret(SeededEntropy(99)))


async def test_key_of_another_book_is_unknown(identity: Identity, database: Database, clock, entropy):
    new = await identity.create_operator_key()
    other = Identity(engine=database.engine(), book="other", clock=clock, entropy=entropy)
    with pytest.raises(WrongKey):
        await other.authenticate(new.secret)


async def test_revoked_key_ends_here_at_once_and_elsewhere_within_its_memory(
    identity: Identity, elsewhere: Identity, clock: ManualClock
):
    new = await identity.create_operator_key()
    await identity.authenticate(new.secret)
    await elsewhere.authenticate(new.secret)
    first = await identity.revoke_key(new.key.id)
    with pytest.raises(KeyRevoked):
        await identity.authenticate(new.secret)
    clock.advance(timedelta(seconds=MEMORY_SECONDS))
    with pytest.raises(KeyRevoked):
        await elsewhere.authenticate(new.secret)
    assert (await identity.revoke_key(new.key.id)).revoked_at == first.revoked_at


async def test_revoking_an_unknown_key_is_refused(identity: Identity):
    with pytest.raises(UnknownKey):
        await identity.revoke_key("key_none")


async def test_expired_key_is_refused_though_remembered(identity: Identity, clock: ManualClock):
    new = await identity.create_key(label="short", scopes=["operator"], expires_at=clock.now() + timedelta(seconds=1))
    await identity.authenticate(new.secret)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(KeyExpired):
        await identity.authenticate(new.secret)


async def test_last_use_is_noted_at_most_once_a_minute(identity: Identity, clock: ManualClock):
    new = await identity.create_operator_key()
    assert (await identity.key(new.key.id)).last_used_at is None
    first = clock.now()
    await identity.authenticate(new.secret)
    clock.advance(timedelta(seconds=59))
    await identity.authenticate(new.secret)
    assert (await identity.key(new.key.id)).last_used_at == first
    clock.advance(timedelta(seconds=1))
    await identity.authenticate(new.secret)
    assert (await identity.key(new.key.id)).last_used_at == clock.now()


async def test_key_grants_of_the_house_only_what_it_has(identity: Identity):
    await identity.create_user(handle="alice")
    operator = await identity.create_key(label="op", scopes=["operator"])
    granter = await identity.authenticate(operator.secret)
    with pytest.raises(ScopeMissing):
        await identity.create_key(label="more", scopes=["treasury"], granted_by=granter)
    same = await identity.create_key(label="less", scopes=["users:read"], granted_by=granter)
    assert same.key.created_by == operator.key.id
    users_key = await identity.create_key(label="app", scopes=["user"], user="alice", granted_by=granter)
    assert users_key.key.scopes == USER_SCOPES


@pytest.mark.parametrize(
    "terms",
    [
        {"label": "", "scopes": ["operator"]},
        {"label": "a\tb", "scopes": ["operator"]},
        {"label": "a", "scopes": []},
        {"label": "a", "scopes": ["operator"], "rate_per_minute": 0},
        {"label": "a", "scopes": ["user"]},
        {"label": "a", "scopes": ["operator"], "user": "alice"},
    ],
)
async def test_key_nobody_should_have_is_refused(identity: Identity, terms):
    await identity.create_user(handle="alice")
    with pytest.raises(InvalidKeyRequest):
        await identity.create_key(**terms)


async def test_key_cannot_expire_in_the_past(identity: Identity, clock: ManualClock):
    with pytest.raises(InvalidKeyRequest):
        await identity.create_key(label="late", scopes=["operator"], expires_at=clock.now())


async def test_keys_are_listed_of_one_user_or_all(identity: Identity, clock: ManualClock):
    await identity.create_user(handle="alice")
    house = await identity.create_operator_key()
    clock.advance(timedelta(seconds=1))
    app = await identity.create_key(label="app", scopes=[str(Scope.WALLET_READ)], user="alice")
    assert [key.id for key in await identity.keys()] == [app.key.id, house.key.id]
    assert [key.id for key in await identity.keys(user="@alice")] == [app.key.id]


async def test_declared_tables_are_the_migrated_ones(database: Database):
    async with database.engine(owner=True).connect() as connection:
        for table in (users, api_keys):
            asked = text("SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = :name")
            rows = await connection.execute(asked, {"name": table.name})
            found = {row.column_name: row.is_nullable for row in rows}
            assert found == {column.name: "YES" if column.nullable else "NO" for column in table.columns}
