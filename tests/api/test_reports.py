"""Reports over HTTP: the treasurer's, a user's own; in every form; what can't be meant is refused."""

import pytest

pytestmark = pytest.mark.slow


async def test_the_treasurer_reads_reports_in_every_form(stage):
    await stage.fund(stage.alice, "12.50", "EUR")
    told = await stage.treasurer.get("/v1/treasury/reports/balance-sheet", period="2026-01")
    assert told.status_code == 200
    body = told.json()
    assert body["provisional"] is True
    assert [row for row in body["tables"]["totals"] if row["asset"] == "EUR"] == [
        {"asset": "EUR", "assets": "0.00", "liabilities": "12.50", "equity": "-12.50"}
    ]
    for form, begins in (("pdf", b"%PDF"), ("xlsx", b"PK"), ("csv", b"report,")):
        answer = await stage.treasurer.get(
            "/v1/treasury/reports/balance-sheet", period="2026-01", format=form, lang="zh"
        )
        assert answer.content.startswith(begins)
        assert f"balance-sheet-2026-01-zh-provisional.{form}" in answer.headers["content-disposition"]
    for kind in ("income", "movements", "costs", "ageing"):
        assert (await stage.treasurer.get(f"/v1/treasury/reports/{kind}", period="2026-Q1")).status_code == 200


async def test_a_user_reads_their_own_statement_and_no_report_of_the_house(stage):
    await stage.fund(stage.alice, "12.50", "EUR")
    await stage.alice.post("/v1/transfers", {"recipient": "@bob", "asset": "EUR", "amount": "2.00", "memo": "=lunch"})
    told = (await stage.alice.get("/v1/me/statements", period="2026")).json()
    assert told["user"] == stage.alice.user
    assert [row["closing"] for row in told["tables"]["summary"]] == ["10.50"]
    by_treasurer = await stage.treasurer.get("/v1/treasury/reports/statement", period="2026", user="@alice")
    assert by_treasurer.json() == told
    text = (await stage.alice.get("/v1/me/statements", period="2026", format="csv")).text
    assert "'=lunch" in text
    refused = await stage.alice.get("/v1/treasury/reports/income", period="2026")
    assert refused.status_code == 403


async def test_what_cannot_be_meant_is_refused(stage):
    async def code(**query):
        answer = await stage.treasurer.get("/v1/treasury/reports/income", **query)
        return answer.json()["code"]

    assert await code(period="2026-13") == "report_period_unfit"
    assert await code(period="2031") == "report_period_unfit"
    assert await code(period="2026-01", closed_only=True) == "period_open"
    assert await code(period="2026", known_seq=10**9) == "report_unfit"
    assert await code(period="2026", user="@alice") == "report_unfit"
