"""Tokens and doubtful deposits over the API: who may look, who decides, and that it happens once."""

import pytest

from base.clock import ManualClock
from chain import store, token_store
from chain.tokens import TokenState
from db.engine import tx
from tests.api.conftest import USDC, Stage
from tests.wallet.scripted_chain import ScriptedChain, digest, paid

pytestmark = pytest.mark.slow

CHANGED = TokenState(code_hash=digest("other code"), decimals=6)


@pytest.fixture
async def chain(stage: Stage, database, clock: ManualClock) -> ScriptedChain:
    made = ScriptedChain(database.engine(), stage.services.chains.registry.network("local"), clock)
    await made.begin(**{USDC: 6})
    return made


async def stop(chain: ScriptedChain, state: TokenState = CHANGED) -> None:
    """What the worker writes when it sees the token in another state."""
    async with tx(chain.engine) as connection:
        known = (await token_store.load_tokens(connection, "local", [USDC]))[USDC]
        at = await store.followed(connection, "local")
        assert at is not None
        assert at.block_hash is not None
        await token_store.write_finding(
            connection,
            known,
            state,
            ["its code changed"],
            upgraded_height=None,
            height=at.height,
            block_hash=at.block_hash,
            now=chain.clock.now(),
        )


async def address_of(stage: Stage) -> str:
    return str((await stage.alice.post("/v1/deposit-addresses", {"network": "local"})).json()["address"]).lower()


async def test_f28_a_stopped_token_says_why_and_goes_on_when_it_is_accepted(stage: Stage, chain: ScriptedChain):
    (token,) = (await stage.treasurer.get("/v1/treasury/tokens")).json()["items"]
    assert (token["asset"], token["standing"], token["why"], token["accepted_by"]) == ("USDC", "accepted", [], None)
    to = await address_of(stage)
    await stop(chain)
    await chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=digest("tx", 1)))
    await chain.mine_empty(4)
    await stage.services.deposits.step()
    (seen,) = (await stage.alice.get("/v1/deposits")).json()["items"]
    assert (seen["state"], seen["amount"]) == ("under_review", None)
    (token,) = (await stage.treasurer.get("/v1/treasury/tokens")).json()["items"]
    assert (token["standing"], token["why"]) == ("under_review", ["its code changed"])
    path = f"/v1/treasury/tokens/local/{token['contract']}/acceptances"
    told = {"state": token["found"]["state"], "reason": "reviewed"}
    assert (await stage.alice.post(path, told)).status_code == 403
    wrong = await stage.treasurer.post(path, told | {"state": "00" * 32})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "token_changed")
    for _ in range(2):
        accepted = await stage.treasurer.post(path, told)
        assert (accepted.status_code, accepted.json()["standing"]) == (200, "accepted")
    for _ in range(3):
        await stage.services.deposits.step()
    (seen,) = (await stage.alice.get("/v1/deposits")).json()["items"]
    assert (seen["state"], seen["amount"]) == ("final", "5.00")


async def test_other_decimals_than_configured_are_not_accepted(stage: Stage, chain: ScriptedChain):
    state = TokenState(code_hash=digest("other code"), decimals=8)
    await stop(chain, state)
    path = f"/v1/treasury/tokens/local/{USDC}/acceptances"
    refused = await stage.treasurer.post(path, {"state": state.fingerprint, "reason": "reviewed"})
    assert (refused.status_code, refused.json()["code"]) == (422, "token_unfit")
    unknown = path.replace(USDC, "0x" + "11" * 20)
    answer = await stage.treasurer.post(unknown, {"state": state.fingerprint, "reason": "reviewed"})
    assert answer.status_code == 404


async def test_f24_a_doubtful_deposit_is_listed_and_credited_by_the_treasurer_once(stage: Stage, chain: ScriptedChain):
    to = await address_of(stage)
    await chain.mine(paid(to, 5_000_000, contract="0x" + "66" * 20, tx_hash=digest("tx", 1)))
    await chain.mine_empty(4)
    await stage.services.deposits.step()
    assert (await stage.alice.get("/v1/treasury/deposits")).status_code == 403
    (doubtful,) = (await stage.treasurer.get("/v1/treasury/deposits")).json()["items"]
    assert (doubtful["state"], doubtful["owner"]) == ("unknown_token", stage.alice.user)
    path = f"/v1/treasury/deposits/{doubtful['id']}/credit"
    refused = await stage.treasurer.post(path, {"reason": "listed"})
    assert (refused.status_code, refused.json()["code"]) == (422, "deposit_not_creditable")
    assert "configure it first" in refused.json()["detail"]
    assert (await stage.treasurer.post(path, {"reason": "listed"}, key=None)).json()[
        "code"
    ] == "idempotency_key_missing"
