"""Breaks over HTTP: found, given to somebody, noted, resolved by two treasurers."""

from datetime import timedelta
from typing import Any

import pytest

from base.clock import ManualClock
from tests.api.conftest import Caller, Stage
from tests.fiat.statements import Entry, camt053

pytestmark = pytest.mark.slow

MAIN = "house/bank:main/EUR"


async def second_treasurer(stage: Stage) -> Caller:
    made = await stage.services.identity.create_key(label="second", scopes=["treasury"])
    return Caller(stage.api, made.secret)


async def broken(stage: Stage, clock: ManualClock) -> str:
    """The bank's statement says 123.45; the book has been moved away from it by 5.00."""
    text = camt053(Entry(12_345, "thanks"))
    told = await stage.treasurer.post(
        "/v1/treasury/statements",
        content=text if isinstance(text, bytes) else text.encode(),
        headers={"Content-Type": "application/xml"},
        params={"filename": "day.xml"},
    )
    assert told.status_code == 200, told.text
    await stage.fund_account(MAIN, "5.00")  # out of capital: the book has 5.00 less at the bank than the bank says
    return await cycle(stage, clock)


async def cycle(stage: Stage, clock: ManualClock) -> str:
    clock.advance(timedelta(minutes=1))
    run = (await stage.treasurer.post("/v1/treasury/reconciliations")).json()
    return next((one["id"] for one in run["breaks"]), "")


async def test_two_treasurers_resolve_a_break_and_the_next_cycle_ends_it(stage: Stage, clock: ManualClock):
    id = await broken(stage, clock)
    second = await second_treasurer(stage)
    (listed,) = (await stage.treasurer.get("/v1/treasury/breaks")).json()["items"]
    assert (listed["reason"], listed["account"], listed["difference"]) == ("bank_differs", MAIN, "5.00")
    assert (listed["state"], listed["explained"], listed["aged"], listed["owner"]) == ("open", False, False, None)
    causes = [(cause["code"], len(cause["evidence"])) for cause in listed["causes"]]
    assert causes == [("manual_change", 1), ("timing", 1)]

    mine = await stage.treasurer.post(f"/v1/treasury/breaks/{id}/owner", {"owner": "me"})
    noted = await second.post(f"/v1/treasury/breaks/{id}/notes", {"note": "I asked the bank"})
    assert (mine.status_code, noted.status_code) == (200, 201)
    assert noted.json()["owner"] == mine.json()["owner"] is not None

    body = {"kind": "entry", "against": "suspense", "amount": "5.00", "reason": "interest, told by phone"}
    proposed = (await stage.treasurer.post(f"/v1/treasury/breaks/{id}/resolutions", body)).json()
    path = f"/v1/treasury/resolutions/{proposed['id']}"
    own = await stage.treasurer.post(f"{path}/confirm")
    assert (own.status_code, own.json()["code"]) == (403, "same_person")
    assert (await second.post(f"{path}/confirm", key=None)).json()["code"] == "idempotency_key_missing"
    first = await second.post(f"{path}/confirm", key="c1")
    again = await second.post(f"{path}/confirm", key="c1")
    assert (first.status_code, first.json()["state"]) == (200, "confirmed")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    closed = await stage.treasurer.post(f"{path}/withdraw")
    assert (closed.status_code, closed.json()["code"]) == (409, "resolution_closed")

    log = (await stage.treasurer.get("/v1/treasury/audit-log", limit=100)).json()["items"]
    logged = [(one["action"], one["outcome"]) for one in log if one["action"] == "break.confirm"]
    assert sorted(logged) == [("break.confirm", "done"), ("break.confirm", "refused")]

    suspense = "house/suspense/EUR"
    accounts = (await stage.treasurer.get("/v1/treasury/trial-balance")).json()["accounts"]
    balances = {row["account"]: row["balance"] for row in accounts}
    assert (balances[MAIN], balances[suspense]) == ("-123.45", "128.45")
    assert (await stage.treasurer.get(f"/v1/treasury/breaks/{id}")).json()["state"] == "awaiting_cycle"
    assert await cycle(stage, clock) == ""
    shown = (await stage.treasurer.get(f"/v1/treasury/breaks/{id}")).json()
    assert [line["kind"] for line in shown["history"]] == ["opened", "owned", "noted", "proposed", "posted", "resolved"]
    assert [one["entry"] for one in shown["resolutions"]] == [first.json()["entry"]]
    assert (await stage.treasurer.get("/v1/treasury/breaks")).json()["items"] == []


