"""The pool on a real database: indexes drawn once by however many, killed anywhere; and what is issued out of it."""

import asyncio
import random
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import addresses, tables
from chain.address_pool import DERIVED_AT_ONCE, READY, RESERVED_AT_ONCE, AddressPool, Indexes
from chain.errors import AddressesDisagree, KeyNotRecorded, NoAddressReady, NoKeyAtIndex, SignerRefused
from chain.networks import Family
from chain.signing import KeySet, OwnKey, Role
from custody import derivation
from custody.derivation import AccountKeys
from db.engine import tx
from tests.chain.support import BOOK, NumberedAddresses
from wiring.signing import XpubAddresses

pytestmark = pytest.mark.slow


FIRST, SECOND, THIRD = (KeySet(Role.DEPOSIT, generation) for generation in (1, 2, 3))


@dataclass
class Journal:
    """Stands for the signer's journal: gives each block of some keys once, and never past `highest`."""

    next_index: Counter[KeySet] = field(default_factory=Counter)
    highest: int = 10**6
    given: list[int] = field(default_factory=list)

    async def reserve(self, keys: KeySet, *, count: int, highest: tuple[int, bytes] | None) -> int:
        if self.next_index[keys] + count - 1 > self.highest:
            raise SignerRefused("beyond the policy's highest index", code="addresses_out_of_range")
        first = self.next_index[keys]
        self.next_index[keys] += count
        self.given.append(first)
        await asyncio.sleep(0)  # others come in between
        return first


class Holder:
    """Stands for a signer that holds these keys, by fingerprint. Perhaps they can't be derived from outside."""

    def __init__(self, held: dict[KeySet, bytes]) -> None:
        self.held = held
        self.asked: list[tuple[int, int]] = []

    async def fingerprints(self):
        return self.held

    async def addresses(self, keys, *, first, count):
        self.asked.append((first, count))
        indexes = range(first, first + count)
        return [NumberedAddresses().address(OwnKey(keys.role, index, keys.generation)) for index in indexes]


class CannotDerive:
    can_derive = False

    def address(self, key):
        raise AssertionError("nobody asks a source that can't")


class Killed(Exception):
    """Stands for the process's end."""


@dataclass
class KillAt:
    name: str

    def reached(self, name: str) -> None:
        if name == self.name:
            raise Killed(name)


@dataclass
class Place:
    """The database, and a worker and an issuer over it. Of each generation the recorded and the held fingerprint."""

    engine: AsyncEngine
    clock: Clock
    journal: Journal = field(default_factory=Journal)
    recorded: dict[KeySet, bytes] = field(default_factory=lambda: {FIRST: b"1"})
    held: dict[KeySet, bytes] = field(default_factory=lambda: {FIRST: b"1"})

    def pool(self, *, engine=None, **changes) -> AddressPool:
        told: dict[str, Any] = {
            "source": NumberedAddresses(),
            "fingerprints": self.recorded,
            "keys": Holder(self.held),
            "reserver": self.journal,
            "clock": self.clock,
        } | changes
        return AddressPool(engine or self.engine, **told)

    async def filled(self, **changes) -> None:
        while await self.pool(**changes).step():
            pass

    async def issue(self, owner="usr_a", source=None, engine=None):
        async with tx(engine or self.engine) as connection:
            return await addresses.issue(
                connection, source or NumberedAddresses(), book=BOOK, owner=owner, clock=self.clock
            )

    async def rows(self, table):
        async with tx(self.engine) as connection:
            return list(await connection.execute(select(table)))

    async def ready(self) -> list[int]:
        return sorted(row.key_index for row in await self.rows(tables.address_pool))

    async def indexes(self) -> Indexes:
        row = max(await self.rows(tables.address_counters), key=lambda row: row.generation)
        return Indexes(row.next_index, row.reserved_until)


@pytest.fixture
def place(database, clock):
    return Place(database.engine(), clock)


# Reserving, by itself


@pytest.mark.parametrize(
    ("before", "first", "after"),
    [
        (Indexes(0, None), 0, Indexes(0, 1_000)),  # the first block ever
        (Indexes(5, None), 0, Indexes(5, 1_000)),  # some were drawn before anybody reserved
        (Indexes(5_000, None), 0, Indexes(5_000, 1_000)),  # ... more than a block: it's used up already
        (Indexes(5, None), 3_000, Indexes(3_000, 4_000)),  # the journal gave the others to somebody else
        (Indexes(700, 1_000), 1_000, Indexes(700, 2_000)),  # the next block in a row
        (Indexes(700, 1_000), 2_000, Indexes(2_000, 3_000)),  # a gap: what's left below it is passed over
        (Indexes(2_000, 3_000), 1_000, Indexes(2_000, 3_000)),  # an answer that was overtaken
        (Indexes(5_000, 1_000), 1_000, Indexes(5_000, 2_000)),  # catching up
    ],
)
def test_a_block_extends_what_is_ours_and_never_goes_back(before, first, after):
    assert before.with_block(first, RESERVED_AT_ONCE) == after
    assert after.next_index >= before.next_index


