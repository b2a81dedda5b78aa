"""Reads camt.053 statements and camt.054 notifications (ISO 20022, versions 02 and 08). Pure: bytes to values.

Streaming: an entry is freed as soon as it's read, so a file's size doesn't matter to memory. A file is taken whole or
not at all: before anything is believed it must be safe (`fiat.bank.xml`), follow its version's schema, and agree with
itself: opening balance and booked entries make the closing balance, and the totals that the bank states are right.
Whose money a line is, is not decided here.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NoReturn

from lxml import etree
from msgspec.structs import replace

from fiat.bank.lines import Direction, Kind, LineSink, Statement, StatementLine
from fiat.bank.xml import NAMESPACE, GuardedStream, malformed, require_valid
from fiat.errors import ForeignAccount, MalformedFile, StatementDisagrees, StatementRefused

_KINDS = {"Stmt": Kind.STATEMENT, "Ntfctn": Kind.NOTIFICATION}


def read_camt(
    stream: GuardedStream, version: str, *, file: str, scales: Mapping[str, int], sink: LineSink
) -> tuple[Statement, ...]:
    """The statements in a camt.053 or camt.054 file, in its order, each line given to `sink`.

    `scales` gives the decimal digits of each currency that we hold. Only once this returns is the file believed. Raises
    a StatementRefused, which names `file` and the line: UnsafeFile, MalformedFile, StatementDisagrees, ForeignAccount
    for another currency.
    """
    reader = _Reader(file, version, scales, sink)
    entry, *_ = names = [f"{{{NAMESPACE}{version}}}{name}" for name in ("Ntry", *_KINDS)]
    found: list[Statement] = []
    parsing = etree.iterparse(
        stream,
        events=("end",),
        tag=names,
        resolve_entities="internal",  # there are none, but none from outside either; False would lose errors' lines
        load_dtd=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
        huge_tree=False,
        collect_ids=False,
    )
    try:
        for _, element in parsing:
            require_valid(element, version, file)
            if element.tag == entry:
                reader.entry(element)
                element.getparent().remove(element)  # what was read is freed
            else:
                found.append(reader.statement(element, len(found)))
        require_valid(parsing.root, version, file)  # what is left: the message around them
    except etree.XMLSyntaxError as error:
        raise malformed(error, file) from error
    return tuple(found)


class _Totals:
    """Count and sum of the booked entries of one direction."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0

    def add(self, amount: int) -> None:
        self.count += 1
        self.sum += amount