async def test_a_matter_of_time_raises_no_alert_until_it_lapses(stage: Stage, clock: ManualClock):
    id = await broken(stage, clock)
    second = await second_treasurer(stage)

    async def alerts():
        found = (await stage.treasurer.get("/v1/treasury/alerts")).json()["items"]
        return [(one["code"], one["severity"]) for one in found if one["subject"] in (id, "bank_differs")]

    assert await alerts() == [("break_open", "warning")]
    until = (clock.now() + timedelta(days=3)).isoformat()
    body = {"kind": "acceptance", "until": until, "reason": "its line comes with the next statement"}
    made = (await stage.treasurer.post(f"/v1/treasury/breaks/{id}/resolutions", body)).json()
    assert await alerts() == [("break_open", "warning"), ("resolution_wanted", "warning")]
    await second.post(f"/v1/treasury/resolutions/{made['id']}/confirm")
    assert await alerts() == []
    run = (await stage.treasurer.post("/v1/treasury/reconciliations")).json()
    assert (run["open_breaks"], run["explained"], run["clean"]) == (1, 1, False)
    clock.advance(timedelta(days=3))
    assert await alerts() == [("break_open", "critical")]  # lapsed, and older than two days
    listed = (await stage.treasurer.get("/v1/treasury/breaks", state="open")).json()["items"]
    assert [(one["id"], one["aged"]) for one in listed] == [(id, True)]


FILTERS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"kind": "bank_differs"}, True),
    ({"kind": "chain_differs"}, False),
    ({"state": "open"}, True),
    ({"state": ["proposed", "open"]}, True),
    ({"state": "accepted"}, False),
    ({"network": "local"}, False),
    ({"owner": "key_nobody"}, False),
    ({"all": True}, True),
]


async def test_breaks_are_listed_by_state_kind_network_and_owner_and_page_by_page(stage: Stage, clock: ManualClock):
    id = await broken(stage, clock)
    for asked, there in FILTERS:
        found = (await stage.treasurer.get("/v1/treasury/breaks", **asked)).json()["items"]
        assert [one["id"] for one in found] == [id] * there, asked
    page = await stage.treasurer.get("/v1/treasury/breaks", limit=1, starting_after=id)
    assert (page.json()["items"], page.json()["has_more"]) == ([], False)
    unknown = await stage.treasurer.get("/v1/treasury/breaks", kind="bad_luck")
    assert unknown.status_code == 422


REFUSED = [
    # path,        body,                                                                   status, code
    ("owner",      {"owner": "key_nowhere"},                                                 404, "unknown_key"),
    ("notes",      {"note": " "},                                                            422, "reason_missing"),
    ("resolutions", {"kind": "entry", "reason": "r"},                                        422, "invalid_request"),
    ("resolutions", {"kind": "entry", "against": "bank:main", "reason": "r"},                422, "resolution_unfit"),
    ("resolutions", {"kind": "entry", "against": "fees", "amount": "5.01", "reason": "r"},   422, "resolution_unfit"),
    ("resolutions", {"kind": "acceptance", "until": "2020-01-01T00:00:00Z", "reason": "r"},  422, "resolution_unfit"),
]  # fmt: skip


async def test_what_cannot_be_done_to_a_break_is_refused_and_changes_nothing(stage: Stage, clock: ManualClock):
    id = await broken(stage, clock)
    for path, body, status, code in REFUSED:
        refused = await stage.treasurer.post(f"/v1/treasury/breaks/{id}/{path}", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    reader = (await stage.services.identity.create_key(label="reader", scopes=["treasury:read"])).key.id
    unfit = await stage.treasurer.post(f"/v1/treasury/breaks/{id}/owner", {"owner": reader})
    assert (unfit.status_code, unfit.json()["code"]) == (422, "owner_unfit")
    for path in ("breaks/brk_x", "breaks/brk_x/notes", "resolutions/brs_x/withdraw"):
        ask = stage.treasurer.get if path == "breaks/brk_x" else stage.treasurer.post
        gone = await ask(f"/v1/treasury/{path}", *([{"note": "n"}] if path.endswith("notes") else []))
        assert (gone.status_code, gone.json()["code"][:8]) == (404, "unknown_")
    denied = await stage.alice.post(f"/v1/treasury/breaks/{id}/notes", {"note": "hello"})
    assert denied.json()["code"] == "wrong_scope"
    assert len((await stage.treasurer.get(f"/v1/treasury/breaks/{id}")).json()["history"]) == 1
