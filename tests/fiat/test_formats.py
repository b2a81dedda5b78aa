"""Notifications ahead of statements, MT940, reports that aren't ours, virtual IBANs."""

from dataclasses import replace

import pytest
import schwifty

from fiat.bank.lines import Direction
from fiat.bank.matching import Reason
from fiat.bank.mt940 import account_names, read_mt940
from fiat.bank.records import BankAccount, LineState
from fiat.bank.service import BankRail
from fiat.bank.virtual import number_of, virtual_iban
from fiat.errors import BankMisconfigured, ForeignAccount, MalformedFile, StatementDisagrees, UnknownFormat
from ledger.accounts import house_account, user_account
from tests.fiat.statements import DAY, IBAN, Entry, Lines, camt053

ADA = "usr_ada"
BANK = house_account("bank:house-bank", "EUR")


def notification(*entries, name="NTF-1", version="08", **more):
    """The same entries as a bank tells them before the day's statement."""
    text = camt053(*entries, name=name, version=version, **more).decode()
    start, end = text.index("<Bal>"), text.rindex("</Bal>") + len("</Bal>")
    text = text[:start] + text[end:]
    for was, becomes in (
        ("camt.053", "camt.054"),
        ("BkToCstmrStmt", "BkToCstmrDbtCdtNtfctn"),
        ("<Stmt>", "<Ntfctn>"),
        ("</Stmt>", "</Ntfctn>"),
    ):
        text = text.replace(was, becomes)
    return text.encode()


async def balance(ledger, account):
    found = await ledger.account(account)
    return found.balance if found else 0


@pytest.mark.slow
@pytest.mark.parametrize("version", ["02", "08"])
async def test_f74_a_line_notified_and_then_stated_has_one_effect(rail, ledger, version):
    entry = Entry(100, await rail.reference_for(ADA), bank_reference="B-1")
    first = await rail.import_statement(notification(entry, version=version), filename="054.xml")
    assert (first.format, first.credited, first.statements[0].kind) == ("camt.054", 1, "notification")
    assert await rail.closing_balances() == []
    second = await rail.import_statement(camt053(entry, version=version), filename="053.xml")
    assert (second.credited, second.statements[0].known, second.warnings) == (0, 1, ())
    third = await rail.import_statement(notification(entry, name="NTF-2", version=version), filename="late.xml")
    assert (third.credited, third.statements[0].known) == (0, 1)
    assert await balance(ledger, user_account(ADA, "EUR")) == 100 == -await balance(ledger, BANK)
    (closing,) = await rail.closing_balances()
    assert closing.balance == 100


@pytest.mark.slow
async def test_a_notified_line_that_the_statement_could_tell_otherwise_waits_for_it(rail, ledger):
    reference = await rail.reference_for(ADA)
    entries = (Entry(100, reference), Entry(300, bank_reference="B-2", parts=((100, reference), (200, "x"))))
    receipt = await rail.import_statement(notification(*entries), filename="054.xml")
    assert (receipt.credited, receipt.suspended, receipt.statements[0].ahead) == (0, 0, 3)
    receipt = await rail.import_statement(camt053(*entries), filename="053.xml")
    assert (receipt.credited, receipt.suspended) == (2, 1)
    assert await balance(ledger, user_account(ADA, "EUR")) == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "becomes", "credited"),
    [
        ("<Refs>", "<Refs>", 1),
        ("<Refs>", "<Refs><AcctSvcrRef>B-1</AcctSvcrRef>", 1),
        ("<Refs>", "<Refs><AcctSvcrRef>D-1</AcctSvcrRef>", 0),
        (f"<BookgDt><Dt>{DAY}</Dt>", f"<BookgDt><DtTm>{DAY}T23:30:00-05:00</DtTm>", 0),
    ],
)
async def test_a_notified_line_with_two_references_or_a_time_of_day_waits_for_its_statement(
    rail, ledger, was, becomes, credited
):
    entry = Entry(100, await rail.reference_for(ADA), bank_reference="B-1")
    content = notification(entry).replace(was.encode(), becomes.encode())
    assert becomes.encode() in content
    receipt = await rail.import_statement(content, filename="054.xml")
    assert (receipt.credited, receipt.statements[0].ahead) == (credited, 1 - credited)
    await rail.import_statement(camt053(entry), filename="053.xml")
    assert await balance(ledger, user_account(ADA, "EUR")) == 100