# Filling and issuing


async def test_the_pool_is_filled_from_one_block_and_then_rests(place):
    await place.filled()
    assert len(await place.ready()) >= READY // 2
    assert place.journal.given == [0]
    assert await place.pool().step() == 0
    assert await place.indexes() == Indexes(len(await place.ready()), RESERVED_AT_ONCE)


async def test_issuing_takes_the_next_of_the_pool_and_watches_it_from_then_on(place):
    await place.filled()
    ready = await place.ready()
    source = NumberedAddresses()
    following = source.address(OwnKey(Role.DEPOSIT, 0))
    async with tx(place.engine) as connection:
        assert await addresses.own_among(connection, Family.EVM, [following]) == frozenset()
    first, second = await place.issue("usr_a"), await place.issue("usr_b")
    assert (first.key.index, second.key.index) == (0, 1)
    assert first.address == following
    async with tx(place.engine) as connection:
        assert await addresses.own_among(connection, Family.EVM, [first.address]) == {first.address}
    assert await place.ready() == ready[2:]


async def test_an_issue_that_is_rolled_back_leaves_its_address_in_the_pool(place):
    await place.filled()
    with suppress(Killed):
        async with tx(place.engine) as connection:
            await addresses.issue(connection, NumberedAddresses(), book=BOOK, owner="usr_a", clock=place.clock)
            raise Killed
    assert (await place.ready())[0] == 0
    assert (await place.issue("usr_b")).key.index == 0


async def test_two_issuers_at_once_dont_wait_for_each_other(place, database):
    await place.filled()
    async with tx(place.engine) as slow:
        first = await addresses.issue(slow, NumberedAddresses(), book=BOOK, owner="usr_a", clock=place.clock)
        other = await asyncio.wait_for(place.issue("usr_b", engine=database.engine()), timeout=5)
    assert {first.key.index, other.key.index} == {0, 1}


async def test_an_empty_pool_is_no_hindrance(place):
    assert [(await place.issue()).key.index for _ in range(3)] == [0, 1, 2]
    await place.filled()
    assert (await place.indexes()).reserved_until == RESERVED_AT_ONCE
    assert min(await place.ready()) == 3  # what was issued without it is never derived again


async def test_no_index_beyond_what_the_signer_reserved_is_issued(place):
    await place.filled()
    async with tx(place.engine) as connection:
        await connection.execute(update(tables.address_counters).values(next_index=RESERVED_AT_ONCE))
        await connection.execute(tables.address_pool.delete())
    with pytest.raises(NoAddressReady):
        await place.issue()
    await place.filled()
    assert (await place.issue()).key.index == RESERVED_AT_ONCE
    assert place.journal.given == [0, RESERVED_AT_ONCE]


