"""Has sealed epochs' hashes written on a chain: 32 bytes as all the data of a transaction of the gas address.

It's reserved here beside nothing else, once per epoch; the broadcaster has it signed, sends and watches it, and the
wallet books its gas, as of all own transactions. Which epoch it is of, is told by what it writes: so a database that
was put back, and got its transactions from the signer's journal, knows its anchors again.
"""

from hashlib import sha256
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from chain import addresses, foreign_store, transaction_store, transactions
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.fees import FeeEstimate
from chain.networks import Network
from chain.signing import Anchor, OwnAddress, OwnKey, Role
from chain.status import status_if_followed
from chain.transaction_states import Kind
from chain.transactions import Payment
from db.engine import tx
from treasury import anchor_store, solvency_store
from treasury.anchor_states import ENDED, AnchorState, anchored
from treasury.anchor_store import SealedEpoch
from treasury.errors import AnchorUnfit, ChainUnsettled, NoEpoch, ReservesUnavailable
from treasury.solvency_statements import read_statement

SENDER = OwnKey(Role.GAS, 0)
"""Who writes; the signer takes it from no other role."""

LOOKED_BACK = 20
"""Epochs that one step looks at, the latest first: more than that wait for a person's word."""

OLDER = "epoch_older_than_network"
"""The code of what can't be anchored at all: the epoch doesn't know the network."""


class AnchorNode(Protocol):
    """A network's nodes as one; the chain's `Pool` answers."""

    async def next_nonce(self, address: str) -> int:
        """The nonce that the address's next transaction has, at the newest block."""
        ...


class AnchorFees(Protocol):
    """Knows what writing would cost; the chain's `NetworkFees` does."""

    async def anchor(self, network: str, order: Anchor, *, sender: str, to: str) -> FeeEstimate | None:
        """The cost of it; None while gas is above the network's cap. Raises PaymentRefused, Unavailable."""
        ...


