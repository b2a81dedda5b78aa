"""Watches the configured tokens of a network, and measures what really arrives of them.

Each step looks at every token's contract at the newest block taken in, so that a change stops it before deposits become
spendable; and at what proxies and beacons told of upgrades in final blocks, so that one taken back in between isn't
missed. A token that isn't what was accepted gets a finding; while it's open the token is neither credited nor paid.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from chain import store, token_store
from chain.evm.token_reader import TokenReader
from chain.networks import Deployment, Network
from chain.store import Followed
from chain.token_store import KnownToken, Told
from chain.tokens import TokenState, arrived, differences
from db.engine import tx

EVENT_BLOCKS = 1_000
"""Blocks whose upgrade events one step asks for."""

ARRIVALS_AT_ONCE = 100
"""Transfers that one step measures at most."""

STATE_BLOCKS = 128
"""How many blocks nodes keep balances for; an arrival that deep below a final block can't be measured any more."""


class TokenWatch:
    """One network's step. `tokens`: its deployments by contract."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        network: Network,
        tokens: Mapping[str, Deployment],
        reader: TokenReader,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._network = network.name
        self._tokens = dict(tokens)
        self._reader = reader
        self._clock = clock
        self._looked_at: str | None = None

    async def step(self) -> int:
        """Measure and look once; how many transfers were measured. Raises what the node's `TokenReader` does."""
        if not self._tokens:
            return 0
        async with tx(self._engine) as connection:
            at = await store.followed(connection, self._network)
        if at is None or at.block_hash is None:
            return 0
        measured = await self._measure(at)
        if at.block_hash != self._looked_at and await self._look(at, at.block_hash):
            self._looked_at = at.block_hash
        return measured

    # What the contracts are

    async def _look(self, at: Followed, block_hash: str) -> bool:
        """Compare, and write what differs; False where another process wrote meanwhile: that is to be looked at first.

        It may have looked at a newer block, in which a token is what it wasn't in ours.
        """
        async with tx(self._engine) as connection:
            known = await token_store.load_tokens(connection, self._network, list(self._tokens))
        states = await self._reader.states(list(self._tokens), block=block_hash)
        upgrades, through = await self._upgrades(known, states, at.final_height)
        now = self._clock.now()
        async with tx(self._engine) as connection:
            await token_store.lock(connection, self._network)
            if await token_store.load_tokens(connection, self._network, list(self._tokens)) != known:
                return False
            if await token_store.is_orphaned(connection, self._network, block_hash):
                return True  # what it showed may be gone with it
            for contract, state in states.items():
                upgraded = _upgraded(state, known[contract], upgrades)
                await self._write(connection, known[contract], state, upgraded, at, block_hash, now)
            await token_store.raise_events(connection, self._network, list(self._tokens), through=through)
        return True

    async def _upgrades(
        self, known: Mapping[str, KnownToken], states: Mapping[str, TokenState], final_height: int
    ) -> tuple[dict[str, int], int]:
        """Who told of an upgrade in final blocks not looked at before, and up to where was looked."""
        first = min((token.events_through for token in known.values() if token.accepted), default=final_height) + 1
        last = min(final_height, first + EVENT_BLOCKS - 1)
        if first > last:
            return {}, -1
        places = {place for contract, state in states.items() for place in _told_by(state, known[contract])}
        return await self._reader.upgrades(sorted(places), first=first, last=last), last

    async def _write(
        self,
        connection: AsyncConnection,
        known: KnownToken,
        state: TokenState,
        upgraded: int | None,
        at: Followed,
        block_hash: str,
        now: datetime,
    ) -> None:
        problems = differences(known.accepted, state, decimals=self._tokens[known.contract].decimals)
        finding = known.finding
        if upgraded is None and finding is not None:
            upgraded = finding.upgraded_height
        if upgraded is not None:
            problems.append(f"it told of an upgrade in block {upgraded}")
        if not problems and finding is not None:
            if known.accepted is None:  # it never fitted, and now does
                await token_store.close_finding(connection, finding, now=now)
            elif await token_store.is_orphaned(connection, self._network, finding.block_hash):
                await token_store.close_finding(connection, finding, now=now)
                return
            else:  # changed and changed back: still for a person to look at
                problems = list(finding.problems)
        if problems:
            await token_store.write_finding(
                connection,
                known,
                state,
                problems,
                upgraded_height=upgraded,
                height=at.height,
                block_hash=block_hash,
                now=now,
            )
        elif known.accepted is None:
            await token_store.accept(
                connection,
                self._network,
                known.contract,
                state,
                height=at.height,
                block_hash=block_hash,
                by=None,
                now=now,
            )

    # What arrived

    async def _measure(self, at: Followed) -> int:
        async with tx(self._engine) as connection:
            told = await token_store.load_unmeasured(
                connection, self._network, list(self._tokens), limit=ARRIVALS_AT_ONCE
            )
            ours = await token_store.own_addresses(connection, sorted({one.recipient for one in told}))
        if not told:
            return 0
        groups = _by_address(told, ours)
        asked = [(contract, address, block) for (block, contract, address), _ in groups]
        parents = [(contract, address, moved[0].parent_hash) for (_, contract, address), moved in groups]
        balances = await self._reader.balances(asked + parents)
        rows: list[dict[str, Any]] = []
        now = self._clock.now()
        for place, ((_, _, address), moved) in enumerate(groups):
            after, before = balances[place], balances[len(groups) + place]
            if (before is None or after is None) and moved[0].block_number > at.final_height - STATE_BLOCKS:
                continue  # a node that lags, or a block that is about to leave the chain: asked again
            rows += _rows(self._network, address, moved, before=before, after=after, now=now)
        async with tx(self._engine) as connection:
            return await token_store.insert_arrivals(connection, rows)


