"""Compares our addresses and public keys with the signer's own derivation, and remembers where they aren't the same.

All generations of the keys are compared, whichever is in force.

A step looks at the rows that are new (issued, enrolled or in the pool); once a second at the extended public keys too,
and at a stretch of the older rows, so that all of them come up in turn: one cycle. A finding is open until both are the
same again, or the row is gone; `chain.addresses.issue` issues nothing meanwhile.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Column, CompoundSelect, Row, Select, Table, and_, exists, select, tuple_, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from chain import tables
from chain.errors import AddressesAltered, SignerRefused
from chain.networks import Family
from chain.signing import KeyHolder, KeySet, OwnKey, Role
from db.engine import tx

NEW_AT_ONCE = 1_000
"""New rows that one step compares."""

OLD_AT_ONCE = 200
"""Older rows that one step compares again."""

ASKED_AT_ONCE = 100
"""Addresses in one question: some 6 ms of the signer, which signs nothing meanwhile."""

OLD_EVERY = timedelta(seconds=1)
"""How often keys and older rows are looked at."""

FINDINGS_MAX = 100
"""Open findings that are looked at again in a step, and told."""

_KEY = -1
"""The index that stands for the extended public key itself."""

_BEGINNING = ("", 0, _KEY)
"""Before the first row, by role, generation and index."""

_issued = tables.addresses
_pool = tables.address_pool
_findings = tables.address_findings


@dataclass(frozen=True, slots=True)
class AddressFinding:
    """One place where we and the signer disagree. `key_index` None: the extended public key itself, by fingerprint."""

    keys: KeySet
    key_index: int | None
    derived: str | None
    found: str
    first_seen_at: datetime

    def __str__(self) -> str:
        what = "extended public key" if self.key_index is None else f"address {self.key_index}"
        signers = "derives none" if self.derived is None else f"has {self.derived}"
        return f"{self.keys} {what}: {self.found} here, the signer {signers}"


@dataclass(frozen=True, slots=True)
class _Row:
    """An address of ours as the database tells it."""

    key: OwnKey
    address: str


@dataclass(frozen=True, slots=True)
class _Compared:
    """A row, or an extended public key, beside the signer's word; `derived` None: it has no such key or address."""

    key: OwnKey
    derived: str | None
    found: str

    @property
    def same(self) -> bool:
        return self.derived == self.found


