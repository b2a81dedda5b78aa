"""Withdrawals paid by several addresses, and given up by a treasurer: whole houses on a real node, with a signer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chain.evm.addresses import show_address
from chain.networks import GWEI
from chain.signing import OwnKey, Role
from tests.api.conftest import Caller
from tests.support.chain import start_local_chain
from tests.support.signer import generous_policy, start_signer
from tests.support.waiting import eventually
from tests.support.whole_house import WholeHouse, whole_house
from wiring.signing import XpubAddresses

pytestmark = pytest.mark.slow

SENDERS = 3
EACH = 30_000_000
"""What every sender has, in units of USDC."""

REVERTS = "0x60006000fd"


@pytest.fixture
async def house(tmp_path, database) -> AsyncIterator[WholeHouse]:
    """Alice has 500 USDC and 1 ETH; each of three senders has 30 USDC and 1 ETH."""
    with start_local_chain(tmp_path) as chain:
        policy = generous_policy(chain.chain_id, chain.token("USDC").lower(), hot_senders=SENDERS)
        signer = start_signer(tmp_path / "signer", policy)
        network = {"replace_after_seconds": 1}
        async with whole_house(chain, database, tmp_path, signer=signer, hot_senders=SENDERS, network=network) as made:
            await made.work(blocks=1)
            for sender in senders(made):
                chain.transfer("USDC", sender, EACH)
                chain.faucet(sender, 10**18)
            to = await made.address(made.alice)
            chain.transfer("USDC", to, 500_000_000)
            chain.faucet(to, 10**18)
            await made.work(blocks=5)
            yield made
        signer.stop()


def senders(house: WholeHouse) -> list[str]:
    source = XpubAddresses(house.parts.settings.xpubs)
    return [source.address(OwnKey(Role.HOT, index)) for index in range(SENDERS)]


def recipient(number: int) -> str:
    return show_address(f"0x{0xABC000 + number:040x}")


async def ask(house: WholeHouse, number: int, amount: str, *, asset: str = "USDC") -> str:
    body = {"asset": asset, "network": "local", "address": recipient(number), "amount": amount}
    answer = await house.alice.post("/v1/withdrawals", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def seen(house: WholeHouse, withdrawal: str) -> dict[str, Any]:
    answer = await house.treasurer.get(f"/v1/treasury/withdrawals/{withdrawal}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def cancel(house: WholeHouse, withdrawal: str, *, key: str = "c", reason: str = "it was stolen") -> Any:
    path = f"/v1/treasury/withdrawals/{withdrawal}/cancellations"
    return await house.treasurer.post(path, {"reason": reason}, key=key)


async def shown_senders(who: Caller) -> list[dict[str, Any]]:
    answer = await who.get("/v1/treasury/senders/local")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_payments_are_spread_over_those_that_can_pay_and_each_is_paid_once(house):
    house.chain.set_automine(False)
    asked = [await ask(house, number, "5.00") for number in range(9)]
    await house.work()
    assert [row["in_flight"] for row in await shown_senders(house.treasurer)] == [3, 3, 3]
    (usdc,) = [row for row in (await shown_senders(house.treasurer))[0]["holdings"] if row["asset"] == "USDC"]
    assert (usdc["held"], usdc["free"]) == ("30.00", "15.00")
    await house.work(blocks=1)
    await house.work(blocks=5)
    assert {(await seen(house, one))["state"] for one in asked} == {"final"}
    assert [house.chain.balance("USDC", recipient(number)) for number in range(9)] == [5_000_000] * 9
    assert [house.chain.balance("USDC", sender) for sender in senders(house)] == [15_000_000] * SENDERS
    await house.require_agreement()


async def test_f42_what_nobody_can_pay_waits_without_a_nonce_and_holds_up_nobody(house):
    too_much = await ask(house, 1, "30.01")
    small = await ask(house, 2, "5.00")
    await house.work()
    waiting = await seen(house, too_much)
    assert (waiting["state"], waiting["waiting_for"], waiting["cancellable"]) == ("approved", "funds", True)
    alert = (await house.alerts())["payments_wait"]
    assert (alert["subject"], alert["text"]) == (
        "withdrawals on local, funds",
        "1 wait for funds at the addresses that pay",
    )
    await house.work(blocks=5)
    assert (await seen(house, small))["state"] == "final"
    house.chain.transfer("USDC", senders(house)[2], 1_000_000)
    await house.work()
    await house.work(blocks=5)
    assert (await seen(house, too_much))["state"] == "final"
    assert house.chain.balance("USDC", recipient(1)) == 30_010_000
    assert "payments_wait" not in await house.alerts()


async def test_f44_a_treasurer_cancels_what_was_sent_and_its_owner_has_it_back(house):
    before = await house.balance(house.alice)
    house.chain.set_automine(False)
    unwanted = await ask(house, 1, "5.00")
    await house.work()
    assert (await seen(house, unwanted))["state"] == "broadcast"
    assert (await cancel(house, unwanted)).status_code == 201
    again = await cancel(house, unwanted)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    other = await cancel(house, unwanted, reason="another one")
    assert (other.status_code, unwanted in other.text) == (422, True)
    second = await cancel(house, unwanted, key="d")
    assert (second.status_code, second.json()["code"]) == (409, "already_cancelling")
    await house.work()
    meanwhile = await seen(house, unwanted)
    assert (meanwhile["state"], meanwhile["cancelling"]) == ("broadcast", "it was stolen")
    assert await house.balance(house.alice) == before
    await house.work(blocks=1)
    assert (await seen(house, unwanted))["state"] == "mined", "it isn't cancelled before that's final"
    await house.work(blocks=5)
    ended = await seen(house, unwanted)
    assert (ended["state"], ended["reason"], ended["fee"]) == ("cancelled", "cancelled by the house", "0.00")
    assert house.chain.balance("USDC", recipient(1)) == 0
    account = await house.services.ledger.account(f"{house.alice.user}/wallet/USDC")
    assert (account.debits_pending, account.balance) == (0, 500_000_000)
    assert await house.house("network-fees", "ETH") < 0, "the house bears the gas"
    await house.require_agreement()
    assert (await cancel(house, unwanted, key="e")).json()["code"] == "already_cancelling"
    paid = await ask(house, 2, "5.00")
    await house.work()
    await house.work(blocks=1)
    assert (await cancel(house, paid, key="f")).json()["code"] == "not_cancellable", "it's mined"


async def test_a_treasurer_cancels_what_has_no_nonce_at_once(house):
    too_much = await ask(house, 1, "40.00")
    await house.work()
    ended = await cancel(house, too_much)
    assert (ended.status_code, ended.json()["state"], ended.json()["cancelling"]) == (201, "cancelled", None)
    assert (await cancel(house, too_much)).headers["Idempotent-Replayed"] == "true"
    account = await house.services.ledger.account(f"{house.alice.user}/wallet/USDC")
    assert account.debits_pending == 0
    missing = await cancel(house, "wdr_nothing", key="x")
    assert missing.status_code == 404
    unreasoned = await cancel(house, too_much, key="y", reason="  ")
    assert (unreasoned.status_code, unreasoned.json()["code"]) == (422, "reason_missing")


async def test_what_would_fail_on_chain_gets_no_nonce_and_says_why(house):
    refuses = await ask(house, 1, "0.1", asset="ETH")
    house.chain.rpc("anvil_setCode", recipient(1), REVERTS)  # after it was asked
    paid = await ask(house, 2, "5.00")
    await house.work()
    paused = await ask(house, 3, "5.00")
    rejected = await seen(house, refuses)
    assert rejected["state"] == "rejected"
    assert rejected["reason"].startswith("the recipient can't be paid: ")
    account = await house.services.ledger.account(f"{house.alice.user}/wallet/ETH")
    assert account.debits_pending == 0
    house.chain.as_token_owner("USDC", "pause()")
    await house.work()
    waiting = await seen(house, paused)
    assert (waiting["state"], waiting["waiting_for"]) == ("approved", "approval")
    assert waiting["reason"].startswith("the token pays nobody now: ")
    house.chain.as_token_owner("USDC", "unpause()")
    await house.work()
    await house.work(blocks=5)
    assert [(await seen(house, one))["state"] for one in (paid, paused)] == ["final", "final"]
    await house.require_agreement()


async def test_at_the_cap_the_same_bytes_stay_and_the_treasurer_is_told(house):
    house.chain.set_automine(False)
    sent = await ask(house, 1, "5.00")
    await house.work()
    house.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(90 * GWEI))
    house.chain.mine()

    async def waits_for_the_fee() -> bool:
        await house.work()
        return bool((await seen(house, sent))["waiting_for"] == "fee")

    await eventually("it waits for the fee", waits_for_the_fee)
    waiting = await seen(house, sent)
    assert (waiting["state"], waiting["waiting_for"]) == ("broadcast", "fee")
    alert = (await house.alerts())["payments_wait"]
    assert alert["subject"] == "payments on local, fee"
    assert "the most that's allowed" in alert["text"]
