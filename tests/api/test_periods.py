"""Closing a month or a day: what stands open in it, closing all the same, and what comes later with an earlier date."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from base.clock import ManualClock
from db.engine import tx
from tests.api.conftest import Caller, Stage, settings_for
from tests.support.postgres import Database
from treasury.errors import PeriodUnfit
from treasury.operations.period_names import last_day, named_period
from treasury.operations.period_store import beyond
from wiring.settings import Settings

PERIODS, PROPOSED = "/v1/treasury/periods", "/v1/treasury/proposals/periods"
JANUARY = {"period": "2026-01", "reason": "January is reported"}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, treasury={"time_zone": "Europe/Berlin"})


NAMED = [
    # name         zone     ends at                    its last day
    ("2026-01",    UTC,     "2026-02-01T00:00+00:00",  "2026-01-31"),
    ("2026-12",    UTC,     "2027-01-01T00:00+00:00",  "2026-12-31"),
    ("2024-02-28", UTC,     "2024-02-29T00:00+00:00",  "2024-02-28"),
    ("2026-01",    BERLIN,  "2026-01-31T23:00+00:00",  "2026-01-31"),
    ("2026-10",    BERLIN,  "2026-10-31T23:00+00:00",  "2026-10-31"),
    ("2026-10-25", BERLIN,  "2026-10-25T23:00+00:00",  "2026-10-25"),
]  # fmt: skip


def test_months_and_days_end_where_the_time_zone_says():
    for name, zone, until, day in NAMED:
        period = named_period(name, zone)
        assert period.until == datetime.fromisoformat(until), name
        assert last_day(period.until, zone).isoformat() == day


def test_what_is_no_month_or_day_is_refused():
    for name in ("2026", "2026-13", "2026-02-30", "2026-1", "26-01", "2026-01-01T00", "", "9999-12-31", "٢٠٢٦-٠١"):
        with pytest.raises(PeriodUnfit):
            named_period(name, UTC)


@pytest.mark.slow
async def test_a_period_is_closed_once_nothing_stands_open_in_it(stage: Stage, clock: ManualClock):
    clock.advance(timedelta(days=40))
    refused = await stage.treasurer.post(PERIODS, JANUARY)
    assert (refused.status_code, refused.json()["code"]) == (409, "period_open_items")
    assert [one["item"] for one in refused.json()["open_items"]] == ["not_reconciled"]
    assert (await stage.treasurer.get(PERIODS)).json()["closed_until"] is None
    assert (await stage.treasurer.post("/v1/treasury/reconciliations")).status_code == 201
    assert (await stage.treasurer.get(f"{PERIODS}/2026-01/open-items")).json()["items"] == []
    closed = (await stage.treasurer.post(PERIODS, JANUARY)).json()
    assert (closed["period"], closed["state"], closed["closed_until"]) == (
        "2026-01", "closed", "2026-01-31T23:00:00.000000Z",
    )  # fmt: skip
    listed = (await stage.treasurer.get(PERIODS)).json()
    assert (listed["closed_until"], listed["items"]) == (closed["closed_until"], [closed])
    assert closed["seq"] == await stage.services.ledger.last_seq()  # type: ignore[attr-defined]
    (noted,) = (
        await stage.treasurer.get("/v1/treasury/audit-log", action="period.close", subject=closed["id"])
    ).json()["items"]
    assert (noted["outcome"], noted["reason"]) == ("done", "January is reported")


LEFT_OPEN = {
    # what the database has of January, in which nothing else happened                                        item
    "INSERT INTO treasury_breaks (book, id, reason, network, account, asset, detail, expected, found, first_run,"
    " last_run, first_seen_at, last_seen_at) VALUES ('main', 'brk_1', 'unbalanced', '', '', 'EUR', '', 0, 1, 'r', 'r',"
    " '2026-01-20', '2026-01-20')": ("open_breaks", "1: brk_1"),
    "INSERT INTO fiat_bank_statements (book, id, kind, format, account, asset, bank_id, opening, closing, closing_on,"
    " lines, pending, file, file_sha256, received_at, imported_at, gap) VALUES ('main', 'stm_1', 'statement', 'x',"
    " 'main', 'EUR', 'S1', 0, 0, '2026-01-30', 1, 0, 'f', decode(repeat('00', 32), 'hex'), '2026-01-30', '2026-01-30',"
    " 5)": ("statement_missing", "no statement reaches the end: main"),
    "INSERT INTO fiat_bank_lines (book, id, account, statement, number, direction, asset, amount, booked_on, value_on,"
    " bank_reference, personal, state, reason, recorded_at) VALUES ('main', 'lin_1', 'main', 'stm_1', 1, 'CRDT', 'EUR',"
    " 5, '2026-01-30', '2026-01-30', 'r', '\\x00', 'suspended', 'no_match', '2026-01-30')": (
        "unmatched_lines", "1: lin_1",
    ),
}  # fmt: skip


@pytest.mark.slow
async def test_what_stands_open_is_named_and_the_period_closed_all_the_same_keeps_it(
    stage: Stage, database: Database, clock: ManualClock
):
    async with tx(database.engine()) as connection:
        for statement in LEFT_OPEN:
            await connection.execute(text(statement))
    clock.advance(timedelta(days=40))
    refused = (await stage.treasurer.post(PERIODS, JANUARY)).json()
    found = {one["item"]: one["detail"] for one in refused["open_items"]}
    assert dict(LEFT_OPEN.values()).items() <= found.items()
    assert found["statement_gap"] == "something is missing before: S1"
    # In the first half of the month there was nothing of it yet.
    earlier = (await stage.treasurer.get(f"{PERIODS}/2026-01-15/open-items")).json()["items"]
    assert [one["item"] for one in earlier] == ["not_reconciled"]
    other = await stage.another_treasurer()
    closed = await _closed_by_two(stage, other, JANUARY)
    assert closed["open_items"] == refused["open_items"]
    assert len({closed["closed_by"], closed["confirmed_by"], None}) == 3
    (made,) = (await stage.treasurer.get("/v1/treasury/audit-log", action="proposal.confirm")).json()["items"]
    assert (made["outcome"], made["actor"]["key"]) == ("done", closed["confirmed_by"])


@pytest.mark.slow
async def test_whoever_proposed_to_close_it_all_the_same_does_not_and_nor_does_force(stage: Stage, clock: ManualClock):
    clock.advance(timedelta(days=40))
    assert (await stage.treasurer.post(PERIODS, JANUARY | {"force": True})).status_code == 422
    made = (await stage.treasurer.post(PROPOSED, JANUARY)).json()
    assert (made["kind"], made["period"], made["until"]) == ("period", "2026-01", "2026-01-31T23:00:00Z")
    assert [one["item"] for one in made["open_items"]] == ["not_reconciled"]
    mine = await stage.treasurer.post(f"/v1/treasury/proposals/{made['id']}/confirm")
    assert (mine.status_code, mine.json()["code"]) == (403, "same_person")
    assert (await stage.treasurer.get(PERIODS)).json()["closed_until"] is None


@pytest.mark.slow
async def test_what_came_to_stand_open_since_it_was_proposed_is_looked_at_anew(
    stage: Stage, database: Database, clock: ManualClock
):
    clock.advance(timedelta(days=40))
    other, made = await stage.another_treasurer(), (await stage.treasurer.post(PROPOSED, JANUARY)).json()
    async with tx(database.engine()) as connection:
        for statement in LEFT_OPEN:
            await connection.execute(text(statement))
    refused = await other.post(f"/v1/treasury/proposals/{made['id']}/confirm")
    assert (refused.status_code, refused.json()["code"]) == (409, "period_open_items")
    assert (await stage.treasurer.get(PERIODS)).json()["closed_until"] is None
    assert (await stage.treasurer.get(f"/v1/treasury/proposals/{made['id']}")).json()["state"] == "open"
    assert (await _closed_by_two(stage, other, JANUARY))["period"] == "2026-01"


@pytest.mark.slow
async def test_more_of_what_stood_open_is_looked_at_anew_and_less_of_it_is_not(
    stage: Stage, database: Database, clock: ManualClock
):
    clock.advance(timedelta(days=40))
    (first, *_), another = (
        LEFT_OPEN,
        "UPDATE treasury_breaks SET state = 'resolved', resolved_at = '2026-02-01' WHERE id = 'brk_1'",
    )
    more = first.replace("brk_1", "brk_2").replace("'EUR'", "'USDC'")

    async def happens(statement: str) -> None:
        async with tx(database.engine()) as connection:
            await connection.execute(text(statement))

    await happens(first)
    other, made = await stage.another_treasurer(), (await stage.treasurer.post(PROPOSED, JANUARY)).json()
    assert {"item": "open_breaks", "detail": "1: brk_1"} in made["open_items"]
    await happens(more)
    refused = await other.post(f"/v1/treasury/proposals/{made['id']}/confirm")
    assert (refused.status_code, refused.json()["code"]) == (409, "period_open_items")
    assert {"item": "open_breaks", "detail": "2: brk_1, brk_2"} in refused.json()["open_items"]
    again = (await stage.treasurer.post(PROPOSED, JANUARY)).json()
    await happens(another)
    done = await other.post(f"/v1/treasury/proposals/{again['id']}/confirm")
    assert (done.status_code, done.json()["state"]) == (200, "confirmed"), done.text


BEYOND = [
    # stands open now                                   was told when it was proposed           has something come?
    ("2: brk_1, brk_2",                                 "2: brk_1, brk_2",                      False),
    ("1: brk_2",                                        "2: brk_1, brk_2",                      False),
    ("2: brk_1, brk_3",                                 "2: brk_1, brk_2",                      True),
    ("21: " + ", ".join(map(str, range(20))) + ", ...", "20: " + ", ".join(map(str, range(20))), True),
    ("21: " + ", ".join(map(str, range(20))) + ", ...", "30: " + ", ".join(map(str, range(20, 40))) + ", ...", False),
    ("no statement reaches the end: main, other",       "no statement reaches the end: main",   True),
    ("no statement reaches the end: main",              "no statement reaches the end: main, other", False),
]  # fmt: skip


def test_what_has_come_to_an_open_item_is_told_by_its_names_and_numbers():
    for now, then, has_come in BEYOND:
        assert bool(beyond([{"item": "x", "detail": now}], [{"item": "x", "detail": then}])) is has_come, (now, then)
        assert beyond([{"item": "y", "detail": then}], [{"item": "x", "detail": then}])
        assert not beyond([], [{"item": "x", "detail": then}])


async def _closed_by_two(stage: Stage, other: Caller, body: dict[str, str]) -> dict[str, Any]:
    made = (await stage.treasurer.post(PROPOSED, body)).json()
    done = await other.post(f"/v1/treasury/proposals/{made['id']}/confirm")
    assert done.status_code == 200, done.text
    items: list[dict[str, Any]] = (await stage.treasurer.get(PERIODS)).json()["items"]
    assert (items[0]["id"], items[0]["period"]) == (done.json()["became"], body["period"])
    return items[0]


WRONG = [
    # what is asked                                       code                    param
    ({},                                                  "invalid_request",      "period"),
    ({"period": "2026-01", "until": "2026-01-01T00:00:00Z"}, "invalid_request",   "period"),
    ({"period": "January"},                               "period_unfit",         "period"),
    ({"period": "2026-03"},                               "effective_in_future",  None),
    ({"period": "2026-01", "reason": " "},                "reason_missing",       "reason"),
]  # fmt: skip


@pytest.mark.slow
async def test_what_is_no_period_to_close_is_refused(stage: Stage, clock: ManualClock):
    clock.advance(timedelta(days=40))
    for change, code, param in WRONG:
        shown = (await stage.treasurer.post(PERIODS, {"reason": "over"} | change)).json()
        assert (shown["code"], shown.get("param")) == (code, param), change


@pytest.mark.slow
async def test_what_is_booked_later_with_a_date_in_a_closed_period_says_where_it_was_moved(
    stage: Stage, clock: ManualClock
):
    await stage.fund_account("house/suspense/USDC", "100.00")
    clock.advance(timedelta(days=70))
    other = await stage.another_treasurer()
    closed = [
        await _closed_by_two(stage, other, {"period": month, "reason": "reported"}) for month in ("2026-01", "2026-02")
    ]
    move = {"asset": "USDC", "amount": "1.00", "debit": "suspense", "credit": "capital", "reason": "late"}
    for asked, effective_at, requested, period in (
        ("2026-01-15T12:00:00Z", closed[1]["closed_until"], "2026-01-15T12:00:00.000000Z", closed[0]["id"]),
        ("2026-02-15T12:00:00Z", closed[1]["closed_until"], "2026-02-15T12:00:00.000000Z", closed[1]["id"]),
        ("2026-03-05T12:00:00Z", "2026-03-05T12:00:00.000000Z", None, None),
    ):
        made = (await stage.treasurer.post("/v1/treasury/adjustments", move | {"effective_at": asked})).json()
        told = (made["effective_at"], made["effective_at_requested"], made["moved_out_of"])
        assert told == (effective_at, requested, period)
    late = await stage.treasurer.post("/v1/treasury/adjustments", move | {"effective_at": "2026-12-01T00:00:00Z"})
    assert late.json()["code"] == "effective_in_future"
