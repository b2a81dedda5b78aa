"""The signer's inside: takes one question at a time, decides, journals, signs. No sockets, no files but the journal.

Order, always: is the journal as far as the asker has seen; was it asked before; does its own history allow it; does the
policy; is the nonce the next. Then journal the intent, sign, journal the bytes, answer. Whatever fails in between
leaves a journal from which the same question gets the same bytes.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final, assert_never

from base.clock import Clock
from custody import wire
from custody.derivation import AccountKeys, AddressSource, Role
from custody.errors import IntentInvalid, PolicyNotAccepted
from custody.intents import Intent, KeyRef, from_map
from custody.journal import Head, Journal, SignedBytes
from custody.nonces import Conflict, Fresh, Journalled, NonceFacts, Repeat, Successor, judge, nonce_conflict
from custody.policy import Denied, Policy, SpendingFacts, evaluate
from custody.transactions import build, sign

ADDRESSES_MAX: Final = 1000
"""Addresses in one answer."""

_CACHED_ADDRESSES: Final = 10_000

Answer = dict[str, object]


class _Refusal(Exception):
    """A no on its way to the journal."""

    def __init__(self, code: str, sentence: str, rule: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.rule = rule


class SignerService:
    """Answers `status`, `addresses` and `sign`. Raises PolicyNotAccepted unless policy, keys and journal fit."""

    def __init__(self, accounts: Mapping[Role, AccountKeys], policy: Policy, journal: Journal, clock: Clock) -> None:
        self._accounts = accounts
        self._sources = {role: AddressSource(account.xpub) for role, account in accounts.items()}
        self._policy = policy
        self._journal = journal
        self._clock = clock
        self._address = lru_cache(maxsize=_CACHED_ADDRESSES)(self._derive)
        self._calls: dict[str, Callable[[dict[str, object], bytes], Answer]] = {
            "status": self._status,
            "addresses": self._addresses,
            "sign": self._sign,
        }
        _check_fit(policy, {role: source.fingerprint for role, source in self._sources.items()}, journal)

    def answer(self, body: bytes) -> Answer:
        """The answer to one frame's body: `ok` or `refused`, and the journal's head. Every refusal is journalled first.

        Raises sqlite3.Error when the journal can't be written: then nothing was signed that isn't in it.
        """
        asked: Intent | None = None
        try:
            question = wire.decode(body)
            asked = _intent_within(question)
            call = question.pop("call", None)
            if not isinstance(call, str) or call not in self._calls:
                raise _Refusal("call_unknown", "the signer answers status, addresses and sign, nothing else")
            return self._calls[call](question, body)
        except IntentInvalid as problem:
            return self._refuse(_Refusal(problem.code, problem.message), body, asked)
        except _Refusal as refusal:
            return self._refuse(refusal, body, asked)

    def refuse_frame(self, problem: IntentInvalid) -> Answer:
        """The answer to a frame that was too large to be read."""
        return self._refuse(_Refusal(problem.code, problem.message), b"", None)

    def _status(self, question: dict[str, object], _: bytes) -> Answer:
        _exactly(question, set())
        return self._ok(
            xpubs={role.value: source.xpub for role, source in self._sources.items()},
            policy=self._policy.fingerprint,
            policy_version=self._policy.version,
            networks=sorted(self._policy.networks),
        )

    def _addresses(self, question: dict[str, object], _: bytes) -> Answer:
        _exactly(question, {"role", "first", "count"})
        role, first, count = question["role"], question["first"], question["count"]
        if role not in Role.__members__.values() or type(first) is not int or type(count) is not int:
            raise _Refusal("malformed", "addresses wants a role, a first index and a count")
        highest = self._policy.highest_index[Role(str(role))]
        if not (first >= 0 and 1 <= count <= ADDRESSES_MAX and first + count - 1 <= highest):
            raise _Refusal("addresses_out_of_range", f"at most {ADDRESSES_MAX} at once, the highest index is {highest}")
        keys = (KeyRef(Role(str(role)), index) for index in range(first, first + count))
        return self._ok(addresses=[self._address(key) for key in keys])

    def _sign(self, question: dict[str, object], _: bytes) -> Answer:
        _exactly(question, {"intent", "highest"})
        self._check_progress(question["highest"])
        intent = from_map(question["intent"])
        for key in (intent.sender, getattr(intent, "to", None)):
            if isinstance(key, KeyRef) and key.role not in self._accounts:
                raise _Refusal("role_not_held", f"this signer has no {key.role.value} key")
        signed = self._settled(intent)
        return {"ok": {"raw": signed.raw}, "sequence": signed.at.sequence, "head": signed.at.hash}

    def _check_progress(self, highest: object) -> None:
        """A journal behind what a client has seen was put back from a backup: it must not sign twice."""
        match highest:
            case None:
                return
            case [int(sequence), bytes(head)] if type(sequence) is int:
                if sequence > self._journal.head.sequence:
                    text = f"this journal ends at {self._journal.head.sequence}, the asker has seen {sequence}"
                    raise _Refusal("journal_behind", text)
                if not self._journal.agrees(Head(sequence, head)):
                    raise _Refusal(
                        "journal_differs", f"row {sequence} of this journal isn't the one the asker has seen"
                    )
            case _:
                raise _Refusal("malformed", "highest is [sequence, head] or null")

    def _settled(self, intent: Intent) -> SignedBytes:
        """The bytes of `intent`, from the journal or newly signed. Raises _Refusal."""
        first_nonce = self._policy.first_nonce(intent.chain_id, intent.sender)
        facts = self._journal.nonce_facts(intent, first_nonce=first_nonce)
        verdict = judge(intent, facts)
        match verdict:
            case Repeat():
                return self._journal.signed_bytes(intent) or self._signed(verdict.journalled)
            case Conflict():
                raise _Refusal(verdict.code, verdict.sentence)
            case Successor():
                return self._signed(self._journal.record_successor(intent, verdict.of, now_us=self._now_us()))
            case Fresh():
                return self._signed(self._allowed(verdict, facts))
            case _:
                assert_never(verdict)

    def _allowed(self, fresh: Fresh, facts: NonceFacts) -> Journalled:
        now_us = self._now_us()
        spent = self._journal.spent_in_window(fresh.intent, now_us=now_us)
        decision = evaluate(self._policy, SpendingFacts(spent), fresh.intent)
        if isinstance(decision, Denied):
            raise _Refusal(decision.code, decision.sentence, decision.rule)
        conflict = nonce_conflict(fresh.intent, facts)
        if conflict is not None:
            raise _Refusal(conflict.code, conflict.sentence)
        return self._journal.record_intent(fresh.intent, decision.rule, now_us=now_us)

    def _signed(self, journalled: Journalled) -> SignedBytes:
        sender = journalled.intent.sender
        signed = sign(build(journalled.intent, self._address), self._accounts[sender.role].private_key(sender.index))
        assert signed.sender == self._address(sender), "private and public derivation agree"
        return self._journal.record_signed(journalled, raw=signed.raw, now_us=self._now_us())

    def _refuse(self, refusal: _Refusal, body: bytes, intent: Intent | None) -> Answer:
        head = self._journal.record_refusal(
            code=refusal.code,
            sentence=refusal.sentence,
            rule=refusal.rule,
            question=sha256(body).digest(),
            intent=intent,
            now_us=self._now_us(),
        )
        told = {"code": refusal.code, "sentence": refusal.sentence, "rule": refusal.rule}
        return {"refused": told, "sequence": head.sequence, "head": head.hash}

    def _ok(self, **told: object) -> Answer:
        return {"ok": told, "sequence": self._journal.head.sequence, "head": self._journal.head.hash}

    def _derive(self, key: KeyRef) -> bytes:
        return self._sources[key.role].address(key.index)

    def _now_us(self) -> int:
        """The clock, never before the last row."""
        return max(int(self._clock.now().timestamp() * 1_000_000), self._journal.last_at_us)


def _check_fit(policy: Policy, fingerprints: Mapping[Role, bytes], journal: Journal) -> None:
    """Refuse to start with other keys or another policy than the journal knows."""
    enrolment = journal.enrolment
    if dict(enrolment.fingerprints) != dict(fingerprints):
        raise PolicyNotAccepted("the journal belongs to other keys: put the right journal or key files in place")
    stated = {role: mark for role, mark in policy.keys.items() if fingerprints.get(role) != mark}
    if stated:
        raise PolicyNotAccepted(f"the policy was made for another {'/'.join(role.value for role in stated)} key")
    if policy.fingerprint != enrolment.policy_fingerprint:
        raise PolicyNotAccepted(
            f"this policy (version {policy.version}) isn't the one accepted last (version {enrolment.policy_version}): "
            "put that one back, or have this one accepted with a higher version",
        )


def _intent_within(question: Mapping[str, object]) -> Intent | None:
    """The intent of a question for the journal's sake, if it holds a readable one."""
    try:
        return from_map(question["intent"]) if "intent" in question else None
    except IntentInvalid:
        return None


def _exactly(question: Mapping[str, object], names: set[str]) -> None:
    if question.keys() != names:
        odd = ", ".join(sorted(name[:64] for name in question.keys() ^ names)[:8])
        raise _Refusal("malformed", f"unknown or missing: {odd}")
