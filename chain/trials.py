"""Payments tried at the newest block before anything is signed: what would fail on chain must not cost gas.

A refusal has one of two causes. If the token pays nobody (it's paused, or lists the sender), the payment waits; if it
pays others, the recipient is at fault, and no waiting helps. To tell them apart the same amount is tried from the
sender to itself. The native coin pays everybody who takes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chain.errors import MethodUnsupported, NodeRefused, NodeUnavailable, Reverted
from chain.evm.node import Node
from chain.evm.signed import transfer_call

_WORDS_MAX = 200
_FALSE = bytes(32)
"""What a token answers that refuses without reverting."""


class Fault(StrEnum):
    """Why a payment would fail."""

    RECIPIENT = "recipient"
    TOKEN = "token"  # noqa: S105 - not a password
    NODE = "node"
    """The node won't even try it: too much gas for a transaction, or words that are new to us."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A payment as it would be made: chain units of `contract` (None: the native coin)."""

    sender: str
    contract: str | None
    to: str
    amount: int
    gas_limit: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The payment would fail, and `words` say why: the node's own, as far as it gives any."""

    fault: Fault
    words: str


async def try_payments(node: Node, trials: Sequence[Trial]) -> list[Failure | None]:
    """What each would come to now; None: it would be paid. Raises NodeUnavailable, NodeMisbehaved.

    A sender that has the amount is taken for granted.
    """
    refused = {number: words for number, words in enumerate(await _refusals(node, trials)) if words is not None}
    doubted = [number for number, (fault, _) in refused.items() if fault is Fault.TOKEN]
    to_itself = [_to_itself(trials[number]) for number in doubted]
    pays_nobody = {
        number for number, words in zip(doubted, await _refusals(node, to_itself), strict=True) if words is not None
    }
    return [_failure(refused.get(number), number in pays_nobody) for number in range(len(trials))]


def _failure(refused: tuple[Fault, str] | None, pays_nobody: bool) -> Failure | None:
    match refused:
        case None:
            return None
        case (Fault.NODE, words):
            return Failure(Fault.NODE, f"the network's node won't try it: {words}")
        case (_, words) if pays_nobody:
            return Failure(Fault.TOKEN, f"the token pays nobody now: {words}")
        case (_, words):
            return Failure(Fault.RECIPIENT, f"the recipient can't be paid: {words}")


async def _refusals(node: Node, trials: Sequence[Trial]) -> list[tuple[Fault, str] | None]:
    answers = await node.try_calls([_call(trial) for trial in trials])
    return [_words(trial, answer) for trial, answer in zip(trials, answers, strict=True)]


def _words(trial: Trial, answer: bytes | NodeRefused) -> tuple[Fault, str] | None:
    """Who seems to refuse, and why, in plain words; None if nobody does. A token's may still be the recipient's."""
    by_whom = Fault.RECIPIENT if trial.contract is None else Fault.TOKEN
    if isinstance(answer, MethodUnsupported):
        raise NodeUnavailable(f"payments can't be tried there: {answer.message}")
    if isinstance(answer, NodeRefused):
        reason = answer.message.removeprefix("eth_call: ")[:_WORDS_MAX]
        return (by_whom if isinstance(answer, Reverted) else Fault.NODE), reason
    return (by_whom, "it answers no") if trial.contract is not None and answer == _FALSE else None


def _to_itself(trial: Trial) -> Trial:
    return Trial(trial.sender, trial.contract, trial.sender, trial.amount, trial.gas_limit)


def _call(trial: Trial) -> dict[str, str]:
    common = {"from": trial.sender, "gas": hex(trial.gas_limit)}
    if trial.contract is None:
        return common | {"to": trial.to, "value": hex(trial.amount)}
    return common | {"to": trial.contract, "data": "0x" + transfer_call(trial.to, trial.amount).hex()}
