"""What somebody is about to sign, in words, out of the very bytes that are signed. Pure.

Names and decimals come from the reader's own policy file. What can't be known from the bytes and that file is said too.
"""

from dataclasses import dataclass
from typing import Final

import cbor2

from custody.approval_requests import USER_WITHDRAWAL
from custody.approvals import APPROVAL, Mandate, mandate_from
from custody.counting import Counts
from custody.errors import IntentInvalid
from custody.intent_json import intent_from_terms
from custody.intents import (
    Allowance,
    Anchor,
    Authorisation,
    Deployment,
    Destination,
    First,
    KeyRef,
    PayoutBatch,
    ProofOfControl,
    Relay,
    asset_of,
    terms,
)
from custody.judging import Situation, speaking_rule
from custody.policy import Action, Policy, Rule
from custody.vocabulary import Vocabulary, decimal, in_pieces, instant_text, key_text

_STATEMENT_BYTES_MAX: Final = 64 * 1024
_SIGNATURES: Final = ("made_by", "approvals")
_TITLES: Final = {
    "native_transfer": "a payment in the network's own coin",
    "token_transfer": "a payment in a token",
    "payout_batch": "a batch of payments",
    "allowance": "an allowance: a contract may take a token from us",
    "sweep": "a sweep of what lies on an address of ours",
    "top_up": "coins for gas to an address of ours",
    "authorisation": "an authorisation: anybody may move a token of ours as it says",
    "relay": "carrying an authorisation to its token",
    "deployment": "creating a contract",
    "anchor": "writing a root on the chain",
    "proof": "a proof that we control an address",
}


@dataclass(frozen=True, slots=True)
class StatementWords:
    """A statement in words: (name, text) lines; what this can't check; why signing would be of no use (empty: nothing).

    `amount` is what moves, as people write it; None where nothing moves. `maker` may not approve it.
    """

    lines: tuple[tuple[str, str], ...]
    unchecked: tuple[str, ...]
    obstacles: tuple[str, ...]
    amount: str | None
    maker: str


@dataclass(frozen=True, slots=True)
class _Read:
    intent: First
    mandate: Mandate


def approval_in_words(statement: bytes, policy: Policy, *, now: int, reader: str | None = None) -> StatementWords:
    """What an approval's statement says to `reader` at `now` (Unix seconds), whose policy file this is.

    Raises IntentInvalid for bytes that aren't exactly one such statement.
    """
    read = _read(statement)
    intent, mandate, words = read.intent, read.mandate, Vocabulary(policy)
    rule = speaking_rule(policy, Situation(counts=Counts(), window_us=0, seconds=now), intent)
    lines = [
        ("what", _TITLES[intent.kind]),
        ("network", words.network(intent.chain_id)),
        *_money(intent, words),
        ("from", key_text(intent.sender)),
        *_where(intent, words),
        ("for", intent.subject),
        ("highest fee", words.fee(intent.chain_id, mandate.fee_wei_max)),
        ("asked by", mandate.maker),
        ("sign until", instant_text(mandate.not_after)),
        ("policy", f"version {mandate.policy_version}, {mandate.policy_fingerprint.hex()}"),
        ("your rule", f"{rule.name}: {words.rule(rule)}" if rule else "no rule in your file speaks of it"),
    ]
    return StatementWords(
        tuple(lines),
        tuple(_unchecked(intent, rule)),
        tuple(_obstacles(read, policy, rule, now, reader)),
        _amount_to_type(intent, words),
        mandate.maker,
    )


def _read(statement: bytes) -> _Read:
    wrong = IntentInvalid("these bytes aren't the statement of an approval", code="not_a_statement")
    if len(statement) > _STATEMENT_BYTES_MAX:
        raise wrong
    try:
        told = cbor2.loads(statement, max_depth=6, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError) as problem:
        raise wrong from problem
    match told:
        case [str(domain), {"terms": dict(said), **asked}] if domain == APPROVAL and asked.keys().isdisjoint(
            _SIGNATURES
        ):
            mandate = mandate_from({**asked, "made_by": None, "approvals": []})
            intent = intent_from_terms(said)
            # Encoded again from what was understood, it's the same: nothing else hides in it.
            again = [domain, {"terms": _terms(intent, said), **asked}]
            if cbor2.dumps(again, canonical=True) == statement:
                return _Read(intent, mandate)
    raise wrong