async def test_the_policys_highest_index_ends_the_pool(place):
    place.journal.highest = RESERVED_AT_ONCE - 1
    await place.filled()
    issued = [(await place.issue()).key.index for _ in range(READY // 2 + 1)]
    with pytest.raises(SignerRefused):
        await place.filled()
    issued += [(await place.issue()).key.index for _ in range(RESERVED_AT_ONCE - len(issued))]
    assert sorted(issued) == list(range(RESERVED_AT_ONCE))
    with pytest.raises(NoAddressReady):
        await place.issue()


async def test_without_a_reserving_signer_the_counter_alone_decides(place):
    await place.filled(reserver=None)
    assert (await place.indexes()).reserved_until is None
    assert (await place.issue()).key.index == 0


async def test_a_block_after_a_gap_passes_over_what_somebody_else_may_have_used(place):
    await place.filled()
    used = [await place.issue() for _ in range(READY // 2)]
    place.journal.next_index[FIRST] = 7_000  # another copy of this database got the blocks in between
    async with tx(place.engine) as connection:
        await connection.execute(update(tables.address_counters).values(next_index=RESERVED_AT_ONCE))
    await place.filled()
    assert min(await place.ready()) == 7_000
    assert max(own.key.index for own in used) < 7_000 <= (await place.issue()).key.index


async def test_addresses_that_cant_be_derived_come_from_the_signer(place):
    with pytest.raises(NoAddressReady):
        await place.issue(source=CannotDerive())
    holder = Holder(place.held)
    await place.filled(source=CannotDerive(), keys=holder)
    assert holder.asked == [(0, DERIVED_AT_ONCE), (DERIVED_AT_ONCE, DERIVED_AT_ONCE)]
    own = await place.issue(source=CannotDerive())
    assert own.address == NumberedAddresses().address(own.key)


async def test_an_index_without_a_key_is_passed_over(place):
    class Holey(NumberedAddresses):
        def address(self, key):
            if key.index in (0, 4):
                raise NoKeyAtIndex("as BIP-32 foresees")
            return super().address(key)

    assert (await place.issue(source=Holey())).key.index == 1
    await place.filled(source=Holey())
    assert (await place.ready())[:3] == [2, 3, 5]


async def test_a_row_of_the_pool_that_was_altered_is_never_given_out(place):
    await place.filled()
    async with tx(place.engine) as connection:
        await connection.execute(tables.address_pool.delete().where(tables.address_pool.c.key_index == 0))
        await connection.execute(
            tables.address_pool.insert().values(
                family=Family.EVM,
                role=Role.DEPOSIT,
                generation=1,
                key_index=0,
                address="0x" + "66" * 20,
                derived_at=place.clock.now(),
            )
        )
    with pytest.raises(AddressesDisagree):
        await place.issue()
    assert await place.rows(tables.addresses) == []


# After a rotation


async def test_after_a_rotation_addresses_come_from_the_new_key_and_what_the_old_one_had_ready_is_dropped(place):
    await place.filled()
    old = await place.issue("usr_a")
    place.recorded[SECOND] = place.held[SECOND] = b"2"
    await place.filled()
    assert {row.generation for row in await place.rows(tables.address_pool)} == {2}
    new = await place.issue("usr_b")
    assert (old.key, new.key) == (OwnKey(Role.DEPOSIT, 0), OwnKey(Role.DEPOSIT, 0, 2))
    assert new.address == NumberedAddresses().address(new.key) != old.address
    async with tx(place.engine) as connection:
        both = {old.address, new.address}
        assert await addresses.own_among(connection, Family.EVM, both) == both


@pytest.mark.parametrize(
    ("recorded", "held"),
    [
        ({}, {SECOND: b"2"}),  # the signer has it, nobody recorded it
        ({SECOND: b"2"}, {}),  # recorded, the signer hasn't got it
        ({SECOND: b"2"}, {SECOND: b"another"}),  # not the same
        ({SECOND: b"2"}, {THIRD: b"2"}),
    ],
)
async def test_a_key_that_isnt_both_recorded_and_held_never_comes_into_force(place, recorded, held):
    await place.filled()
    place.recorded |= recorded
    place.held |= held
    assert await place.pool().step() == 0
    assert (await place.issue()).key == OwnKey(Role.DEPOSIT, 0)
    place.recorded[SECOND] = place.held[SECOND] = b"2"
    assert await place.pool().step() == RESERVED_AT_ONCE, "and then it does"
    assert (await place.issue("usr_b")).key == OwnKey(Role.DEPOSIT, 0, 2)


async def test_of_several_new_keys_the_newest_that_the_signer_has_comes_into_force(place):
    place.recorded |= {SECOND: b"2", THIRD: b"3"}
    place.held |= {SECOND: b"2"}
    await place.filled()
    assert (await place.issue()).key.keys == SECOND
    place.held |= {THIRD: b"3"}
    await place.filled()
    assert (await place.issue("usr_b")).key.keys == THIRD


async def test_there_is_no_way_back_to_an_older_key(place):
    place.recorded[SECOND] = place.held[SECOND] = b"2"
    await place.filled()
    before = await place.indexes()
    del place.recorded[SECOND]
    with pytest.raises(KeyNotRecorded, match=r"deposit\.2"):
        await place.pool().step()
    place.recorded[SECOND], place.held = b"2", {FIRST: b"1"}
    assert await place.pool().step() == 0
    assert await place.indexes() == before
    assert (await place.issue()).key.keys == SECOND


async def test_an_address_of_an_old_key_that_a_slow_worker_puts_down_is_never_issued(place):
    place.recorded[SECOND] = place.held[SECOND] = b"2"
    assert await place.pool().step() == RESERVED_AT_ONCE
    late = OwnKey(Role.DEPOSIT, 5)
    async with tx(place.engine) as connection:
        await connection.execute(
            tables.address_pool.insert().values(
                family=Family.EVM,
                **FIRST._asdict(),
                key_index=late.index,
                address=NumberedAddresses().address(late),
                derived_at=place.clock.now(),
            )
        )
    assert (await place.issue()).key == OwnKey(Role.DEPOSIT, 0, 2), "derived here, since none of its key is ready"
    assert await place.ready() == [late.index]
    async with tx(place.engine) as connection:
        await connection.execute(update(tables.address_counters).values(next_index=RESERVED_AT_ONCE))
    await place.filled()
    assert {row.generation for row in await place.rows(tables.address_pool)} == {2}


async def test_a_worker_killed_while_a_key_comes_into_force_leaves_the_old_one_in_force(place):
    await place.filled()
    place.recorded[SECOND] = place.held[SECOND] = b"2"
    with pytest.raises(Killed):
        await place.filled(checkpoint=KillAt("addresses.reserved"))
    assert (await place.issue()).key == OwnKey(Role.DEPOSIT, 0)
    await place.filled()
    assert (await place.issue("usr_b")).key == OwnKey(Role.DEPOSIT, RESERVED_AT_ONCE, 2)


async def test_a_process_without_the_new_key_issues_nothing_of_it(place):
    place.recorded[SECOND] = place.held[SECOND] = b"2"
    await place.filled()
    before = await place.ready()
    old = XpubAddresses({"deposit": AccountKeys(derivation.Role.DEPOSIT, bytes(64)).xpub})
    with pytest.raises(KeyNotRecorded, match=r"no public key of deposit.2 is recorded here: put it under \[xpubs\]"):
        await place.issue(source=old)
    assert await place.ready() == before
    assert await place.rows(tables.addresses) == []


# Killed and at once


@pytest.mark.parametrize("point", ["addresses.reserved", "addresses.drawn", "addresses.derived"])
async def test_a_worker_killed_anywhere_loses_indexes_and_nothing_else(place, point):
    with pytest.raises(Killed):
        await place.filled(checkpoint=KillAt(point))
    before = await place.ready()
    await place.filled()
    ready = await place.ready()
    assert len(ready) == len(set(ready)) >= READY // 2
    assert before == [] or before == ready[: len(before)]
    issued = [(await place.issue()).key.index for _ in range(3)]
    assert issued == ready[:3]


async def test_workers_and_issuers_at_once_and_killed_in_between_never_share_an_index(place, database):
    draw = random.Random(seed := secrets.randbits(64))
    print(f"seed: {seed}")
    told: list[tuple[OwnKey, str, str]] = []

    class Unlucky:
        def reached(self, name: str) -> None:
            if draw.random() < 0.1:
                raise Killed(name)

    async def work(engine) -> None:
        for _ in range(60):
            try:
                await place.pool(engine=engine, full=40, checkpoint=Unlucky()).step()  # it runs dry
            except Killed:
                continue

    async def ask(engine, name: str) -> None:
        for number in range(60):
            if number == 20:
                place.recorded[SECOND] = place.held[SECOND] = b"2"
            owner = f"usr_{name}_{number}"
            try:
                async with tx(engine) as connection:
                    own = await addresses.issue(
                        connection, NumberedAddresses(), book=BOOK, owner=owner, clock=place.clock
                    )
                    if draw.random() < 0.2:
                        raise Killed
                told.append((own.key, own.address, owner))
            except (Killed, NoAddressReady):
                continue

    workers = [work(database.engine(pool_size=2)) for _ in range(2)]
    issuers = [ask(database.engine(pool_size=2), str(number)) for number in range(4)]
    await asyncio.gather(*workers, *issuers)
    await place.filled()
    last = await place.issue("usr_last")
    told.append((last.key, last.address, "usr_last"))

    rows = await place.rows(tables.addresses)
    keys = {OwnKey(Role.DEPOSIT, row.key_index, row.generation): row for row in rows}
    assert {(key, row.address, row.owner) for key, row in keys.items()} == set(told)
    assert len(told) > 100
    assert {key.keys for key in keys} == {FIRST, SECOND}
    assert len(keys) == len(rows) == len(told)
    assert all(address == NumberedAddresses().address(key) for key, address, _ in told)
    ready = await place.rows(tables.address_pool)
    assert not keys.keys() & {OwnKey(Role.DEPOSIT, row.key_index, row.generation) for row in ready}
    async with tx(place.engine) as connection:
        watched = await addresses.own_among(connection, Family.EVM, [address for _, address, _ in told])
    assert watched == {address for _, address, _ in told}
