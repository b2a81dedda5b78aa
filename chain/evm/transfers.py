"""Which transfers a block holds, and which of them are ours. Pure.

Tokens say `Transfer(from, to, value)` (ERC-20); the native coin says nothing, so its transfers are read off the
transactions that succeeded. Not found so: native value moved by a contract's inner call; that takes a trace.
"""

from collections.abc import Collection, Iterator

from chain.evm.blocks import Block, Log, MinedTransaction
from chain.observations import Observation, Outgoing

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak("Transfer(address,address,uint256)"). ERC-721 shares it, with the third value indexed as well."""

_TOPICS = 3
_WORD = 32
_PADDING = "0x" + "00" * 12


def touched(block: Block) -> frozenset[str]:
    """Every address that sent a transaction, or that paid or was paid, in `block`."""
    addresses = {transaction.sender for transaction in block.transactions}
    for transfer in _transfers(block):
        addresses |= {transfer.sender, transfer.recipient}
    return frozenset(addresses)


def observations(block: Block, own: Collection[str]) -> tuple[Observation, ...]:
    """The transfers to or from `own` addresses, one of both kinds once; transfers of nothing are left out."""
    return tuple(found for found in _transfers(block) if found.sender in own or found.recipient in own)


def outgoing(block: Block, own: Collection[str]) -> tuple[Outgoing, ...]:
    """The transactions that `own` addresses sent, failed ones too."""
    return tuple(
        Outgoing(
            tx_hash=sent.tx_hash,
            sender=sent.sender,
            nonce=sent.nonce,
            recipient=sent.recipient,
            succeeded=sent.succeeded,
            gas_used=sent.gas_used,
            effective_gas_price=sent.effective_gas_price,
        )
        for sent in block.transactions
        if sent.sender in own
    )


def _transfers(block: Block) -> Iterator[Observation]:
    for transaction in block.transactions:
        if (native := _native(transaction)) is not None:
            yield native
        if not transaction.succeeded:
            continue
        for position, log in enumerate(transaction.logs):
            if (token := _token(transaction.tx_hash, position, log)) is not None:
                yield token


def _native(transaction: MinedTransaction) -> Observation | None:
    to = transaction.recipient or transaction.created
    if not transaction.succeeded or transaction.value == 0 or to is None:
        return None
    return Observation(transaction.tx_hash, "value", None, transaction.sender, to, transaction.value)


def _token(tx_hash: str, position: int, log: Log) -> Observation | None:
    """The transfer that a log tells of; None for other logs, and for such that no ERC-20 token would write."""
    if len(log.topics) != _TOPICS or log.topics[0] != TRANSFER_TOPIC or len(log.payload) != _WORD:
        return None
    sender, recipient = log.topics[1], log.topics[2]
    amount = int.from_bytes(log.payload, "big")
    if amount == 0 or not (sender.startswith(_PADDING) and recipient.startswith(_PADDING)):
        return None
    return Observation(tx_hash, f"log:{position}", log.contract, _address(sender), _address(recipient), amount)


def _address(topic: str) -> str:
    return "0x" + topic[len(_PADDING) :]
