"""The payout contract of one network: has it created, and tells where it stands."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError, Unavailable
from chain import addresses, transaction_store, transactions
from chain.errors import NotYetFollowed
from chain.evm.node import Node
from chain.fees import estimate
from chain.networks import Network
from chain.payout import DEPLOYMENT_GAS, payout_code
from chain.payout_contract import PayoutContract, stands
from chain.signing import Deploy, OwnAddress
from chain.status import network_status
from chain.transaction_states import Kind
from chain.transactions import OwnTransaction, Payment
from db.engine import tx
from wallet import batch_store
from wallet.batch_rules import Terms
from wallet.withdrawal_store import load_past


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the contract of a network is.

    `transaction` creates it, if that was asked for and the signer hasn't refused it (`refusal`). `stands` says whether
    its very code is there at the last final block, None (and `problem`) if that can't be told now. `terms` are those of
    batches, None while they're off.
    """

    contract: PayoutContract
    deployer: str
    transaction: OwnTransaction | None
    refusal: str | None
    stands: bool | None
    problem: str | None
    terms: Terms | None
    batches: dict[str, int]


class Payouts:
    """One network's payout contract."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        network: Network,
        node: Node,
        contract: PayoutContract,
        deployer: str,
        terms: Terms | None,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """`deployer`: the address (lower-case hex) of the key that the policy names."""
        self.network = network
        self.contract = contract
        self._engine = engine
        self._book = book
        self._node = node
        self._deployer = deployer
        self._terms = terms
        self._clock = clock
        self._entropy = entropy

    async def standing(self) -> Standing:
        """Where it is now."""
        async with tx(self._engine) as connection:
            own = await transactions.find(connection, book=self._book, subject=self._subject)
            past = {} if own else await load_past(connection, self._book, [self._subject])
            counts = await batch_store.load_counts(connection, self._book, self.network.name)
        found, problem = None, None
        try:
            found = await self._stands()
        except Unavailable as error:
            problem = error.message
        refusal = past[self._subject][1] if self._subject in past else None
        return Standing(self.contract, self._deployer, own, refusal, found, problem, self._terms, counts)

    async def deploy(self) -> OwnTransaction:
        """Reserve the transaction that creates it; the worker carries that out. Asked again, it's the same one.

        Raises ConfigError where the policy's words don't fit what its deployer is and has sent, NotYetFollowed, and
        what the node does.
        """
        async with tx(self._engine) as connection:
            await network_status(connection, self.network)
            known = await transactions.find(connection, book=self._book, subject=self._subject)
        if known is not None:
            return known
        payment = await self._payment()
        first = await self._node.next_nonce(self._deployer)
        async with tx(self._engine) as connection:
            await transaction_store.begin_nonces(
                connection, network=self.network.name, sender=self._deployer, first=first
            )
            reserved = await transactions.reserve(connection, payment, clock=self._clock, entropy=self._entropy)
            if reserved.nonce != self.contract.nonce:
                raise ConfigError(
                    f"the policy says that {self.contract.deployer} creates the payout contract of"
                    f" {self.network.name} with nonce {self.contract.nonce}, but its next one is {reserved.nonce}: a"
                    " successor policy must name that nonce (docs/batches.md); nothing was done",
                    code="nonce_differs",
                )
            found = await transactions.find(connection, book=self._book, subject=self._subject)
        assert found is not None
        return found

    @property
    def _subject(self) -> str:
        """One per chain, deployer and nonce."""
        key = self.contract.deployer
        return f"dpl_{self.network.chain_id}-{key.role.value}-{key.generation}-{key.index}-{self.contract.nonce}"

    async def _payment(self) -> Payment:
        sender = OwnAddress(self.contract.deployer, self._deployer)
        async with tx(self._engine) as connection:
            if await addresses.house(connection, key=self.contract.deployer) is None:
                raise ConfigError(
                    f"the policy lets {self.contract.deployer} create the payout contract, but that's no address that"
                    " this installation pays from: name hot:0 or gas:0",
                    code="deployer_unknown",
                )
        cost = estimate(
            await self._node.market(),
            gas_limit=DEPLOYMENT_GAS,
            tip_floor=self.network.tip_floor,
            network_cap=self.network.max_fee_per_gas_cap,
        )
        if cost is None:
            raise ConfigError(
                f"gas on {self.network.name} costs more now than max_fee_per_gas_cap_gwei; try later",
                code="fee_above_cap",
            )
        return Payment(
            network=self.network.name,
            kind=Kind.DEPLOYMENT,
            book=self._book,
            subject=self._subject,
            sender=sender,
            contract=None,
            to=self.contract.address,
            amount=0,
            gas_limit=DEPLOYMENT_GAS,
            fee_wei_max=cost.highest_wei,
            order=Deploy(payout_code().creation),
        )

    async def _stands(self) -> bool:
        """Whether its very code is there at the last final block. Raises NotYetFollowed and what the node does."""
        async with tx(self._engine) as connection:
            at = await network_status(connection, self.network)
            final = await batch_store.load_final_hash(connection, at)
        if final is None:
            raise NotYetFollowed(f"no block of network {self.network.name} is final yet")
        return await stands(self._node, self.contract.address, block=final)
