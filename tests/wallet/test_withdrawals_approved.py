"""Withdrawals that the signer's policy wants people's approvals for, on a real chain with a real signer.

Up to 50 USDC a day leave as they are; what comes after needs two of three people.
"""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from base.entropy import SystemEntropy
from chain.evm.addresses import show_address
from custody.approval_requests import signature_to_json
from custody.approvals import sign_statement
from custody.derivation import Role
from db.engine import tx
from tests.custody.samples import PEOPLE, people_text
from tests.support.chain import RunningChain, start_local_chain
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house
from wallet.tables import paid_alone
from wallet.withdrawal_approvals import ALONE, ASKED, NOT_APPROVED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ETHER, DOLLAR = 10**18, 10**6


@pytest.fixture
def chain(tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as running:
        yield running


@pytest.fixture
def signer(tmp_path, chain) -> Iterator[RunningSigner]:
    usdc = chain.token("USDC").lower()
    threshold, people = people_text().split("\n", 1)
    before, rule, after = generous_policy(chain.chain_id, usdc).partition(f'name = "hot pays {usdc}"')
    wanted = f'{rule}\napprovals = 2\napprovals_above = "{50 * DOLLAR}"'
    policy = f"{before}{wanted}{after}\n{people}".replace("version = 1\n", f"version = 1\n{threshold}\n", 1)
    running = start_signer(tmp_path / "signer", policy)
    yield running
    running.stop()


@pytest.fixture
async def house(chain, signer, database, tmp_path) -> AsyncIterator[WholeHouse]:
    """Alice has 500 USDC, the hot address enough of all."""
    async with whole_house(
        chain,
        database,
        tmp_path,
        signer=signer,
        network={"spendable_depth": 1, "final_depth": 2},
        policy=signer.folder / "policy.toml",
    ) as made:
        await made.work()
        hot = "0x" + signer.address(Role.HOT).hex()
        chain.faucet(hot, ETHER)
        chain.transfer("USDC", hot, 1_000 * DOLLAR)
        chain.transfer("USDC", await made.address(made.alice), 500 * DOLLAR)
        await made.work(blocks=4)
        yield made


async def ask(house: WholeHouse, amount: str) -> dict[str, Any]:
    """Alice withdraws to somebody new, as far as the house comes with it by itself."""
    to = show_address("0x" + SystemEntropy().draw(20).hex())
    asked = await house.alice.post(
        "/v1/withdrawals", {"asset": "USDC", "network": "local", "address": to, "amount": amount}
    )
    assert asked.status_code == 201, asked.text
    for _ in range(3):
        await house.work(blocks=2)
    return await shown(house, asked.json())


async def shown(house: WholeHouse, withdrawal: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await house.alice.get(f"/v1/withdrawals/{withdrawal['id']}")).json()
    return found


async def requests(house: WholeHouse, withdrawal: dict[str, Any]) -> list[dict[str, Any]]:
    """What people are asked about it."""
    found = await house.items(house.treasurer, "/v1/treasury/approvals")
    return [one for one in found if one["terms"]["subject"] == withdrawal["id"]]


async def sign(house: WholeHouse, request: dict[str, Any], name: str) -> dict[str, Any]:
    signature = signature_to_json(sign_statement(name, PEOPLE[name], base64.b64decode(request["statement"])))
    done = await house.treasurer.post(f"/v1/treasury/approvals/{request['id']}/signatures", signature)
    assert done.is_success, done.text
    await house.work()
    found: dict[str, Any] = done.json()
    return found


async def test_what_the_policy_wants_approved_waits_for_its_people_and_is_paid_once(house, chain):
    small = await ask(house, "10.00")
    assert small["state"] == "final"
    assert await requests(house, small) == []

    large = await ask(house, "60.00")
    assert (large["state"], large["reason"], large["cancellable"]) == ("awaiting_approval", ASKED, True)
    (request,) = await requests(house, large)
    assert (request["state"], request["needed"], request["maker"]) == ("open", 2, house.alice.user)
    assert (request["terms"]["to"], request["terms"]["amount"]) == (large["address"], str(60 * DOLLAR))
    await house.work(blocks=2)
    assert len(await requests(house, large)) == 1
    async with tx(house.parts.engine) as connection:  # as a leg it would be refused, and all its batch with it
        alone = await connection.execute(select(paid_alone.c.withdrawal, paid_alone.c.reason))
        assert [tuple(row) for row in alone] == [(large["id"], ALONE)]

    assert (await sign(house, request, "ada"))["state"] == "open"
    alert = (await house.alerts())["approval_wanted"]
    assert (alert["subject"], alert["severity"]) == (request["id"], "warning")
    assert alert["text"].startswith(
        f"{large['id']} waits for 2 approvals, 1 are there: `onebook approve {request['id']}`"
    )
    assert (await shown(house, large))["state"] == "awaiting_approval"
    assert chain.balance("USDC", large["address"]) == 0
    assert (await sign(house, request, "ben"))["state"] == "approved"
    await house.work(blocks=4)
    paid = await shown(house, large)
    assert (paid["state"], chain.balance("USDC", large["address"])) == ("final", 60 * DOLLAR)
    assert [one["state"] for one in await requests(house, large)] == ["consumed"]
    assert "approval_wanted" not in await house.alerts()
    await house.require_agreement()


async def test_what_its_people_do_not_approve_is_given_back_and_a_cancelled_one_is_not_paid_by_what_they_sign(
    house, chain
):
    before = await house.balance(house.alice)
    refused = await ask(house, "70.00")
    (request,) = await requests(house, refused)
    withdrawn = await house.treasurer.post(f"/v1/treasury/approvals/{request['id']}/withdraw")
    assert withdrawn.is_success, withdrawn.text
    await house.work()
    ended = await shown(house, refused)
    assert (ended["state"], ended["reason"]) == ("rejected", NOT_APPROVED)

    given_up = await ask(house, "80.00")
    (request,) = await requests(house, given_up)
    cancelled = await house.alice.post(f"/v1/withdrawals/{given_up['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled"), cancelled.text
    for name in ("ada", "ben"):
        await sign(house, request, name)
    await house.work(blocks=4)
    assert (await shown(house, given_up))["state"] == "cancelled"
    assert [chain.balance("USDC", one["address"]) for one in (refused, given_up)] == [0, 0]
    assert await house.balance(house.alice) == before
    await house.require_agreement()
