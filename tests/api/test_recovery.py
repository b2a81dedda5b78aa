"""F47 at the API: while payments may be forgotten, what moves money is refused and all else goes on."""

import pytest

from chain import restores
from chain.restores import FRESH
from db.engine import tx
from tests.api.conftest import Stage

pytestmark = pytest.mark.slow

AMOUNT = {"asset": "USDC", "amount": "1.00"}
MOVING = (
    ("alice", "/v1/transfers", {"recipient": "@bob"} | AMOUNT),
    ("alice", "/v1/transfers/bulk", {"transfers": [{"recipient": "@bob"} | AMOUNT]}),
    ("alice", "/v1/holds", {"recipient": "@bob", "expires_at": "2099-01-01T00:00:00Z"} | AMOUNT),
    ("alice", "/v1/holds/hld_1/settle", {"amount": "1.00"}),
    ("alice", "/v1/holds/hld_1/void", None),
    ("alice", "/v1/conversions", {"quote": "quo_1"}),
    ("alice", "/v1/withdrawals", {"network": "local", "address": "0x" + "ab" * 20} | AMOUNT),
    ("alice", "/v1/withdrawals/wdr_1/cancel", None),
    ("treasurer", "/v1/treasury/adjustments", {"debit": "suspense", "credit": "capital", "reason": "x"} | AMOUNT),
)


@pytest.fixture
async def halted(stage: Stage, database, clock):
    await stage.fund(stage.alice, "10.00", "USDC")
    async with tx(database.engine()) as connection:
        await restores.note_missing(connection, "wdr_9 is missing", now=clock.now())
    clock.advance(FRESH)
    return stage


async def test_f47_nothing_moves_and_everything_can_be_read(halted: Stage):
    for who, path, body in MOVING:
        answer = await getattr(halted, who).post(path, body)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (503, "needs_recovery"), (path, told)
        assert ("onebook recover" in told["detail"], answer.headers["retry-after"]) == (True, "2")
    assert (await halted.alice.get("/v1/balances/USDC")).json()["available"] == "10.00"
    ready = await halted.nobody.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["recovery"]) == (
        503,
        "wdr_9 is missing: run `onebook recover`",
    )
    (alert,) = (await halted.treasurer.get("/v1/treasury/alerts")).json()["items"]
    assert (alert["code"], alert["severity"]) == ("needs_recovery", "critical")


async def test_f47_it_goes_on_by_itself_once_all_is_known(halted: Stage, database, clock):
    send = {"recipient": "@bob"} | AMOUNT
    assert (await halted.alice.post("/v1/transfers", send, key="rent")).status_code == 503
    async with tx(database.engine()) as connection:
        await restores.settled(connection, (9, bytes(32)), now=clock.now())
    clock.advance(FRESH)
    sent = await halted.alice.post("/v1/transfers", send, key="rent")
    assert (sent.status_code, sent.headers.get("idempotent-replayed")) == (201, None), "nothing of the first was kept"
    assert (await halted.nobody.get("/health/ready")).status_code == 200
