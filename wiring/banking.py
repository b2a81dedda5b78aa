"""The bank rail from the settings: accounts, the vault of personal data, payouts and the folder of files."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from base.errors import ConfigError
from fiat.bank.drop import DropFolder
from fiat.bank.ending import BankEnding
from fiat.bank.entries import bank_account
from fiat.bank.outgoing import BankFiles
from fiat.bank.pain001 import SCALE
from fiat.bank.records import BankAccount
from fiat.bank.service import BankRail
from fiat.payout_desk import PayoutDesk, PayoutTerms
from fiat.payout_memory import Ending, Remembering
from fiat.payout_steps import Gathering, PayoutSteps
from fiat.payouts import PAYPAL
from fiat.personal import NoVault, Vault, load_vault
from fiat.rails.booking import provider_account
from fiat.sealing import Sealing
from fiat.top_ups import BANK
from ledger.money import Asset, parse_amount
from ledger.owing import receivable_accounts
from wiring.parts import Parts
from wiring.rail_settings import PayPalPayoutSettings
from wiring.settings import BankAccountSettings, Settings

Priced = BankAccountSettings | PayPalPayoutSettings
Step = Callable[[], Awaitable[int]]


def build_vault(settings: Settings) -> Vault:
    """What seals and opens personal data. Raises PersonalKeyMissing where bank accounts need it and there's no key."""
    given = settings.personal_keys
    path = settings.path(settings.personal_key)
    paypal = settings.rails.paypal
    personal = settings.bank_accounts or (paypal is not None and paypal.payouts)
    if not personal and given is None and not path.exists():
        return NoVault(f"personal data needs a key, and there is no {path}: `onebook bank new-key` makes one")
    return load_vault(path, given=None if given is None else given.get_secret_value())


def has_vault(settings: Settings) -> bool:
    """Whether there is a key, so that something can be sealed."""
    return not isinstance(build_vault(settings), NoVault)


def bank_accounts(settings: Settings) -> list[BankAccount]:
    """Our accounts as configured."""
    return [
        BankAccount(
            name=told.name,
            iban=told.iban,
            asset=told.asset,
            holder=told.holder,
            bic=told.bic,
            virtual_prefix=told.virtual_prefix,
        )
        for told in settings.bank_accounts
    ]


def build_bank(parts: Parts) -> BankRail:
    """The bank rail over our configured accounts."""
    return BankRail(
        parts.engine,
        parts.ledger,
        clock=parts.clock,
        entropy=parts.entropy,
        accounts=bank_accounts(parts.settings),
        vault=build_vault(parts.settings),
    )


def build_payout_desk(parts: Parts, endings: Mapping[str, Ending]) -> PayoutDesk:
    """Payouts as people ask for them. `endings`: the providers' words, by rail."""
    files = bank_files(parts)
    of_bank = {} if files is None else {BANK: BankEnding(files, bank_memory(parts, files))}
    return PayoutDesk(
        parts.engine,
        parts.ledger,
        build_vault(parts.settings),
        terms=[*bank_terms(parts.settings), *paypal_terms(parts.settings)],
        clock=parts.clock,
        entropy=parts.entropy,
        owing=partial(receivable_accounts, parts.ledger),
        endings={**endings, **of_bank},
        tariff=parts.terms,
    )


def bank_files(parts: Parts, *, reached: Callable[[str], None] = lambda _: None) -> BankFiles | None:
    """The folder's payment files; None where there is no folder or no account."""
    folder = bank_folder(parts.settings)
    if folder is None or not parts.settings.bank_accounts:
        return None
    return BankFiles(folder, {account.name: account for account in bank_accounts(parts.settings)}, reached=reached)


def require_bank_files(parts: Parts) -> BankFiles:
    """The folder's payment files. Raises ConfigError."""
    files = bank_files(parts)
    if files is None:
        raise ConfigError(
            "there is no folder of bank files: set [bank] folder and [[bank_accounts]]", param="bank.folder"
        )
    return files


def bank_memory(parts: Parts, files: BankFiles) -> Remembering:
    """What compares the folder's memory with the database."""
    book = parts.ledger.book
    return Remembering(parts.engine, BANK, files, book=book, clock=parts.clock, entropy=parts.entropy)


