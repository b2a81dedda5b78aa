"""Files of entries: what their rows say and what is wrong with them, before any book is asked."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.bounds import TEXT_MAX
from ledger.commands import BankEvidence, ChainEvidence
from ledger.errors import BadFile
from ledger.importing import GROUP_ROWS_MAX, ByHand, Parser, check_header
from ledger.money import Asset, AssetKind
from ledger.rowfiles import ROW_MAX, Fault, FileFormat, Record, RowFile, RowWriter, guarded, unguarded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASSETS = {code: Asset(code, kind, scale) for code, kind, scale in (
    ("USD", AssetKind.FIAT, 2), ("ETH", AssetKind.CRYPTO, 18), ("PTS", AssetKind.POINTS, 0)
)}  # fmt: skip
A, B, CAPITAL = "usr_a/wallet/USD", "usr_b/wallet/USD", "house/capital/USD"
HAND = ByHand(purposes=frozenset({"capital", "suspense", "fees"}), waiting=frozenset({"suspense"}))
COLUMNS = ("id", "debit", "credit", "asset", "amount")
HEADER = ",".join(COLUMNS)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def read(content, form=FileFormat.CSV, check=None):
    return list(RowFile(io.BytesIO(content), form, check_header=check))


def taken(content, form=FileFormat.CSV, by_hand=None):
    """Bundles and faults of a file."""
    content = content.encode() if isinstance(content, str) else content
    rows = RowFile(io.BytesIO(content), form, check_header=check_header)
    return list(Parser(ASSETS, now=NOW, by_hand=by_hand).bundles(rows))


def rows(*lines, header=HEADER):
    return "".join(line + "\n" for line in (header, *lines))


def jsonl(*objects):
    return "".join(json.dumps(each) + "\n" for each in objects)


def row(name="one", amount="1.00", debit=A, credit=B, asset="USD"):
    return f"{name},{debit},{credit},{asset},{amount}"


def only_fault(content, form=FileFormat.CSV, **more):
    found = taken(content, form, **more)
    faults = [item for item in found if isinstance(item, Fault)]
    assert len(faults) == 1, found
    return faults[0]


def posts(content, form=FileFormat.CSV, **more):
    found = taken(content, form, **more)
    assert not any(isinstance(item, Fault) for item in found), found
    return [entry.post for bundle in found for entry in bundle.entries]


# Rows


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_any_text_comes_back_from_either_form(texts):
    for form in FileFormat:
        writer = RowWriter(form, ("a", "b"), texts=("a", "b"))
        content = writer.header() + writer.rows([(one or None, other or None) for one, other in texts])
        told = [{name: text for name, text in zip(("a", "b"), pair, strict=True) if text} for pair in texts]
        empty = form is FileFormat.CSV
        assert [item.cells for item in read(content, form)] == [cells for cells in told if cells or not empty]


@given(TEXT)
def test_no_text_begins_as_a_formula_does(text):
    cell = guarded(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r")
    if cell:
        assert unguarded(cell) == text


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT.filter(bool)), min_size=1, max_size=5))
def test_rows_of_the_standard_library_are_read_as_written(texts):
    """But for an apostrophe that guards: no other program writes one there."""
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *texts])
    found = [item.cells for item in read(written.getvalue().encode())]
    assert found == [{"a": unguarded(one), "b": unguarded(other)} for one, other in texts]


def test_the_two_forms_of_one_entry_agree():
    evidence = {"network": "local", "block_number": 7, "block_hash": "0xab", "tx_hash": "0xcd", "place": "log:3"}
    said = {"subject": "s", "effective_at": "2025-12-31T23:00:00+01:00", "metadata": {"memo": "=a,\n\"b\" 'ü'"}}
    first = dict(zip(COLUMNS, ("=x", A, B, "USD", "12.50"), strict=True)) | said | {"evidence": evidence}
    second = first | {"amount": "0.01", "debit": B, "credit": A}
    columns = tuple(first)
    files = {}
    for form in FileFormat:
        writer = RowWriter(form, columns, texts=("id",), objects=("evidence", "metadata"))
        objects = [
            [json.dumps(each) if isinstance(each, dict) else each for each in one.values()] for one in (first, second)
        ]
        files[form] = posts(writer.header() + writer.rows(objects), form)
    assert files[FileFormat.CSV] == files[FileFormat.JSONL] == posts(jsonl(first, second), FileFormat.JSONL)
    (post,) = files[FileFormat.CSV]
    assert post.id == "imp:=x:1"
    assert [posting.amount for posting in post.postings] == [1250, 1]
    assert post.evidence == ChainEvidence("local", 7, "0xab", "0xcd", "log:3")
    assert post.effective_at == datetime(2025, 12, 31, 22, tzinfo=UTC)
    assert post.metadata == {"memo": "=a,\n\"b\" 'ü'"}


def test_parts_of_evidence_and_metadata_may_have_columns_of_their_own():
    header = f"{HEADER},evidence.account,evidence.statement,evidence.line,metadata.memo"
    (post,) = posts(rows(row() + ",main,S1,3,hello", header=header))
    assert post.evidence == BankEvidence("main", "S1", 3)
    assert post.metadata == {"memo": "hello"}


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\n", b"\n\n"),
        lambda content: gzip.compress(content[:50], mtime=0) + gzip.compress(content[50:]),
    ],
    ids=["plain", "gzip", "bom", "crlf", "empty lines", "gzip in two parts"],
)
def test_what_programs_write_is_read(pack):
    content = rows(row("one"), row("two", "2.00")).encode()
    assert [post.id for post in posts(pack(content))] == ["imp:one:1", "imp:two:1"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\n", "bad_header"),
        (rows(row()).encode("utf-16"), "not_utf8"),
        (rows(row()).encode("utf-16-le"), "bad_header"),
        (b"PK\x03\x04 workbook", "not_text"),
        (rows(row()).replace(",", ";").encode(), "bad_header"),
        (rows(row()).replace(",", "\t").encode(), "bad_header"),
        (b"id,debit,credit,asset\n", "bad_header"),
        (b"id,id,debit,credit,asset,amount\n", "bad_header"),
        (b"id,debit,credit,asset,amuont\n", "bad_header"),
        (b"id,debit,credit,asset,amount,metadata,metadata.memo\n", "bad_header"),
        (b"id,debit,credit,asset,amount", "bad_header"),
        (b'id,"debit\n', "bad_header"),
        (gzip.compress(rows(row()).encode(), mtime=0)[:-9], "broken_archive"),
        (gzip.compress(rows(row()).encode(), mtime=0)[:-8] + b"\0" * 8, "broken_archive"),
        (gzip.compress(rows(row()).encode(), mtime=0) + b"more", "broken_archive"),
        (rows('x,"' + "y" * ROW_MAX).encode(), "row_too_long"),
        (rows('x,"' + "é\n" * ROW_MAX).encode(), "row_too_long"),
    ],
)
def test_a_file_that_leaves_nothing_to_go_on_with_is_refused_whole(content, code):
    with pytest.raises(BadFile) as refused:
        taken(content)
    assert refused.value.code == code


def test_a_wrong_header_is_told_with_all_that_is_wrong_and_the_columns():
    with pytest.raises(BadFile) as refused:
        taken("id,debit,credit,assets,amount,amount\n")
    for said in (
        "'assets' is no column (is it 'asset'?)",
        "'amount' stands twice",
        "'asset' is missing",
        "metadata.KEY",
    ):
        assert said in refused.value.message


@pytest.mark.parametrize(
    ("line", "code", "at"),
    [
        ("one,two", "wrong_cells", 3),
        ('one,"a"b,c,d,e', "bad_csv", 3),
        (f'"one\n",{A},"{B}', "bad_csv", 3),
        (row("a\0b"), "nul", 3),
    ],
)
def test_a_row_that_is_none_is_named_and_reading_goes_on(line, code, at):
    found = taken(
        rows(row("first"), line) if code == "bad_csv" and "\n" in line else rows(row("first"), line, row("x"))
    )
    fault = next(item for item in found if isinstance(item, Fault))
    assert (fault.code, fault.line) == (code, at)
    if not (code == "bad_csv" and "\n" in line):
        assert found[-1].entries[0].id == "x"


def test_bytes_that_are_no_text_are_named_with_their_line():
    fault = only_fault(rows(row("first")).encode() + b"\xff\xfe,a,b,c,d\n" + row("last").encode() + b"\n")
    assert (fault.code, fault.line) == ("not_utf8", 3)


def test_a_line_is_counted_through_cells_of_several_lines():
    header = f"{HEADER},metadata.memo"
    fault = only_fault(rows(row("one") + ',"a\nb\n\nc"', row("two", "x") + ",", header=header))
    assert fault.line == 6


def test_a_csv_file_that_was_cut_off_inside_its_last_amount_is_noticed():
    whole = rows(row("one"), row("two", "1250.00"))
    for end in range(1, len(row("two", "1250.00")) + 1):
        fault = only_fault(whole[:-end])
        assert (fault.code, fault.line) == ("cut_off", 3)


def test_a_json_file_that_was_cut_off_is_noticed():
    whole = jsonl(dict(zip(COLUMNS, ("one", A, B, "USD", "1.00"), strict=True)))
    for end in range(2, len(whole)):
        assert only_fault(whole[:-end], FileFormat.JSONL).code == "bad_json"
    assert len(posts(whole[:-1], FileFormat.JSONL)) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[1]", "bad_json"),
        ("{'id': 1}", "bad_json"),
        ('{"id": "a", "id": "b"}', "repeated_key"),
        ('{"id": "a", "metadata": {"x": "1", "x": "2"}}', "repeated_key"),
        ('{"id": NaN}', "bad_json"),
        ('{"id": ' + "[" * 100_000 + "}", "bad_json"),
        ('{"id": ' + "9" * 10_000 + "}", "bad_json"),
        ('{"id": "a", "colour": "red"}', "unknown_column"),
        ('{"id": "a", "\\u001b[31m\\ud800": "red"}', "unknown_column"),
        ('{"id": 7}', "not_text"),
        ('{"id": ["a"]}', "not_text"),
        ('{"id": null}', "missing"),
        ("{}", "missing"),
        ('{"id": "\\ud800"}', "bad_text"),
        ('{"id": "\\u0000"}', "bad_text"),
    ],
)
def test_json_that_is_no_row_is_named(line, code):
    fault = only_fault(line + "\n", FileFormat.JSONL)
    assert (fault.code, fault.line) == (code, 1)
    assert str(fault).encode()
    assert "\x1b" not in str(fault)


# Amounts


@pytest.mark.parametrize(
    ("amount", "asset", "units"),
    [
        ("1", "USD", 100),
        ("0.01", "USD", 1),
        ("12.5", "USD", 1250),
        ("7", "PTS", 7),
        ("0.000000000000000001", "ETH", 1),
        (f"{2**256 - 1:019d}"[:-18] + "." + f"{2**256 - 1}"[-18:], "ETH", 2**256 - 1),
    ],
)
def test_an_amount_is_exact(amount, asset, units):
    line = row("one", amount, A.replace("USD", asset), B.replace("USD", asset), asset)
    (post,) = posts(rows(line))
    assert post.postings[0].amount == units


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("", "missing"),
        ("0", "invalid_amount"),
        ("0.00", "invalid_amount"),
        ("-1.00", "invalid_amount"),
        ("+1.00", "invalid_amount"),
        ("1e3", "invalid_amount"),
        ('"1,000.00"', "invalid_amount"),
        ('"12,50"', "invalid_amount"),
        (" 1.00", "invalid_amount"),
        ("01.00", "invalid_amount"),
        ("1.", "invalid_amount"),
        ("٣", "invalid_amount"),
        ("$1", "invalid_amount"),
        ("1.001", "too_many_decimals"),
        ("1.000", "too_many_decimals"),
        (str(2**256), "amount_too_large"),
        ("9" * 200, "invalid_amount"),
    ],
)
def test_an_amount_that_is_none_is_refused_never_rounded(amount, code):
    fault = only_fault(rows(row(amount=amount)))
    assert (fault.code, fault.column, fault.line) == (code, "amount", 2)


@pytest.mark.parametrize("amount", [12.5, 12, 1e300, True, ["1"], {"a": "1"}])
def test_a_number_in_json_is_no_amount(amount):
    fault = only_fault(jsonl(dict(zip(COLUMNS, ("one", A, B, "USD", amount), strict=True))), FileFormat.JSONL)
    assert (fault.code, fault.column) == ("invalid_amount", "amount")
    assert "decimal string" in fault.why


# Entries


@pytest.mark.parametrize(
    ("line", "code", "column"),
    [
        (row(name=""), "missing", "id"),
        (row(name="x" * (TEXT_MAX - 9)), "too_long", "id"),
        (row(asset="XYZ"), "unknown_asset", "asset"),
        (row(asset=""), "missing", "asset"),
        (row(debit=""), "missing", "debit"),
        (row(debit="alice"), "bad_account", "debit"),
        (row(debit="usr a/wallet/USD"), "bad_account", "debit"),
        (row(debit="usr_a/wallet/ETH"), "asset_mismatch", "debit"),
        (row(debit=A, credit=A), "same_account", "credit"),
    ],
)
def test_a_cell_that_nobody_can_mean_is_named(line, code, column):
    fault = only_fault(rows(line))
    assert (fault.code, fault.column, fault.line) == (code, column, 2)


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        ("effective_at", "2026-01-01", "bad_instant"),
        ("effective_at", "2025-02-30T00:00:00Z", "bad_instant"),
        ("effective_at", "2025-12-31T00:00:00", "bad_instant"),
        ("effective_at", "0001-01-01T00:00:00+23:59", "bad_instant"),
        ("effective_at", "2026-01-01T00:00:00.000001Z", "effective_in_future"),
        ("subject", "x" * (TEXT_MAX + 1), "invalid_command"),
        ("metadata", "memo", "bad_metadata"),
        ("metadata", '{""a"": 1}', "bad_metadata"),
        ("metadata", '{""a"": ""1"", ""a"": ""2""}', "bad_metadata"),
        ("metadata", '{""' + "k" * 101 + '"": ""v""}', "invalid_command"),
        ("metadata.memo", "x" * 4_001, "invalid_command"),
        ("evidence", "{}x", "bad_evidence"),
        ("evidence", '{""network"": ""local""}', "bad_evidence"),
        ("evidence", '{""account"": ""main"", ""statement"": ""S"", ""line"": -1}', "bad_evidence"),
        ("evidence", '{""account"": ""main"", ""statement"": """", ""line"": 1}', "bad_evidence"),
        ("evidence", '{""account"": ""main"", ""statement"": ""S"", ""line"": 1.0}', "bad_evidence"),
        ("evidence", '{""account"": ""main"", ""statement"": ""S"", ""line"": 2147483648}', "bad_evidence"),
    ],
)
def test_what_an_entry_says_besides_is_checked(column, cell, code):
    fault = only_fault(rows(row() + f',"{cell}"', header=f"{HEADER},{column}"))
    assert (fault.code, fault.line) == (code, 2)


