"""Statements, balances at an instant, history by metadata and by either time: what was, told the same way for ever."""

import csv
import io
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from base.clock import ManualClock
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.outcomes import require_accepted
from tests.api.conftest import Caller, Stage

pytestmark = pytest.mark.slow

JANUARY: dict[str, Any] = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
SEND = {"recipient": "@bob", "asset": "USDC", "amount": "10.00"}


async def _post(
    stage: Stage, name: str, *, amount: int = 1_000_000, parts: int = 1, at: datetime | None = None, **more: Any
) -> None:
    """Credit alice `parts` times, out of the house's capital."""
    account, source = user_account(str(stage.alice.user), "USDC"), house_account("capital", "USDC")
    await stage.services.ledger.ensure_open(account, source)
    postings = (Posting(source, account, "USDC", amount),) * parts
    post = Post(id=f"test:{name}", postings=postings, effective_at=at, **more)
    require_accepted((await stage.services.ledger.submit(alone(post)))[0])


@pytest.fixture
async def month(stage: Stage, clock: ManualClock) -> Stage:
    """Alice gets 100 USDC on 1 January, sends 10 on each of the next three days; it is 4 January."""
    await stage.fund(stage.alice, "100.00", "USDC")
    for memo in ("=1+1", "rent", "-2"):
        clock.advance(timedelta(days=1))
        await stage.alice.post("/v1/transfers", SEND | {"memo": memo})
    return stage


def pairs(**named: str) -> dict[str, Any]:
    """A query for these pairs of metadata."""
    return {f"metadata.{name}": value for name, value in named.items()}


# Statements


async def test_a_statement_leads_from_its_opening_to_its_closing(month: Stage):
    told = (await month.alice.get("/v1/statements", asset="USDC", **JANUARY)).json()
    assert (told["account"], told["asset"], told["by"]) == (f"{month.alice.user}/wallet/USDC", "USDC", "booked")
    assert (told["opening"], told["closing"]) == ("0.00", "70.00")
    assert [line["amount"] for line in told["lines"]] == ["100.00", "-10.00", "-10.00", "-10.00"]
    assert [line["balance"] for line in told["lines"]] == ["100.00", "90.00", "80.00", "70.00"]
    part: dict[str, Any] = {"from": "2026-01-03T00:00:00Z", "to": "2026-01-04T00:00:00Z"}
    middle = (await month.alice.get("/v1/statements", asset="USDC", **part)).json()
    assert (middle["opening"], middle["closing"]) == ("90.00", "80.00")
    (line,) = middle["lines"]
    assert (line["kind"], line["counterparty"], line["memo"]) == ("transfer", month.bob.user, "rent")
    assert Decimal(middle["opening"]) + Decimal(line["amount"]) == Decimal(middle["closing"])
    theirs = (await month.bob.get("/v1/statements", asset="USDC", **JANUARY)).json()
    assert (theirs["opening"], theirs["closing"], len(theirs["lines"])) == ("0.00", "30.00", 3)


async def test_with_its_known_seq_it_is_the_same_to_the_last_byte(month: Stage, clock: ManualClock):
    for form in ("json", "csv"):
        for by in ("booked", "effective"):
            first = await month.alice.get("/v1/statements", asset="USDC", by=by, **JANUARY)
            asked = {"asset": "USDC", "by": by, "format": form, "known_seq": first.json()["known_seq"], **JANUARY}
            printed = await month.alice.get("/v1/statements", **asked)
            clock.advance(timedelta(hours=1))
            await _post(month, f"late-{form}-{by}", at=clock.now() - timedelta(days=2))
            again = await month.alice.get("/v1/statements", **asked)
            assert again.content == printed.content
            if form == "json":
                assert printed.content == first.content
            now = (await month.alice.get("/v1/statements", asset="USDC", by=by, **JANUARY)).json()
            assert Decimal(now["closing"]) == Decimal(first.json()["closing"]) + 1
            then = {**asked, "known_at": first.json()["known_at"], "format": "json"}
            del then["known_seq"]
            assert (await month.alice.get("/v1/statements", **then)).json() == first.json()


