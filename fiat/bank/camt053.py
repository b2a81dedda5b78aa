"""Reads camt.053 bank statements (ISO 20022 BankToCustomerStatement, versions 02 and 08). Pure: bytes to values.

A file is taken whole or not at all. Before anything is believed it must be safe (no DTD, no entities, bounded), follow
its version's schema, and agree with itself: opening balance and booked entries make the closing balance, and the totals
that the bank states are right. Whose money a line is, is not decided here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from lxml import etree

from fiat.errors import (
    ForeignAccount,
    MalformedFile,
    StatementDisagrees,
    StatementRefused,
    UnknownFormat,
    UnsafeFile,
)

VERSIONS = ("camt.053.001.02", "camt.053.001.08")
"""The versions read: those that banks have delivered for a decade, and those of the 2019 set."""

FILE_BYTES_MAX = 32 * 1024 * 1024
"""A statement file's largest size: some 40,000 entries. The parsed tree takes about six times as much memory."""

_NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"
_SCHEMAS = Path(__file__).parent / "schemas"
_DECLARED_ENCODING = re.compile(rb"""\A<\?xml[^>]{0,80}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_ENCODINGS = frozenset({b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252"})
"""Those in which the bytes of `<!DOCTYPE` are the letters of `<!DOCTYPE`, so that looking for them finds them."""


class Direction(StrEnum):
    """Seen from our account, as the bank says it."""

    CREDIT = "CRDT"
    DEBIT = "DBIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One booked movement of our account, in smallest units: an entry, or one payment of an entry that holds several.

    `number` counts from 1 in its statement, `file_line` is the entry's place in the file. `bank_reference` is the
    bank's own (AcctSvcrRef). `texts` is all that the payer or the bank wrote; each is to be searched as a whole.
    `unclear_batch`: the entry holds several payments whose amounts don't make up its own, so it stands as one line.
    """

    number: int
    file_line: int
    direction: Direction
    amount: int
    booked_on: date
    value_on: date
    bank_reference: str
    end_to_end_id: str
    remittance: str
    texts: tuple[str, ...]
    counterparty: str
    counterparty_account: str
    reversal: bool
    returned: bool
    unclear_batch: bool

    @property
    def signed_amount(self) -> int:
        """Positive: money came in."""
        return self.amount if self.direction is Direction.CREDIT else -self.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One account's statement, checked. Balances are signed smallest units; positive: the bank owes us.

    `id` and `sequence` are the bank's; `pending` counts entries that are not booked yet and so not among the lines.
    """

    id: str
    sequence: int | None
    account: str
    currency: str
    opening: int
    closing: int
    closing_on: date
    lines: tuple[StatementLine, ...]
    pending: int
    file_line: int


def read_statements(content: bytes, *, file: str, scales: Mapping[str, int]) -> tuple[Statement, ...]:
    """The statements in a camt.053 file, in its order.

    `scales` gives the decimal digits of each currency that we hold. Raises a StatementRefused, which names `file` and
    the line: UnsafeFile, UnknownFormat, MalformedFile, StatementDisagrees, ForeignAccount for another currency.
    """
    _require_safe(content, file)
    root = _parse(content, file)
    version = _version_of(root, file)
    _require_schema(root, version, file)
    reader = _Reader(file, scales)
    return tuple(reader.statement(element) for element in root.iterfind("{*}BkToCstmrStmt/{*}Stmt"))


def _require_safe(content: bytes, file: str) -> None:
    if len(content) > FILE_BYTES_MAX:
        raise UnsafeFile(f"{len(content)} bytes; at most {FILE_BYTES_MAX} are read", file=file, size=len(content))
    start = content.removeprefix(b"\xef\xbb\xbf")
    declared = _DECLARED_ENCODING.match(start)
    encoding = declared.group(1).lower() if declared else b"utf-8"
    if not start.lstrip().startswith(b"<") or b"\0" in content or encoding not in _ENCODINGS:
        raise UnsafeFile("not a text file in UTF-8 or ISO 8859-1 that begins with XML", file=file, line=1)
    for token in (b"<!DOCTYPE", b"<!ENTITY"):
        if (place := content.upper().find(token)) >= 0:
            line = content.count(b"\n", 0, place) + 1
            raise UnsafeFile("holds a document type definition, which bank files never do", file=file, line=line)


def _parse(content: bytes, file: str) -> Any:
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,  # keeps libxml2's own bounds: 256 levels, 10 MB a text
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise MalformedFile(f"not well-formed XML: {error.msg}", file=file, line=error.lineno) from error


def _version_of(root: Any, file: str) -> str:
    name = etree.QName(root)
    version = (name.namespace or "").removeprefix(_NAMESPACE)
    if version in VERSIONS and name.localname == "Document":
        return version
    raise UnknownFormat(
        f"this is {version[:100] or 'XML without a namespace'}; read are {', '.join(VERSIONS)}",
        file=file,
        line=root.sourceline,
        found=version[:100],
        known=list(VERSIONS),
    )


@cache
def _schema(version: str) -> etree.XMLSchema:
    return etree.XMLSchema(file=str(_SCHEMAS / f"{version}.xsd"))


def _require_schema(root: Any, version: str, file: str) -> None:
    schema: Any = _schema(version)
    if not schema.validate(root):
        first = schema.error_log[0]
        said = first.message.replace(f"{{{_NAMESPACE}{version}}}", "")
        raise MalformedFile(f"not a valid {version}: {said}", file=file, line=first.line)


class _Reader:
    """Turns validated elements into values. Knows the file's name, for errors, and the scales of our currencies."""

    def __init__(self, file: str, scales: Mapping[str, int]) -> None:
        self._file = file
        self._scales = scales

    def statement(self, element: Any) -> Statement:
        balances = {_text(balance, "Tp/CdOrPrtry/Cd"): balance for balance in element.iterfind("{*}Bal")}
        opening = balances.get("OPBD", balances.get("PRCD"))
        closing = balances.get("CLBD")
        if opening is None or closing is None:
            self._refuse(
                StatementDisagrees, element, "needs an opening (OPBD or PRCD) and a closing (CLBD) booked balance"
            )
        currency = _text(element, "Acct/Ccy") or closing.find("{*}Amt").get("Ccy")
        closing_on = _date(closing, "Dt")
        assert closing_on is not None  # the schema requires it
        entries = [(entry, _status(entry)) for entry in element.iterfind("{*}Ntry")]
        booked = [entry for entry, status in entries if status == "BOOK"]
        lines = [line for entry in booked for line in self._lines(entry, currency, closing_on)]
        statement = Statement(
            id=_text(element, "Id"),
            sequence=_sequence(element),
            account=(_text(element, "Acct/Id/IBAN") or _text(element, "Acct/Id/Othr/Id")).upper(),
            currency=currency,
            opening=self._signed(opening, currency),
            closing=self._signed(closing, currency),
            closing_on=closing_on,
            lines=tuple(replace(line, number=number) for number, line in enumerate(lines, start=1)),
            pending=len(entries) - len(booked),
            file_line=element.sourceline,
        )
        self._require_agreement(element, statement, booked)
        return statement

    def _require_agreement(self, element: Any, statement: Statement, booked: list[Any]) -> None:
        moved = sum(line.signed_amount for line in statement.lines)
        if statement.opening + moved != statement.closing:
            self._refuse(
                StatementDisagrees,
                element,
                f"statement {statement.id} opens at {statement.opening}, its booked entries make {moved}, but it"
                f" closes at {statement.closing} (in smallest units of {statement.currency})",
                opening=statement.opening,
                entries=moved,
                closing=statement.closing,
            )
        summary = element.find("{*}TxsSummry")
        if summary is None or statement.pending:  # banks differ in whether their totals count what is pending
            return
        amounts = [self._signed(entry, statement.currency) for entry in booked]
        self._require_total(summary, "TtlNtries", [abs(amount) for amount in amounts], statement.currency)
        self._require_total(summary, "TtlCdtNtries", _of(booked, amounts, Direction.CREDIT), statement.currency)
        self._require_total(summary, "TtlDbtNtries", _of(booked, amounts, Direction.DEBIT), statement.currency)

    def _require_total(self, summary: Any, name: str, amounts: list[int], currency: str) -> None:
        stated = summary.find(f"{{*}}{name}")
        if stated is None:
            return
        count, total = _text(stated, "NbOfNtries"), stated.find("{*}Sum")
        if count and int(count) != len(amounts):
            self._refuse(StatementDisagrees, stated, f"{name} says {int(count)} entries; there are {len(amounts)}")
        if total is not None and (units := self._units(total, currency)) != sum(amounts):
            self._refuse(StatementDisagrees, stated, f"{name} says {units} smallest units; they are {sum(amounts)}")

    def _lines(self, entry: Any, currency: str, closing_on: date) -> Iterator[StatementLine]:
        amount = self._amount(entry.find("{*}Amt"), currency)
        direction = Direction(_text(entry, "CdtDbtInd"))
        booked_on = _date(entry, "BookgDt") or _date(entry, "ValDt") or closing_on
        details = entry.findall("{*}NtryDtls/{*}TxDtls")
        whole = StatementLine(
            number=0,
            file_line=entry.sourceline,
            direction=direction,
            amount=amount,
            booked_on=booked_on,
            value_on=_date(entry, "ValDt") or booked_on,
            bank_reference=_text(entry, "AcctSvcrRef"),
            end_to_end_id="",
            remittance=_text(entry, "AddtlNtryInf"),
            texts=_present(_text(entry, "AddtlNtryInf"), _text(entry, "NtryRef")),
            counterparty="",
            counterparty_account="",
            reversal=_text(entry, "RvslInd") in ("true", "1"),
            returned=any(detail.find("{*}RtrInf") is not None for detail in details),
            unclear_batch=False,
        )
        if len(details) < 2:
            yield _with_detail(whole, details[0]) if details else whole
            return
        shares = self._shares(details, currency, direction)
        if shares is None or sum(shares) != amount:
            yield replace(whole, unclear_batch=True)
            return
        for detail, share in zip(details, shares, strict=True):
            yield _with_detail(replace(whole, amount=share, texts=()), detail)

    def _shares(self, details: list[Any], currency: str, direction: Direction) -> list[int] | None:
        """The amount of each payment in a batch, or None if they aren't all stated in our currency and direction."""
        amounts = [
            found if (found := detail.find("{*}Amt")) is not None else detail.find("{*}AmtDtls/{*}TxAmt/{*}Amt")
            for detail in details
        ]
        sides = {_text(detail, "CdtDbtInd") or direction.value for detail in details}
        if sides != {direction.value} or any(amount is None or amount.get("Ccy") != currency for amount in amounts):
            return None
        return [self._units(amount, currency) for amount in amounts]

    def _signed(self, element: Any, currency: str) -> int:
        units = self._amount(element.find("{*}Amt"), currency)
        return units if _text(element, "CdtDbtInd") == Direction.CREDIT else -units

    def _amount(self, element: Any, currency: str) -> int:
        if element.get("Ccy") != currency:
            self._refuse(
                ForeignAccount,
                element,
                f"an amount in {element.get('Ccy')} in the statement of an account in {currency}",
            )
        return self._units(element, currency)

    def _units(self, element: Any, currency: str) -> int:
        """Smallest units, exactly; more decimals than the currency has are refused, never rounded."""
        if currency not in self._scales:
            known = ", ".join(sorted(self._scales)) or "none"
            self._refuse(ForeignAccount, element, f"currency {currency} isn't held here; held are {known}")
        scale = self._scales[currency]
        whole, _, decimals = element.text.strip().removeprefix("+").partition(".")
        decimals = decimals.rstrip("0")
        if len(decimals) > scale:
            self._refuse(
                MalformedFile, element, f"{element.text.strip()} has more than the {scale} decimals of {currency}"
            )
        return int((whole + decimals.ljust(scale, "0")) or "0")

    def _refuse(self, kind: type[StatementRefused], element: Any, message: str, **facts: object) -> NoReturn:
        raise kind(message, file=self._file, line=element.sourceline, **facts)


def _with_detail(line: StatementLine, detail: Any) -> StatementLine:
    free_text = [_collapsed(found.text) for found in detail.iterfind("{*}RmtInf/{*}Ustrd")]
    references = [_collapsed(found.text) for found in detail.iterfind("{*}RmtInf/{*}Strd/{*}CdtrRefInf/{*}Ref")]
    notes = [_collapsed(found.text) for found in detail.iterfind("{*}RmtInf/{*}Strd/{*}AddtlRmtInf")]
    end_to_end_id = _text(detail, "Refs/EndToEndId")
    other = "Dbtr" if line.direction is Direction.CREDIT else "Cdtr"
    parties = f"RltdPties/{other}"
    return replace(
        line,
        bank_reference=_text(detail, "Refs/AcctSvcrRef") or line.bank_reference,
        end_to_end_id=end_to_end_id,
        remittance=" ".join([*free_text, *references]) or line.remittance,
        texts=_present(
            "".join(free_text),  # banks cut it wherever their line ends, also inside a reference
            *references,
            *notes,
            end_to_end_id,
            _text(detail, "AddtlTxInf"),
            *line.texts,
        ),
        counterparty=_text(detail, f"{parties}/Pty/Nm") or _text(detail, f"{parties}/Nm"),
        counterparty_account=_text(detail, f"{parties}Acct/Id/IBAN") or _text(detail, f"{parties}Acct/Id/Othr/Id"),
        returned=detail.find("{*}RtrInf") is not None,
    )


def _of(entries: list[Any], amounts: list[int], direction: Direction) -> list[int]:
    return [abs(a) for entry, a in zip(entries, amounts, strict=True) if _text(entry, "CdtDbtInd") == direction]


def _status(entry: Any) -> str:
    return _text(entry, "Sts/Cd") or _text(entry, "Sts")


def _sequence(statement: Any) -> int | None:
    stated = _text(statement, "ElctrncSeqNb") or _text(statement, "LglSeqNb")
    return int(stated.partition(".")[0]) if stated else None


def _date(element: Any, name: str) -> date | None:
    """The calendar date as the bank wrote it; a time of day or zone beside it is dropped."""
    stated = _text(element, f"{name}/Dt") or _text(element, f"{name}/DtTm")
    return date.fromisoformat(stated[:10]) if stated else None


def _text(element: Any, path: str) -> str:
    found = element.findtext("/".join(f"{{*}}{part}" for part in path.split("/")))
    return _collapsed(found)


def _collapsed(text: str | None) -> str:
    return " ".join((text or "").split())


def _present(*texts: str) -> tuple[str, ...]:
    return tuple(text for text in texts if text)
