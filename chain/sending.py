"""What handing signed bytes to all nodes of a network came to. Pure.

Taken by one is taken. A node that has them already, or that says the nonce is used up, refuses nothing: the blocks will
tell whose transaction used it. No answer isn't a no. Only when every node that answered refused are they refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chain.errors import (
    AlreadyKnown,
    FeeTooLow,
    InsufficientFunds,
    NodeRefused,
    NonceTooLow,
    ReplacementUnderpriced,
)
from chain.transaction_states import WaitingFor


class Taking(StrEnum):
    """One node's answer to the bytes, the best one first."""

    TAKEN = "taken"
    KNOWN = "known"
    """It had them already."""
    NONCE_USED = "nonce_used"
    SILENT = "silent"
    """No answer, or none that makes sense: it may have them."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Handed:
    """What one node did with the bytes. `problem` is there unless it took or knew them."""

    node: str
    taking: Taking
    problem: Exception | None = None

    @property
    def words(self) -> str:
        """The problem in the node's words, and whose they are."""
        return f"node {self.node}: {getattr(self.problem, 'message', self.problem)}"


@dataclass(frozen=True, slots=True)
class Sent:
    """What it came to. `out`: they may be on their way, so that from here on only the chain says what became of them.

    `is_underpriced`: a node has another transaction of that nonce, and wants more for this one.
    """

    out: bool
    waiting_for: WaitingFor | None = None
    words: str | None = None
    is_underpriced: bool = False


def answer_of(node: str, problem: Exception | None) -> Handed:
    """A node's answer by what asking it raised."""
    match problem:
        case None:
            return Handed(node, Taking.TAKEN)
        case AlreadyKnown():
            return Handed(node, Taking.KNOWN)
        case NonceTooLow():
            return Handed(node, Taking.NONCE_USED, problem)
        case NodeRefused():
            return Handed(node, Taking.REFUSED, problem)
        case _:
            return Handed(node, Taking.SILENT, problem)


def together(handed: Sequence[Handed]) -> Sent:
    """What all answers together mean; there is at least one."""
    best = min(handed, key=lambda one: list(Taking).index(one.taking))
    match best.taking:
        case Taking.TAKEN | Taking.KNOWN | Taking.NONCE_USED:
            return Sent(out=True)
        case Taking.SILENT:
            return Sent(out=True, waiting_for=WaitingFor.NODE, words=best.words)
        case Taking.REFUSED:
            problem = best.problem
            underpriced = isinstance(problem, ReplacementUnderpriced)
            return Sent(out=False, waiting_for=_lack_behind(problem), words=best.words, is_underpriced=underpriced)


def _lack_behind(problem: Exception | None) -> WaitingFor:
    """What a transaction lacks that a node won't take."""
    match problem:
        case InsufficientFunds():
            return WaitingFor.GAS
        case FeeTooLow() | ReplacementUnderpriced():
            return WaitingFor.FEE
        case _:
            return WaitingFor.NODE