async def test_by_effective_time_a_late_entry_stands_at_its_own_date(month: Stage, clock: ManualClock):
    await _post(month, "late", at=clock.now() - timedelta(days=2))
    day: dict[str, Any] = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T12:00:00Z"}
    booked, effective = [
        (await month.alice.get("/v1/statements", asset="USDC", by=by, **day)).json() for by in ("booked", "effective")
    ]
    assert ([line["amount"] for line in booked["lines"]], booked["closing"]) == (["-10.00"], "90.00")
    assert [line["amount"] for line in effective["lines"]] == ["-10.00", "1.00"]
    assert (effective["opening"], effective["closing"]) == ("100.00", "91.00")
    assert effective["lines"][1]["booked_at"] > effective["lines"][1]["effective_at"]


async def test_as_a_file_it_is_exact_and_no_cell_of_it_runs(month: Stage):
    await _post(month, "strange", subject="=cmd()", metadata={"memo": "\uff1dHYPERLINK()"})
    answer = await month.alice.get("/v1/statements", asset="USDC", format="csv", **JANUARY)
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="statement-USDC-2026-01-01-2026-02-01-' in answer.headers["content-disposition"]
    opening, *lines, closing = csv.DictReader(io.StringIO(answer.text))
    assert (opening["row"], opening["balance"], closing["row"], closing["balance"]) == (
        "opening",
        "0.00",
        "closing",
        "71.00",
    )
    assert Decimal(opening["balance"]) + sum(Decimal(line["amount"]) for line in lines) == Decimal(closing["balance"])
    assert [line["memo"] for line in lines] == ["", "'=1+1", "rent", "'-2", "'\uff1dHYPERLINK()"]
    assert lines[-1]["subject"] == "'=cmd()"
    by_header = await month.alice.get("/v1/statements", asset="USDC", headers={"Accept": "text/csv"}, **JANUARY)
    assert by_header.content == answer.content


async def test_users_see_their_own_accounts_and_the_treasurer_every_one(month: Stage):
    mine = f"{month.alice.user}/wallet/USDC"
    own = await month.alice.get("/v1/statements", account=mine, **JANUARY)
    assert own.json() == (await month.alice.get("/v1/statements", asset="USDC", **JANUARY)).json()
    for other in (f"{month.bob.user}/wallet/USDC", "house/capital/USDC", "usr_none/wallet/USDC"):
        refused = await month.alice.get("/v1/statements", account=other, **JANUARY)
        assert (refused.status_code, refused.json()["needed"]) == (403, "treasury:read")
    assert (await month.treasurer.get("/v1/statements", account=mine, **JANUARY)).json() == own.json()
    house = (await month.treasurer.get("/v1/statements", account="house/capital/USDC", **JANUARY)).json()
    assert (house["closing"], house["lines"][0]["counterparty"]) == ("-100.00", month.alice.user)
    refused = await month.treasurer.get("/v1/statements", asset="USDC", **JANUARY)
    assert (refused.status_code, refused.json()["needed"]) == (403, "wallet:read")
    assert (await month.operator.get("/v1/statements", asset="USDC", **JANUARY)).status_code == 403
    assert (await month.nobody.get("/v1/statements", asset="USDC", **JANUARY)).status_code == 401


async def test_a_key_without_the_scope_reads_no_statement(month: Stage):
    body = {"label": "sender", "scopes": ["transfers:write"], "user": "@alice"}
    sender = Caller(month.api, (await month.operator.post("/v1/api-keys", body)).json()["secret"])
    for which in ({"asset": "USDC"}, {"account": f"{month.alice.user}/wallet/USDC"}):
        refused = await sender.get("/v1/statements", **(JANUARY | which))
        assert (refused.status_code, refused.json()["needed"]) == (403, "wallet:read")


