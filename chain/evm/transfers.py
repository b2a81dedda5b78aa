"""Which transfers a block holds, and which of them are ours. Pure.

Tokens say `Transfer(from, to, value)` (ERC-20); the native coin says nothing, so its transfers are read off the
transactions that succeeded, and off the withdrawals that the block itself pays. Not found so: native value moved by a
contract's inner call; that takes a trace (`chain.evm.traces`).
"""

import re
from collections.abc import Collection, Iterator

from chain.errors import NodeMisbehaved
from chain.evm.blocks import Block, Log, MinedTransaction
from chain.observations import NOBODY, Observation, Outgoing
from chain.payout import leg_outcomes

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak("Transfer(address,address,uint256)"). ERC-721 shares it, with the third value indexed as well."""

_TOPICS = 3
_WORD = 32
_PADDING = "0x" + "00" * 12
_PADDED = len(_PADDING)
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")


def touched(block: Block) -> frozenset[str]:
    """Every address that sent a transaction, or that paid or was paid, in `block`; a few too many don't matter."""
    addresses = {paid.recipient for paid in block.withdrawals}
    for transaction in block.transactions:
        addresses.add(transaction.sender)
        if not transaction.succeeded:
            continue
        if transaction.value and (to := transaction.recipient or transaction.created) is not None:
            addresses.add(to)
        for log in transaction.logs:
            if len(log.topics) == _TOPICS and log.topics[0] == TRANSFER_TOPIC:
                addresses.update(_sides(log))
    return frozenset(addresses)


def observations(block: Block, own: Collection[str], payouts: Collection[str] = ()) -> tuple[Observation, ...]:
    """The transfers to or from `own` addresses, one of both kinds once; transfers of nothing are left out.

    `payouts` are our payout contracts: what of our coin one didn't spend it gave back, and its event tells so. Raises
    NodeMisbehaved when what it's about isn't an address.
    """
    return tuple(_transfers(block, own, payouts))


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


def _transfers(block: Block, own: Collection[str], payouts: Collection[str]) -> Iterator[Observation]:
    """Most logs of a busy block are nobody's whom we know: these are passed by before anything is made of them."""
    for paid in block.withdrawals:
        if paid.amount and paid.recipient in own:
            place = f"withdrawal:{paid.index}"
            yield Observation(block.ref.block_hash, place, None, NOBODY, _checked(paid.recipient), paid.amount)
    for transaction in block.transactions:
        if not transaction.succeeded:
            continue
        if transaction.value and (native := _native(transaction, own)) is not None:
            yield native
            if native.recipient in payouts and native.sender in own:
                yield from _given_back(transaction, native.recipient)
        for position, log in enumerate(transaction.logs):
            if len(log.topics) != _TOPICS or log.topics[0] != TRANSFER_TOPIC:
                continue
            sender, recipient = _sides(log)
            if sender in own or recipient in own:
                token = of_log(transaction.tx_hash, position, log)
                if token is not None:
                    yield token


def _native(transaction: MinedTransaction, own: Collection[str]) -> Observation | None:
    sender, to = transaction.sender, transaction.recipient or transaction.created
    if to is None or not (sender in own or to in own):
        return None
    return Observation(transaction.tx_hash, "value", None, _checked(sender), _checked(to), transaction.value)


def _given_back(transaction: MinedTransaction, payout_contract: str) -> Iterator[Observation]:
    """Each leg of the coin that wasn't paid: its amount came back in the same transaction, or all was reverted."""
    for outcome in leg_outcomes(transaction.logs, payout_contract):
        if not outcome.paid and outcome.leg.amount:
            place = f"log:{outcome.position}"
            yield Observation(transaction.tx_hash, place, None, payout_contract, transaction.sender, outcome.leg.amount)


def _sides(log: Log) -> tuple[str, str]:
    """Who pays and who is paid, as a transfer's topics tell it."""
    return "0x" + log.topics[1][_PADDED:], "0x" + log.topics[2][_PADDED:]


def of_log(tx_hash: str, position: int, log: Log) -> Observation | None:
    """The transfer that a log tells of; None for other logs, and for such that no ERC-20 token would write."""
    if len(log.topics) != _TOPICS or log.topics[0] != TRANSFER_TOPIC or len(log.payload) != _WORD:
        return None
    amount = int.from_bytes(log.payload, "big")
    if amount == 0 or not all(topic.startswith(_PADDING) for topic in log.topics[1:]):
        return None
    payer, payee = _sides(log)
    return Observation(tx_hash, f"log:{position}", _checked(log.contract), _checked(payer), _checked(payee), amount)


def _checked(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise NodeMisbehaved(f"{address[:80]!r} isn't an address")
    return address
