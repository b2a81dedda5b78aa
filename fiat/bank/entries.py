"""What a bank line becomes in the book: commands, with the rows that commit with them. Pure.

Money in: Dr bank / Cr the user or suspense. Money out: a payout's hold is settled and Dr in-transit / Cr bank; else Dr
suspense / Cr bank. A payout that came back: Dr bank / Cr user. Matched later: Dr suspense / Cr user, or the payout's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time

import msgspec

from fiat.bank.lines import Direction, StatementLine
from fiat.bank.matching import CameBack, Matched, PaidOut, Reason, Unmatched
from fiat.bank.records import BankLine, LineState
from fiat.payout_entries import moved, returned, settled
from fiat.payouts import Payout, PayoutState
from fiat.personal import Vault
from fiat.rails.top_up_states import TopUpState
from fiat.top_ups import BANK
from ledger.accounts import house_account, user_account
from ledger.commands import BankEvidence, Command, Group, Post, Posting
from ledger.requests import RequestKey, worker_id
from ledger.riders import Advance, Insert

SUSPENSE = "suspense"

_LINES = "fiat_bank_lines"
_TOP_UPS = "fiat_top_ups"
"""Tables by name, as riders take them (`fiat.tables` declares them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a line was read: our book and bank account, the statement by our id and the bank's, and when.

    `vault` seals what is personal in it.
    """

    vault: Vault
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


def credit(
    place: Place, line_id: str, line: StatementLine, matched: Matched, *, top_up: str, attempt: int = 1
) -> Group:
    """Credit the user whom the line names, and keep the line and its top-up."""
    user = user_account(matched.owner, place.asset)
    row = line_values(place, line_id, line, LineState.CREDITED, reason=None, owner=matched.owner, top_up=top_up)
    return Group(
        commands=(
            _post(
                place,
                line_id,
                line,
                Posting(place.bank, user, place.asset, line.amount),
                subject=top_up,
                attempt=attempt,
            ),
        ),
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
    row = line_values(place, line_id, line, LineState.SUSPENDED, reason=unmatched.reason, owner=owner)
    metadata = {"reason": unmatched.reason.value}
    return Group(
        commands=(_post(place, line_id, line, posting, subject=line_id, attempt=attempt, metadata=metadata),),
        riders=(Insert(_LINES, {"book": place.book, "id": line_id}, row),),
        content=_content(line_id),
    )


def pay_out(place: Place, line_id: str, line: StatementLine, paid: PaidOut, *, attempt: int = 1) -> Group:
    """Payouts left by the line: their holds are settled and the bank has so much less."""
    act = f"{line_id}:{attempt}"
    commands: list[Command] = []
    for payout in paid.payouts:
        evidence = _evidence(place, line)
        commands += settled(payout, place.bank, act=act, evidence=evidence, effective_at=_effective_at(place, line))
    row = line_values(place, line_id, line, LineState.PAID, reason=None, owner=_owner_of(paid), payout=paid.name)
    moves = [moved(place.book, payout, PayoutState.PAID, now=place.now) for payout in paid.payouts]
    return Group(
        commands=tuple(commands),
        riders=(Insert(_LINES, {"book": place.book, "id": line_id}, row), *moves),
        content=_content(line_id),
    )


def come_back(place: Place, line_id: str, line: StatementLine, back: CameBack, *, attempt: int = 1) -> Group:
    """A payout came back by the line: its owner has the amount again."""
    payout = back.payout
    post = returned(
        payout,
        place.bank,
        act=f"{line_id}:{attempt}",
        evidence=_evidence(place, line),
        effective_at=_effective_at(place, line),
    )
    row = line_values(place, line_id, line, LineState.RETURNED, reason=None, owner=payout.owner, payout=payout.id)
    reason = line.return_reason or payout.reason
    move = moved(place.book, payout, PayoutState.RETURNED, now=place.now, reason=reason)
    return Group(
        commands=(post,),
        riders=(Insert(_LINES, {"book": place.book, "id": line_id}, row), move),
        content=_content(line_id),
    )


def settle_later(book: str, line: BankLine, payout: Payout, *, key: RequestKey, now: datetime) -> Group:
    """A line in suspense was this payout's, as a treasurer says: money out settles it, money in brings it back."""
    suspense, out = suspense_account(line.asset), line.direction is Direction.DEBIT
    to = PayoutState.PAID if out else PayoutState.RETURNED
    said = {"bank_line": line.id}
    act = f"match:{key.id}"
    commands: tuple[Command, ...] = (
        settled(payout, suspense, act=act, evidence=None)
        if out
        else (returned(payout, suspense, act=act, evidence=None),)
    )
    # The first command carries the request's id, so that a repeat of it is known.
    first = msgspec.structs.replace(commands[0], id=key.id, metadata=said)
    return Group(
        commands=(first, *commands[1:]),
        riders=(
            Advance(
                _LINES,
                key={"book": book, "id": line.id},
                expect={"state": LineState.SUSPENDED.value},
                change={"state": LineState.MATCHED.value, "owner": payout.owner, "payout": payout.id},
            ),
            moved(book, payout, to, now=now),
        ),
        content=key.content,
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
    line_id: str,
    line: StatementLine,
    state: LineState,
    *,
    reason: Reason | None,
    owner: str | None = None,
    top_up: str | None = None,
    payout: str | None = None,
) -> dict[str, object]:
    """The line as it's kept, but for its key; what is personal in it, sealed."""
    personal = {
        "end_to_end_id": line.end_to_end_id,
        "remittance": line.remittance,
        "counterparty": line.counterparty,
        "counterparty_account": line.counterparty_account,
    }
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
        "personal": place.vault.seal(personal, book=place.book, table=_LINES, row=line_id),
        "state": state.value,
        "reason": reason.value if reason else None,
        "owner": owner,
        "top_up": top_up,
        "payout": payout,
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
    return Post(
        id=worker_id(f"bank-line:{line_id}", attempt),
        subject=subject,
        evidence=_evidence(place, line),
        effective_at=_effective_at(place, line),
        metadata=metadata or {},
        postings=(posting,),
    )


def _evidence(place: Place, line: StatementLine) -> BankEvidence:
    return BankEvidence(account=place.account, statement=place.bank_id, line=line.number)


def _effective_at(place: Place, line: StatementLine) -> datetime | None:
    booked_at = datetime.combine(line.booked_on, time(), UTC)
    return booked_at if booked_at <= place.now else None  # banks may post ahead; the book never does


def _owner_of(paid: PaidOut) -> str | None:
    """Whose payout it was; nobody's alone where the bank booked a whole file."""
    owners = {payout.owner for payout in paid.payouts}
    return min(owners) if len(owners) == 1 else None


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