WRONG: list[tuple[dict[str, Any], int, str, str | None]] = [
    # change                                                  status  code                param
    ({"from": None},                                             422, "missing_field",     "from"),
    ({"asset": None},                                            422, "invalid_request",   "asset"),
    ({"account": "house/fx/USDC"},                               422, "invalid_request",   "asset"),
    ({"asset": "XYZ"},                                           422, "unknown_asset",     "asset"),
    ({"asset": "US/DC"},                                         422, "invalid_command",   None),
    ({"asset": None, "account": "USDC"},                         422, "invalid_command",   None),
    ({"to": "2026-01-01T00:00:00Z"},                             422, "invalid_request",   "to"),
    ({"to": "2025-01-01T00:00:00Z"},                             422, "invalid_request",   "to"),
    ({"from": "2027-01-01T00:00:00Z", "to": None},               422, "invalid_request",   "to"),
    ({"from": "2026-01-01"},                                     422, "invalid_request",   "from"),
    ({"from": "2026-01-01T00:00:00"},                            422, "invalid_request",   "from"),
    ({"from": "1767225600"},                                     422, "invalid_request",   "from"),
    ({"from": "0001-01-01T00:00:00Z"},                           422, "invalid_request",   "from"),
    ({"to": "9999-12-31T23:59:59-14:00"},                        422, "invalid_request",   "to"),
    ({"by": "mood"},                                             422, "invalid_request",   "by"),
    ({"format": "xml"},                                          422, "invalid_request",   "format"),
    ({"known_seq": "-1"},                                        422, "invalid_request",   "known_seq"),
    ({"known_seq": str(2**63)},                                  422, "invalid_request",   "known_seq"),
    ({"known_seq": "1", "known_at": "2026-01-01T00:00:00Z"},     422, "invalid_request",   "known_seq"),
    ({"known_at": "yesterday"},                                  422, "invalid_request",   "known_at"),
]  # fmt: skip


async def test_what_cannot_be_told_is_named(month: Stage):
    surprises = []
    for change, status, code, param in WRONG:
        asked: dict[str, Any] = {
            name: value for name, value in ({"asset": "USDC"} | JANUARY | change).items() if value is not None
        }
        answer = await month.alice.get("/v1/statements", **asked)
        told = (answer.status_code, answer.json().get("code"), answer.json().get("param"))
        if told != (status, code, param):
            surprises.append((change, told))
    assert not surprises, "\n".join(map(str, surprises))
    none = await month.treasurer.get("/v1/statements", account="usr_none/wallet/USDC", **JANUARY)
    assert (none.status_code, none.json()["code"], none.json()["param"]) == (404, "unknown_account", "account")
    empty = (await month.alice.get("/v1/statements", asset="EUR", **JANUARY)).json()
    assert (empty["opening"], empty["lines"], empty["closing"]) == ("0.00", [], "0.00")


async def test_one_that_is_too_long_says_where_to_end_it(stage: Stage, clock: ManualClock):
    await _post(stage, "many", amount=1, parts=9_999)
    clock.advance(timedelta(days=1))
    await _post(stage, "more", amount=1, parts=2)
    refused = await stage.alice.get("/v1/statements", asset="USDC", **JANUARY)
    shown = refused.json()
    assert (refused.status_code, shown["code"], shown["param"]) == (422, "statement_too_long", "to")
    assert (shown["limit"], shown["until"]) == (10_000, clock.now().isoformat())
    fits = await stage.alice.get("/v1/statements", asset="USDC", **{**JANUARY, "to": shown["until"]})
    assert (len(fits.json()["lines"]), fits.json()["closing"]) == (9_999, "0.009999")


# Balances at an instant


