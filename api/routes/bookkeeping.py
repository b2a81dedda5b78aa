"""What the treasurer does to the book itself: credit lines, reversals."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import Acting
from api.amounts import AmountText, AssetCode
from api.answers import Assets, answer, instant, money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.parts import Parts, assets_of
from api.schemas import Asked
from base.errors import OnebookError, Rejected
from identity.keys import Principal
from identity.scopes import Scope
from ledger.accounts import LIMITED_HOUSE_PURPOSES, house_account, user_account
from ledger.money import parse_amount
from ledger.outcomes import Outcome
from treasury.reversals import Reversal

router = resource("treasury")

LINES_MAX = 100
"""Lines that one reversal may name."""

Treasurer = Annotated[Principal, caller(Scope.TREASURY_WRITE)]


class CreditLineView(TypedDict):
    account: str
    asset: str
    cap: str
    set_at: str


class ReversedView(TypedDict):
    debit: str
    credit: str
    asset: str
    amount: str


class ReversalView(TypedDict):
    id: str
    entry: str
    lines: list[ReversedView]
    reason: str
    booked_at: str


class NewCreditLine(Asked):
    """How far below zero an account may go."""

    account: str = Field(
        max_length=100,
        examples=["@alice"],
        description="A user's @handle or id, or a limited purpose of the house such as `fx`.",
    )
    asset: AssetCode
    cap: AmountText = Field(description='The most that it may owe; "0" ends the line.')
    reason: str = Field(max_length=1000, examples=["paid twice"])


class LineToReverse(Asked):
    """A part of an entry to take back."""

    line: int = Field(ge=0, le=10_000, examples=[0], description="The line's place in the entry, from 0.")
    amount: AmountText


class NewReversal(Asked):
    """An entry to take back."""

    entry: str = Field(
        min_length=1,
        max_length=500,
        examples=["trf_01JD6Y"],
        description="The entry's id (`entry` in receipts), or the id of a movement that is one entry.",
    )
    lines: list[LineToReverse] | None = Field(
        default=None,
        min_length=1,
        max_length=LINES_MAX,
        examples=[[{"line": 0, "amount": "12.50"}]],
        description="Left out: all that isn't taken back yet.",
    )
    reason: str = Field(max_length=1000, examples=["paid twice"])


def reversal_view(reversal: Reversal, assets: Assets) -> ReversalView:
    """The lines are the reversal's own: what gave before, gets."""
    return {
        "id": reversal.id,
        "entry": reversal.entry,
        "lines": [
            {
                "debit": line.debit,
                "credit": line.credit,
                "asset": line.asset,
                "amount": money(line.amount, line.asset, assets),
            }
            for line in reversal.lines
        ],
        "reason": reversal.reason,
        "booked_at": instant(reversal.booked_at),
    }


@router.post("/treasury/credit-lines", response_model=CreditLineView, summary="Let an account go below zero")
async def set_credit_line(
    parts: Parts, key: IdempotencyKey, asked: NewCreditLine, treasurer: Treasurer, acts: Acting
) -> Response:
    account, cap, assets = await line_asked_for(parts, asked)
    async with acts.booking("credit_line.set", key, subject=account, reason=asked.reason) as noted:
        line = await parts.credit_lines.change(
            key=key, treasurer=treasurer.acts_as, account=account, cap=cap, reason=asked.reason, noted=noted
        )
    view: CreditLineView = {
        "account": line.account,
        "asset": line.asset,
        "cap": money(line.cap, line.asset, assets),
        "set_at": instant(line.set_at),
    }
    return answer(view, replayed=line.replayed)


@router.post("/treasury/reversals", response_model=ReversalView, status_code=201, summary="Take an entry back")
async def create_reversal(
    parts: Parts, key: IdempotencyKey, asked: NewReversal, treasurer: Treasurer, acts: Acting
) -> Response:
    """At most what it moved, in total. Refused where the money is spent, or where the chain or a bank decides."""
    assets = await assets_of(parts)
    entry, amounts = await parts_asked_for(parts, asked, assets)
    async with acts.booking("reversal.create", key, subject=entry.id, reason=asked.reason) as noted:
        made = await parts.reversals.reverse(
            key=key, treasurer=treasurer.acts_as, entry=entry, amounts=amounts, reason=asked.reason, noted=noted
        )
    return answer(reversal_view(made, assets), status=201, replayed=made.replayed)


async def line_asked_for(parts: Parts, asked: NewCreditLine) -> tuple[str, int, Assets]:
    """The account, the cap, and the asset that it's in. Raises UnknownAsset, InvalidAmount, UnknownUser."""
    assets = await assets_of(parts, asked.asset)
    cap = parse_amount(asked.cap, assets[asked.asset], param="cap", least=0)
    if asked.account in LIMITED_HOUSE_PURPOSES:
        return house_account(asked.account, asked.asset), cap, assets
    try:
        return user_account((await parts.identity.user(asked.account)).id, asked.asset), cap, assets
    except OnebookError as error:
        error.param = "account"
        raise


async def parts_asked_for(
    parts: Parts, asked: NewReversal, assets: Assets
) -> tuple[Outcome, list[tuple[int, int]] | None]:
    """The entry and its parts. Raises EntryUnknown, Rejected, InvalidAmount."""
    entry = await parts.reversals.entry(asked.entry)
    return entry, None if asked.lines is None else [_amount(item, entry, assets) for item in asked.lines]


def _amount(item: LineToReverse, entry: Outcome, assets: Assets) -> tuple[int, int]:
    if item.line >= len(entry.lines):
        raise Rejected(f"the entry has {len(entry.lines)} lines, counted from 0", code="unknown_posting", param="lines")
    return item.line, parse_amount(item.amount, assets[entry.lines[item.line].asset], param="lines")