@pytest.mark.slow
async def test_the_book_agrees_with_the_bank_between_notification_and_statement(rail, ledger):
    await rail.import_statement(camt053(Entry(50), day=Entry(1).day), filename="first.xml")
    later = Entry(100, bank_reference="B-9", day=Entry(1).day.replace(day=2))
    await rail.import_statement(notification(later), filename="054.xml")
    (closing,) = await rail.closing_balances()
    assert closing.balance == 150 == -await balance(ledger, BANK)


MT940 = """{{1:F01BANKDEFFXXXX0000000000}}{{4:
:20:STMT{number}
:25:{account}
:28C:{number}/1
:60F:C251201EUR{opening}
:61:2512011201C100,00NTRFKREF+//R-77
:86:166?00SEPA?20SVWZ+Top-up {reference}?30COBADEFF?31DE89370400440532013000?32ADA PAYER
:61:2512011201D0,50NMSCNONREF
:86:/REMI/USTD//fee of the month/
:62F:C251201EUR{closing}
-}}
"""


def mt940(*, account="37040044/532013000", opening="0,00", closing="99,50", reference="x", number=1):
    text = MT940.format(account=account, opening=opening, closing=closing, reference=reference, number=number)
    return text.encode()


def read(content):
    lines = Lines()
    accounts = dict.fromkeys(account_names(IBAN), IBAN)
    found = read_mt940(content, file="m.sta", scales={"EUR": 2}, accounts=accounts, sink=lines)
    return found, lines.by_ordinal


@pytest.mark.parametrize("account", [IBAN, "37040044/0532013000", "37040044/532013000", "37040044/532013000EUR"])
def test_mt940_is_read_line_by_line(account):
    (statement,), lines = read(mt940(account=account).replace(b"\n", b"\r\n"))
    assert (statement.account, statement.currency, statement.opening, statement.closing) == (IBAN, "EUR", 0, 9950)
    first, second = lines[0]
    assert (first.direction, first.amount, first.bank_reference, first.file_line) == (
        Direction.CREDIT,
        10000,
        "R-77",
        6,
    )
    assert (second.direction, second.amount, second.file_line) == (Direction.DEBIT, 50, 8)
    assert first.counterparty == "ADA PAYER"


@pytest.mark.parametrize(
    ("was", "becomes", "kind"),
    [
        (b"C100,00", b"C-100,00", MalformedFile),
        (b"C100,00", b"C100,005", MalformedFile),
        (b"251201EUR99", b"251201USD99", ForeignAccount),
        (b"EUR99,50", b"EUR99,49", StatementDisagrees),
        (b":62F:C251201EUR99,50", b"", StatementDisagrees),
        (b":61:2512011201D0,50NMSCNONREF", b":61:25xx", MalformedFile),
    ],
)
def test_f74_a_broken_mt940_is_refused_with_its_line(was, becomes, kind):
    content = mt940()
    assert was in content
    with pytest.raises(kind) as stop:
        read(content.replace(was, becomes))
    assert stop.value.file == "m.sta"
    assert stop.value.line


@pytest.mark.slow
async def test_mt940_credits_as_camt_does_and_not_the_same_days_again(rail, ledger):
    reference = await rail.reference_for(ADA)
    receipt = await rail.import_statement(mt940(reference=reference), filename="m.sta")
    assert (receipt.format, receipt.credited, receipt.suspended) == ("mt940", 1, 1)
    again = await rail.import_statement(mt940(reference=reference), filename="again.sta")
    assert again.replayed
    with pytest.raises(StatementDisagrees, match="mt940"):
        await rail.import_statement(camt053(Entry(100_00, reference), Entry(50, side="DBIT")), filename="x.xml")
    assert await balance(ledger, user_account(ADA, "EUR")) == 100_00


