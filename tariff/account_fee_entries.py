"""What a month of an account books: its fee, once, by a command whose id names owner and month. Pure."""

from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting
from ledger.owing import receivable_account
from ledger.requests import worker_id
from tariff.schedule import AccountFee, Short

FEES = "fees"

WAIVED = "fees-waived"
"""What of account fees was let go where only what is there is taken: so much less than `fees` shows was earned."""


def command_id(owner: str, month: str) -> str:
    """One per owner and month, whatever happens: a refusal is remembered under it too."""
    return worker_id(f"account-fee:{owner}", month)


def account_fee(owner: str, month: str, tier: str, fee: AccountFee) -> Post:
    """The entry of a month (`2026-11`). Where it is to be waived, the book refuses what is not covered, for good."""
    rest = None
    match fee.short:
        case Short.TAKE:
            rest = house_account(WAIVED, fee.asset)
        case Short.OWE:
            rest = receivable_account(owner, fee.asset)
        case Short.WAIVE:
            pass
    return Post(
        id=command_id(owner, month),
        subject=f"acf_{month}:{owner}",
        postings=(
            Posting(
                user_account(owner, fee.asset), house_account(FEES, fee.asset), fee.asset, fee.amount, debit_rest=rest
            ),
        ),
        metadata={"account_fee": month, "tier": tier},
    )


def accounts(post: Post) -> tuple[str, ...]:
    """All that it may touch."""
    sides = [side for posting in post.postings for side in (posting.debit, posting.credit, posting.debit_rest)]
    return tuple(side for side in sides if side is not None)
