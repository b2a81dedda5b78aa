"""What a bank line becomes in the book: commands, with the rows that commit with them. Pure.

Money in: Dr bank / Cr the user or suspense. Money out: Dr suspense / Cr bank. Matched later: Dr suspense / Cr user.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time

from fiat.bank.camt053 import Direction, StatementLine
from fiat.bank.matching import Matched, Reason, Unmatched
from fiat.bank.records import BankLine, LineState
from fiat.rails.top_up_states import TopUpState
from fiat.top_ups import BANK
from ledger.accounts import house_account, user_account
from ledger.commands import BankEvidence, Group, Post, Posting
from ledger.requests import RequestKey, worker_id
from ledger.riders import Advance, Insert

SUSPENSE = "suspense"

_LINES = "fiat_bank_lines"
_TOP_UPS = "fiat_top_ups"
"""Tables by name, as riders take them (`fiat.tables` declares them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a line was read: our book and bank account, the statement by our id and the bank's, and when."""

    book: str
    account: str
    asset: str
    statement: str
    bank_id: str
    now: datetime

    @property
    def bank(self) -> str:
        """The book's account of the money at this bank."""
        return bank_account(self.account, self.asset)


def bank_account(name: str, asset: str) -> str:
    """The id of the house account of our bank account `name`."""
    return house_account(f"bank:{name}", asset)


def suspense_account(asset: str) -> str:
    return house_account(SUSPENSE, asset)


def credit(place: Place, line_id: str, line: StatementLine, matched: Matched, *, top_up: str) -> Group:
    """Credit the user whom the line names, and keep the line and its top-up."""
    user = user_account(matched.owner, place.asset)
    row = line_values(place, line, LineState.CREDITED, reason=None, owner=matched.owner, top_up=top_up)
    return Group(
        commands=(_post(place, line_id, line, Posting(place.bank, user, place.asset, line.amount), subject=top_up),),
        riders=(
            Insert(_LINES, {"book": place.book, "id": line_id}, row),
            _top_up(place.book, top_up, place.asset, line.amount, owner=matched.owner, source=line_id, now=place.now),
        ),
        content=_content(line_id),
    )


def suspend(
    place: Place, line_id: str, line: StatementLine, unmatched: Unmatched, *, owner: str | None = None, attempt: int = 1
) -> Group:
    """Set the line's value aside with the reason. `attempt` 2 follows a credit that the book refused to `owner`."""
    suspense = suspense_account(place.asset)
    posting = (
        Posting(place.bank, suspense, place.asset, line.amount)
        if line.direction is Direction.CREDIT
        else Posting(suspense, place.bank, place.asset, line.amount)
    )
    row = line_values(place, line, LineState.SUSPENDED, reason=unmatched.reason, owner=owner)
    metadata = {"reason": unmatched.reason.value}
    return Group(
        commands=(_post(place, line_id, line, posting, subject=line_id, attempt=attempt, metadata=metadata),),
        riders=(Insert(_LINES, {"book": place.book, "id": line_id}, row),),
        content=_content(line_id),
    )


def match_later(book: str, line: BankLine, *, owner: str, top_up: str, key: RequestKey, now: datetime) -> Group:
    """Give a line that waits in suspense to a user: a treasurer's decision, so without evidence of its own."""
    posting = Posting(suspense_account(line.asset), user_account(owner, line.asset), line.asset, line.amount)
    return Group(
        commands=(Post(id=key.id, subject=top_up, postings=(posting,), metadata={"bank_line": line.id}),),
        riders=(
            Advance(
                _LINES,
                key={"book": book, "id": line.id},
                expect={"state": LineState.SUSPENDED.value},
                change={"state": LineState.MATCHED.value, "owner": owner, "top_up": top_up},
            ),
            _top_up(book, top_up, line.asset, line.amount, owner=owner, source=line.id, now=now),
        ),
        content=key.content,
    )


def line_values(
    place: Place,
    line: StatementLine,
    state: LineState,
    *,
    reason: Reason | None,
    owner: str | None = None,
    top_up: str | None = None,
) -> dict[str, object]:
    """The line as it's kept, but for its key."""
    return {
        "account": place.account,
        "statement": place.statement,
        "number": line.number,
        "direction": line.direction.value,
        "asset": place.asset,
        "amount": line.amount,
        "booked_on": line.booked_on,
        "value_on": line.value_on,
        "bank_reference": line.bank_reference,
        "end_to_end_id": line.end_to_end_id,
        "remittance": line.remittance,
        "counterparty": line.counterparty,
        "counterparty_account": line.counterparty_account,
        "state": state.value,
        "reason": reason.value if reason else None,
        "owner": owner,
        "top_up": top_up,
        "recorded_at": place.now,
    }


def _post(
    place: Place,
    line_id: str,
    line: StatementLine,
    posting: Posting,
    *,
    subject: str,
    attempt: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> Post:
    booked_at = datetime.combine(line.booked_on, time(), UTC)
    return Post(
        id=worker_id(f"bank-line:{line_id}", attempt),
        subject=subject,
        evidence=BankEvidence(account=place.account, statement=place.bank_id, line=line.number),
        effective_at=booked_at if booked_at <= place.now else None,  # banks may post ahead; the book never does
        metadata=metadata or {},
        postings=(posting,),
    )


def _top_up(book: str, top_up: str, asset: str, amount: int, *, owner: str, source: str, now: datetime) -> Insert:
    return Insert(
        _TOP_UPS,
        {"book": book, "id": top_up},
        {
            "owner": owner,
            "rail": BANK,
            "asset": asset,
            "amount": amount,
            "captured": amount,
            "state": TopUpState.FINAL.value,
            "source": source,
            "created_at": now,
            "updated_at": now,
        },
    )


def _content(line_id: str) -> bytes:
    """The line alone: another file tells the same line in another place, which is no conflict."""
    return hashlib.sha256(line_id.encode()).digest()
