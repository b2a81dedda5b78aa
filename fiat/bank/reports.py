"""Reads what a bank says of payments that we sent: pain.002 status reports and pacs.004 returns (ISO 20022). Pure.

A report is taken whole or not at all: safe and valid (`fiat.bank.xml`), each payment named once, counts and sums as
its header says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from fiat.bank.camt import units_of
from fiat.bank.xml import NAMESPACE
from fiat.errors import ForeignAccount, MalformedFile, StatementDisagrees, StatementRefused


class Verdict(StrEnum):
    """ACCEPTED: the bank will pay, or has. REJECTED: it won't. WAITING: it has the payment and decides later."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WAITING = "waiting"


STATUSES: Mapping[str, Verdict | None] = {
    "ACTC": Verdict.WAITING,
    "RCVD": Verdict.WAITING,
    "PDNG": Verdict.WAITING,
    "PATC": Verdict.WAITING,
    "ACCP": Verdict.ACCEPTED,
    "ACSP": Verdict.ACCEPTED,
    "ACSC": Verdict.ACCEPTED,
    "ACCC": Verdict.ACCEPTED,
    "ACWC": Verdict.ACCEPTED,
    "ACWP": Verdict.ACCEPTED,
    "ACFC": Verdict.ACCEPTED,
    "RJCT": Verdict.REJECTED,
    "CANC": Verdict.REJECTED,
    "PART": None,
}
"""ISO 20022 external code sets ExternalPaymentGroupStatus and -TransactionStatus; None: look at each payment."""