class Anchors:
    """Writes the hashes of one book's epochs on `network`, to the address `to` (lower-case hex)."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        network: Network,
        to: str,
        node: AnchorNode,
        fees: AnchorFees,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`checkpoint` is told `anchor.reserving` (inside the tx that takes the nonce) and `anchor.reserved`."""
        self._engine = engine
        self._book = book
        self._network = network
        self._to = to
        self._node = node
        self._fees = fees
        self._clock = clock
        self._entropy = entropy
        self._checkpoint = checkpoint or NoCheckpoint()

    async def step(self) -> int:
        """Reserve what is due: each sealed epoch after the last one that was tried; of those before any, the latest.

        Does nothing while the network is halted, or before it was followed. What ended without effect is asked for
        again by a person alone. Raises AnchorUnfit, where something must change before it can be, and what nodes do.
        """
        done = 0
        for epoch in await self._due():
            try:
                await self.ask(epoch.number)
            except (ChainUnsettled, ReservesUnavailable):
                break
            except AnchorUnfit as unfit:
                if unfit.code != OLDER:
                    raise
                continue
            done += 1
        return done

    async def ask(self, number: int | None = None) -> int:
        """Reserve the transaction that writes an epoch's hash (without a number the latest sealed one's); its number.

        Raises NoEpoch; AnchorUnfit, where it's written already or to be, no seal covers it, or it can't be now;
        ChainUnsettled on a halted network, ReservesUnavailable on one that was never followed, and what nodes do.
        """
        async with tx(self._engine) as connection:
            epoch = await self._epoch(connection, number)
            await self._check(connection, epoch)
            sender = await self._sender(connection)
        order = Anchor(bytes.fromhex(epoch.digest))
        cost = await self._fees.anchor(self._network.name, order, sender=sender.address, to=self._to)
        if cost is None:
            raise AnchorUnfit(
                f"gas on {self._network.name} costs more now than max_fee_per_gas_cap_gwei: try later",
                code="fee_above_cap",
            )
        first = await self._node.next_nonce(sender.address)
        async with tx(self._engine) as connection:
            await anchor_store.lock_epoch(connection, self._book, epoch.number)
            tried = await self._check(connection, epoch)
            payment = Payment(
                network=self._network.name,
                kind=Kind.ANCHOR,
                book=self._book,
                subject=_subject(epoch, tries=tried),
                sender=sender,
                contract=None,
                to=self._to,
                amount=0,
                gas_limit=cost.gas_limit,
                fee_wei_max=cost.highest_wei,
                order=order,
            )
            await transaction_store.begin_nonces(
                connection, network=self._network.name, sender=sender.address, first=first
            )
            await transactions.reserve(connection, payment, clock=self._clock, entropy=self._entropy)
            self._checkpoint.reached("anchor.reserving")
        self._checkpoint.reached("anchor.reserved")
        return epoch.number

    async def _due(self) -> list[SealedEpoch]:
        """Sealed epochs that nobody tried to anchor, after the latest that was tried; the oldest first."""
        async with tx(self._engine) as connection:
            sealed = await anchor_store.load_sealed(connection, self._book, limit=LOOKED_BACK)
            tried = await anchor_store.load_anchors(connection, self._book, [one.digest for one in sealed])
        due: list[SealedEpoch] = []
        for epoch in sealed:
            if epoch.digest in tried:
                return due[::-1]
            due.append(epoch)
        return due[:1]

    async def _epoch(self, connection: AsyncConnection, number: int | None) -> SealedEpoch:
        if number is None:
            sealed = await anchor_store.load_sealed(connection, self._book, limit=1)
            if not sealed:
                raise NoEpoch(f"no epoch of book {self._book} is sealed yet", param="epoch")
            return sealed[0]
        row = await solvency_store.load_epoch(connection, self._book, number)
        if row is None:
            raise NoEpoch(f"book {self._book} has no epoch {number}", param="epoch")
        if row.seal is None:
            raise AnchorUnfit(f"no seal covers epoch {number} yet: the worker makes them", code="epoch_not_sealed")
        return SealedEpoch(row.number, row.digest)

    async def _check(self, connection: AsyncConnection, epoch: SealedEpoch) -> int:
        """How many tries ended without effect. Raises unless another may be begun."""
        name, number = self._network.name, epoch.number
        tries = (await anchor_store.load_anchors(connection, self._book, [epoch.digest])).get(epoch.digest, [])
        known = anchored(tries)
        if known is not None and known.state not in ENDED:
            words = "is written" if known.state is AnchorState.FINAL else "is being written"
            raise AnchorUnfit(
                f"epoch {number} {words} on {known.network} already, by {known.transaction}", code="anchored_already"
            )
        at = await status_if_followed(connection, self._network)
        if at is None:
            raise ReservesUnavailable(f"network {name} was never followed; is the worker running?")
        if at.halted is not None:
            raise ChainUnsettled(f"network {name} is halted ({at.halted}): nothing is written until that ends")
        row = await solvency_store.load_epoch(connection, self._book, number)
        assert row is not None, "nothing deletes these rows"
        if name not in {one.network for one in read_statement(row.statement.encode()).networks}:
            raise AnchorUnfit(f"epoch {number} tells no block of {name}: it's older than that network here", code=OLDER)
        halted = await foreign_store.halted_senders(connection, name)
        sender = await self._sender(connection)
        if sender.address in halted:
            raise AnchorUnfit(f"{sender.address} is halted: {halted[sender.address]}", code="sender_halted")
        return len(tries)

    async def _sender(self, connection: AsyncConnection) -> OwnAddress:
        found = await addresses.house(connection, key=SENDER)
        if found is None:
            raise AnchorUnfit(f"there is no address {SENDER} here that could write: [xpubs] names no gas key")
        return found


def _subject(epoch: SealedEpoch, *, tries: int) -> str:
    """Of this very epoch and try: the signer signs a subject once."""
    return f"anc_{epoch.number}-{tries + 1}-{sha256(epoch.digest.encode()).hexdigest()[:32]}"
