"""What needs no key: the page at /, explanations, health, metrics, the API's own description."""

import re
from dataclasses import replace

import httpx
import pytest
from fastapi.openapi.models import OpenAPI

from api.app import create_app
from api.catalogue import CATALOGUE
from tests.api.conftest import Stage

pytestmark = pytest.mark.slow

HTML = {"Accept": "text/html,application/xhtml+xml"}
FOREIGN = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:)?//(?!onebook\.test)""")


async def test_front_page_needs_no_other_server(stage: Stage):
    page = await stage.nobody.get("/", headers=HTML)
    assert page.status_code == 200
    assert "script" not in page.text
    assert not FOREIGN.search(page.text)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "http://onebook.test/v1/transfers" in page.text


async def test_front_page_shows_the_books_only_where_that_was_chosen(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    assert "100.00" not in (await stage.nobody.get("/")).text
    open_app = create_app(replace(stage.services, public_books=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(open_app), base_url="http://onebook.test") as api:
        page = (await api.get("/")).text
    assert "100.00" in page
    assert str(stage.alice.user) not in page


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_documentation_is_served_from_here(stage: Stage, path):
    page = await stage.nobody.get(path)
    assert page.status_code == 200
    assert not FOREIGN.search(page.text)
    own = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert own
    for asset in own:
        assert (await stage.nobody.get(asset)).status_code == 200


async def test_every_problem_is_explained_to_people_and_to_programs(stage: Stage):
    for code, row in CATALOGUE.items():
        told = (await stage.nobody.get(f"/problems/{code}")).json()
        assert (told["code"], told["status"]) == (code, row.status)
        page = await stage.nobody.get(f"/problems/{code}", headers=HTML)
        assert page.headers["content-type"].startswith("text/html")
        assert code in page.text
    assert "<code>required</code>" in (await stage.nobody.get("/problems/insufficient_funds", headers=HTML)).text
    assert len((await stage.nobody.get("/problems")).json()["items"]) == len(CATALOGUE)
    assert (await stage.nobody.get("/problems", headers=HTML)).text.count("<article") == len(CATALOGUE)


async def test_ready_only_while_every_check_is_well(stage: Stage):
    assert (await stage.nobody.get("/health/live")).json() == {"live": True}
    assert (await stage.nobody.get("/health/ready")).json() == {
        "ready": True,
        "checks": {"database": "ok", "book": "ok", "recovery": "ok"},
    }

    async def broken() -> str | None:
        raise RuntimeError("secret")

    async def unwell() -> str | None:
        return "the disk is full"

    app = create_app(replace(stage.services, checks={"disk": unwell, "node": broken}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://onebook.test") as api:
        answer = await api.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"] == {"disk": "the disk is full", "node": "failed: RuntimeError"}
        assert 'onebook_ready{check="disk"} 0.0' in (await api.get("/metrics")).text


async def test_metrics_count_by_route_and_never_by_what_callers_make_up(stage: Stage):
    await stage.alice.get("/v1/transfers/trf_none")
    await stage.alice.get("/v1/made-up-4711")
    text = (await stage.nobody.get("/metrics")).text
    assert 'onebook_http_requests_total{method="GET",route="/v1/transfers/{transfer}",status="404"} 1.0' in text
    assert 'route="unmatched",status="404"} 1.0' in text
    assert "made-up" not in text
    assert "trf_none" not in text


async def test_every_answer_carries_version_request_id_and_safe_headers(stage: Stage):
    ids = set()
    for path in ("/", "/v1/me", "/v1/typo", "/health/live"):
        answer = await stage.alice.get(path)
        assert answer.headers["Onebook-Version"] == "2026-11-22"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        ids.add(answer.headers["Request-Id"])
    assert len(ids) == 4
    assert (await stage.alice.get("/v1/me")).headers["Cache-Control"] == "no-store"


PUBLIC = {"/v1/solvency/epochs", "/v1/solvency/epochs/{number}"}
"""What anybody may read without a key."""


async def test_description_is_valid_and_complete(stage: Stage):
    schema = (await stage.nobody.get("/openapi.json")).json()
    OpenAPI.model_validate(schema)
    text = str(schema)
    for name in re.findall(r"#/components/schemas/([A-Za-z0-9_-]+)", text):
        assert name in schema["components"]["schemas"], name
    operations = [
        (path, method, operation) for path, item in schema["paths"].items() for method, operation in item.items()
    ]
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names))
    for path, method, operation in operations:
        assert operation["summary"], path
        good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        if path.startswith("/v1"):
            assert ("security" in operation) is (path not in PUBLIC), path
            assert "$ref" in good["content"]["application/json"]["schema"], (path, method)
            assert "4XX" in operation["responses"]


async def test_description_has_an_example_of_every_field_that_a_promise_or_a_booking_by_hand_takes(stage: Stage):
    schema = (await stage.nobody.get("/openapi.json")).json()
    for path in ("holds", "holds/{hold}/settle", "treasury/credit-lines", "treasury/reversals", "treasury/periods"):
        body = schema["paths"][f"/v1/{path}"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for name, field in schema["components"]["schemas"][body.rpartition("/")[2]]["properties"].items():
            assert "examples" in str(field), (path, name)
    for path in ("statements", "balances"):
        asked = schema["paths"][f"/v1/{path}"]["get"]["parameters"]
        assert all(item["schema"].get("description") or item.get("description") for item in asked), path
        assert any("examples" in str(item) for item in asked), path


async def test_description_says_where_an_idempotency_key_is_needed(stage: Stage):
    schema = (await stage.nobody.get("/openapi.json")).json()
    needing = {
        path
        for path, item in schema["paths"].items()
        if any(parameter["name"] == "idempotency-key" for parameter in item.get("post", {}).get("parameters", []))
    }
    assert needing == {
        "/v1/transfers",
        "/v1/transfers/bulk",
        "/v1/conversions",
        "/v1/orders",
        "/v1/withdrawals",
        "/v1/withdrawals/{withdrawal}/cancel",
        "/v1/holds",
        "/v1/holds/{hold}/settle",
        "/v1/holds/{hold}/void",
        "/v1/top-ups",
        "/v1/top-ups/{top_up}/cancel",
        "/v1/top-ups/{top_up}/capture",
        "/v1/top-ups/{top_up}/refunds",
        "/v1/payment-methods",
        "/v1/payouts",
        "/v1/payouts/{payout}/cancel",
        "/v1/treasury/payouts/{payout}/fail",
        "/v1/treasury/statement-lines/{line}/match-payout",
        "/v1/treasury/settlements/{settlement}/match",
        "/v1/treasury/top-ups/{top_up}/refunds",
        "/v1/treasury/adjustments",
        "/v1/treasury/approvals",
        "/v1/treasury/credit-lines",
        "/v1/treasury/deposits/{deposit}/credit",
        "/v1/treasury/freezes",
        "/v1/treasury/freezes/{freeze}/lift",
        "/v1/treasury/periods",
        "/v1/treasury/resolutions/{resolution}/confirm",
        "/v1/treasury/proposals",
        "/v1/treasury/proposals/reversals",
        "/v1/treasury/proposals/credit-lines",
        "/v1/treasury/proposals/periods",
        "/v1/treasury/proposals/{proposal}/confirm",
        "/v1/treasury/proposals/{proposal}/withdraw",
        "/v1/treasury/reversals",
        "/v1/treasury/statement-lines/{line}/match",
        "/v1/treasury/sweeps",
        "/v1/treasury/withdrawals/{withdrawal}/cancellations",
        "/v1/treasury/withdrawals/{withdrawal}/resolutions",
    }