def test_rows_of_one_id_are_one_entry_and_of_one_group_succeed_together():
    header = f"{HEADER},group"
    found = taken(rows(*(row(n) + f",{g}" for n, g in ("a ", "a ", "bg", "cg", "ch", "d ")), header=header))
    assert len([item for item in found if isinstance(item, Fault)]) == 1  # c names two groups
    bundles = taken(rows(*(row(n) + f",{g.strip()}" for n, g in ("a ", "a ", "bg", "cg", "dh", "e ")), header=header))
    assert [(b.name, [e.id for e in b.entries], b.rows) for b in bundles] == [
        (None, ["a"], 2),
        ("g", ["b", "c"], 2),
        ("h", ["d"], 1),
        (None, ["e"], 1),
    ]


def test_further_rows_of_an_entry_say_the_same_or_nothing():
    header = f"{HEADER},subject"
    assert len(posts(rows(row() + ",s", row() + ",s", row() + ",", header=header))) == 1
    assert only_fault(rows(row() + ",s", row() + ",t", header=header)).code == "differs"


def test_an_entry_that_comes_back_in_its_group_is_refused():
    header = f"{HEADER},group"
    fault = only_fault(rows(row("a") + ",g", row("b") + ",g", row("a") + ",g", header=header))
    assert (fault.code, fault.line) == ("repeated_id", 4)


