"""A real bank process for tests, and payments that we send from our account there."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cli.demo_bank import PAYER_IBAN, DemoBank, running_bank

OUR_IBAN = "NL30MOCK0000000005"
OUR_ACCOUNT = "ONEBOOK"
MONDAY = datetime(2025, 12, 1, 9, 0, tzinfo=UTC)
"""The bank's first morning: before the tests' clock, so that its days are past."""


@contextmanager
def bank_with_our_account(*, balance: int = 0, at: datetime = MONDAY) -> Iterator[DemoBank]:
    """A running bank at which we hold one account in euros."""
    with running_bank(at=at) as bank:
        bank.open_account(OUR_ACCOUNT, iban=OUR_IBAN, balance=balance)
        yield bank


def pay_out(bank: DemoBank, cents: int, *, number: int = 1, day: datetime = MONDAY) -> None:
    """Send a payment from our account by pain.001; it leaves on `day`."""
    amount = f"{cents // 100}.{cents % 100:02}"
    bank.call("POST", "/payments", content=_PAYMENT.format(amount=amount, number=number, day=day.date(), iban=OUR_IBAN))


_PAYMENT = (
    """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"><CstmrCdtTrfInitn>
<GrpHdr><MsgId>OUT-{number}</MsgId><CreDtTm>{day}T09:00:00Z</CreDtTm><NbOfTxs>1</NbOfTxs><CtrlSum>{amount}</CtrlSum>
<InitgPty><Nm>Onebook</Nm></InitgPty></GrpHdr>
<PmtInf><PmtInfId>OUT-{number}</PmtInfId><PmtMtd>TRF</PmtMtd><ReqdExctnDt><Dt>{day}</Dt></ReqdExctnDt>
<Dbtr><Nm>Onebook</Nm></Dbtr><DbtrAcct><Id><IBAN>{iban}</IBAN></Id></DbtrAcct>
<DbtrAgt><FinInstnId><BICFI>MOCKNL2A</BICFI></FinInstnId></DbtrAgt>
<CdtTrfTxInf><PmtId><EndToEndId>OUT-{number}</EndToEndId></PmtId><Amt><InstdAmt Ccy="EUR">{amount}</InstdAmt></Amt>
<CdtrAgt><FinInstnId><BICFI>MOCKNL2A</BICFI></FinInstnId></CdtrAgt><Cdtr><Nm>Supplier</Nm></Cdtr><CdtrAcct><Id><IBAN>"""
    + PAYER_IBAN
    + """</IBAN></Id></CdtrAcct></CdtTrfTxInf></PmtInf></CstmrCdtTrfInitn></Document>"""
)