class AddressCheck:
    """The step that compares. `fingerprints` are those of the extended public keys that this process derives from."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        keys: KeyHolder,
        fingerprints: Mapping[KeySet, bytes],
        clock: Clock,
        family: Family = Family.EVM,
        old_every: timedelta = OLD_EVERY,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._fingerprints = fingerprints
        self._clock = clock
        self._family = family
        self._old_every = old_every
        self._looked_at: datetime | None = None
        self._seen_until = _BEGINNING

    async def step(self) -> int:
        """Compare once; the number of new rows among what was compared.

        Raises AddressesAltered as long as a finding is open, once it's written down; SignerUnavailable.
        """
        now = self._clock.now()
        async with tx(self._engine) as connection:
            new = await self._load(connection, _unchecked(self._family), limit=NEW_AT_ONCE)
            if not new and self._looked_at is not None and now - self._looked_at < self._old_every:
                return 0
            doubtful = await self._load(connection, _with_finding(self._family), limit=FINDINGS_MAX)
            old = await self._load(connection, _after(self._family, self._seen_until), limit=OLD_AT_ONCE)
        signers = await self._keys.fingerprints()
        compared = [
            _Compared(
                OwnKey(keys.role, _KEY, keys.generation), signers[keys].hex() if keys in signers else None, mark.hex()
            )
            for keys, mark in self._fingerprints.items()
            if keys in signers or keys.generation == 1  # a later one may be recorded before the signer has it
        ]
        rows = sorted({*new, *doubtful, *old}, key=lambda row: (row.key.keys, row.key.index))
        for keys, those in groupby(rows, key=lambda row: row.key.keys):
            compared += await self._ask(keys, list(those))
        async with tx(self._engine) as connection:
            await self._write(connection, compared, new=set(new))
            findings = await open_findings(connection, self._family)
        if not findings:
            self._looked_at = now
        self._seen_until = (*old[-1].key.keys, old[-1].key.index) if len(old) == OLD_AT_ONCE else _BEGINNING
        if findings:
            raise AddressesAltered(f"{len(findings)} of our keys or addresses aren't the signer's; {findings[0]}")
        return len(new)

    async def _load(
        self, connection: AsyncConnection, rows: "CompoundSelect[Any] | Select[Any]", *, limit: int
    ) -> list[_Row]:
        found = await connection.execute(rows.order_by("role", "generation", "key_index").limit(limit))
        return [_Row(_key(row), row.address) for row in found]

    async def _ask(self, keys: KeySet, rows: Sequence[_Row]) -> list[_Compared]:
        """Rows of these keys, in order of their index, beside what the signer derives."""
        compared: list[_Compared] = []
        for run in _runs(rows):
            compared += await self._ask_run(keys, run)
        return compared

    async def _ask_run(self, keys: KeySet, run: Sequence[_Row]) -> list[_Compared]:
        first, last = run[0].key.index, run[-1].key.index
        try:
            told = await self._keys.addresses(keys, first=first, count=last - first + 1)
        except SignerRefused:
            if first < last:  # which of them? each refusal is a row of its journal, so few are made
                lowest = [row for row in run if row.key.index == first]
                beside = await self._ask_run(keys, lowest)
                if beside[0].derived is not None:
                    return beside + await self._ask_run(keys, run[len(lowest) :])
            # It derives up to its policy's highest index: where it refuses the lowest of them, it refuses all.
            return [_Compared(row.key, None, row.address) for row in run]
        derived = {first + place: address.lower() for place, address in enumerate(told)}
        return [_Compared(row.key, derived[row.key.index], row.address) for row in run]

    async def _write(self, connection: AsyncConnection, compared: Sequence[_Compared], *, new: set[_Row]) -> None:
        now = self._clock.now()
        same = [one for one in compared if one.same]
        marked = [one for one in same if _Row(one.key, one.found) in new]
        for table in (_issued, _pool):
            if marked:
                of = tuple_(*_named(table), table.c.address)
                agreeing = of.in_([(*one.key.keys, one.key.index, one.found) for one in marked])
                await connection.execute(
                    update(table)
                    .where(table.c.family == self._family, table.c.checked_at.is_(None), agreeing)
                    .values(checked_at=now)
                )
        different = {one.key: one for one in compared if not one.same}
        for one in different.values():
            place = {"family": self._family, **one.key.keys._asdict(), "key_index": one.key.index}
            told = {"derived": one.derived, "found": one.found, "last_seen_at": now}
            await connection.execute(
                insert(_findings)
                .values(**place, first_seen_at=now, **told)
                .on_conflict_do_update(
                    index_elements=list(place),
                    index_where=_findings.c.cleared_at.is_(None),
                    set_=told,
                )
            )
        await self._clear(connection, {one.key for one in same} - different.keys(), different.keys(), now)

    async def _clear(
        self, connection: AsyncConnection, same: Set[OwnKey], different: Set[OwnKey], now: datetime
    ) -> None:
        """Close the findings that are over: the two are the same again, or there is no such row or public key here."""
        open_ = and_(_findings.c.family == self._family, _findings.c.cleared_at.is_(None))
        gone = and_(_findings.c.key_index != _KEY, *(~exists().where(_of(table)) for table in (_issued, _pool)))
        for row in await connection.execute(select(_findings, gone.label("gone")).where(open_)):
            key = _key(row)
            if row.gone or key in same or (key.index == _KEY and key not in different):
                over = update(_findings).where(_findings.c.seq == row.seq)
                await connection.execute(over.values(cleared_at=now))


async def open_findings(connection: AsyncConnection, family: Family = Family.EVM) -> list[AddressFinding]:
    """Where our addresses or keys aren't the signer's now, the oldest first, at most FINDINGS_MAX."""
    asked = select(_findings).where(_findings.c.family == family, _findings.c.cleared_at.is_(None))
    rows = await connection.execute(asked.order_by(_findings.c.seq).limit(FINDINGS_MAX))
    return [_finding(row) for row in rows]


def _runs(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Rows in order of their index, in stretches that one question covers."""
    run: list[_Row] = []
    for row in rows:
        if run and row.key.index - run[0].key.index >= ASKED_AT_ONCE:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _unchecked(family: Family) -> "CompoundSelect[Any]":
    """New rows, but for those that a finding names already."""
    return union_all(
        *(
            _columns(table).where(table.c.family == family, table.c.checked_at.is_(None), ~_has_finding(table))
            for table in (_issued, _pool)
        )
    )


def _with_finding(family: Family) -> "CompoundSelect[Any]":
    return union_all(
        *(_columns(table).where(table.c.family == family, _has_finding(table)) for table in (_issued, _pool))
    )


def _after(family: Family, seen_until: tuple[str, int, int]) -> "CompoundSelect[Any]":
    """Rows beyond the last stretch, in the order of their keys."""
    return union_all(
        *(
            _columns(table).where(
                table.c.family == family,
                table.c.checked_at.is_not(None),
                tuple_(*_named(table)) > seen_until,
            )
            for table in (_issued, _pool)
        )
    )


def _columns(table: Table) -> "Select[Any]":
    return select(*_named(table), table.c.address)


def _named(table: Table) -> tuple[Column[Any], ...]:
    return table.c.role, table.c.generation, table.c.key_index


def _has_finding(table: Table) -> Any:
    return exists().where(_of(table), _findings.c.cleared_at.is_(None))


def _of(table: Table) -> Any:
    """A row of `table` is the one that a finding names."""
    same = (mine == theirs for mine, theirs in zip(_named(table), _named(_findings), strict=True))
    return and_(table.c.family == _findings.c.family, *same)


def _key(row: Row[Any]) -> OwnKey:
    return OwnKey(Role(row.role), row.key_index, row.generation)


def _finding(row: Row[Any]) -> AddressFinding:
    key = _key(row)
    index = None if key.index == _KEY else key.index
    return AddressFinding(key.keys, index, row.derived, row.found, row.first_seen_at)