class _Reader:
    """Turns validated elements into values. Keeps what adds up over the statement that is being read."""

    def __init__(self, file: str, version: str, scales: Mapping[str, int], sink: LineSink) -> None:
        self._file = file
        self._format = version[:8]
        self._ns = f"{{{NAMESPACE}{version}}}"
        self._scales = scales
        self._sink = sink
        self._ordinal = 0
        self._begin()

    def _begin(self) -> None:
        self._currency = ""
        self._closing_on: date | None = None
        self._lines = self._pending = self._moved = 0
        self._totals = {side: _Totals() for side in Direction}

    # Statements

    def statement(self, element: Any, ordinal: int) -> Statement:
        """A statement whose entries have been read; the next one begins."""
        kind = _KINDS[element.tag.rpartition("}")[2]]
        currency = self._currency or self._currency_of(element)
        opening, closing = self._balances(element) if kind is Kind.STATEMENT else (None, None)
        statement = Statement(
            kind=kind,
            format=self._format,
            id=self._text(element, "Id"),
            sequence=self._sequence(element),
            account=(self._text(element, "Acct/Id/IBAN") or self._text(element, "Acct/Id/Othr/Id")).upper(),
            currency=currency,
            opening=None if opening is None else self._signed(opening, currency),
            closing=None if closing is None else self._signed(closing, currency),
            closing_on=None if closing is None else self._date(closing, "Dt"),
            lines=self._lines,
            pending=self._pending,
            file_line=element.sourceline,
        )
        self._require_agreement(element, statement)
        self._ordinal = ordinal + 1
        self._begin()
        return statement

    def _balances(self, element: Any) -> tuple[Any, Any]:
        balances = {self._text(balance, "Tp/CdOrPrtry/Cd"): balance for balance in element.iterfind(f"{self._ns}Bal")}
        opening = balances.get("OPBD", balances.get("PRCD"))
        closing = balances.get("CLBD")
        if opening is None or closing is None:
            self._refuse(
                StatementDisagrees, element, "needs an opening (OPBD or PRCD) and a closing (CLBD) booked balance"
            )
        return opening, closing

    def _currency_of(self, element: Any) -> str:
        """The account's currency: stated, or that of its closing balance or first entry."""
        stated = self._text(element, "Acct/Ccy")
        if stated:
            return stated
        first = next(element.iter(f"{self._ns}Amt"), None)
        if first is None:
            self._refuse(StatementDisagrees, element, "names no currency")
        return str(first.get("Ccy"))

    def _require_agreement(self, element: Any, statement: Statement) -> None:
        opening, closing = statement.opening, statement.closing
        if opening is not None and closing is not None and opening + self._moved != closing:
            self._refuse(
                StatementDisagrees,
                element,
                f"statement {statement.id} opens at {opening}, its booked entries make {self._moved}, but it closes at"
                f" {closing} (in smallest units of {statement.currency})",
                opening=opening,
                entries=self._moved,
                closing=closing,
            )
        summary = element.find(f"{self._ns}TxsSummry")
        if summary is None or statement.pending:  # banks differ in whether their totals count what is pending
            return
        sides = self._totals
        both = _Totals()
        both.count = sum(side.count for side in sides.values())
        both.sum = sum(side.sum for side in sides.values())
        self._require_total(summary, "TtlNtries", both, statement.currency)
        self._require_total(summary, "TtlCdtNtries", sides[Direction.CREDIT], statement.currency)
        self._require_total(summary, "TtlDbtNtries", sides[Direction.DEBIT], statement.currency)

    def _require_total(self, summary: Any, name: str, found: _Totals, currency: str) -> None:
        stated = summary.find(f"{self._ns}{name}")
        if stated is None:
            return
        count, total = self._text(stated, "NbOfNtries"), stated.find(f"{self._ns}Sum")
        if count and int(count) != found.count:
            self._refuse(StatementDisagrees, stated, f"{name} says {int(count)} entries; there are {found.count}")
        if total is not None and (units := self._units(total, currency)) != found.sum:
            self._refuse(StatementDisagrees, stated, f"{name} says {units} smallest units; they are {found.sum}")

    # Entries

    def entry(self, element: Any) -> None:
        """Give the sink the lines of an entry that is booked; count one that isn't."""
        if not self._currency:
            parent = element.getparent()
            if parent.tag.rpartition("}")[2] not in _KINDS:
                self._refuse(MalformedFile, element, "an entry outside of a statement")
            self._currency = self._currency_of(parent)
            closing = {self._text(one, "Tp/CdOrPrtry/Cd"): one for one in parent.iterfind(f"{self._ns}Bal")}.get("CLBD")
            self._closing_on = None if closing is None else self._date(closing, "Dt")
        parts = _parts(element, self._ns)
        if (_said(parts, "Sts", "Cd", self._ns) or _own(parts, "Sts")) != "BOOK":
            self._pending += 1
            return
        for line in self._entry_lines(element, parts):
            self._lines += 1
            self._moved += line.signed_amount
            self._sink.add(self._ordinal, replace(line, number=self._lines))

    def _entry_lines(self, element: Any, parts: Mapping[str, Any]) -> Iterator[StatementLine]:
        currency, ns = self._currency, self._ns
        amount = self._amount(parts["Amt"], currency)
        direction = Direction(_own(parts, "CdtDbtInd"))
        self._totals[direction].add(amount)
        value_on = self._day(parts.get("ValDt"))
        booking = parts.get("BookgDt")
        told_on = self._day(booking)
        by_day = booking is not None and len(booking) and booking[0].tag == f"{ns}Dt"
        booked_on = told_on or value_on or self._closing_on
        if booked_on is None:
            self._refuse(StatementDisagrees, element, "an entry without a booking or value date")
        reference, added = _own(parts, "AcctSvcrRef"), _own(parts, "AddtlNtryInf")
        details = element.findall(f"{ns}NtryDtls/{ns}TxDtls")
        whole = StatementLine(
            number=0,
            file_line=element.sourceline or 0,
            direction=direction,
            amount=amount,
            booked_on=booked_on,
            value_on=value_on or booked_on,
            bank_reference=reference,
            end_to_end_id="",
            remittance=added,
            texts=_present(added, _own(parts, "NtryRef")),
            names=(),
            counterparty="",
            counterparty_account="",
            own_account="",
            reversal=_own(parts, "RvslInd") in ("true", "1"),
            returned=False,
            return_reason="",
            unclear_batch=False,
            firm=bool(reference and by_day) and len(details) < 2,
        )
        if len(details) < 2:
            yield self._with_detail(whole, details[0]) if details else whole
            return
        returned = any(detail.find(f"{ns}RtrInf") is not None for detail in details)
        shares = self._shares(details, currency, direction)
        if shares is None or sum(shares) != amount:
            yield replace(whole, unclear_batch=True, returned=returned)
            return
        for detail, share in zip(details, shares, strict=True):
            yield self._with_detail(replace(whole, amount=share, texts=()), detail)

    def _shares(self, details: list[Any], currency: str, direction: Direction) -> list[int] | None:
        """The amount of each payment in a batch, or None if they aren't all stated in our currency and direction."""
        ns = self._ns
        amounts = [
            found if (found := detail.find(f"{ns}Amt")) is not None else detail.find(f"{ns}AmtDtls/{ns}TxAmt/{ns}Amt")
            for detail in details
        ]
        sides = {self._text(detail, "CdtDbtInd") or direction.value for detail in details}
        if sides != {direction.value} or any(amount is None or amount.get("Ccy") != currency for amount in amounts):
            return None
        return [self._units(amount, currency) for amount in amounts]

    def _with_detail(self, line: StatementLine, detail: Any) -> StatementLine:
        ns = self._ns
        parts = _parts(detail, ns)
        told = parts.get("RmtInf")
        free, references, notes = self._remittance(told) if told is not None else ([], [], [])
        refs = {} if (found := parts.get("Refs")) is None else _parts(found, ns)
        end_to_end_id = _own(refs, "EndToEndId")
        incoming = line.direction is Direction.CREDIT
        other, own = ("Dbtr", "Cdtr") if incoming else ("Cdtr", "Dbtr")
        parties = {} if (found := parts.get("RltdPties")) is None else _parts(found, ns)
        back = parts.get("RtrInf")
        bank_reference = _own(refs, "AcctSvcrRef") or line.bank_reference
        return replace(
            line,
            bank_reference=bank_reference,
            firm=line.firm and bank_reference == line.bank_reference,
            end_to_end_id=end_to_end_id,
            remittance=" ".join([*free, *references]) or line.remittance,
            texts=_present(
                "".join(free),  # banks cut it wherever their line ends, also inside a reference
                *references,
                *notes,
                end_to_end_id,
                _own(parts, "AddtlTxInf"),
                *line.texts,
            ),
            names=_present(end_to_end_id, _own(refs, "PmtInfId"), _own(refs, "MsgId"), _own(refs, "InstrId")),
            counterparty=self._party(parties.get(other)),
            counterparty_account=self._account(parties.get(f"{other}Acct")),
            own_account=self._account(parties.get(f"{own}Acct")),
            returned=back is not None,
            return_reason="" if back is None else self._text(back, "Rsn/Cd"),
        )

    def _remittance(self, told: Any) -> tuple[list[str], list[str], list[str]]:
        ns = self._ns
        free: list[str] = []
        references: list[str] = []
        notes: list[str] = []
        for one in told:
            if one.tag == f"{ns}Ustrd":
                free.append(_collapsed(one.text))
            elif one.tag == f"{ns}Strd":
                references += [_collapsed(found.text) for found in one.iterfind(f"{ns}CdtrRefInf/{ns}Ref")]
                notes += [_collapsed(found.text) for found in one.iterfind(f"{ns}AddtlRmtInf")]
        return free, references, notes

    def _party(self, party: Any) -> str:
        return "" if party is None else self._text(party, "Pty/Nm") or self._text(party, "Nm")

    def _account(self, account: Any) -> str:
        return "" if account is None else self._text(account, "Id/IBAN") or self._text(account, "Id/Othr/Id")

    # Amounts, dates, texts

    def _signed(self, element: Any, currency: str) -> int:
        units = self._amount(element.find(f"{self._ns}Amt"), currency)
        return units if self._text(element, "CdtDbtInd") == Direction.CREDIT else -units

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
        units = units_of(element.text, self._scales[currency])
        if units is None:
            self._refuse(
                MalformedFile,
                element,
                f"{element.text.strip()} has more than the {self._scales[currency]} decimals of {currency}",
            )
        return units

    def _sequence(self, statement: Any) -> int | None:
        stated = self._text(statement, "ElctrncSeqNb") or self._text(statement, "LglSeqNb")
        return int(stated.partition(".")[0]) if stated else None

    def _date(self, element: Any, name: str) -> date | None:
        return self._day(element.find(f"{self._ns}{name}"))

    def _day(self, element: Any) -> date | None:
        """The calendar date as the bank wrote it; a time of day or zone beside it is dropped."""
        return None if element is None or not len(element) else date.fromisoformat(element[0].text.strip()[:10])

    def _text(self, element: Any, path: str) -> str:
        for part in path.split("/"):
            element = element.find(self._ns + part)
            if element is None:
                return ""
        return _collapsed(element.text)

    def _refuse(self, kind: type[StatementRefused], element: Any, message: str, **facts: object) -> NoReturn:
        raise kind(message, file=self._file, line=element.sourceline, **facts)


def units_of(text: str, scale: int) -> int | None:
    """A decimal number that the schema let pass, in smallest units; None where it has more decimals than `scale`."""
    whole, _, decimals = text.strip().removeprefix("+").partition(".")
    decimals = decimals.rstrip("0")
    if len(decimals) > scale:
        return None
    return int((whole + decimals.ljust(scale, "0")) or "0")


def _parts(element: Any, ns: str) -> dict[str, Any]:
    """The children by name, the first of each: one walk instead of a search for each."""
    start = len(ns)
    found: dict[str, Any] = {}
    for child in element:
        found.setdefault(child.tag[start:], child)
    return found


def _own(parts: Mapping[str, Any], name: str) -> str:
    element = parts.get(name)
    return "" if element is None else _collapsed(element.text)


def _said(parts: Mapping[str, Any], name: str, inner: str, ns: str) -> str:
    element = parts.get(name)
    return "" if element is None else _collapsed(element.findtext(ns + inner))


def _collapsed(text: str | None) -> str:
    return " ".join(text.split()) if text else ""


def _present(*texts: str) -> tuple[str, ...]:
    return tuple([text for text in texts if text])
