"""What the followed chain shows of a transaction, as its next state. Pure.

Only blocks that the follower took in count, never a node's receipt.
"""

from collections.abc import Sequence
from dataclasses import replace

from chain.payments import Attempt, Mined, OnChain, OwnTransaction
from chain.transaction_states import Event, State, advance


def seen(
    transaction: OwnTransaction,
    attempts: Sequence[Attempt],
    found: OnChain | None,
    *,
    final_height: int,
    next_nonce: int = 0,
) -> OwnTransaction | None:
    """The transaction as it stands by what is in a live block with its sender and nonce; None: that's nothing new.

    One of our attempts: mined, and once final its end. None: a reorganisation took its block, so that the same bytes
    are to be sent again. A stranger's, once final: our payment can't be mined any more, and a person must look. So
    must one where nothing was seen to have used its nonce, which is below `next_nonce`: its sender's in a final block.
    One that isn't signed yet waits until it is: the signer gives no later nonce before this one.
    """
    ours = next((attempt for attempt in attempts if found and attempt.tx_hash == found.tx_hash), None)
    if found is not None and ours is not None:
        return _mined(transaction, ours, found, is_final=found.block_number <= final_height)
    if transaction.state is State.MINED:
        return _moved(transaction, Event.UNMINED)
    if transaction.state is State.RESERVED or transaction.nonce is None:
        return None
    if found is not None and found.block_number <= final_height:
        words = f"nonce {transaction.nonce} was used up by {found.tx_hash}, which isn't one of our attempts"
        return replace(_moved(transaction, Event.DISPLACED), refusal=words)
    if found is None and transaction.nonce < next_nonce:
        words = f"nonce {transaction.nonce} was used up without a transaction, as by an EIP-7702 authorisation"
        return replace(_moved(transaction, Event.DISPLACED), refusal=words)
    return None


def _mined(transaction: OwnTransaction, ours: Attempt, found: OnChain, *, is_final: bool) -> OwnTransaction | None:
    mined = Mined(
        attempt=ours.attempt,
        tx_hash=found.tx_hash,
        block_number=found.block_number,
        block_hash=found.block_hash,
        succeeded=found.succeeded,
        gas_used=found.gas_used,
        effective_gas_price=found.effective_gas_price,
        fee_wei=found.fee_wei,
    )
    if transaction.mined == mined and not is_final:
        return None
    now = replace(_moved(transaction, Event.MINED), mined=mined)
    return replace(now, state=advance(now.state, _ending(ours, mined))) if is_final else now


def _moved(transaction: OwnTransaction, event: Event) -> OwnTransaction:
    state = advance(transaction.state, event)
    return replace(transaction, state=state, mined=None, waiting_for=None, refusal=None)


def _ending(attempt: Attempt, mined: Mined) -> Event:
    if attempt.cancels:
        return Event.FINAL_CANCELLED
    return Event.FINAL_PAID if mined.succeeded else Event.FINAL_REVERTED
