"""Virtual IBANs: account numbers that our bank routes to one account of ours, each given to one user. Pure.

The bank tells the first digits of the account numbers that are ours to give (`virtual_prefix`); the rest is a number
that counts up. Check digits, the country's own included, are schwifty's. ISO 13616.
"""

from collections.abc import Iterable
from itertools import combinations

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException

from fiat.bank.records import BankAccount
from fiat.errors import BankMisconfigured


def virtual_iban(account: BankAccount, number: int) -> str:
    """The IBAN of `number`, at the bank of `account`. Raises BankMisconfigured once the prefix has no numbers left."""
    own = IBAN(account.iban)
    digits = number_digits(account)
    if number >= 10**digits:
        raise BankMisconfigured(
            f"bank account {account.name!r}: its virtual IBANs are used up; ask the bank for another prefix",
            param="virtual_prefix",
        )
    try:
        made = IBAN.generate(
            own.country_code,
            bank_code=own.bank_code,
            account_code=f"{account.virtual_prefix}{number:0{digits}}",
            branch_code=own.branch_code or "",
        )
    except SchwiftyException as error:
        raise BankMisconfigured(
            f"bank account {account.name!r}: no IBAN can be made of its virtual_prefix ({type(error).__name__})",
            param="virtual_prefix",
        ) from error
    return str(made)


def number_of(account: BankAccount, iban: str) -> int | None:
    """The number that `iban` was made of; None for one that isn't a virtual IBAN of the account."""
    if account.virtual_prefix is None or iban == account.iban:
        return None
    try:
        told = IBAN(iban)
    except SchwiftyException:
        return None
    code = told.account_code
    if _bank_of(iban) != _bank_of(account.iban):
        return None
    rest = code[len(account.virtual_prefix) :]
    if not code.startswith(account.virtual_prefix) or not rest.isdigit():
        return None
    number = int(rest)
    return number if virtual_iban(account, number) == str(told) else None


def require_apart(accounts: Iterable[BankAccount]) -> None:
    """Raises BankMisconfigured where two accounts at one bank could give one IBAN to two users."""
    giving = [account for account in accounts if account.virtual_prefix is not None]
    for one, other in combinations(giving, 2):
        mine, theirs = one.virtual_prefix or "", other.virtual_prefix or ""
        if _bank_of(one.iban) == _bank_of(other.iban) and (mine.startswith(theirs) or theirs.startswith(mine)):
            raise BankMisconfigured(
                f"bank accounts {one.name!r} and {other.name!r} are at one bank, and their virtual_prefix {mine!r} and"
                f" {theirs!r} overlap: each needs numbers of its own",
                param="virtual_prefix",
            )


def _bank_of(iban: str) -> tuple[str, str, str]:
    own = IBAN(iban)
    return own.country_code, own.bank_code, own.branch_code


def number_digits(account: BankAccount) -> int:
    """Digits that are left for the number. Raises BankMisconfigured where the prefix leaves none."""
    prefix = account.virtual_prefix or ""
    left = len(IBAN(account.iban).account_code) - len(prefix)
    if not prefix.isdigit() or left < 1:
        raise BankMisconfigured(
            f"bank account {account.name!r}: virtual_prefix {prefix!r} must be digits, fewer than an account's",
            param="virtual_prefix",
        )
    return left