def _terms(intent: First, said: dict[str, object]) -> dict[str, object]:
    """Its terms again. Of a deployment they have the code's hash, which stands for the code in `intent`."""
    return terms(intent) | {"code": said["code"]} if isinstance(intent, Deployment) else terms(intent)


def _money(intent: First, words: Vocabulary) -> list[tuple[str, str]]:
    asset = asset_of(intent)
    if asset is None:
        return []
    chain_id, lines = intent.chain_id, []
    lines.append(("asset", words.asset(chain_id, asset)))
    contract = getattr(intent, "contract", None)
    if contract is not None:
        lines.append(("token", in_pieces(contract)))
    amount = getattr(intent, "amount", None)
    if amount is not None:
        lines.append(("amount", words.amount(chain_id, asset, amount)))
        if words.decimals(chain_id, asset) is None:
            lines.append(
                ("", "your policy doesn't say how many decimals this token has: the number is its smallest units")
            )
        else:
            lines.append(("exactly", f"{amount} smallest units"))
    return lines


def _where(intent: First, words: Vocabulary) -> list[tuple[str, str]]:
    chain_id = intent.chain_id
    match intent:
        case PayoutBatch():
            asset = asset_of(intent) or ""
            legs = [
                (
                    f"leg {number}",
                    f"{words.amount(chain_id, asset, leg.amount)} to {words.address(chain_id, leg.to)}"
                    f" for {leg.subject}",
                )
                for number, leg in enumerate(intent.legs, start=1)
            ]
            return [("through", words.address(chain_id, intent.via)), *legs]
        case Allowance():
            return [("may take it", words.address(chain_id, intent.spender)), ("for batch", intent.batch)]
        case Deployment():
            return [("code", f"Keccak-256 {intent.code.hex()}")]
        case Anchor():
            return [("to", words.address(chain_id, intent.to)), ("root", intent.root.hex())]
        case ProofOfControl():
            return [("epoch", intent.epoch), ("root", intent.root.hex())]
        case Authorisation():
            return [
                ("to", _destination(intent.to, words, chain_id)),
                ("valid until", instant_text(intent.valid_before)),
            ]
        case Relay():
            return [("owner", key_text(intent.owner)), ("to", _destination(intent.to, words, chain_id))]
        case _:
            return [("to", _destination(intent.to, words, chain_id))]


def _destination(to: Destination, words: Vocabulary, chain_id: int) -> str:
    return key_text(to) if isinstance(to, KeyRef) else words.address(chain_id, to)


def _amount_to_type(intent: First, words: Vocabulary) -> str | None:
    asset, amount = asset_of(intent), getattr(intent, "amount", None)
    if asset is None or amount is None:
        return None
    decimals = words.decimals(intent.chain_id, asset)
    return decimal(amount, decimals) if decimals is not None else str(amount)


def _unchecked(intent: First, rule: Rule | None) -> list[str]:
    said: list[str] = []
    if intent.subject.startswith(USER_WITHDRAWAL):
        said.append(f"whether a user asked for {intent.subject}: who made it is the service's claim")
    if isinstance(getattr(intent, "to", None), bytes):
        said.append("whose the address is: compare it with what the recipient told you on another way")
    said.append("what our own keys' addresses are, what lies there, and what else is signed before this")
    if isinstance(intent, Deployment):
        said.append("the code behind the hash")
    if isinstance(intent, Anchor | ProofOfControl):
        said.append("what the root stands for")
    if rule is None:
        said.append("contracts of our own, which are matched by an address that your file doesn't have")
    return said


def _obstacles(read: _Read, policy: Policy, rule: Rule | None, now: int, reader: str | None) -> list[str]:
    mandate, said = read.mandate, []
    if read.intent.chain_id not in policy.networks:
        said.append(f"your policy knows no network {read.intent.chain_id}")
    if mandate.policy_version != policy.version:
        said.append(f"it's for policy version {mandate.policy_version}, your file is version {policy.version}")
    elif mandate.policy_fingerprint != policy.fingerprint:
        said.append(f"it's for another policy of version {policy.version} than your file: compare the fingerprints")
    if mandate.not_after < now:
        said.append(f"it ended at {instant_text(mandate.not_after)}")
    if reader is not None and reader == mandate.maker:
        said.append(f"{reader} made it, and can't approve it")
    if rule is not None and rule.action is Action.DENY:
        said.append(f"rule {rule.name!r} denies it")
    return said
