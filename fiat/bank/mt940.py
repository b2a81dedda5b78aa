"""Reads MT940 statements (SWIFT FIN, also as banks deliver them without its envelope). Pure: bytes to values.

By `mt-940`. It's more forgiving than money allows, so each statement is checked again: as many lines as `:61:` fields,
balances that add up, amounts of the currency's own decimals, one account and one currency.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, NoReturn

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException

from fiat.bank.lines import Direction, Kind, LineSink, Statement, StatementLine
from fiat.errors import ForeignAccount, MalformedFile, StatementDisagrees, StatementRefused, UnsafeFile

FORMAT = "mt940"

NAME = "MT940"

_START = re.compile(rb"\A\s*(\{1:|:20:|:940:)")
_STATEMENT = re.compile(r"^:20:", re.MULTILINE)
_LINE = re.compile(r"^:61:", re.MULTILINE)
_FIELDS = re.compile(r"/(EREF|KREF|REMI|NAME|IBAN|ORDP|BENM)/", re.IGNORECASE)

logging.getLogger("mt940").setLevel(logging.CRITICAL + 1)  # it logs what it can't read, which is personal


def is_mt940(start: bytes) -> bool:
    """Whether a file that begins so is one."""
    return bool(_START.match(start))


def read_mt940(
    content: bytes, *, file: str, scales: Mapping[str, int], accounts: Mapping[str, str], sink: LineSink
) -> tuple[Statement, ...]:
    """The statements in an MT940 file, in its order, each line given to `sink`.

    `accounts`: our IBANs, by each way in which a bank writes them in field 25 (`account_names`). Raises a
    StatementRefused, which names `file` and the line.
    """
    text = _decoded(content, file)
    starts = [found.start() for found in _STATEMENT.finditer(text)]
    if not starts:
        raise MalformedFile("no statement begins (:20:)", file=file, line=1)
    ends = [*starts[1:], len(text)]
    return tuple(
        _statement(text[start:end], ordinal, text.count("\n", 0, start) + 1, file, scales, accounts, sink)
        for ordinal, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def account_names(iban: str) -> Iterator[str]:
    """How banks write an account in field 25: its IBAN, or bank code and account number, also without leading zeros."""
    yield iban
    number = IBAN(iban)
    code = number.account_code
    for form in (code, code.lstrip("0")):
        yield f"{number.bank_code}/{form}"
        yield f"{number.bank_code}{form}"


def _decoded(content: bytes, file: str) -> str:
    if b"\0" in content:
        raise UnsafeFile("not a text file", file=file, line=1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _statement(
    text: str,
    ordinal: int,
    first_line: int,
    file: str,
    scales: Mapping[str, int],
    accounts: Mapping[str, str],
    sink: LineSink,
) -> Statement:
    def refuse(kind: type[StatementRefused], message: str, line: int = first_line) -> NoReturn:
        raise kind(message, file=file, line=line)

    body = re.split(r"^-\}?\s*$", text, maxsplit=1, flags=re.MULTILINE)[0]
    parsed = _parsed(body, first_line, file)
    told = parsed.data
    opening, closing = told.get("final_opening_balance"), told.get("final_closing_balance")
    if opening is None or closing is None:
        refuse(StatementDisagrees, "needs an opening (:60F:) and a closing (:62F:) balance")
    currency = closing.amount.currency
    if currency not in scales:
        known = ", ".join(sorted(scales)) or "none"
        refuse(ForeignAccount, f"currency {currency} isn't held here; held are {known}")
    if opening.amount.currency != currency:
        refuse(ForeignAccount, f"opens in {opening.amount.currency} and closes in {currency}")
    places = [first_line + text.count("\n", 0, found.start()) for found in _LINE.finditer(body)]
    if len(places) != len(parsed):
        refuse(MalformedFile, f"{len(places)} lines begin (:61:), but {len(parsed)} can be read")

    def units(amount: Decimal, line: int) -> int:
        scaled = amount.scaleb(scales[currency])
        if scaled != scaled.to_integral_value():
            refuse(MalformedFile, f"an amount has more than the {scales[currency]} decimals of {currency}", line)
        return int(scaled)

    moved = 0
    for number, (entry, place) in enumerate(zip(parsed, places, strict=True), start=1):
        amount = entry.data["amount"].amount
        line = _line(entry.data, number, place, units(abs(amount), place))
        moved += line.signed_amount
        sink.add(ordinal, line)
    opens, closes = units(opening.amount.amount, first_line), units(closing.amount.amount, first_line)
    if opens + moved != closes:
        raise StatementDisagrees(
            f"opens at {opens}, its lines make {moved}, but it closes at {closes} (in smallest units of {currency})",
            file=file,
            line=first_line,
            opening=opens,
            entries=moved,
            closing=closes,
        )
    account = str(told.get("account_identification") or "").replace(" ", "").upper()
    sequence = str(told.get("statement_number") or "")
    return Statement(
        kind=Kind.STATEMENT,
        format=FORMAT,
        id=f"{told.get('transaction_reference') or ''}:{sequence}:{closing.date.isoformat()}"[:35],
        sequence=int(sequence) if sequence.isdigit() else None,
        account=_ours(account, currency, accounts),
        currency=currency,
        opening=opens,
        closing=closes,
        closing_on=date(closing.date.year, closing.date.month, closing.date.day),
        lines=len(places),
        pending=0,
        file_line=first_line,
    )


def _parsed(body: str, first_line: int, file: str) -> Any:
    import mt940
    from mt940.options import Options

    try:
        return mt940.parse(body, options=Options(applicant_iban=True))  # ?31 is the account, ?32 and ?33 the name
    except Exception as error:  # it raises bare kinds, with the text in them
        raise MalformedFile(f"not readable as MT940 ({type(error).__name__})", file=file, line=first_line) from None


def _line(told: Mapping[str, Any], number: int, place: int, amount: int) -> StatementLine:
    status = str(told["status"])
    reversal = status.startswith("R")
    direction = Direction.CREDIT if (status.endswith("C") != reversal) else Direction.DEBIT
    details = str(told.get("transaction_details") or "").replace("\n", "")
    fields = _fields(details)
    purpose = "".join(str(told.get(name) or "") for name in ("purpose", "additional_purpose")).replace("\n", "")
    end_to_end_id = _reference(told.get("end_to_end_reference")) or _reference(fields.get("EREF"))
    customer = _reference(told.get("customer_reference"))
    remittance = purpose or fields.get("REMI", "") or details
    value_on = told["date"]
    booked_on = told.get("entry_date") or value_on
    return StatementLine(
        number=number,
        file_line=place,
        direction=direction,
        amount=amount,
        booked_on=date(booked_on.year, booked_on.month, booked_on.day),
        value_on=date(value_on.year, value_on.month, value_on.day),
        bank_reference=_reference(told.get("bank_reference")),
        end_to_end_id=end_to_end_id,
        remittance=" ".join(remittance.split()),
        texts=tuple(text for text in (purpose, details, end_to_end_id, customer) if text),
        names=tuple(text for text in (end_to_end_id, customer) if text),
        counterparty=" ".join(str(told.get("applicant_name") or fields.get("NAME") or "").split()),
        counterparty_account=_iban(
            told.get("gvc_applicant_iban") or told.get("applicant_iban") or fields.get("IBAN") or ""
        ),
        own_account="",
        reversal=reversal,
        returned=str(told.get("id") or "")[1:] == "RTI" or str(told.get("transaction_code") or "") in _RETURNS,
        return_reason="",
        unclear_batch=False,
        firm=False,
    )


_RETURNS = frozenset({"109", "159", "181", "184"})
"""German business transaction codes (GVC) of returned payments: 159 is a returned SEPA credit transfer."""


def _fields(details: str) -> dict[str, str]:
    """`/EREF/.../REMI/...` as fields; the remittance loses its code (`USTD//`)."""
    parts = _FIELDS.split(details)
    found = {name.upper(): text.strip("/ ") for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    if "REMI" in found:
        found["REMI"] = re.sub(r"^(USTD|STRD)/+(CUR/)?", "", found["REMI"])
    return found


def _reference(told: object) -> str:
    text = str(told or "").strip()
    return "" if text.upper() in ("NONREF", "NOTPROVIDED", "KREF+") else text


def _iban(told: str) -> str:
    try:
        return str(IBAN(told)) if told else ""
    except SchwiftyException:
        return told


def _ours(account: str, currency: str, accounts: Mapping[str, str]) -> str:
    """Our IBAN, where the field's text is a way to write it; some banks add the currency."""
    return accounts.get(account) or accounts.get(account.removesuffix(currency)) or account
