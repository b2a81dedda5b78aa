"""Epochs: made of what is owed and held, stated in the book, completed by signatures and a seal, and proven from.

An epoch's files get their place first; then the book's command that states its hash and the row that holds its
statement are written as one group. Whoever is killed in between leaves files that the next epoch of that number puts
aside. Signatures of own addresses and the seal come later, by a step of their own; they're no part of the hash.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from chain import control_store
from chain.controls import Control, Controls
from chain.networks import Network, Registry
from chain.signing import OwnAddress
from db.engine import driver, tx
from ledger.asking import work
from ledger.commands import Group, Record, alone
from ledger.engine import Ledger
from ledger.errors import NotSealed
from ledger.proving import prove_entry
from ledger.requests import worker_id
from ledger.riders import Insert
from treasury import anchor_store, handed_store, solvency_files, solvency_store
from treasury.anchor_states import Anchored, AnchorState, anchored
from treasury.errors import EpochUnfit, NoEpoch, NoLeaf, TreasuryCorrupt
from treasury.solvency import Owed, read_owed, snapshot, tree_of
from treasury.solvency_files import Draft, drafted
from treasury.solvency_reserves import Found, Reserves, Telling
from treasury.solvency_statements import (
    FORMAT,
    AnchorTold,
    AtAddress,
    ControlTold,
    ListTold,
    Published,
    Statement,
    covered,
    key_hash,
    read_statement,
)
from treasury.solvency_store import EpochRow
from treasury.solvency_tree import KEY_BYTES
from treasury.tables import solvency_epochs

READING, STATING = "reading what is owed", "stating it in the book"
"""What is told of making an epoch, beside what is held and what is hashed."""

FINISHED_AT_ONCE = 5
"""Epochs that one step seals and signs at most, the latest first."""


@dataclass(frozen=True, slots=True)
class KnownEpoch:
    """An epoch with what is known of it by now. `controls`: the addresses that were asked to sign.

    `anchor`: what became of writing its hash on a chain; None where that wasn't asked for. `handed`: signatures that
    were made elsewhere.
    """

    row: EpochRow
    statement: Statement
    controls: tuple[Control, ...]
    anchor: Anchored | None
    handed: tuple[ControlTold, ...] = ()

    @property
    def published(self) -> Published:
        """What everybody is shown of it now."""
        return Published(
            statement=self.statement,
            digest=self.row.digest,
            controls=(
                *(
                    ControlTold(network=one.network, address=one.owner.address, signature=one.signature.hex())
                    for one in self.controls
                    if one.signature is not None
                ),
                *self.handed,
            ),
            seal=None if self.row.seal is None else json.loads(self.row.seal),
            anchor=None if self.anchor is None else _told_anchor(self.anchor),
        )


class Epochs:
    """The epochs of one book. `folder` is where their files are; `every` is how often the step makes one, if it does.

    `controls` has addresses sign; None where this process can't ask the signer.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        reserves: Reserves,
        folder: Path,
        clock: Clock,
        entropy: Entropy,
        every: timedelta | None = None,
        controls: Controls | None = None,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._reserves = reserves
        self._folder = folder
        self._clock = clock
        self._entropy = entropy
        self._every = every
        self._controls = controls

    # Making

    async def make(self, *, asked_by: str | None = None, told: Telling = lambda *_: None) -> KnownEpoch:
        """Read what is owed and held now, and keep it as the book's next epoch.

        Raises EpochUnfit while another one is being made, ChainUnsettled and ReservesUnavailable where what is held
        can't be told, what nodes do, TreasuryCorrupt if the book's rows contradict each other, ConfigError where no
        file can be written. Nothing is kept then.
        """
        async with self._alone():
            with drafted(self._folder, self._ledger.book, self._entropy.draw(KEY_BYTES)) as draft:
                return await self._make(draft, asked_by, told)

    async def _make(self, draft: Draft, asked_by: str | None, told: Telling) -> KnownEpoch:
        book = self._ledger.book
        scales = {code: asset.scale for code, asset in (await self._ledger.assets()).items()}
        with draft.spool() as spool:
            async with snapshot(self._engine) as connection:
                number = await solvency_store.last_number(connection, book) + 1
                sides = await self._reserves.sides(connection)
                told(READING, 0, 1)
                owed = await read_owed(connection, book, spool)
                told(READING, 1, 1)
            found = await self._reserves.read(sides, scales, told=told)
            lists = await asyncio.to_thread(_listed, draft, owed, spool, number, told)
        made_at = self._clock.now()
        statement = _statement(owed, number, lists, found, key=key_hash(draft.key), made_at=made_at.isoformat())
        told(STATING, 0, 1)
        async with tx(self._engine) as connection:
            await self._reserves.unchanged(connection, sides)
        draft.name(number)
        row = {
            "digest": statement.digest().hex(),
            "statement": statement.canonical().decode("ascii"),
            "asked_by": asked_by,
            "made_at": made_at,
        }
        (refusal,) = await work(self._ledger, lambda attempt: _recorded(statement, row, attempt))
        if refusal is not None:
            raise EpochUnfit(f"epoch {statement.epoch} was made meanwhile ({refusal.code}): try again")
        told(STATING, 1, 1)
        return await self.epoch(number)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One epoch of a book at a time, among all processes."""
        name = f"solvency:{self._ledger.book}"
        async with driver(self._engine) as raw:
            if not await raw.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name):
                raise EpochUnfit(f"an epoch of book {self._ledger.book} is being made now: try again")
            try:
                yield
            finally:
                if not raw.is_closed():
                    await raw.fetchval("SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)

    # Reading

    async def epoch(self, number: int | None = None) -> KnownEpoch:
        """An epoch, without a number the latest. Raises NoEpoch."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            row = await solvency_store.load_epoch(connection, book, number)
            if row is None:
                which = "no epoch yet: make one with `onebook solvency new`" if number is None else f"no epoch {number}"
                raise NoEpoch(f"book {book} has {which}", param="epoch")
            (known,) = await self._known(connection, [row])
            return known

    async def recent(self, *, before: int | None = None, limit: int = 50) -> list[KnownEpoch]:
        """Epochs, the latest first, those with a lower number than `before`."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            rows = await solvency_store.load_epochs(connection, book, before=before, limit=limit)
            return await self._known(connection, rows)

    async def _known(self, connection: AsyncConnection, rows: Sequence[EpochRow]) -> list[KnownEpoch]:
        book = self._ledger.book
        anchors = await anchor_store.load_anchors(connection, book, [row.digest for row in rows])
        return [
            KnownEpoch(
                row,
                statement_of(row),
                tuple(await control_store.load(connection, book, row.number)),
                anchored(anchors.get(row.digest, [])),
                tuple(await handed_store.load(connection, book, row.number)),
            )
            for row in rows
        ]

    def prove(self, epoch: KnownEpoch, owner: str, asset: str) -> bytes:
        """A user's proof in one asset. Raises NoLeaf; EpochFilesMissing where they aren't here, TreasuryCorrupt."""
        listed = epoch.statement.list_of(asset)
        if listed is None:
            raise NoLeaf(f"no user has a {asset} account in epoch {epoch.statement.epoch}", param="asset")
        return solvency_files.prove(self._folder, epoch.statement, owner, listed)

    def prove_all(self, epoch: KnownEpoch, owner: str) -> list[bytes]:
        """A user's proofs in every asset that they had an account of. Raises EpochFilesMissing, TreasuryCorrupt."""
        found = []
        for listed in epoch.statement.lists:
            try:
                found.append(solvency_files.prove(self._folder, epoch.statement, owner, listed))
            except NoLeaf:
                continue
        return found

    # Completing

    async def step(self) -> int:
        """Make an epoch if one is due; how many were made. Raises as `make` does."""
        if self._every is None or not await self._is_due(self._every):
            return 0
        await self.make()
        return 1

    async def end_step(self) -> int:
        """Have what lacks sealed and signed; how often an epoch moved on. It waits neither for nodes nor for `step`."""
        async with tx(self._engine) as connection:
            rows = await solvency_store.load_unfinished(connection, self._ledger.book, limit=FINISHED_AT_ONCE)
        moved = 0
        for row in rows:
            moved += await self._seal(row)
        for row in rows:
            moved += await self._sign(row)
        return moved

    async def _is_due(self, every: timedelta) -> bool:
        async with tx(self._engine) as connection:
            latest = await solvency_store.load_epoch(connection, self._ledger.book, None)
        return latest is None or self._clock.now() >= latest.made_at + every

    async def _seal(self, row: EpochRow) -> bool:
        if row.seal is not None:
            return False
        try:
            proof = await prove_entry(self._engine, row.book, row.command)
        except NotSealed:
            return False
        async with tx(self._engine) as connection:
            await solvency_store.note_seal(connection, row.book, row.number, json.dumps(proof.document()))
        return True

    async def _sign(self, row: EpochRow) -> bool:
        if row.controls_at is not None or self._controls is None:
            return False
        statement = statement_of(row)
        for network in self._registry.networks.values():
            async with tx(self._engine) as connection:
                named = sorted(_named(statement, network))
                owners = await control_store.load_owners(connection, network.family, named)
            wanted = [_control(statement, network, owners[address]) for address in named if address in owners]
            await self._controls.obtain(network, wanted)
        async with tx(self._engine) as connection:
            await solvency_store.note_controls(connection, row.book, row.number, now=self._clock.now())
        return True