def test_a_bundle_with_a_faulty_row_is_not_given():
    header = f"{HEADER},group"
    found = taken(rows(row("a") + ",g", row("b", "x") + ",g", row("c") + ",g", row("d") + ",", header=header))
    assert [type(item).__name__ for item in found] == ["Fault", "Bundle"]
    assert found[1].entries[0].id == "d"


def test_a_group_has_a_bound_that_is_said_once():
    fault = only_fault(rows(*([row("same")] * (GROUP_ROWS_MAX + 5))))
    assert (fault.code, fault.line) == ("too_many_rows", GROUP_ROWS_MAX + 2)


def test_the_columns_of_rejects_are_not_read():
    header = f"{HEADER},code,facts"
    assert len(posts(rows(row() + ',insufficient_funds,"{}"', header=header))) == 1


# By hand


def test_by_hand_only_wallets_and_named_house_accounts_are_moved():
    assert len(posts(rows(row(debit=CAPITAL)), by_hand=HAND)) == 1
    for account in ("house/bank:main/USD", "house/custody:local:hot/USD", "house/receivable:usr_a/USD", "usr_a/x/USD"):
        for debit, credit in ((account, CAPITAL), (CAPITAL, account)):
            line = rows(row(debit=debit, credit=credit))
            assert only_fault(line, by_hand=HAND).code == "not_by_hand"
            assert len(posts(line)) == 1


def test_by_hand_nobody_brings_evidence():
    content = rows(row() + ",main,S,1", header=f"{HEADER},evidence.account,evidence.statement,evidence.line")
    fault = only_fault(content, by_hand=HAND)
    assert (fault.code, fault.column) == ("not_by_hand", "evidence")
    assert "--migrate" in fault.remedy


def test_by_hand_no_more_is_taken_from_suspense_than_is_there():
    (out,) = posts(rows(row(debit="house/suspense/USD")), by_hand=HAND)
    (into,) = posts(rows(row(credit="house/suspense/USD")), by_hand=HAND)
    (other,) = posts(rows(row(debit="house/suspense/USD")))
    assert (out.covered, into.covered, other.covered) == (True, False, False)


def test_a_record_has_the_line_that_it_begins_on():
    found = read(b'a,b\n"1\n2",3\n\n4,5\n')
    assert found == [Record(2, {"a": "1\n2", "b": "3"}), Record(5, {"a": "4", "b": "5"})]
