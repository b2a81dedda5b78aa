"""Top-ups as their users ask for them: stored first, asked for at the provider within the request.

The row, and the hold that it rides with, are durable before the provider hears of it. The hold carries what the payment
uses up of limits, and its fee is fixed then. If the process ends in between, or the answer is lost, the worker's step
goes on from the row: it asks by our id, never anew.
"""

from collections.abc import Callable
from dataclasses import replace

from base.errors import NotFound
from base.ids import is_id, new_id
from db.engine import tx
from fiat.rails import booking, store
from fiat.rails.booking import FeeBearer
from fiat.rails.desk import Desk
from fiat.rails.errors import NotInState
from fiat.rails.protocol import Capability, Capturing
from fiat.rails.top_up_rows import ACCOUNT_REFUSED, NOT_YET_KNOWN
from fiat.rails.top_up_states import TopUpState
from fiat.rails.top_up_steps import TopUpSteps
from fiat.tables import top_ups
from fiat.top_ups import BANK, TopUp
from ledger.accounts import user_account
from ledger.asking import ALONE, Before, decide, decided_before
from ledger.commands import Group, OpenAccount
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from tariff.desk import Terms
from tariff.errors import FeeTakesAll
from tariff.pricing import Move
from tariff.schedule import Operation

_S = TopUpState
_GIVABLE_UP = (_S.REQUESTED, _S.SUBMITTED, _S.UNKNOWN, _S.REQUIRES_ACTION, _S.APPROVED, _S.AUTHORISED)


