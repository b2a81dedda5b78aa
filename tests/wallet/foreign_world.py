"""A whole house whose keys somebody else has too: what they do with them on a real chain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import select

from chain import addresses, local, tables
from chain.evm.addresses import show_address
from chain.signing import OwnKey, Role
from custody.derivation import AccountKeys
from custody.derivation import Role as CustodyRole
from custody.seeds import read_words, seed_from_entropy
from db.engine import tx
from tests.api.conftest import Caller
from tests.support.chain import RunningChain, start_local_chain
from tests.support.postgres import Database
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house

ETHER = 10**18
STRANGER = "0x00000000000000000000000000000000DeaDBeef"


@dataclass
class ForeignWorld:
    """The house, and a thief with the keys of its hot address and of Alice's deposit address."""

    house: WholeHouse
    thief: LocalAccount
    deposit_thief: LocalAccount
    hot: str
    alice: str

    @property
    def chain(self) -> RunningChain:
        return self.house.chain

    @property
    def treasurer(self) -> Caller:
        return self.house.treasurer

    def steal(self, to: str, *, value: int = 0, call: bytes = b"", by: LocalAccount | None = None, **more: Any) -> str:
        """A transaction of an own address that we didn't make; its hash, once mined (at once with automine off)."""
        thief = by or self.thief
        wanted: dict[str, Any] = {
            "chainId": self.chain.chain_id,
            "nonce": int(self.chain.rpc("eth_getTransactionCount", thief.address, "latest"), 16),
            "to": show_address(to.lower()),
            "value": value,
            "data": call,
            "gas": 100_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 5 * 10**9,
        } | more
        return self.send(thief.sign_transaction(wanted))

    def send(self, signed: Any) -> str:
        return str(self.chain.rpc("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex()))

    def usdc(self, function: str, *arguments: object, sender: int) -> str:
        """A call of the token by one of the unlocked accounts; the hash, once mined."""
        call = local.encode_call(function, *arguments)
        wanted = {"from": self.chain.accounts[sender], "to": self.chain.token("USDC"), "data": "0x" + call.hex()}
        tx_hash = str(self.chain.rpc("eth_sendTransaction", wanted))
        self.chain.receipt(tx_hash)
        return tx_hash

    async def withdraw(self, amount: str = "10.00", to: str = STRANGER) -> dict[str, Any]:
        """Alice asks for one; as the API shows it."""
        body = {"asset": "USDC", "network": "local", "address": to, "amount": amount}
        asked = await self.house.alice.post("/v1/withdrawals", body)
        assert asked.status_code == 201, asked.text
        found: dict[str, Any] = asked.json()
        return found

    async def finish(self) -> None:
        """Let everything under way be signed, sent, mined, final and booked."""
        await self.house.work()
        await self.house.work(blocks=5)

    async def shown(self, withdrawal: dict[str, Any]) -> dict[str, Any]:
        """What Alice sees of it now."""
        found: dict[str, Any] = (await self.house.alice.get(f"/v1/withdrawals/{withdrawal['id']}")).json()
        return found

    async def halted(self) -> list[dict[str, Any]]:
        return await self.house.items(self.treasurer, "/v1/treasury/halted-senders")

    async def kinds(self, address: str | None = None) -> list[str]:
        """What is open at an own address (by default the hot one), as the treasurer sees it."""
        here = show_address(address or self.hot)
        return [finding["kind"] for one in await self.halted() if one["address"] == here for finding in one["findings"]]

    async def accept(self, reason: str = "looked at") -> None:
        """The treasurer lifts every halt that stands."""
        for one in await self.halted():
            path = f"/v1/treasury/senders/{one['network']}/{one['address']}/acceptances"
            done = await self.treasurer.post(path, {"state": one["state"], "reason": reason})
            assert done.status_code == 200, done.text

    async def outflows(self) -> list[tuple[str, str, str]]:
        """(asset, amount, place) of what left without us, by these."""
        found = await self.house.items(self.treasurer, "/v1/treasury/outflows")
        return sorted((one["asset"], one["amount"], one["place"].partition(":")[0]) for one in found)

    async def under_review(self) -> list[dict[str, Any]]:
        return await self.house.items(self.treasurer, "/v1/treasury/withdrawals")

    async def resolve(self, withdrawal: dict[str, Any], outcome: str, tx_hash: str | None = None, key: str = "") -> Any:
        """The answer to a treasurer's resolution."""
        body = {"outcome": outcome, "reason": "looked at"} | ({} if tx_hash is None else {"tx_hash": tx_hash})
        return await self.treasurer.post(f"/v1/treasury/withdrawals/{withdrawal['id']}/resolutions", body, key=key)

    async def breaks(self) -> list[tuple[str, str]]:
        """(reason, asset) of what reconciliation finds, after everything final was booked."""
        run = await self.house.services.reconciler.run()
        assert (run.in_flight, [judged.skipped for judged in run.networks]) == ((), [None])
        return sorted((one.reason.value, one.asset) for one in run.breaks)

    async def attempts(self) -> list[Any]:
        """Everything that the signer was ever asked for, oldest first."""
        async with tx(self.house.parts.engine) as connection:
            asked = select(tables.attempts).order_by(tables.attempts.c.created_at)
            return list(await connection.execute(asked))


def stolen(signer: RunningSigner, role: CustodyRole, index: int = 0) -> LocalAccount:
    """The account of one of the signer's keys."""
    seed = seed_from_entropy(*read_words(signer.keys[role].words))
    account: LocalAccount = Account.from_key(AccountKeys(role, seed).private_key(index))
    return account


@asynccontextmanager
async def foreign_world(database: Database, home: Path) -> AsyncIterator[ForeignWorld]:
    """The hot address has 1 ether and 1,000 USDC, Alice 100 USDC at her deposit address; all of it is booked."""
    with start_local_chain(home) as chain:
        policy = generous_policy(chain.chain_id, chain.token("USDC").lower())
        signer = start_signer(home / "signer", policy)
        try:
            async with whole_house(chain, database, home, signer=signer) as house:
                yield await _begun(house, signer)
        finally:
            signer.stop()


async def _begun(house: WholeHouse, signer: RunningSigner) -> ForeignWorld:
    await house.work()
    alice = await house.address(house.alice)
    async with tx(house.parts.engine) as connection:
        hot = await addresses.house(connection, key=OwnKey(Role.HOT, 0))
        (own,) = await addresses.of_owner(connection, book="main", owner=house.alice.user or "")
    assert hot is not None
    thieves = stolen(signer, CustodyRole.HOT), stolen(signer, CustodyRole.DEPOSIT, own.key.index)
    assert [thief.address.lower() for thief in thieves] == [hot.address, alice]
    house.chain.faucet(hot.address, ETHER)
    house.chain.faucet(alice, ETHER // 10)
    house.chain.transfer("USDC", hot.address, 1_000_000_000)
    house.chain.transfer("USDC", alice, 100_000_000)
    await house.work(blocks=4)
    return ForeignWorld(house, *thieves, hot.address, alice)
