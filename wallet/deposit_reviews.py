"""Deposits that aren't credited by themselves: listed for the treasurer, who credits each at most once.

The deposit itself is the evidence. What stands in suspense for it (too little, or not what was told) or in quarantine
(a listed sender's) goes on to its user; what was recorded only (a token nobody had configured, or of which nobody can
tell what arrived) is booked against custody, with the block that shows it, once that is final.
"""

from collections.abc import Collection
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import NotFound
from chain import token_store
from chain.networks import Registry, to_ledger_units
from chain.status import status_if_followed
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.asking import decide, decided_before
from ledger.commands import Group, Post, Posting
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.money import Asset
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Advance
from wallet import arrival_store, deposit_store
from wallet.deposits import set_aside_account
from wallet.errors import DepositNotCreditable
from wallet.resources import DOUBTFUL, SET_ASIDE, Deposit, DepositState
from wallet.tables import deposits

REASON_LENGTH_MAX = 500
"""Characters of a reason."""


class DepositReviews:
    """What isn't credited by itself."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        clock: Clock,
        screened: Collection[str] = (),
    ) -> None:
        """`screened`: the networks on which senders are asked about."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._screened = frozenset(screened)

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Deposit]:
        """Deposits of all users that aren't credited by themselves, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await deposit_store.list_doubtful(connection, self._ledger.book, before=before, limit=limit)

    async def kept_back(self, network: str) -> dict[tuple[str, str | None], int]:
        """What must stay at deposit addresses: chain units by (address, contract; None: the native coin).

        A sweep moves an address's balance less this: what listed senders sent, and whatever isn't judged yet, never
        comes into the common address. Crediting it by hand lets it go.
        """
        async with tx(self._engine) as connection:
            return await arrival_store.load_kept_back(connection, self._ledger.book, network)

    async def credit(
        self,
        *,
        key: RequestKey,
        treasurer: str,
        deposit: str,
        reason: str,
        amount: int | None = None,
        evidence: str | None = None,
    ) -> tuple[Deposit, bool]:
        """Credit it to its user, and whether this request was decided before.

        `amount`, in the asset's smallest units, only where it isn't known what arrived; at most what was told.
        `evidence`, needed for a surplus, names what shows whose it is: a transaction, a validator's payout. Raises
        NotFound, DepositNotCreditable, UnknownAsset, RequestConflict, RefusedByBook (`frozen`, `insufficient_funds`).
        """
        if await decided_before(self._ledger, key) is not None:
            return await self._load(deposit), True
        found = await self._load(deposit)
        why = reason.strip()
        if not 0 < len(why) <= REASON_LENGTH_MAX:
            raise DepositNotCreditable(f"say why, in at most {REASON_LENGTH_MAX} characters", param="reason")
        named = (evidence or "").strip()
        if len(named) > REASON_LENGTH_MAX or (found.state is DepositState.SURPLUS and not named):
            raise DepositNotCreditable(
                f"name the evidence, in at most {REASON_LENGTH_MAX} characters: nothing on chain tells whose it is",
                param="evidence",
            )
        credited = await self._known(found, amount)
        posting = _posting(credited)
        await self._ledger.ensure_open(posting.debit, posting.credit)
        from_house = found.state in SET_ASIDE
        post = Post(
            id=key.id,
            subject=found.id,
            evidence=None if from_house else found.evidence,
            postings=(posting,),
            covered=from_house,  # evidence may overdraw suspense, a person may not
            metadata={"reason": why, "by": treasurer} | ({"evidence": named} if named else {}),
        )
        change = {
            "state": DepositState.FINAL.value,
            "entry": key.id,
            "asset": credited.asset,
            "amount": credited.amount,
            "updated_at": self._clock.now(),
        }
        before = {"state": found.state.value, "entry": found.entry}
        row = Advance(deposits.name, deposit_store.deposit_key(self._ledger.book, found), before, change)
        try:
            (outcome,) = await decide(self._ledger, Group((post,), (row,), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise _refused(await self._load(deposit), "it has just changed") from refusal
            raise
        return await self._load(deposit), outcome.replayed

    async def open_surpluses(self) -> list[Deposit]:
        """Surpluses that are nobody's yet, oldest first."""
        async with tx(self._engine) as connection:
            return await deposit_store.list_surpluses(connection, self._ledger.book)

    async def asset(self, deposit: str) -> Asset:
        """The asset that this deposit would be credited in. Raises NotFound, DepositNotCreditable."""
        found = await self._load(deposit)
        deployment = self._registry.by_contract(found.network, found.contract)
        if deployment is None:
            raise _refused(found, "no [[deployments]] names its token; configure it first")
        return await self._ledger.asset(deployment.asset)

    async def _load(self, deposit: str) -> Deposit:
        async with tx(self._engine) as connection:
            found = await deposit_store.load_doubtful(connection, self._ledger.book, deposit)
        if found is None:
            raise NotFound(f"there is no deposit {deposit[:40]!r}", param="deposit")
        return found

    async def _known(self, found: Deposit, amount: int | None) -> Deposit:
        """The deposit with the asset and amount that it's credited with. Raises DepositNotCreditable."""
        if found.state not in DOUBTFUL or found.state is DepositState.NOT_RECEIVED:
            raise _refused(found, "nothing arrived" if found.state is DepositState.NOT_RECEIVED else "it needs no help")
        deployment = self._registry.by_contract(found.network, found.contract)
        if deployment is None:
            raise _refused(found, "no [[deployments]] names its token; configure it first")
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(found.network))
            doubt = await token_store.doubt(connection, found.network, found.contract)
            arrival = await arrival_store.load_arrival(connection, found, screened=found.network in self._screened)
        if at is None or at.halted or found.block_number > at.final_height:
            raise _refused(found, "its block isn't final")
        if doubt is not None:
            raise _refused(found, f"its token is under review: {doubt}")
        if found.state in SET_ASIDE:
            if found.entry is None:
                raise _refused(found, "it isn't booked yet")
            if amount not in (None, found.amount):
                raise DepositNotCreditable("what arrived is known; leave the amount out", param="amount")
            return found
        if arrival is None:
            raise _refused(found, "it isn't measured or its sender asked about yet, or its block left the chain")
        scale = (await self._ledger.asset(deployment.asset)).scale
        told = to_ledger_units(found.chain_amount, deployment, scale=scale)
        came = None if arrival.came is None else to_ledger_units(arrival.came, deployment, scale=scale)
        if came == 0:
            raise _refused(found, "nothing arrived")
        if came is not None and amount not in (None, came):
            raise DepositNotCreditable("what arrived is known; leave the amount out", param="amount")
        if came is None and (amount is None or not 0 < amount <= told):
            raise DepositNotCreditable("say what arrived, at most what was told: no node can tell", param="amount")
        return replace(found, asset=deployment.asset, amount=came or amount)


def _posting(deposit: Deposit) -> Posting:
    asset, amount = deposit.asset or "", deposit.amount or 0
    custody = house_account(f"custody:{deposit.network}:deposit", asset)
    source = set_aside_account(deposit) if deposit.state in SET_ASIDE else custody
    return Posting(source, user_account(deposit.owner, asset), asset, amount)


def _refused(deposit: Deposit, why: str) -> DepositNotCreditable:
    return DepositNotCreditable(f"the deposit is {deposit.state}: {why}", param="deposit", state=deposit.state.value)