DUPLICATE_REASONS = frozenset({"AM05", "DU01", "DU02", "DU03", "DU04", "DU05", "DUPL"})
"""A file or payment is rejected because the bank has it already: the first one stands, so nothing is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentStatus:
    """What a report says of one payment, by the end-to-end id that we gave it. `reason`: an ISO code or the bank's."""

    number: int
    file_line: int
    end_to_end_id: str
    verdict: Verdict
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """A pain.002 about one file of ours. `verdict` and `reason` are the file's: for payments not named themselves."""

    message_id: str
    original_message_id: str
    file_line: int
    verdict: Verdict | None
    reason: str | None
    count: int | None
    payments: tuple[PaymentStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedPayment:
    """What a pacs.004 says of one payment that comes back, in smallest units."""

    number: int
    file_line: int
    end_to_end_id: str
    amount: int
    currency: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnReport:
    """A pacs.004."""

    message_id: str
    payments: tuple[ReturnedPayment, ...]


def read_status(root: Any, version: str, *, file: str) -> StatusReport:
    """A validated pain.002. Raises StatementDisagrees, MalformedFile."""
    reader = _Reader(root, version, file)
    report = reader.child(root, "CstmrPmtStsRpt")
    group = reader.child(report, "OrgnlGrpInfAndSts")
    verdict, reason = reader.status(group, "GrpSts")
    payments = tuple(reader.payment_statuses(report, verdict, reason))
    reader.require_once([(one.end_to_end_id, one.file_line) for one in payments])
    stated = reader.text(group, "OrgnlNbOfTxs")
    return StatusReport(
        message_id=reader.text(report, "GrpHdr/MsgId"),
        original_message_id=reader.text(group, "OrgnlMsgId"),
        file_line=group.sourceline,
        verdict=verdict,
        reason=reason,
        count=int(stated) if stated else None,
        payments=payments,
    )


def read_returns(root: Any, version: str, *, file: str, scales: Mapping[str, int]) -> ReturnReport:
    """A validated pacs.004. Raises ForeignAccount for a currency that isn't held, StatementDisagrees, MalformedFile."""
    reader = _Reader(root, version, file)
    message = reader.child(root, "PmtRtr")
    payments = tuple(reader.returns(message, scales))
    reader.require_once([(one.end_to_end_id, one.file_line) for one in payments])
    header = reader.child(message, "GrpHdr")
    if (count := int(reader.text(header, "NbOfTxs"))) != len(payments):
        reader.refuse(StatementDisagrees, header, f"NbOfTxs says {count} payments; there are {len(payments)}")
    total = header.find(f"{reader.ns}TtlRtrdIntrBkSttlmAmt")
    if total is not None and payments:
        units = reader.units(total, scales)
        if units != sum(one.amount for one in payments):
            reader.refuse(
                StatementDisagrees, total, f"the header says {units} smallest units; the payments make another"
            )
    return ReturnReport(message_id=reader.text(header, "MsgId"), payments=payments)


class _Reader:
    def __init__(self, root: Any, version: str, file: str) -> None:
        self.ns = f"{{{NAMESPACE}{version}}}"
        self._file = file

    def payment_statuses(self, report: Any, verdict: Verdict | None, reason: str | None) -> Iterator[PaymentStatus]:
        """Each payment named, with its own status, else its batch's, else the file's."""
        number = 0
        for batch in report.iterfind(f"{self.ns}OrgnlPmtInfAndSts"):
            of_batch, why = self.status(batch, "PmtInfSts")
            if of_batch is None:
                of_batch, why = verdict, reason
            for told in batch.iterfind(f"{self.ns}TxInfAndSts"):
                number += 1
                name = self.text(told, "OrgnlEndToEndId")
                if not name:
                    self.refuse(StatementDisagrees, told, "a payment without its end-to-end id (OrgnlEndToEndId)")
                own, own_reason = self.status(told, "TxSts")
                if own is None:
                    own, own_reason = of_batch or Verdict.WAITING, why
                yield PaymentStatus(
                    number=number,
                    file_line=told.sourceline,
                    end_to_end_id=name,
                    verdict=own,
                    reason=own_reason if own is Verdict.REJECTED else None,
                )

    def returns(self, message: Any, scales: Mapping[str, int]) -> Iterator[ReturnedPayment]:
        for number, told in enumerate(message.iterfind(f"{self.ns}TxInf"), start=1):
            name = self.text(told, "OrgnlEndToEndId")
            if not name:
                self.refuse(StatementDisagrees, told, "a payment without its end-to-end id (OrgnlEndToEndId)")
            amount = told.find(f"{self.ns}RtrdIntrBkSttlmAmt")
            yield ReturnedPayment(
                number=number,
                file_line=told.sourceline,
                end_to_end_id=name,
                amount=self.units(amount, scales),
                currency=amount.get("Ccy"),
                reason=self._reason(told, "RtrRsnInf"),
            )

    def status(self, element: Any, name: str) -> tuple[Verdict | None, str | None]:
        """A status and its reason. Raises StatementDisagrees for a code that isn't known."""
        code = self.text(element, name)
        if not code:
            return None, None
        if code not in STATUSES:
            self.refuse(StatementDisagrees, element, f"status {code} isn't known; known are {', '.join(STATUSES)}")
        return STATUSES[code], self._reason(element, "StsRsnInf")

    def units(self, element: Any, scales: Mapping[str, int]) -> int:
        currency = element.get("Ccy")
        if currency not in scales:
            known = ", ".join(sorted(scales)) or "none"
            self.refuse(ForeignAccount, element, f"currency {currency} isn't held here; held are {known}")
        units = units_of(element.text, scales[currency])
        if units is None:
            self.refuse(MalformedFile, element, f"more decimals than {currency} has")
        return units

    def require_once(self, named: list[tuple[str, int]]) -> None:
        """Raises StatementDisagrees where two rows name one payment: which of them holds?"""
        seen: dict[str, int] = {}
        for name, line in named:
            if name in seen:
                raise StatementDisagrees(
                    f"the same payment is named here and in line {seen[name]}", file=self._file, line=line
                )
            seen[name] = line

    def child(self, element: Any, name: str) -> Any:
        return element.find(self.ns + name)

    def text(self, element: Any, path: str) -> str:
        for part in path.split("/"):
            element = element.find(self.ns + part)
            if element is None:
                return ""
        return " ".join((element.text or "").split())

    def refuse(self, kind: type[StatementRefused], element: Any, message: str) -> NoReturn:
        raise kind(message, file=self._file, line=element.sourceline)

    def _reason(self, element: Any, name: str) -> str | None:
        for told in element.iterfind(self.ns + name):
            code = self.text(told, "Rsn/Cd") or self.text(told, "Rsn/Prtry")
            if code:
                return code
        return None