def _told_by(state: TokenState, known: KnownToken) -> Iterator[str]:
    """Whose events tell of this token's upgrades: its own, its beacon's, and those of the beacon it had."""
    yield known.contract
    for beacon in (state.beacon, known.accepted and known.accepted.beacon):
        if beacon:
            yield beacon


def _upgraded(state: TokenState, known: KnownToken, upgrades: Mapping[str, int]) -> int | None:
    """The last block in which an upgrade was told that isn't settled by what was accepted."""
    told = [upgrades[place] for place in _told_by(state, known) if place in upgrades]
    return max((height for height in told if known.accepted and height > known.events_through), default=None)


def _by_address(told: Sequence[Told], ours: frozenset[str]) -> list[tuple[tuple[str, str, str], list[Told]]]:
    """What moved at each address of ours that was paid, by (block hash, contract, address)."""
    groups: dict[tuple[str, str, str], list[Told]] = defaultdict(list)
    for one in told:
        if one.recipient in ours:
            groups[one.block_hash, one.contract, one.recipient] = []
    for one in told:
        for address in {one.sender, one.recipient}:
            if (key := (one.block_hash, one.contract, address)) in groups:
                groups[key].append(one)
    return list(groups.items())


def _rows(
    network: str, address: str, moved: Sequence[Told], *, before: int | None, after: int | None, now: datetime
) -> list[dict[str, Any]]:
    paid_in = [one for one in moved if one.recipient == address]
    shares: Sequence[int | None] = [None] * len(paid_in)
    if before is None or after is None:
        before = after = None
    else:
        paid_out = sum(one.amount for one in moved if one.sender == address)
        shares = arrived([one.amount for one in paid_in], paid_out=paid_out, before=before, after=after)
    return [
        {
            "network": network,
            "block_hash": one.block_hash,
            "tx_hash": one.tx_hash,
            "place": one.place,
            "amount": share,
            "balance_before": before,
            "balance_after": after,
            "measured_at": now,
        }
        for one, share in zip(paid_in, shares, strict=True)
    ]
