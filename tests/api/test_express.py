"""The short way to a route and FastAPI's own are one: the same checks, the same answers."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant

from api.app import create_app
from api.auth import Door, bearer
from api.envelope import Envelope
from api.express import Express, Straight, straight_routes
from tests.api.conftest import ROUTES, Caller, Stage

STRAIGHT = straight_routes(list(ROUTES))

BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"json": {}},
    {"json": []},
    {"json": "text"},
    {"json": None},
    {"json": {"asset": "USDC", "amount": 1, "recipient": "@bob", "stray": True}},
    {"content": b"{", "headers": {"Content-Type": "application/json"}},
    {"content": b'{"a": 1, "a": 2}', "headers": {"Content-Type": "application/json"}},
    {"content": b"a=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
)


@pytest.fixture
async def long_way(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """The same application without the short way."""
    app = create_app(stage.services)
    envelope = app.middleware_stack
    assert isinstance(envelope, Envelope)
    assert isinstance(envelope._app, Express)
    envelope._app = envelope._app._app
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://onebook.test") as client:
        yield client


def test_the_hot_routes_are_taken_the_short_way():
    assert {("POST", "/v1/transfers"), ("POST", "/v1/transfers/bulk"), ("GET", "/v1/balances")} <= STRAIGHT.keys()


def test_no_check_of_a_route_is_left_out():
    for straight in STRAIGHT.values():
        dependant = straight.route.dependant
        assert isinstance(straight.route, Door)
        wanted = [part.call for part in dependant.dependencies if part.call is not bearer]
        assert len(straight.steps) == len(wanted)
        assert not any(_asks_for_more(part) for part in dependant.dependencies)


def _asks_for_more(part: Dependant) -> bool:
    return bool(part.dependencies or part.path_params or part.cookie_params or part.body_params)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_both_ways_give_the_same_answers(stage: Stage, long_way: httpx.AsyncClient):
    callers = {"nobody": stage.nobody, "alice": stage.alice, "operator": stage.operator, "treasurer": stage.treasurer}
    seen = set()
    for (method, path), straight in STRAIGHT.items():
        for who, caller in callers.items():
            for body in BODIES if method == "POST" else BODIES[:1]:
                for key in ("same", None):
                    short = await _ask(stage.api, caller, method, path, body, key)
                    long = await _ask(long_way, caller, method, path, body, key)
                    assert short == long, (method, path, who, body, key, straight)
                    seen.add(short[0])
    assert {200, 400, 401, 403, 415, 422} <= seen


@pytest.mark.slow
async def test_a_query_takes_the_long_way_where_the_route_knows_one(stage: Stage):
    await stage.fund(stage.alice, "1.00", "USDC")
    assert (await stage.alice.get("/v1/transfers", limit=0)).json()["param"] == "limit"
    assert (await stage.alice.get("/v1/transfers", limit=1)).status_code == 200


@pytest.mark.slow
async def test_what_is_counted_names_the_route_either_way(stage: Stage, long_way: httpx.AsyncClient):
    await stage.alice.get("/v1/balances")
    page = (await stage.api.get("/metrics")).text
    assert 'onebook_http_requests_total{method="GET",route="/v1/balances",status="200"} 1.0' in page


async def _ask(
    client: httpx.AsyncClient, caller: Caller, method: str, path: str, body: dict[str, Any], key: str | None
) -> tuple[int, object, dict[str, str]]:
    """Status, body without what differs by nature, and the headers that tell something."""
    headers = dict(body.get("headers", {}))
    if caller.secret is not None:
        headers["Authorization"] = f"Bearer {caller.secret}"
    if key is not None:
        headers["Idempotency-Key"] = f"{key}-{path}"
    answer = await client.request(method, path, **{**body, "headers": headers})
    shown = answer.json()
    if isinstance(shown, dict):
        shown.pop("request_id", None)
        if answer.status_code == 201:
            shown.pop("id")  # made anew each time
    told = {name: value for name, value in answer.headers.items() if name not in ("request-id", "ratelimit")}
    return answer.status_code, shown, told | {"content-length": ""}


def test_a_straight_way_belongs_to_its_route():
    for (method, path), straight in STRAIGHT.items():
        assert isinstance(straight, Straight)
        assert (straight.route.path, method in (straight.route.methods or ())) == (path, True)