class TopUps:
    """Takes requests for top-ups over payment providers; reads those of all rails."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.steps = TopUpSteps(desk)

    async def request(
        self,
        *,
        key: RequestKey,
        owner: str,
        rail: str,
        asset: str,
        amount: int,
        method: str | None = None,
        capturing: Capturing = Capturing.AUTOMATIC,
        return_url: str | None = None,
        fee_accepted: int | None = None,
        before: Callable[[str], Before] = lambda _: ALONE,
    ) -> TopUp:
        """Ask the provider for a payment of `amount`, and return what its owner has to do for it.

        `before`: what is booked first, or not at all, given the top-up's id.
        `method`: a saved method's id, a provider's token, or None where the payer chooses at the provider.
        `fee_accepted`: the highest fee that its owner agreed to. Raises UnknownRail, NotCapable, UnknownAsset,
        AmountNotPayable, NotFound, RequestConflict, FeeAboveAccepted, FeeTakesAll, LimitExceeded, LimitUnvalued, and
        RefusedByBook (`frozen`, `account_closed`). What the provider says, a decline too, is the top-up's state.
        """
        desk = self._desk
        if (first := await self.first(owner, key)) is not None:
            return first
        needed = (Capability.AUTHORISE,) if capturing is Capturing.MANUAL else ()
        move = await self._move(owner, rail, asset, amount, *needed)
        token, customer = await self._method(owner, rail, method)
        await desk.ledger.ensure_open(*booking.accounts(rail, owner, asset))

        async def book(terms: Terms) -> TopUp:
            require_something_left(move, terms.fee)
            now = desk.clock.now()
            new = TopUp(
                id=new_id("top", desk.clock, desk.entropy),
                owner=owner,
                rail=rail,
                asset=asset,
                amount=amount,
                state=_S.REQUESTED,
                source=None,
                capturing=capturing,
                method=token,
                customer=customer,
                return_url=return_url,
                hold=key.id,
                service_fee=terms.fee,
                created_at=now,
                updated_at=now,
            )
            hold = booking.hold_top_up(new, charges=terms.charges)
            group = before(new.id).group(hold, self._insert(new), content=key.content)
            *_, outcome = await decide(desk.ledger, group)
            return replace(await self.get(owner, outcome.subject or ""), replayed=outcome.replayed)

        made = await desk.tariff.at_terms(move, book, accepted=fee_accepted)
        if made.replayed:
            return made
        await self.steps.look(made)
        return await self.get(owner, made.id)

    async def first(self, owner: str, key: RequestKey) -> TopUp | None:
        """What this request came to when it was sent before."""
        told = await self._desk.tariff.first(self._desk.ledger, owner, key)
        return None if told is None else replace(await self.get(owner, told.subject or ""), replayed=True)

    async def move(self, owner: str, *, rail: str, asset: str, amount: int) -> Move:
        """A top-up whose terms are wanted. Raises UnknownRail, NotCapable, UnknownAsset, AmountNotPayable."""
        return await self._move(owner, rail, asset, amount)

    async def capture(self, *, key: RequestKey, owner: str, top_up: str, amount: int | None = None) -> TopUp:
        """Take `amount`, or all, of an authorised payment; the rest is released.

        Raises NotInState, NotFound, AmountNotPayable.
        """
        found = await self.get(owner, top_up)
        amount = found.amount if amount is None else amount
        if not 0 < amount <= found.amount:
            raise NotInState(
                "more than was authorised", code="above_authorised", param="amount", required=amount, asset=found.asset
            )
        if found.rail in self._desk.rails.all:
            bounds = self._desk.rails.get(found.rail).bounds(await self._desk.ledger.asset(found.asset))
            bounds.require_exact(amount)
        expect: dict[str, object] = {"state": _S.AUTHORISED.value, "capture_amount": None, "cancelling": False}
        return await self._wish(key, found, expect, {"capture_amount": amount}, "captured")

    async def cancel(self, *, key: RequestKey, owner: str, top_up: str) -> TopUp:
        """Give it up before it's captured. What the provider says decides: it may be captured meanwhile.

        While its answer is awaited the provider is only asked whether it has it. Where it hasn't, the cancelling waits
        some minutes more, since the order may still be on its way, and the top-up's code says so (`not_yet_known`).
        Raises NotInState, NotFound.
        """
        found = await self.get(owner, top_up)
        if found.state not in _GIVABLE_UP and await decided_before(self._desk.ledger, key) is None:
            raise _not_in_state(found, "cancelled")
        expect: dict[str, object] = {"state": found.state.value, "cancelling": False, "capture_amount": None}
        change: dict[str, object] = {"cancelling": True}
        if found.state in (_S.SUBMITTED, _S.UNKNOWN):
            change |= {"code": NOT_YET_KNOWN, "reason": "it's cancelled once the provider says what became of it"}
        return await self._wish(key, found, expect, change, "cancelled")

    async def get(self, owner: str, top_up: str) -> TopUp:
        """The owner's top-up with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._desk.engine) as connection:
            found = await store.load_top_up(connection, self._desk.book, top_up)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no top-up {top_up[:40]!r}", param="top_up")
        return found

    async def kept(self, top_up: TopUp) -> int:
        """What its owner has of it, in smallest units: what was taken, less the house's fee, and the provider's where
        they bear it, less what was given back or disputed away. 0 before it's credited, and where it's set aside."""
        if top_up.state is not _S.FINAL or top_up.code == ACCOUNT_REFUSED:
            return 0
        async with tx(self._desk.engine) as connection:
            withdrawn = await store.withdrawn_of(connection, self._desk.book, top_up.id)
        fee = (top_up.fee or 0) if self._desk.bearer is FeeBearer.USER else 0
        return max(0, top_up.captured - top_up.service_fee - fee - top_up.refunded - withdrawn)

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[TopUp]:
        """The owner's top-ups over all rails, newest first (oldest first with `after`)."""
        async with tx(self._desk.engine) as connection:
            return await store.list_top_ups(connection, self._desk.book, owner, before=before, after=after, limit=limit)

    async def _wish(
        self, key: RequestKey, found: TopUp, expect: dict[str, object], change: dict[str, object], word: str
    ) -> TopUp:
        """Keep what its owner wants with the request's command, then see it done at the provider."""
        if await decided_before(self._desk.ledger, key) is not None:
            return replace(found, replayed=True)
        if found.rail == BANK:
            raise _not_in_state(found, word)
        now = self._desk.clock.now()
        row = Advance(
            top_ups.name,
            {"book": self._desk.book, "id": found.id},
            expect | {"revision": found.revision},
            change | {"revision": found.revision + 1, "updated_at": now, "due_at": self._desk.leased()},
        )
        command = OpenAccount(id=key.id, subject=found.id, account=user_account(found.owner, found.asset))
        try:
            await decide(self._desk.ledger, Group((command,), (row,), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise _not_in_state(await self.get(found.owner, found.id), word) from refusal
            raise
        await self.steps.look(await self.get(found.owner, found.id))
        return await self.get(found.owner, found.id)

    async def _move(self, owner: str, rail: str, asset: str, amount: int, *needed: Capability) -> Move:
        able = self._desk.rails.able(rail, Capability.TOP_UP, *needed)
        able.bounds(await self._desk.ledger.asset(asset)).require(amount)
        return Move(owner, Operation.TOP_UP, asset, amount, rail)

    def _insert(self, new: TopUp) -> Insert:
        """The row that rides with the hold."""
        values = {
            "owner": new.owner,
            "rail": new.rail,
            "asset": new.asset,
            "amount": new.amount,
            "state": new.state.value,
            "capturing": new.capturing.value,
            "method": new.method,
            "customer": new.customer,
            "return_url": new.return_url,
            "hold": new.hold,
            "service_fee": new.service_fee,
            "due_at": self._desk.leased(),
            "created_at": new.created_at,
            "updated_at": new.updated_at,
        }
        return Insert(top_ups.name, {"book": self._desk.book, "id": new.id}, values)

    async def _method(self, owner: str, rail: str, method: str | None) -> tuple[str | None, str | None]:
        """The provider's token and its customer for what the user named."""
        if method is None or not is_id("pm", method):
            return method, None
        async with tx(self._desk.engine) as connection:
            saved = await store.load_method(connection, self._desk.vault, self._desk.book, owner, method)
        if saved is None or saved.rail != rail:
            raise NotFound(f"there is no saved method {method[:40]!r} of rail {rail}", param="method")
        return saved.token, saved.customer


def require_something_left(move: Move, fee: int) -> None:
    """Raise FeeTakesAll where the house's fee leaves nothing of it."""
    if fee >= move.amount:
        raise FeeTakesAll(
            "the fee is as much as the top-up, or more: pay more in at once",
            param="amount",
            asset=move.asset,
            fee=fee,
            amount=move.amount,
        )


def _not_in_state(top_up: TopUp, word: str) -> NotInState:
    return NotInState(
        f"the top-up is {top_up.state}, so it can't be {word} any more", param="top_up", state=top_up.state.value
    )
