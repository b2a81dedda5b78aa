from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat.bank import xml
from fiat.bank.lines import Direction
from fiat.errors import ForeignAccount, MalformedFile, StatementDisagrees, UnknownFormat, UnsafeFile
from tests.fiat.statements import DAY, IBAN, Entry, camt053, read_statements

SCALES = {"EUR": 2, "JPY": 0}
PAID = Entry(1250, "Top-up of Ada", bank_reference="B-1")


def read(content):
    return read_statements(content, file="day.xml", scales=SCALES)


def refused(kind, content):
    with pytest.raises(kind) as stop:
        read(content)
    assert stop.value.file == "day.xml"
    assert "day.xml" in str(stop.value)
    return stop.value


@pytest.mark.parametrize("version", ["02", "08"])
def test_both_versions_say_the_same(version):
    (statement,) = read(camt053(PAID, Entry(300, side="DBIT"), version=version, opening=5000, sequence=7))
    assert (statement.id, statement.sequence, statement.account) == ("STMT-1", 7, IBAN)
    assert (statement.opening, statement.closing, statement.closing_on) == (5000, 5950, date(2025, 12, 1))
    first, second = statement.lines
    assert (first.number, first.direction, first.amount, first.booked_on) == (1, Direction.CREDIT, 1250, DAY)
    assert (first.bank_reference, first.remittance) == ("B-1", "Top-up of Ada")
    assert (first.counterparty, first.counterparty_account) == ("Ada Payer", "FR1420041010050500013M02606")
    assert (second.number, second.direction, second.amount) == (2, Direction.DEBIT, 300)


@pytest.mark.parametrize("version", ["02", "08"])
def test_a_batch_becomes_one_line_for_each_payment(version):
    (statement,) = read(camt053(Entry(1000, parts=((400, "A"), (600, "B"))), PAID, version=version))
    assert [(line.number, line.amount, line.remittance) for line in statement.lines] == [
        (1, 400, "A"),
        (2, 600, "B"),
        (3, 1250, "Top-up of Ada"),
    ]


def test_a_batch_whose_parts_do_not_add_up_stays_one_line():
    (statement,) = read(camt053(Entry(1000, parts=((400, "A"), (500, "B")))))
    assert [(line.amount, line.unclear_batch) for line in statement.lines] == [(1000, True)]


def test_a_reference_cut_at_the_line_end_is_joined_again():
    (statement,) = read(camt053(Entry(1, text=("for RF18OB7K", "2M9QX4AC thanks"))))
    assert "for RF18OB7K2M9QX4AC thanks" in statement.lines[0].texts
    assert statement.lines[0].remittance == "for RF18OB7K 2M9QX4AC thanks"


def test_pending_entries_are_counted_and_not_read():
    (statement,) = read(camt053(PAID, Entry(99, status="PDNG")))
    assert (len(statement.lines), statement.pending, statement.closing) == (1, 1, 1250)


def test_an_overdrawn_account_has_a_negative_balance():
    (statement,) = read(camt053(PAID, opening=-2000))
    assert (statement.opening, statement.closing) == (-2000, -750)


def test_a_previous_closing_balance_stands_for_the_opening():
    assert read(camt053(PAID, opening=100).replace(b"OPBD", b"PRCD"))[0].opening == 100


def test_trailing_zeros_are_no_more_decimals():
    content = camt053(PAID).replace(b">12.50<", b">12.50000<")
    assert read(content)[0].lines[0].amount == 1250


def test_a_byte_order_mark_and_another_declared_encoding_are_read():
    content = camt053(Entry(1, payer="Jörg"))
    assert read(b"\xef\xbb\xbf" + content)[0].lines[0].counterparty == "Jörg"
    latin = content.decode().replace('encoding="UTF-8"', 'encoding="ISO-8859-1"').encode("latin-1")
    assert read(latin)[0].lines[0].counterparty == "Jörg"


# What must not get in


def laughs():
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return f'<?xml version="1.0"?>\n<!DOCTYPE lol [<!ENTITY l0 "lol">{entities}]>\n<lol>&l11;</lol>'


def test_a_billion_laughs_are_refused_at_their_line():
    assert refused(UnsafeFile, laughs().encode()).line == 2