@pytest.mark.slow
async def test_the_same_days_in_another_format_are_refused_also_in_a_longer_statement(rail, ledger):
    reference = await rail.reference_for(ADA)
    await rail.import_statement(mt940(reference=reference), filename="m.sta")
    later = DAY.replace(day=7)
    week = camt053(
        Entry(100_00, reference), Entry(50, side="DBIT"), Entry(7_00, reference, day=later), day=later, name="WEEK"
    )
    with pytest.raises(StatementDisagrees, match="mt940"):
        await rail.import_statement(week, filename="week.xml")
    assert await balance(ledger, user_account(ADA, "EUR")) == 100_00
    rest = camt053(Entry(7_00, reference, day=later), day=later, name="REST", opening=99_50)
    assert (await rail.import_statement(rest, filename="rest.xml")).credited == 1


@pytest.mark.slow
async def test_days_notified_as_camt_are_not_taken_as_mt940(rail, ledger):
    reference = await rail.reference_for(ADA)
    waiting = notification(Entry(100_00, reference))  # without the bank's reference nothing of it is booked
    await rail.import_statement(waiting, filename="waiting.xml")
    await rail.import_statement(notification(Entry(100_00, reference, bank_reference="B-1")), filename="054.xml")
    with pytest.raises(StatementDisagrees, match=r"camt\.054"):
        await rail.import_statement(mt940(reference=reference), filename="m.sta")
    assert await balance(ledger, user_account(ADA, "EUR")) == 100_00


@pytest.mark.slow
async def test_days_stated_as_mt940_are_not_taken_from_a_camt_notification(rail, ledger):
    reference = await rail.reference_for(ADA)
    await rail.import_statement(notification(Entry(100_00, reference)), filename="waiting.xml")
    await rail.import_statement(mt940(reference=reference), filename="m.sta")
    told = Entry(100_00, reference, bank_reference="B-1")
    with pytest.raises(StatementDisagrees, match="mt940"):
        await rail.import_statement(notification(told, name="NTF-2"), filename="054.xml")
    assert await balance(ledger, user_account(ADA, "EUR")) == 100_00
    await rail.import_statement(notification(replace(told, day=DAY.replace(day=2)), name="NTF-3"), filename="new.xml")
    assert await balance(ledger, user_account(ADA, "EUR")) == 200_00


REPORT = """<?xml version="1.0"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>
<GrpHdr><MsgId>S-1</MsgId><CreDtTm>2026-01-05T09:00:00Z</CreDtTm></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>PYB01JD0000000000000000000000</OrgnlMsgId>
<OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>{status}</OrgnlGrpInfAndSts>
<OrgnlPmtInfAndSts><OrgnlPmtInfId>X</OrgnlPmtInfId>{rows}</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>"""
ROW = "<TxInfAndSts><OrgnlEndToEndId>PYO01JD0000000000000000000000</OrgnlEndToEndId><TxSts>RJCT</TxSts></TxInfAndSts>"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (REPORT.format(status="<GrpSts>RJCT</GrpSts>", rows=""), StatementDisagrees),
        (REPORT.format(status="", rows=ROW + ROW), StatementDisagrees),
        (REPORT.format(status="<GrpSts>WHAT</GrpSts>", rows=""), StatementDisagrees),
        (REPORT.format(status="<GrpSts>rjct</GrpSts>", rows=""), MalformedFile),
        (REPORT.format(status="", rows="").replace("002.001.10", "002.001.99"), UnknownFormat),
    ],
)
async def test_f74_a_report_that_is_broken_or_not_ours_is_refused_with_its_line(rail, content, kind):
    with pytest.raises(kind) as stop:
        await rail.import_statement(content.encode(), filename="s.xml")
    assert stop.value.line


