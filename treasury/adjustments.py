"""Adjustments: the treasurer moves value by hand between accounts of the house, or out of suspense to its owner.

Custody, banks and what is in transit are never adjusted: there only the chain's and the bank's own evidence counts,
or two people's word on a difference that was found (`treasury.breaks`).
"""

from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from ledger.accounts import HOUSE, WALLET, house_account, split_account_id
from ledger.asking import decide, decided_before
from ledger.commands import Charge, Group, Post, Posting
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Insert, Rider
from treasury import adjustment_store, outflow_store
from treasury.by_hand import ADJUSTABLE, WAITING
from treasury.by_hand_alone import ByHandAlone, second_person
from treasury.errors import NotAdjustable, ReasonMissing, SuspenseShort
from treasury.notes import TEXT_LENGTH_MAX
from treasury.operations.acts import Noted, unnoted
from treasury.records import Adjustment, Outflow, OutflowState
from treasury.tables import adjustments

BANK_LINE = "lin_"
"""How the id of a bank line begins; whose it is, is said by matching it, which happens once."""

OUTFLOW = "out_"
"""How the id of an outflow begins; it's accounted for once, by an adjustment or as a withdrawal's payment."""

DEPOSIT = "dep_"
"""How the id of a deposit begins; it's credited by its own resource, which happens once."""