async def test_a_balance_in_the_past_is_what_was_booked_by_then(month: Stage, clock: ManualClock):
    async def at(when: str, **more: Any) -> dict[str, Any]:
        told: dict[str, Any] = (await month.alice.get("/v1/balances", at=when, **more)).json()
        return told

    assert (await at("2025-12-31T23:59:59.999999Z"))["items"] == [{"asset": "USDC", "balance": "0.00"}]
    told = await at("2026-01-03T00:00:00Z")
    assert (told["items"], told["at"], told["by"]) == (
        [{"asset": "USDC", "balance": "80.00"}],
        "2026-01-03T00:00:00.000000Z",
        "booked",
    )
    assert (await at("2026-01-02T23:59:59.999999Z"))["items"][0]["balance"] == "90.00"
    assert (await at("2026-01-03T13:59:59+14:00"))["items"][0]["balance"] == "90.00"
    clock.advance(timedelta(hours=1))
    await _post(month, "late", at=clock.now() - timedelta(days=2))
    assert (await at("2026-01-03T00:00:00Z"))["items"][0]["balance"] == "80.00"
    assert (await at("2026-01-03T00:00:00Z", by="effective"))["items"][0]["balance"] == "81.00"
    before = await at("2026-01-03T00:00:00Z", by="effective", known_at="2026-01-04T00:00:00Z")
    assert (before["items"][0]["balance"], before["known_at"]) == ("80.00", "2026-01-04T00:00:00.000000Z")
    assert "at" not in (await month.alice.get("/v1/balances")).json()


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"by": "effective"}, "at"),
        ({"known_at": "2026-01-01T00:00:00Z"}, "at"),
        ({"at": "2026-01-01"}, "at"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at"),
        ({"at": "2026-01-01T00:00:00Z", "by": "mood"}, "by"),
    ],
)
async def test_an_instant_that_cannot_be_meant_is_named(stage: Stage, asked: dict[str, Any], param: str):
    answer = await stage.alice.get("/v1/balances", **asked)
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (422, "invalid_request", param)


# History


async def test_history_is_found_by_metadata_but_not_by_the_houses_own_notes(month: Stage):
    await _post(month, "order", metadata={"order": "17", "note": "%"})
    found = (await month.alice.get("/v1/history", **pairs(order="17"))).json()["items"]
    assert [line["amount"] for line in found] == ["1.00"]
    both = pairs(order="17", note="%")
    assert len((await month.alice.get("/v1/history", **both)).json()["items"]) == 1
    for none in (pairs(order="1"), pairs(order="17", note="x"), pairs(memo="ren")):
        assert (await month.alice.get("/v1/history", **none)).json()["items"] == []
    assert (await month.bob.get("/v1/history", **pairs(order="17"))).json()["items"] == []
    assert len((await month.bob.get("/v1/history", **pairs(memo="rent"))).json()["items"]) == 1
    rows = list(
        csv.DictReader(io.StringIO((await month.alice.get("/v1/history", format="csv", **pairs(order="17"))).text))
    )
    assert [row["amount"] for row in rows] == ["1.00"]
    for key in ("reason", "by", "bank_line"):
        refused = await month.alice.get("/v1/history", **pairs(**{key: "mistake"}))
        assert (refused.status_code, refused.json()["code"], refused.json()["param"]) == (
            422,
            "not_searchable",
            f"metadata.{key}",
        )


@pytest.mark.parametrize(
    "query",
    [
        "metadata.=1",
        f"metadata.{'k' * 101}=1",
        f"metadata.k={'v' * 4001}",
        "metadata.k=1&metadata.k=2",
        "&".join(f"metadata.k{n}=1" for n in range(6)),
    ],
)
async def test_metadata_that_cannot_be_asked_for_is_refused(stage: Stage, query: str):
    mine = {"Authorization": f"Bearer {stage.alice.secret}"}
    answer = await stage.api.get(f"/v1/history?{query}", headers=mine)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    nul = await stage.api.get("/v1/history?metadata.k=a%00b", headers=mine)
    assert (nul.status_code, nul.json()["code"]) == (400, "malformed_text")


async def test_history_by_effective_time_goes_by_what_took_effect_then(month: Stage, clock: ManualClock):
    await _post(month, "late", at=clock.now() - timedelta(days=2))
    day: dict[str, Any] = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T12:00:00Z"}
    booked = (await month.alice.get("/v1/history", **day)).json()["items"]
    effective = (await month.alice.get("/v1/history", by="effective", **day)).json()["items"]
    assert [line["amount"] for line in booked] == ["-10.00"]
    assert [line["amount"] for line in effective] == ["1.00", "-10.00"]
    wrongs: list[dict[str, Any]] = [{"by": "mood"}, {"since": "2026-01-02"}, {"until": "9999-12-31T23:59:59-14:00"}]
    for wrong in wrongs:
        answer = await month.alice.get("/v1/history", **wrong)
        assert (answer.status_code, answer.json()["param"]) == (422, next(iter(wrong)))