@pytest.mark.parametrize("iban", [IBAN, "NL30MOCK0000000005", "FR1420041010050500013M02606"])
def test_virtual_ibans_are_valid_and_read_back(iban):
    account = BankAccount(name="a", iban=iban, asset="EUR", virtual_prefix="77")
    made = [virtual_iban(account, number) for number in (1, 2, 99)]
    assert len(set(made)) == 3
    for number, text in zip((1, 2, 99), made, strict=True):
        assert str(schwifty.IBAN(text)) == text
        assert number_of(account, text) == number
    assert number_of(account, iban) is None
    assert number_of(account, "GB29NWBK60161331926819") is None


@pytest.mark.parametrize("prefix", ["77", "12345678901234567890"])
def test_a_prefix_that_leaves_no_numbers_is_a_configuration_error(prefix, database, ledger, clock, entropy, vault):
    account = BankAccount(name="a", iban=IBAN, asset="EUR", virtual_prefix=prefix)
    if prefix == "77":
        with pytest.raises(BankMisconfigured):
            virtual_iban(account, 10**8)
        return
    with pytest.raises(BankMisconfigured):
        BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=[account], vault=vault)


@pytest.mark.parametrize(
    ("first", "second", "iban", "overlap"),
    [
        ("77", "77", "DE24370400440532013006", True),
        ("77", "7", "DE24370400440532013006", True),
        ("7", "77", "DE24370400440532013006", True),
        ("77", "78", "DE24370400440532013006", False),
        ("77", "77", "NL30MOCK0000000005", False),
    ],
)
def test_two_accounts_never_give_one_virtual_iban(
    first, second, iban, overlap, database, ledger, clock, entropy, vault
):
    accounts = [
        BankAccount(name="a", iban=IBAN, asset="EUR", virtual_prefix=first),
        BankAccount(name="b", iban=iban, asset="EUR", virtual_prefix=second),
    ]
    told = {"clock": clock, "entropy": entropy, "accounts": accounts, "vault": vault}
    if overlap:
        with pytest.raises(BankMisconfigured, match="virtual_prefix"):
            BankRail(database.engine(), ledger, **told)
    else:
        BankRail(database.engine(), ledger, **told)


@pytest.mark.slow
async def test_a_payment_to_a_virtual_iban_needs_no_reference(database, ledger, clock, entropy, vault):
    account = BankAccount(name="house-bank", iban=IBAN, asset="EUR", virtual_prefix="77")
    rail = BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=[account], vault=vault)
    theirs = await rail.virtual_iban_for(ADA, account)
    assert theirs is not None
    assert theirs == await rail.virtual_iban_for(ADA, account) != await rail.virtual_iban_for("usr_bob", account)
    bob = await rail.reference_for("usr_bob")
    content = camt053(Entry(100, "hello"), Entry(200, bob, bank_reference="B-2"), Entry(300, "x")).decode()
    paid_to = f"<CdtrAcct><Id><IBAN>{theirs}</IBAN></Id></CdtrAcct></RltdPties>"
    assert theirs is not None
    unknown = paid_to.replace(theirs, virtual_iban(account, 50))
    parts = content.split("</RltdPties>")
    receipt = await rail.import_statement(
        (parts[0] + paid_to + parts[1] + paid_to + parts[2] + unknown + parts[3]).encode(), filename="v.xml"
    )
    assert (receipt.credited, receipt.suspended) == (1, 2)
    assert receipt.statements[0].reasons == {Reason.SEVERAL_REFERENCES: 1, Reason.UNKNOWN_REFERENCE: 1}
    assert await balance(ledger, user_account(ADA, "EUR")) == 100
    assert [line.owner for line in await rail.lines(LineState.CREDITED)] == [ADA]