class Adjustments:
    """Moves value by hand, with a reason that stays. Without `alone` one treasurer moves as much as there is."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        clock: Clock,
        entropy: Entropy,
        alone: ByHandAlone | None = None,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy
        self._alone = alone

    async def move(
        self,
        *,
        key: RequestKey,
        treasurer: str,
        source: str,
        target: str,
        asset: str,
        amount: int,
        reason: str,
        evidence: str | None = None,
        effective_at: datetime | None = None,
        confirmed_by: str | None = None,
        noted: Noted = unnoted,
    ) -> Adjustment:
        """Debit `source` and credit `target` (account ids, or house purposes such as `suspense`).

        To a user's account only out of suspense or quarantine, and with `evidence`: the inflow that shows it's theirs
        (a bank line is matched instead, a deposit credited as such). What a second treasurer has confirmed
        (`confirmed_by`) uses up no limit of the first's. `effective_at`: an earlier date. Raises UnknownAsset,
        NotAdjustable, ReasonMissing, SecondPersonNeeded, SuspenseShort, RequestConflict, RefusedByBook (`frozen`,
        `insufficient_funds` of `fx`, `effective_in_future`).
        """
        try:
            if (first := await decided_before(self._ledger, key)) is not None:
                return replace(await self.get(first.subject or ""), replayed=True)
            adjustment = await self.check(
                treasurer=treasurer,
                source=source,
                target=target,
                asset=asset,
                amount=amount,
                reason=reason,
                evidence=evidence,
            )
            return await self._move(key, adjustment, effective_at, confirmed_by, noted)
        except RefusedByBook as refusal:
            raise _explained(refusal, source=source, asset=asset, amount=amount) from refusal

    async def check(
        self,
        *,
        treasurer: str,
        source: str,
        target: str,
        asset: str,
        amount: int,
        reason: str,
        evidence: str | None = None,
    ) -> Adjustment:
        """What would be moved by these, if it may be at all; nothing is written. Raises as `move`, but for the book."""
        await self._ledger.asset(asset)
        adjustment = Adjustment(
            id=new_id("adj", self._clock, self._entropy),
            treasurer=treasurer,
            source=_named(source, asset),
            target=_named(target, asset),
            asset=asset,
            amount=amount,
            reason=reason.strip(),
            evidence=evidence,
            created_at=self._clock.now(),
        )
        _check(adjustment)
        await self._check_owner(adjustment)
        return adjustment

    async def _move(
        self,
        key: RequestKey,
        adjustment: Adjustment,
        effective_at: datetime | None,
        confirmed_by: str | None,
        noted: Noted,
    ) -> Adjustment:
        outflow = await self._outflow(adjustment)
        charges: tuple[Charge, ...] = ()
        if confirmed_by is None and self._alone is not None:
            charges = await self._alone.charges(adjustment.treasurer, {adjustment.asset: adjustment.amount})
        group = self._group(key, adjustment, outflow, effective_at, confirmed_by, charges, noted)
        await self._ledger.ensure_open(adjustment.source, adjustment.target)
        try:
            *_, outcome = await decide(self._ledger, group)
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE and refusal.facts.get("table") == outflow_store.TABLE:
                said = f"somebody accounted for {adjustment.evidence} just now"
                raise NotAdjustable(said, param="evidence") from refusal
            raise
        if outcome.replayed:
            return replace(await self.get(outcome.subject or ""), replayed=True)
        return adjustment

    async def get(self, adjustment: str) -> Adjustment:
        """The adjustment with this id. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await adjustment_store.load_adjustment(connection, self._ledger.book, adjustment)
        if found is None:
            raise NotFound(f"there is no adjustment {adjustment[:40]!r}", param="adjustment")
        return found

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Adjustment]:
        """Adjustments, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await adjustment_store.list_adjustments(connection, self._ledger.book, before=before, limit=limit)

    async def _outflow(self, adjustment: Adjustment) -> Outflow | None:
        """The outflow that it accounts for, where its evidence names one: that is done once, and for all of it."""
        if not (adjustment.evidence or "").startswith(OUTFLOW):
            return None
        named = str(adjustment.evidence)
        async with tx(self._engine) as connection:
            found = await outflow_store.load_outflow(connection, self._ledger.book, named)
        if found is None:
            raise NotFound(f"there is no outflow {named[:40]!r}", param="evidence")
        if found.state is not OutflowState.BOOKED or found.accounted_by is not None:
            why = f"{found.accounted_by} says what it was" if found.accounted_by else "it was taken back"
            raise NotAdjustable(f"outflow {named} is accounted for already: {why}", param="evidence")
        if (adjustment.target, adjustment.amount) != (house_account("suspense", found.asset), found.amount):
            raise NotAdjustable(
                f"outflow {named} is accounted for by crediting suspense with all of it, and by nothing else",
                param="amount",
                asset=found.asset,
                required=found.amount,
            )
        return found

    def _group(
        self,
        key: RequestKey,
        adjustment: Adjustment,
        outflow: Outflow | None,
        effective_at: datetime | None,
        confirmed_by: str | None,
        charges: tuple[Charge, ...],
        noted: Noted,
    ) -> Group:
        said = {"reason": adjustment.reason}
        if confirmed_by is not None:
            said |= {"by": adjustment.treasurer, "confirmed_by": confirmed_by}
        post = Post(
            id=key.id,
            subject=adjustment.id,
            postings=(Posting(adjustment.source, adjustment.target, adjustment.asset, adjustment.amount),),
            # Suspense has no limit in the book, since evidence may overdraw it; a person may not.
            covered=split_account_id(adjustment.source)[1] in WAITING,
            charges=charges,
            effective_at=effective_at,
            metadata=said,
        )
        values = {name: value for name, value in asdict(adjustment).items() if name not in ("id", "replayed")}
        row = Insert(adjustments.name, {"book": self._ledger.book, "id": adjustment.id}, values)
        rows: list[Rider] = [row]
        if outflow is not None:
            rows.append(outflow_store.accounted(self._ledger.book, outflow, adjustment.id))
        return noted(adjustment.id).group(post, *rows, content=key.content)

    async def _check_owner(self, adjustment: Adjustment) -> None:
        """A mistyped user must not get an account; whoever was ever paid has one."""
        owner = split_account_id(adjustment.target)[0]
        if owner != HOUSE and not await self._ledger.accounts(owner=owner):
            raise NotFound(f"no user {owner[:40]!r} has an account in this book", param="target")


def _explained(refusal: RefusedByBook, *, source: str, asset: str, amount: int) -> Exception:
    """The book's refusal in the treasurer's words, where it has some."""
    account, available = _named(source, asset), refusal.facts.get("available")
    if refusal.code == Refused.INSUFFICIENT_FUNDS and split_account_id(account)[1] in WAITING:
        return SuspenseShort(f"{account} holds less than that", account=account, required=amount, available=available)
    return second_person(refusal)


def _named(account: str, asset: str) -> str:
    """The account's id, of an id or of one of the house's purposes."""
    return account if "/" in account else house_account(account, asset)


def _check(adjustment: Adjustment) -> None:
    source_owner, source, source_asset = split_account_id(adjustment.source)
    target_owner, target, target_asset = split_account_id(adjustment.target)
    if {source_asset, target_asset} != {adjustment.asset}:
        raise NotAdjustable("both accounts must be of the asset that is moved", param="asset")
    if adjustment.source == adjustment.target:
        raise NotAdjustable("source and target are the same account", param="target")
    if source_owner != HOUSE or source not in ADJUSTABLE:
        raise NotAdjustable(
            f"{adjustment.source} can't be debited by hand", param="source", adjustable=sorted(ADJUSTABLE)
        )
    to_user = target_owner != HOUSE
    if to_user and (target != WALLET or source not in WAITING):
        raise NotAdjustable("a user is credited by hand only out of suspense or quarantine", param="source")
    if not to_user and target not in ADJUSTABLE:
        raise NotAdjustable(
            f"{adjustment.target} can't be credited by hand", param="target", adjustable=sorted(ADJUSTABLE)
        )
    if not 0 < len(adjustment.reason) <= TEXT_LENGTH_MAX:
        raise ReasonMissing(f"say why, in at most {TEXT_LENGTH_MAX} characters", param="reason")
    if to_user and not adjustment.evidence:
        raise ReasonMissing("name the deposit or inflow that shows whose it is", param="evidence")
    if to_user and str(adjustment.evidence).startswith(BANK_LINE):
        raise NotAdjustable("a bank line is matched, not adjusted: else it could be given away twice", param="evidence")
    if to_user and str(adjustment.evidence).startswith(DEPOSIT):
        raise NotAdjustable("a deposit is credited as such: else it could be given away twice", param="evidence")
    if adjustment.evidence is not None and len(adjustment.evidence) > TEXT_LENGTH_MAX:
        raise ReasonMissing(f"evidence has at most {TEXT_LENGTH_MAX} characters", param="evidence")
