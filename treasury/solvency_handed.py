"""Proofs of control that are made elsewhere: of cold addresses, whose keys no process here has.

What is to be signed is what the signer signs for other addresses: it names the address and its chain, and the epoch by
number and hash, which binds book, time, and the block at which balances were read. A person's key shows it by itself
(EIP-191); a contract wallet is asked at a final block whether the signature is its own (ERC-1271). Nothing else counts,
whatever somebody says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain.networks import Registry
from chain.status import status_if_followed
from custody.messages import proof_text
from db.engine import tx
from treasury import handed_store, solvency_store
from treasury.errors import ChainUnsettled, ControlUnfit, ReservesUnavailable
from treasury.solvency_epochs import Epochs, KnownEpoch
from treasury.solvency_reading import control_digest, is_by_key
from treasury.solvency_statements import AtAddress, ControlTold

SIGNATURE_BYTES_MAX = 8_192
"""Of a contract wallet with more than a hundred owners; longer ones aren't meant."""

_KEY_BYTES = 65
_LOW = 27
"""What v begins with; some devices give 0 or 1."""


class SignatureNode(Protocol):
    """A network's nodes as one; the chain's `Pool` answers."""

    async def signature_witnessed(self, contract: str, digest: bytes, signature: bytes, *, block: str) -> bool | None:
        """Whether the contract says at a block that the signature is its own; None: no two nodes tell the same."""
        ...


@dataclass(frozen=True, slots=True)
class ToSign:
    """What the address's key is to sign: the text (EIP-191 puts its own words before it), and the 32 bytes of both."""

    text: str
    digest: bytes


class HandedControls:
    """Takes proofs of control of one book's epochs."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        epochs: Epochs,
        registry: Registry,
        nodes: Mapping[str, SignatureNode],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._epochs = epochs
        self._registry = registry
        self._nodes = nodes
        self._clock = clock

    async def wanted(self, network: str, address: str, number: int | None = None) -> tuple[KnownEpoch, ToSign]:
        """What is to be signed for an epoch, without a number the latest. Raises NoEpoch, ControlUnfit.

        `address` is in lower-case hex.
        """
        epoch = await self._epochs.epoch(number)
        statement, published = epoch.statement, epoch.published
        block = next((one for one in statement.networks if one.network == network), None)
        named = {(one.network, one.address): one.role for one in statement.reserves if isinstance(one, AtAddress)}
        if block is None or (network, address) not in named:
            raise ControlUnfit(
                f"epoch {statement.epoch} names no address {address} on {network}: it names cold ones that hold"
                " something (cold_addresses of the network)",
                param="address",
            )
        if any((one.network, one.address) == (network, address) for one in published.controls):
            raise ControlUnfit(
                f"{address} on {network} has signed epoch {statement.epoch} already", code="signed_already"
            )
        text = proof_text(
            bytes.fromhex(address[2:]),
            chain_id=block.chain_id,
            epoch=str(statement.number),
            root=bytes.fromhex(published.digest),
        )
        return epoch, ToSign(text, control_digest(published, network, address))

    async def hand_in(self, network: str, address: str, signature: bytes, number: int | None = None) -> ControlTold:
        """Check a signature and keep it with its epoch.

        Raises what `wanted` does; ControlUnfit, where it isn't the address's; ChainUnsettled, ReservesUnavailable where
        a contract can't be asked now, and what nodes do. Nothing is kept then.
        """
        epoch, to_sign = await self.wanted(network, address, number)
        if len(signature) > SIGNATURE_BYTES_MAX:
            raise ControlUnfit(f"a signature has at most {SIGNATURE_BYTES_MAX} bytes", param="signature")
        control = ControlTold(network=network, address=address, signature=_usual(signature).hex())
        if not is_by_key(to_sign.digest, control):
            control = await self._by_contract(network, address, signature, to_sign)
        async with tx(self._engine) as connection:
            if not await handed_store.store(
                connection, epoch.row.book, epoch.row.number, control, now=self._clock.now()
            ):
                raise ControlUnfit(f"{address} on {network} was signed for meanwhile", code="signed_already")
        return control

    async def _by_contract(self, network: str, address: str, signature: bytes, to_sign: ToSign) -> ControlTold:
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(network))
            if at is None:
                raise ReservesUnavailable(f"network {network} was never followed; is the worker running?")
            if at.halted is not None:
                raise ChainUnsettled(f"network {network} is halted ({at.halted}): a contract is asked once that ended")
            final = await solvency_store.load_block_hash(connection, network, at.final_height)
        if final is None:
            raise ReservesUnavailable(f"no block of network {network} is final yet")
        said = await self._nodes[network].signature_witnessed(address, to_sign.digest, signature, block=final)
        if said is None:
            raise ReservesUnavailable(f"no two nodes of {network} tell what {address} says at block {at.final_height}")
        if not said:
            raise ControlUnfit(
                f"the signature isn't by the key of {address} over that very text, and no contract there takes it as"
                f" its own at block {at.final_height} (ERC-1271)",
                param="signature",
            )
        return ControlTold(
            network=network,
            address=address,
            signature=signature.hex(),
            kind="contract",
            block_number=at.final_height,
            block_hash=final,
        )


def _usual(signature: bytes) -> bytes:
    """With v as wallets usually give it."""
    if len(signature) == _KEY_BYTES and signature[-1] in (0, 1):
        return signature[:-1] + bytes([_LOW + signature[-1]])
    return signature