@pytest.mark.parametrize("doctype", ["<!DOCTYPE", "<!doctype"])
def test_an_external_entity_is_not_fetched(doctype, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    dtd = f'{doctype} Document [<!ENTITY x SYSTEM "{secret.as_uri()}">]>\n'
    content = camt053(PAID).replace(b"<Document", dtd.encode() + b"<Document", 1).replace(b"Ada Payer", b"&x;")
    assert "SECRET" not in str(refused(UnsafeFile, content))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "cp037", "utf-7"])
def test_a_bomb_in_an_encoding_that_hides_it_is_refused(encoding):
    refused(UnsafeFile, laughs().replace('"1.0"', f'"1.0" encoding="{encoding}"').encode(encoding))


@pytest.mark.parametrize(
    "declaration",
    [
        '<?xml version="1.0" encoding="UTF-7"?>',
        "<?xml version='1.0' encoding='utf-7'?>",
        f'<?xml version="1.0"{" " * 200}encoding="UTF-7"?>',
        '<?xml version="1.0"\n\tencoding\n=\n"UTF-7" standalone="yes"?>',
        '<?xml version="1.0" encoding="unicode-1-1-utf-7"?>',
    ],
)
def test_an_encoding_that_could_hide_a_document_type_is_refused_by_its_name(declaration):
    hidden = "+ADwAIQ-DOCTYPE lol +AFs +ADwAIQ-ENTITY l0 +ACI-lol+ACIAPg +AF0APg"
    stop = refused(UnsafeFile, f"{declaration}\n{hidden}<lol>&l0;</lol>".encode())
    assert "utf-7" in stop.message.lower()
    assert "utf-8" in stop.message


@pytest.mark.parametrize(
    "declaration", [f'<?xml version="1.0"{" " * 2000}encoding="UTF-7"?>', '<?xml version="1.0" encoding="ü"?>']
)
def test_a_declaration_that_cannot_be_read_is_refused(declaration):
    assert "declaration" in refused(UnsafeFile, f"{declaration}\n<lol/>".encode()).message


@pytest.mark.parametrize(
    "declaration", ["<?xml version='1.0'?>", "", f"<?xml version='1.0'{' ' * 300}encoding='UTF-8' ?>"]
)
def test_a_declaration_in_any_form_is_read(declaration):
    content = camt053(PAID).decode().partition("?>")[2].lstrip()
    assert read(f"{declaration}{content}".encode())[0].lines[0].amount == 1250


def test_a_bomb_behind_a_false_encoding_is_refused():
    refused(UnsafeFile, b"<?xml version='1.0' encoding='utf-16'?>" + laughs().encode("utf-16-le"))


def test_an_undeclared_entity_is_refused():
    assert refused(MalformedFile, camt053(PAID).replace(b"Ada Payer", b"&ada;")).line


def test_a_file_too_large_is_refused_unread(monkeypatch):
    monkeypatch.setattr(xml, "FILE_BYTES_MAX", 1000)
    assert refused(UnsafeFile, b"x" * 1001).facts["size"] == 1001


def test_a_file_too_deep_is_refused():
    deep = b"<a>" * 5000 + b"</a>" * 5000
    refused(MalformedFile, camt053(PAID).replace(b"<Prtry>", deep + b"<Prtry>"))


@pytest.mark.parametrize("content", [b"", b"   ", b"not xml", b"\0", b"%PDF-1.7", b"PK\x03\x04", b":20:MT940"])
def test_what_is_not_xml_is_refused(content):
    refused(UnsafeFile, content)


def test_every_cut_off_file_is_refused():
    content = camt053(PAID).rstrip()
    for end in range(0, len(content), 7):
        with pytest.raises((MalformedFile, UnsafeFile)):
            read(content[:end])


@pytest.mark.parametrize("name", ["camt.052.001.08", "camt.053.001.13", "pain.001.001.09"])
def test_another_message_or_version_is_named_with_the_known_ones(name):
    content = camt053(PAID).replace(b"camt.053.001.08", name.encode())
    stop = refused(UnknownFormat, content)
    assert name in str(stop)
    assert stop.facts["known"][:2] == ["camt.053.001.02", "camt.053.001.08"]


