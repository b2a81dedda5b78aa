"""What a signer under the fuzzer's policy may sign, written apart from the signer: plain comparisons with literals."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import cbor2

from custody.derivation import Role
from custody.intents import Cancel, Intent, KeyRef, Leg, from_map, to_map
from custody.messages import message_digest, message_signer
from custody.transactions import build, created_address, read
from tests.custody.samples import ANCHOR, CHAIN, COLD, FEE_WEI_MAX, PAYOUT_CODE, STRANGER, TOKEN
from tests.support.signer import RunningSigner

PRICES = ("attempt", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas")
SENDERS = {
    "native_transfer": "hot",
    "token_transfer": "hot",
    "payout_batch": "hot",
    "allowance": "hot",
    "sweep": "deposit",
    "top_up": "gas",
    "relay": "gas",
    "deployment": "gas",
    "anchor": "gas",
    "authorisation": "deposit",
    "proof": "hot",
}


class Unexpected(AssertionError):
    """Something that must not happen."""


class Model:
    """What was signed, and what may be."""

    def __init__(self, signer: RunningSigner) -> None:
        self._signer = signer
        self._addresses: dict[KeyRef, bytes] = {}
        self._made = 0
        self._approved: list[dict[str, Any]] = []
        self._nonces: dict[tuple[str, int], int] = {}
        self._signed: dict[tuple[str, int], tuple[dict[str, Any], bytes]] = {}
        self._latest: dict[str, Intent] = {}
        self._used: set[str] = set()
        self.payout = created_address(signer.address(Role.GAS), 0)

    @property
    def count(self) -> int:
        """How many signatures came back."""
        return len(self._signed)

    def fresh(self, like: str) -> str:
        self._made += 1
        return f"{like.partition('_')[0]}_{self._made}"

    def legs(self) -> tuple[Leg, ...]:
        return tuple(Leg(self.fresh("wdr"), STRANGER, 1) for _ in range(3))

    def next_nonce(self, sender: KeyRef) -> int:
        return self._nonces.get((sender.role.value, sender.index), 0)

    def again(self, otherwise: Any) -> Any:
        """What was signed last, asked once more."""
        return next(reversed(self._latest.values()), otherwise)

    def dearer(self, otherwise: Any) -> Any:
        """A replacement of it."""
        last = self.again(otherwise)
        if not hasattr(last, "max_fee_per_gas"):
            return last
        fees = (last.max_fee_per_gas * 2, last.max_priority_fee_per_gas * 2 + 1)
        return replace(last, attempt=last.attempt + 1, max_fee_per_gas=max(fees), max_priority_fee_per_gas=min(fees))

    def approve(self, intent: Intent) -> None:
        """People have signed this."""
        told = to_map(intent)
        if told["subject"] not in [one["subject"] for one in self._approved[-50:]]:
            self._approved.append(_terms(told))

    def would_halt(self, body: bytes) -> bool:
        """Whether a question claims to have seen more of the journal than there can be."""
        try:
            seen = cbor2.loads(body)["highest"]
            return bool(seen[0] > 0)
        except Exception:
            return False

    # --- judging -----------------------------------------------------------------------------------------------------

    def signed(self, body: bytes, raw: bytes) -> None:
        """A signature came back. Raises Unexpected unless it may."""
        told = cbor2.loads(body)
        if cbor2.dumps(told, canonical=True) != body or told["v"] != 1 or type(told["v"]) is not int:
            raise Unexpected(f"signed what isn't canonical: {body.hex()}")
        intent = told["intent"]
        place = (intent["subject"], intent.get("attempt", 1))
        if place in self._signed:
            if self._signed[place] != (intent, raw):
                raise Unexpected(f"{place} was signed twice: {self._signed[place]} and {intent}")
            return
        why = self._why_not(intent)
        if why:
            raise Unexpected(f"signed, but {why}: {intent}")
        self._check_bytes(from_map(intent), raw)
        self._take(intent, raw)

    def _take(self, intent: dict[str, Any], raw: bytes) -> None:
        subject, made = intent["subject"], from_map(intent)
        self._signed[subject, intent.get("attempt", 1)] = (intent, raw)
        if subject not in self._latest:
            self._used |= {subject, *(leg[0] for leg in intent.get("legs", ()))}
            if "nonce" in intent:
                self._nonces[tuple(intent["sender"])] = intent["nonce"] + 1
        self._latest.pop(subject, None)
        self._latest[subject] = made

    def _why_not(self, intent: dict[str, Any]) -> str:
        before = self._latest.get(intent["subject"])
        if before is not None:
            return self._why_not_after(to_map(before), intent)
        if intent["kind"] == "cancel":
            return "there is nothing to cancel"
        if {intent["subject"], *(leg[0] for leg in intent.get("legs", ()))} & self._used:
            return "one of its subjects is used up"
        if "nonce" in intent and intent["nonce"] != self._nonces.get(tuple(intent["sender"]), 0):
            return "its nonce isn't the next"
        return self._why_not_first(intent)

    def _why_not_after(self, before: dict[str, Any], intent: dict[str, Any]) -> str:
        if intent["kind"] != "cancel" and (_terms(before) != _terms(intent) or before["kind"] == "cancel"):
            return "it pays otherwise than what it replaces"
        if (intent["nonce"], intent["sender"], intent["chain_id"]) != tuple(
            before[name] for name in ("nonce", "sender", "chain_id")
        ):
            return "it replaces something with another place"
        higher = all(intent[name] > before[name] for name in PRICES[3:]) and intent["attempt"] > before["attempt"]
        if not higher or intent["gas_limit"] * intent["max_fee_per_gas"] > FEE_WEI_MAX:
            return "its fees aren't higher, or too high"
        return ""

    def _why_not_first(self, intent: dict[str, Any]) -> str:
        kind, (role, index), amount = intent["kind"], intent["sender"], intent.get("amount", 1)
        if intent["chain_id"] != CHAIN or type(intent["chain_id"]) is not int:
            return "it's on another network"
        if role != SENDERS[kind] or index > (5_000 if role == "deposit" else 0):
            return "that key doesn't sign this"
        if intent.get("gas_limit", 0) * intent.get("max_fee_per_gas", 0) > FEE_WEI_MAX:
            return "its fee is too high"
        if kind in ("deployment",) or (kind == "token_transfer" and intent["to"] == COLD):
            return "" if _terms(intent) in self._approved else "nobody approved that"
        if "contract" in intent and intent["contract"] not in (TOKEN, None):
            return "the policy has no such token"
        return self._why_not_there(kind, intent, amount)

    def _why_not_there(self, kind: str, intent: dict[str, Any], amount: int) -> str:
        to = intent.get("to")
        limits = {"native_transfer": 10**18, "top_up": 10**17, "payout_batch": 10**18}
        legs = intent.get("legs", [])
        if not all(0 < one <= limits.get(kind, 1_000) for one in (amount, *(leg[2] for leg in legs))):
            return "it moves too much, or nothing"
        if kind in ("sweep", "authorisation") and to != ["hot", 0]:
            return "it isn't swept to the hot key"
        if kind == "top_up" and not (isinstance(to, list) and to[0] == "deposit" and to[1] <= 5_000):
            return "it tops up a stranger"
        if kind == "payout_batch" and (intent["via"] != self.payout or intent["contract"] is not None):
            return "it's paid through another contract, or without an allowance"
        if kind == "anchor" and (to != ANCHOR or len(intent["root"]) != 32):
            return "it's no anchor"
        if kind == "proof" and not (intent["epoch"].isascii() and intent["epoch"].isdigit()):
            return "it's no proof"
        if kind in ("relay", "allowance"):
            return "the fuzzer asks for none"
        return ""

    def _check_bytes(self, intent: Intent, raw: bytes) -> None:
        """The bytes are of that very intent, by its sender's key."""
        if intent.kind in ("authorisation", "proof"):
            signer = message_signer(message_digest(intent, self._address), raw)  # type: ignore[arg-type]
        else:
            decoded = read(raw)
            if decoded.transaction != build(intent, self._address):  # type: ignore[arg-type]
                raise Unexpected(f"the bytes aren't those of {intent}")
            signer = decoded.sender
            if (
                not isinstance(intent, Cancel)
                and intent.kind == "deployment"
                and decoded.transaction.payload != PAYOUT_CODE
            ):
                raise Unexpected("other code was deployed")
        if signer != self._address(intent.sender):
            raise Unexpected(f"signed by another key than {intent.sender}")

    def _address(self, key: KeyRef) -> bytes:
        if key not in self._addresses:
            self._addresses[key] = self._signer.address(key.role, key.index)
        return self._addresses[key]

    def journalled(self) -> int:
        """How many signatures the journal holds."""
        with closing(sqlite3.connect(self._signer.journal)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM rows WHERE kind = 'signed'").fetchone()
        return int(count)


def _terms(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in PRICES}
