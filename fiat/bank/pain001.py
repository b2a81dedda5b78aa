"""Writes pain.001.001.09 (ISO 20022 CustomerCreditTransferInitiation) for a batch of payouts. Pure.

By `sepaxml`; its ids and clock are replaced by the batch's own, so that one batch always makes the same bytes: a file
that is written twice is one file, and a bank that sees it twice knows its MsgId. The result is checked against the
standard's schema and counted again from its own text before anybody gets it.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC
from functools import cache
from importlib.resources import as_file, files
from typing import Any

from base.errors import BrokenInvariant
from fiat.bank.records import BankAccount
from fiat.payouts import Payout, PayoutBatch, Recipient, in_sepa_letters

SCHEMA = "pain.001.001.09"

_NS = f"{{urn:iso:std:iso:20022:tech:xsd:{SCHEMA}}}"

SUFFIX = ".pain001.xml"
"""How a file's name ends."""

SCALE = 2
"""Decimals of every currency that sepaxml writes."""


def write_pain001(account: BankAccount, batch: PayoutBatch, payouts: Sequence[Payout]) -> bytes:
    """The file that asks our bank to make these payments out of `account`, each booked by itself (BtchBookg false).

    The execution date is the day on which the batch was made. Raises BrokenInvariant if the batch isn't what its
    payouts make, or the text isn't valid.
    """
    from lxml import etree
    from sepaxml import SepaTransfer

    _require_agreement(batch, payouts)
    day = batch.created_at.astimezone(UTC).date()
    config = {
        "name": in_sepa_letters(account.holder),
        "IBAN": account.iban,
        "currency": account.asset,
        "batch": True,
        "domestic": account.asset != "EUR",  # the service level SEPA is the euro's
    } | ({"BIC": account.bic} if account.bic else {})
    transfer = SepaTransfer(config, schema=SCHEMA, clean=True)
    for payout in payouts:
        recipient = payout.recipient
        if not isinstance(recipient, Recipient):
            raise BrokenInvariant(f"payout {payout.id} isn't to a bank account")
        transfer.add_payment(
            {
                "name": in_sepa_letters(recipient.name),
                "IBAN": recipient.iban,
                "amount": payout.amount,
                "execution_date": day,
                "description": f"Payout {payout.end_to_end_id}",
                "endtoend_id": payout.end_to_end_id,
            }
        )
    root: Any = etree.fromstring(transfer.export(validate=False))
    message = root.find(f"{_NS}CstmrCdtTrfInitn")
    payment = message.find(f"{_NS}PmtInf")
    message.find(f"{_NS}GrpHdr/{_NS}MsgId").text = batch.message_id
    created = batch.created_at.astimezone(UTC)
    message.find(f"{_NS}GrpHdr/{_NS}CreDtTm").text = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    payment.find(f"{_NS}PmtInfId").text = batch.message_id
    payment.find(f"{_NS}BtchBookg").text = "false"
    _require_valid(root, batch)
    content: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return content


def digest(content: bytes) -> str:
    """SHA-256 of a file, as hex: by it an operator tells that the bank has the file that we wrote."""
    return hashlib.sha256(content).hexdigest()


def file_name(batch: PayoutBatch) -> str:
    """What the file is called: the same for the same batch."""
    return f"{batch.message_id}{SUFFIX}"


def _require_agreement(batch: PayoutBatch, payouts: Sequence[Payout]) -> None:
    if len(payouts) != batch.payouts or sum(payout.amount for payout in payouts) != batch.total:
        raise BrokenInvariant(
            f"batch {batch.id} was written down with {batch.payouts} payouts over {batch.total}; its rows differ",
            payouts=len(payouts),
        )


def _require_valid(root: Any, batch: PayoutBatch) -> None:
    """Against the schema, and NbOfTxs and CtrlSum of header and payment against what stands there."""
    schema = _schema()
    if not schema.validate(root):
        rule = schema.error_log[0].type_name  # its message would repeat what it objects to
        raise BrokenInvariant(f"the file of batch {batch.id} isn't valid {SCHEMA}: {rule}")
    amounts = [_cents(found.text) for found in root.iter(f"{_NS}InstdAmt")]
    for place in root.iter(f"{_NS}GrpHdr", f"{_NS}PmtInf"):
        count, total = place.findtext(f"{_NS}NbOfTxs"), place.findtext(f"{_NS}CtrlSum")
        if (int(count), _cents(total)) != (batch.payouts, batch.total) or sum(amounts) != batch.total:
            raise BrokenInvariant(f"the file of batch {batch.id} doesn't add up to it")


def _cents(text: str) -> int:
    whole, _, decimals = text.partition(".")
    return int(whole + decimals.ljust(SCALE, "0"))


@cache
def _schema() -> Any:
    from lxml import etree

    with as_file(files("sepaxml") / "schemas" / f"{SCHEMA}.xsd") as path:
        return etree.XMLSchema(file=str(path))
