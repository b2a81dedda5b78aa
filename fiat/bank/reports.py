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
    """What a report says of one payment, by the end-to-end id that we gave it.

    `reasons`: ISO codes or the bank's own, the payment's first, then its batch's and its file's.
    """

    number: int
    file_line: int
    end_to_end_id: str
    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str | None:
        """The nearest to the payment."""
        return self.reasons[0] if self.reasons else None

    @property
    def duplicate(self) -> bool:
        """Whether the bank says anywhere that it had the payment already."""
        return not DUPLICATE_REASONS.isdisjoint(self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """A pain.002 about one file of ours. `verdict` and `reasons` are for payments not named themselves: their batch's
    (our files have one), else the file's; all reasons that are told."""

    message_id: str
    original_message_id: str
    file_line: int
    verdict: Verdict | None
    reasons: tuple[str, ...]
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
    verdict, reasons = reader.status(group, "GrpSts")
    payments = tuple(reader.payment_statuses(report, verdict, reasons))
    reader.require_once([(one.end_to_end_id, one.file_line) for one in payments])
    stated = reader.text(group, "OrgnlNbOfTxs")
    return StatusReport(
        message_id=reader.text(report, "GrpHdr/MsgId"),
        original_message_id=reader.text(group, "OrgnlMsgId"),
        file_line=group.sourceline,
        verdict=reader.batch_verdict(report) or verdict,
        reasons=reader.batch_reasons(report) + reasons,
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

    def payment_statuses(
        self, report: Any, verdict: Verdict | None, reasons: tuple[str, ...]
    ) -> Iterator[PaymentStatus]:
        """Each payment named, with its own status, else its batch's, else the file's; with the reasons of all three."""
        number = 0
        for batch in report.iterfind(f"{self.ns}OrgnlPmtInfAndSts"):
            of_batch, why = self.status(batch, "PmtInfSts")
            for told in batch.iterfind(f"{self.ns}TxInfAndSts"):
                number += 1
                name = self.text(told, "OrgnlEndToEndId")
                if not name:
                    self.refuse(StatementDisagrees, told, "a payment without its end-to-end id (OrgnlEndToEndId)")
                own, own_reasons = self.status(told, "TxSts")
                yield PaymentStatus(
                    number=number,
                    file_line=told.sourceline,
                    end_to_end_id=name,
                    verdict=own or of_batch or verdict or Verdict.WAITING,
                    reasons=own_reasons + why + reasons,
                )

    def batch_verdict(self, report: Any) -> Verdict | None:
        """What is said of a batch as a whole. Raises StatementDisagrees where it's said twice, and not the same."""
        told: dict[Verdict, Any] = {}
        for batch in report.iterfind(f"{self.ns}OrgnlPmtInfAndSts"):
            verdict, _ = self.status(batch, "PmtInfSts")
            if verdict is not None:
                told.setdefault(verdict, batch)
        if len(told) > 1:
            *_, last = told.values()
            self.refuse(StatementDisagrees, last, f"the file's one batch is told as {' and as '.join(told)}")
        return next(iter(told), None)

    def batch_reasons(self, report: Any) -> tuple[str, ...]:
        """The reasons that batches have themselves."""
        batches = report.iterfind(f"{self.ns}OrgnlPmtInfAndSts")
        return tuple(code for batch in batches for code in self._reasons(batch, "StsRsnInf"))

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
                reason=next(iter(self._reasons(told, "RtrRsnInf")), None),
            )

    def status(self, element: Any, name: str) -> tuple[Verdict | None, tuple[str, ...]]:
        """A status and its reasons. Raises StatementDisagrees for a code that isn't known."""
        code, reasons = self.text(element, name), self._reasons(element, "StsRsnInf")
        if not code:
            return None, reasons
        if code not in STATUSES:
            self.refuse(StatementDisagrees, element, f"status {code} isn't known; known are {', '.join(STATUSES)}")
        return STATUSES[code], reasons

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

    def _reasons(self, element: Any, name: str) -> tuple[str, ...]:
        told = element.iterfind(self.ns + name)
        codes = (self.text(one, "Rsn/Cd") or self.text(one, "Rsn/Prtry") for one in told)
        return tuple(code for code in codes if code)