def _listed(draft: Draft, owed: Owed, spool: IO[bytes], number: int, told: Telling) -> tuple[ListTold, ...]:
    """Hash and keep each asset's tree."""
    lists = []
    for asset, part in owed.assets.items():
        tree = tree_of(
            owed, asset, spool, number=number, key=draft.key, told=_telling(asset, 2 * part.sums.users, told)
        )
        draft.keep(tree)
        lists.append(ListTold(asset=asset, users=tree.leaves, total=str(tree.total), root=tree.root.hex()))
    return tuple(lists)


def _telling(asset: str, total: int, told: Telling) -> Callable[[int], object]:
    return lambda step: told(f"hashing what is owed in {asset}", step, total)


def _statement(
    owed: Owed, number: int, lists: Sequence[ListTold], found: Found, *, key: str, made_at: str
) -> Statement:
    beside = {asset: (0, *sums) for asset, sums in owed.beside.items()}
    for asset, part in owed.assets.items():
        _, in_transit, unassigned = beside.get(asset, (0, 0, 0))
        beside[asset] = (part.sums.receivable, in_transit, unassigned)
    return Statement(
        format=FORMAT,
        book=owed.book,
        number=number,
        seq=owed.seq,
        booked_at=owed.booked_at.isoformat(),
        made_at=made_at,
        key=key,
        books=owed.books,
        lists=tuple(lists),
        coverage=covered(lists, found.reserves, beside),
        networks=found.blocks,
        reserves=found.reserves,
        untold=found.untold,
    )