def bank_terms(settings: Settings) -> list[PayoutTerms]:
    """For each asset, the bank account that pays it out: the first that may. Raises ConfigError, InvalidAmount."""
    terms: dict[str, PayoutTerms] = {}
    if settings.bank.folder is None:
        return []
    for number, told in enumerate(settings.bank_accounts):
        if told.payouts and told.asset not in terms:
            terms[told.asset] = _terms(settings, number, told)
    return list(terms.values())


def _terms(settings: Settings, number: int, told: BankAccountSettings) -> PayoutTerms:
    found = next((asset for asset in settings.assets if asset.code == told.asset), None)
    if found is None or found.scale != SCALE:
        where = settings.where("bank_accounts", number, "asset")
        raise ConfigError(
            f"{where}: payouts by bank need an asset of {SCALE} decimals; else set payouts = false here", param="asset"
        )
    asset = Asset(found.code, found.kind, found.scale)
    paying = bank_account(told.name, told.asset)
    return priced_terms(told, rail=BANK, asset=asset, account=told.name, paying=paying)


def priced_terms(told: Priced, *, rail: str, asset: Asset, account: str, paying: str, step: int = 1) -> PayoutTerms:
    """Terms with the fee and bounds that a table of the settings tells. Raises InvalidAmount.

    `step`: what amounts are multiples of on this rail, in smallest units.
    """
    maximum = told.payout_maximum
    return PayoutTerms(
        rail=rail,
        asset=asset.code,
        account=account,
        paying=paying,
        fee=parse_amount(told.payout_fee, asset, param="payout_fee", least=0) if told.payout_fee else 0,
        minimum=parse_amount(told.payout_minimum, asset, param="payout_minimum") if told.payout_minimum else 1,
        maximum=parse_amount(maximum, asset, param="payout_maximum") if maximum else None,
        step=step,
    )


def paypal_terms(settings: Settings) -> list[PayoutTerms]:
    """For each asset that is paid out over PayPal. Raises ConfigError for one that can't be."""
    from fiat.rails.paypal.reading import CURRENCIES, bounds

    told = settings.rails.paypal
    if told is None:
        return []
    known = {one.code: Asset(one.code, one.kind, one.scale) for one in settings.assets}
    terms: dict[str, PayoutTerms] = {}
    for number, one in enumerate(told.payouts):
        if one.asset not in known or one.asset not in CURRENCIES or one.asset in terms:
            where = settings.where("rails", "paypal", "payouts", number, "asset")
            raise ConfigError(
                f"{where}: {one.asset[:12]!r} must be one of the assets, one that PayPal takes, and stand here once",
                param="rails.paypal.payouts",
            )
        asset = known[one.asset]
        paying = provider_account(PAYPAL, asset.code)
        step = bounds(asset).step
        terms[one.asset] = priced_terms(one, rail=PAYPAL, asset=asset, account=PAYPAL, paying=paying, step=step)
    return list(terms.values())


def bank_folder(settings: Settings) -> Path | None:
    """The folder of files, absolute; None where there is none."""
    return None if settings.bank.folder is None else settings.path(settings.bank.folder)


def bank_steps(parts: Parts, *, reached: Callable[[str], None] = lambda _: None) -> dict[str, Step]:
    """What the worker does for banks: files in, payouts out. Nothing without a folder."""
    files = bank_files(parts, reached=reached)
    if files is None:
        return {}
    told = parts.settings.bank
    payouts = PayoutSteps(
        parts.engine,
        parts.ledger,
        build_vault(parts.settings),
        files,
        gathering=Gathering(
            payouts_max=told.payouts_per_file,
            wait=timedelta(seconds=told.payout_wait_seconds),
            silent_after=timedelta(days=told.payout_silent_days),
        ),
        clock=parts.clock,
        entropy=parts.entropy,
        reached=reached,
    )
    drop = DropFolder(files.folder, build_bank(parts), clock=parts.clock)
    return {"bank-files": drop.step, "payouts": payouts.step}


def build_sealing(parts: Parts) -> Sealing:
    """What seals anew what is personal in the database."""
    return Sealing(parts.engine, build_vault(parts.settings), book=parts.settings.book)
