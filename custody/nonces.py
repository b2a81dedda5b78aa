"""One nonce, one intent: what the journal's own history allows, whatever the policy says. Pure.

For a sender only the highest nonce + 1; one subject gets one nonce, ever; a second signature on it only for the same
intent at higher fees, or to cancel it; a question asked again gets the answer it had (EIP-1559 replacement needs
both fees higher; nodes demand more, and that is the asker's care). A message has no nonce and is signed once.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

from custody.intents import Authorisation, Cancel, First, Intent, Payment, ProofOfControl


@dataclass(frozen=True, slots=True)
class Journalled:
    """An intent that the journal holds. `fee_wei_max` is what was allowed at its subject's first signature."""

    sequence: int
    intent: Intent
    rule: str
    fee_wei_max: int


@dataclass(frozen=True, slots=True)
class NonceFacts:
    """What the journal knows about a question: this very attempt, the subject's latest one, and the sender's nonces.

    `used` is a subject of the question (its own, or a leg's) that something else has used up; `holder` the subject that
    has the asked nonce already; `next_nonce` the only one that a new subject may use.
    """

    same_attempt: Journalled | None
    latest: Journalled | None
    used: str | None
    holder: str | None
    next_nonce: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """Asked before: serve the journal's bytes."""

    journalled: Journalled


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new subject: the policy decides, then its nonce is checked."""

    intent: First


@dataclass(frozen=True, slots=True)
class Successor:
    """A replacement or cancellation within what was allowed before: no new policy decision."""

    intent: Payment
    of: Journalled


@dataclass(frozen=True, slots=True)
class Conflict:
    """Contradicts the journal."""

    code: str
    sentence: str


Verdict: TypeAlias = Repeat | Fresh | Successor | Conflict


def judge(intent: Intent, facts: NonceFacts) -> Verdict:
    """What the journal's history makes of `intent`."""
    if facts.same_attempt is not None:
        if facts.same_attempt.intent == intent:
            return Repeat(facts.same_attempt)
        return Conflict("attempt_differs", f"attempt {intent.attempt} of {intent.subject} was signed for other terms")
    if facts.latest is not None:
        return _succeed(intent, facts.latest)
    if facts.used is not None:
        return Conflict("subject_used", f"{facts.used} is paid by another signature already")
    if isinstance(intent, Cancel):
        return Conflict("nothing_to_cancel", f"nothing was signed for {intent.subject}")
    return Fresh(intent)


def nonce_conflict(intent: First, facts: NonceFacts) -> Conflict | None:
    """Why a new subject can't have the nonce it asks for, if so; asked after the policy said yes."""
    if intent.nonce is None:
        return None
    if facts.holder is not None:
        return Conflict("nonce_taken", f"nonce {intent.nonce} of {intent.sender} was signed for another subject")
    if intent.nonce != facts.next_nonce:
        sentence = f"the next nonce of {intent.sender} is {facts.next_nonce}, not {intent.nonce}"
        return Conflict("nonce_not_next", sentence)
    return None


def _succeed(intent: Intent, latest: Journalled) -> Successor | Conflict:
    """A later attempt of a subject that has a nonce; checks in order of precedence."""
    before = latest.intent
    if isinstance(intent, Authorisation | ProofOfControl) or isinstance(before, Authorisation | ProofOfControl):
        return Conflict("second_message", f"{intent.subject} was signed once, and a message isn't replaced")
    place = (intent.chain_id, intent.sender, intent.nonce)
    if place != (before.chain_id, before.sender, before.nonce):
        return Conflict("second_nonce", f"{intent.subject} was signed with nonce {before.nonce} of {before.sender}")
    if intent.attempt <= before.attempt:
        return Conflict("attempt_too_low", f"the latest attempt of {intent.subject} is {before.attempt}")
    if not isinstance(intent, Cancel):
        if isinstance(before, Cancel):
            return Conflict("already_cancelled", f"{intent.subject} is being cancelled; only that may be replaced")
        if _terms(intent) != _terms(before):
            return Conflict("terms_differ", "a replacement pays the same amount to the same address with the same gas")
    if (
        intent.max_fee_per_gas <= before.max_fee_per_gas
        or intent.max_priority_fee_per_gas <= before.max_priority_fee_per_gas
    ):
        return Conflict("fees_not_higher", "a replacement raises both fees")
    if intent.fee_wei_max > latest.fee_wei_max:
        return Conflict(
            "replacement_over_fee_cap",
            f"gas limit x fee is {intent.fee_wei_max} wei, at most {latest.fee_wei_max} was allowed",
        )
    return Successor(intent, latest)


def _terms(intent: Payment) -> Payment:
    """An intent with everything levelled that a replacement may change."""
    return replace(intent, attempt=1, max_fee_per_gas=1, max_priority_fee_per_gas=0)
