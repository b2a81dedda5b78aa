"""Disputes: what a provider takes from us over a payment, taken from its user, and what it puts back.

Money follows what the provider has withdrawn as of now, so each look books the difference only; order and repetition of
the provider's events don't matter. Answering a dispute (evidence) is a person's work at the provider's pages.
"""

from collections.abc import Sequence
from dataclasses import replace

from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from fiat.rails import booking, store
from fiat.rails.desk import Desk
from fiat.rails.dispute_parts import parts_of
from fiat.rails.dispute_states import OF_STATUS, DisputeState, follow
from fiat.rails.errors import EffectUnknown, RailCorrupt
from fiat.rails.foreign import passed_by
from fiat.rails.protocol import DisputeTruth
from fiat.rails.records import Dispute
from fiat.rails.tables import disputes
from fiat.rails.top_up_states import TopUpState
from fiat.top_ups import TopUp
from ledger.asking import work
from ledger.commands import Command, Group, OpenAccount
from ledger.requests import content_hash, worker_id
from ledger.riders import Advance, Insert


class Disputes:
    """Follows disputes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def hear(self, rail: str, source: str) -> None:
        """The provider told of a dispute: read it there, and take it. Raises what the rail does."""
        desk = self._desk
        async with tx(desk.engine) as connection:
            known = await store.load_disputes(connection, desk.book, rail, source)
        truth = await desk.rails.get(rail).fetch_dispute(source)
        if truth is None:
            raise EffectUnknown(f"{rail} doesn't know dispute {source} yet")
        parts = parts_of(truth)
        if len(known) == len(parts) == 1:
            await self._change(known[0], truth)
            return
        await self._take_apart(rail, known, parts)

    async def _take_apart(self, rail: str, known: Sequence[Dispute], parts: Sequence[DisputeTruth]) -> None:
        """Take each payment's part. One that can't be yet keeps the others from nothing; it's told at the end."""
        left, waits = list(known), list[EffectUnknown]()
        for part in parts:
            async with tx(self._desk.engine) as connection:
                top_up = await store.find_top_up(connection, self._desk.book, rail, part.payment)
            mine = next((one for one in left if top_up is not None and one.top_up == top_up.id), None)
            try:
                if mine is not None:
                    left.remove(mine)
                    await self._change(mine, part)
                else:
                    await self._open(rail, top_up, part)
            except EffectUnknown as unknown:
                waits.append(unknown)
        for gone in left:  # not in it any more: what was taken for it is its user's again
            part = replace(parts[0], amount=gone.amount, withdrawn=0, fee=0)
            await self._change(gone, part)
        if waits:
            raise waits[0]

    async def get(self, dispute: str) -> Dispute:
        """The dispute with this id. Raises NotFound."""
        async with tx(self._desk.engine) as connection:
            row = await store.load(connection, disputes, self._desk.book, dispute)
        if row is None:
            raise NotFound(f"there is no dispute {dispute[:40]!r}", param="dispute")
        return store.read_dispute(row)

    async def list_all(
        self,
        *,
        states: Sequence[DisputeState] = (),
        before: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Dispute]:
        """Disputes in these states (all if none is named), newest first (oldest first with `after`)."""
        async with tx(self._desk.engine) as connection:
            return await store.list_disputes(
                connection, self._desk.book, states=states, before=before, after=after, limit=limit
            )

    async def _open(self, rail: str, top_up: TopUp | None, truth: DisputeTruth) -> None:
        if top_up is None and await passed_by(self._desk, rail, truth.payment, of=truth.id):
            return
        if top_up is None or top_up.state is not TopUpState.FINAL:
            raise EffectUnknown(f"dispute {truth.id} is over a payment that isn't credited here yet")
        if truth.asset != top_up.asset:
            raise RailCorrupt(f"{rail} has dispute {truth.id} in {truth.asset} over {top_up.id} in {top_up.asset}")
        now = self._desk.clock.now()
        dispute = Dispute(
            id=new_id("dsp", self._desk.clock, self._desk.entropy),
            rail=rail,
            source=truth.id,
            top_up=top_up.id,
            owner=top_up.owner,
            asset=top_up.asset,
            amount=truth.amount,
            state=OF_STATUS[truth.status],
            withdrawn=0,
            fee=0,
            reason=truth.reason,
            opened_at=truth.opened_at,
            respond_by=truth.respond_by,
            created_at=now,
            updated_at=now,
        )
        await self._book(dispute, truth, number=0, insert=True)

    async def _change(self, dispute: Dispute, truth: DisputeTruth) -> None:
        state = follow(dispute.state, truth.status)
        same_money = (dispute.withdrawn, dispute.fee) == (truth.withdrawn, truth.fee)
        if same_money and state is dispute.state and dispute.respond_by == truth.respond_by:
            return
        await self._book(replace(dispute, state=state), truth, number=dispute.revision + 1, insert=False)

    async def _book(self, dispute: Dispute, truth: DisputeTruth, *, number: int, insert: bool) -> None:
        """Book what moved since the row's own numbers, and write the row with it."""
        desk, name = self._desk, _name(dispute)
        await desk.ledger.ensure_open(*booking.accounts(dispute.rail, dispute.owner, dispute.asset))
        moved: dict[str, object] = {
            "state": dispute.state.value,
            "withdrawn": truth.withdrawn,
            "fee": truth.fee,
            "reason": truth.reason,
            "respond_by": truth.respond_by,
            "updated_at": desk.clock.now(),
        }
        key = {"book": desk.book, "id": dispute.id}
        first = ("rail", "source", "top_up", "owner", "asset", "amount", "opened_at", "created_at")
        row: Insert | Advance
        if insert:
            row = Insert(disputes.name, key, {field: getattr(dispute, field) for field in first} | moved)
        else:
            row = Advance(disputes.name, key, {"revision": dispute.revision}, moved | {"revision": number})

        def make(attempt: int) -> Group:
            post: Command | None = booking.dispute_move(
                name=f"{name}:{number}",
                dispute=dispute,
                taken=truth.withdrawn - dispute.withdrawn,
                fee=truth.fee - dispute.fee,
                bearer=desk.bearer,
                attempt=attempt,
            )
            if post is None:
                provider = booking.provider_account(dispute.rail, dispute.asset)
                id = worker_id(f"dispute:{name}:{number}", attempt)
                post = OpenAccount(id=id, subject=dispute.id, account=provider)
            return Group((post,), (row,), content=content_hash(f"dispute:{name}:{number}"))

        (refusal,) = await work(desk.ledger, make)
        if refusal is not None:
            raise EffectUnknown(f"dispute {dispute.source} wasn't booked yet: {refusal.code}")


def _name(dispute: Dispute) -> str:
    """What the commands of a dispute are named by: the provider's id, and the top-up, since it may be over several."""
    return f"{dispute.rail}:{dispute.source}:{dispute.top_up}"