def test_xml_without_a_namespace_is_refused():
    refused(UnknownFormat, b"<Document/>")


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b">12.50<", b">-12.50<"),
        (b">12.50<", b">12,50<"),
        (b">12.50<", b">1e3<"),
        (b">12.50<", b"><"),
        (b">12.50<", b">NaN<"),
        (b'<Ntry><Amt Ccy="EUR"', b"<Ntry><Amt"),
        (b"<Ntry><Amt", b"<Ntry><Amount/><Amt"),
        (b"<CdtDbtInd>CRDT</CdtDbtInd><Sts>", b"<CdtDbtInd>CREDIT</CdtDbtInd><Sts>"),
        (b"<Cd>BOOK</Cd>", b"<Cd>BOKED</Cd>"),
        (b"<BookgDt><Dt>2025-12-01<", b"<BookgDt><Dt>2025-13-01<"),
        (b"<BookgDt><Dt>2025-12-01<", b"<BookgDt><Dt>01.12.2025<"),
        (b"<BookgDt><Dt>2025-12-01<", b"<BookgDt><Dt>12025-12-01<"),
        (b">DE89370400440532013000<", b">DE89 3704 0044<"),
        (b"<Id>STMT-1</Id>", b""),
    ],
)
def test_what_breaks_the_schema_is_refused_with_its_line(was, becomes):
    content = camt053(PAID)
    assert was in content
    lines = [number for number, line in enumerate(content.splitlines(), start=1) if was in line]
    at = refused(MalformedFile, content.replace(was, becomes)).line
    assert at in lines or at - 1 in lines


def test_more_decimals_than_the_currency_has_are_refused():
    assert "decimals" in str(refused(MalformedFile, camt053(PAID).replace(b">12.50<", b">12.505<")))
    yen = camt053(Entry(1250, currency="JPY"), currency="JPY")
    refused(MalformedFile, yen)


def test_another_currency_is_refused():
    assert "USD" in str(refused(ForeignAccount, camt053(Entry(1, currency="USD"), currency="USD")))
    assert refused(ForeignAccount, camt053(Entry(1, currency="USD"))).line == 9


@pytest.mark.parametrize("off", [-1, 1, 100000])
def test_balances_that_do_not_add_up_are_refused_with_the_numbers(off):
    stop = refused(StatementDisagrees, camt053(PAID, opening=100, closing=1350 + off))
    assert (stop.facts["opening"], stop.facts["entries"], stop.facts["closing"]) == (100, 1250, 1350 + off)


@pytest.mark.parametrize("code", [b"OPBD", b"CLBD"])
def test_a_missing_balance_is_refused(code):
    refused(StatementDisagrees, camt053(PAID).replace(code, b"ITBD"))


def summary(name, count, total):
    return f"<TxsSummry><{name}><NbOfNtries>{count}</NbOfNtries><Sum>{total}</Sum></{name}></TxsSummry>"


@pytest.mark.parametrize(
    ("name", "count", "total", "right"),
    [
        ("TtlNtries", 2, "15.50", True),
        ("TtlNtries", 3, "15.50", False),
        ("TtlNtries", 2, "15.51", False),
        ("TtlCdtNtries", 1, "12.50", True),
        ("TtlCdtNtries", 2, "12.50", False),
        ("TtlDbtNtries", 1, "3.00", True),
        ("TtlDbtNtries", 1, "3.01", False),
    ],
)
def test_the_banks_totals_are_checked(name, count, total, right):
    content = camt053(PAID, Entry(300, side="DBIT"), summary=summary(name, count, total))
    if right:
        read(content)
    else:
        refused(StatementDisagrees, content)


entries = st.builds(
    Entry,
    cents=st.integers(0, 10**12),
    side=st.sampled_from(["CRDT", "DBIT"]),
    text=st.text("RFOB0123 -é", max_size=40),
    status=st.sampled_from(["BOOK", "BOOK", "PDNG"]),
)


@given(st.lists(entries, max_size=8), st.integers(-(10**12), 10**12), st.sampled_from(["02", "08"]))
def test_lines_make_the_closing_balance_of_any_statement(entries, opening, version):
    (statement,) = read(camt053(*entries, opening=opening, version=version))
    assert statement.opening + sum(line.signed_amount for line in statement.lines) == statement.closing
    assert [line.number for line in statement.lines] == list(range(1, len(statement.lines) + 1))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(content):
    with pytest.raises((UnsafeFile, MalformedFile, UnknownFormat)):
        read(content)