def _recorded(statement: Statement, row: Mapping[str, object], attempt: int) -> Group:
    """The book's command that states an epoch's hash and roots, and the row that rides along."""
    id = worker_id(f"solvency:{statement.epoch}", attempt)
    facts = {"epoch": statement.epoch, "digest": str(row["digest"])}
    facts |= {f"root:{one.asset}": one.root for one in statement.lists}
    key = {"book": statement.book, "number": statement.number}
    command = Record(id=id, subject=f"epoch/{statement.number}", facts=facts)
    return alone(command, Insert(solvency_epochs.name, key, {**row, "command": id}))


def _told_anchor(anchor: Anchored) -> AnchorTold | None:
    """What everybody is shown of it: nothing before it's in a block."""
    if anchor.mined is None:
        return None
    return AnchorTold(
        network=anchor.network,
        sender=anchor.sender,
        to=anchor.to,
        tx=anchor.mined.tx_hash,
        block_number=anchor.mined.block_number,
        block_hash=anchor.mined.block_hash,
        state="final" if anchor.state is AnchorState.FINAL else "mined",
    )


def statement_of(row: EpochRow) -> Statement:
    """What an epoch's row states. Raises TreasuryCorrupt where that isn't what its hash is over."""
    statement = read_statement(row.statement.encode())
    if statement.digest().hex() != row.digest or (statement.book, statement.number) != (row.book, row.number):
        raise TreasuryCorrupt(f"the row of epoch {row.book}/{row.number} isn't what its hash is over")
    return statement


def _named(statement: Statement, network: Network) -> set[str]:
    """The addresses of a network that the statement names."""
    return {one.address for one in statement.reserves if isinstance(one, AtAddress) and one.network == network.name}


def _control(statement: Statement, network: Network, owner: OwnAddress) -> Control:
    """What an address's key is to sign. Its subject is of this very epoch, network and address."""
    digest = statement.digest()
    what = f"{digest.hex()} {network.chain_id} {owner.address}".encode()
    return Control(
        book=statement.book,
        subject=f"slv_{statement.number}-{sha256(what).hexdigest()[:32]}",
        network=network.name,
        owner=owner,
        epoch=statement.number,
        root=digest,
    )
