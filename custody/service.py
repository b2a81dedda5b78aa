"""The signer's inside: takes questions, decides, journals, signs. No sockets, no files but the journal.

Order, always: is the journal whole and as far as the asker has seen; can the clocks be trusted; is anything frozen; was
it asked before; does the journal's history allow it; does the policy, with what people signed; is the nonce the next.
Then journal the intent, sign, journal the bytes, answer. Whatever fails in between leaves a journal from which the same
question gets the same bytes. Questions that come together share both flushes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, assert_never

from custody import wire
from custody.approvals import (
    Mandate,
    Unproven,
    approval_statement,
    freeze_statement,
    lift_statement,
    maker_statement,
    mandate_from,
    proven,
    signatures_from,
    time_statement,
)
from custody.claims import Claims, claims_of
from custody.counting import FeeKey
from custody.enrolment import accept_successor, check_enrolment
from custody.errors import IntentInvalid
from custody.intents import (
    Allowance,
    Authorisation,
    First,
    Intent,
    KeyRef,
    NativeTransfer,
    PayoutBatch,
    ProofOfControl,
    Relay,
    TokenTransfer,
    asset_of,
    from_map,
    keys_named,
    keys_of,
)
from custody.journal import Journal, Scope, SignedBytes
from custody.journal_file import Head
from custody.judging import Allowed, Denied, Situation, contract_address, evaluate, gas_excess
from custody.messages import encode_signature, message_digest
from custody.nonces import Conflict, Fresh, Journalled, NonceFacts, Repeat, Successor, judge, nonce_conflict
from custody.policy import Policy
from custody.policy_signatures import PolicySignatures
from custody.rolekeys import RoleKeys
from custody.timekeeping import Moment, Unsafe
from custody.transactions import build, read, sign_with

ADDRESSES_MAX: Final = 1000
"""Addresses in one answer, and indexes in one reservation."""

ROWS_MAX: Final = 200
"""Rows of the journal in one answer; fewer when they are long."""

_ROWS_BYTES: Final = 48 * 1024
_CACHED_ADDRESSES: Final = 10_000
_TIME_SECONDS: Final = 60
"""How far a confirmed time may be from the wall clock."""
_ASSET: Final = re.compile(r"native|0x[0-9a-f]{40}")
"""As `asset_of` spells it: a freeze in any other spelling would stop nothing."""
_USER_WITHDRAWAL: Final = "wdr_"
"""Subjects of transfers whose maker is a user: a claim, not a signature."""
_HASH_BYTES: Final = 32
_SEQUENCE_MAX: Final = 2**63 - 1

Answer = dict[str, object]


class _Refusal(Exception):
    """A no on its way to the journal."""

    def __init__(self, code: str, sentence: str, rule: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.rule = rule


class SignerService:
    """Answers `status`, `addresses`, `sign`, `reserve`, `rows`, `freeze`, `lift` and `confirm_time`.

    Raises PolicyNotAccepted unless policy, keys and journal fit; a successor policy that enough people signed
    (`signatures`) is accepted.
    """

    def __init__(
        self,
        keys: Mapping[str, RoleKeys],
        policy: Policy,
        journal: Journal,
        *,
        signatures: PolicySignatures | None = None,
    ) -> None:
        accept_successor(policy, journal, signatures)
        check_enrolment(policy, keys, journal)
        self._keys = keys
        self._policy = policy
        self._journal = journal
        self._address = lru_cache(maxsize=_CACHED_ADDRESSES)(self._derive)
        creators = {contract.deployer for contract in policy.contracts if contract.deployer.keys in keys}
        self._creators = {creator: self._address(creator) for creator in creators}
        self._derivations_left = ADDRESSES_MAX
        self._calls: dict[str, Callable[[dict[str, object]], Answer | Journalled]] = {
            "status": self._status,
            "addresses": self._addresses,
            "sign": self._sign,
            "reserve": self._reserve,
            "rows": self._rows,
            "freeze": self._freeze,
            "lift": self._lift,
            "confirm_time": self._confirm_time,
        }
        journal.record_start()

    def answer(self, body: bytes) -> Answer:
        """The answer to one frame's body; see `answer_all`."""
        return self.answer_all([body])[0]

    def answer_all(self, bodies: Sequence[bytes]) -> list[Answer]:
        """The answers to frames' bodies, in order: `ok` or `refused`, and the journal's head. What is asked for twice
        is signed once.

        Every refusal is journalled first. Raises sqlite3.Error when the journal can't be written: then nothing was
        signed that isn't in it, and each may be asked again.
        """
        self._derivations_left = ADDRESSES_MAX
        with self._journal.batch():
            decided = [self._decide(body) for body in bodies]
        waiting = {one.sequence: one for one in decided if isinstance(one, Journalled)}
        if not waiting:
            return [one for one in decided if not isinstance(one, Journalled)]
        raw = {sequence: self._bytes(one.intent) for sequence, one in waiting.items()}
        with self._journal.batch():
            signed = {number: self._journal.record_signed(one, raw=raw[number]) for number, one in waiting.items()}
        return [_signed_answer(signed[one.sequence]) if isinstance(one, Journalled) else one for one in decided]

    def take_checkpoint(self) -> Path | None:
        """The journal's file, when its log is to be moved into it beside our work (`journal_file.checkpoint`)."""
        return self._journal.take_checkpoint()

    def refuse_frame(self, problem: IntentInvalid) -> Answer:
        """The answer to a frame that was too large to be read."""
        return self._refuse(_Refusal(problem.code, problem.message), b"", None)

    def _decide(self, body: bytes) -> Answer | Journalled:
        question: dict[str, object] = {}
        try:
            question = wire.decode(body)
            call = question.pop("call", None)
            if not isinstance(call, str) or call not in self._calls:
                raise _Refusal("call_unknown", f"the signer answers {', '.join(self._calls)}, nothing else")
            return self._calls[call](question)
        except IntentInvalid as problem:
            return self._refuse(_Refusal(problem.code, problem.message), body, _intent_within(question))
        except _Refusal as refusal:
            return self._refuse(refusal, body, _intent_within(question))

    # --- questions ---------------------------------------------------------------------------------------------------

    def _status(self, question: dict[str, object]) -> Answer:
        _exactly(question, set())
        journal, policy = self._journal, self._policy
        now = journal.time()
        return self._ok(
            keys={name: held.public for name, held in self._keys.items()},
            policy=policy.fingerprint,
            policy_version=policy.version,
            networks=sorted(policy.networks),
            people=[person.name for person in policy.people],
            threshold=policy.threshold,
            contracts=[
                [contract.name, contract.chain_id, contract_address(contract, self._creators)]
                for contract in policy.contracts
            ],
            serial=journal.serial,
            frozen=sorted([[scope.chain_id, scope.asset] for scope in journal.frozen], key=str),
            halted=journal.halted is not None,
            clock=now.code if isinstance(now, Unsafe) else None,
        )

    def _addresses(self, question: dict[str, object]) -> Answer:
        _exactly(question, {"keys", "first", "count"})
        (name, held), first, count = self._held(question["keys"]), question["first"], question["count"]
        if type(first) is not int or type(count) is not int:
            raise _Refusal("malformed", "addresses wants the keys' name, a first index and a count")
        highest = self._policy.highest_index[held.role]
        if not (first >= 0 and 1 <= count <= ADDRESSES_MAX and first + count - 1 <= highest):
            raise _Refusal("addresses_out_of_range", f"at most {ADDRESSES_MAX} at once, the highest index is {highest}")
        if count > self._derivations_left:  # of those who ask at the same time: none keeps the others waiting for long
            return {"failed": {"code": "busy", "sentence": "others are asking for addresses; ask again"}}
        self._derivations_left -= count
        _, generation = keys_named(name)
        keys = (KeyRef(held.role, index, generation) for index in range(first, first + count))
        return self._ok(addresses=[self._address(key) for key in keys])

    def _reserve(self, question: dict[str, object]) -> Answer:
        """Address indexes are given away once, whatever a database that was put back remembers."""
        _exactly(question, {"keys", "count", "highest"})
        self._check_progress(question["highest"])
        (name, held), count = self._held(question["keys"]), question["count"]
        highest = self._policy.highest_index[held.role]
        if type(count) is not int or not 1 <= count <= ADDRESSES_MAX:
            raise _Refusal("malformed", f"1 to {ADDRESSES_MAX} indexes at once")
        if self._journal.next_index(name) + count - 1 > highest:
            raise _Refusal("indexes_used_up", f"the policy's highest index is {highest}")
        return self._ok(first=self._journal.record_reservation(name, count))

    def _rows(self, question: dict[str, object]) -> Answer:
        """The journal itself, for whoever audits it."""
        _exactly(question, {"first", "count"})
        first, count = question["first"], question["count"]
        if type(first) is not int or type(count) is not int or not 1 <= first < 2**63 or not 1 <= count <= ROWS_MAX:
            raise _Refusal("malformed", f"rows wants a first sequence and a count up to {ROWS_MAX}")
        listed: list[list[object]] = []
        size = 0
        for row in self._journal.rows(first=first, count=count):
            size += len(row.body) + 256
            if listed and size > _ROWS_BYTES:
                break
            listed.append(list(row))
        return self._ok(rows=listed)

    def _freeze(self, question: dict[str, object]) -> Answer:
        """Any one approver stops everything, a network or an asset."""
        return self._change_freeze(question, lifted=False, needed=1)

    def _lift(self, question: dict[str, object]) -> Answer:
        """As many as change the policy lift a freeze."""
        return self._change_freeze(question, lifted=True, needed=self._policy.threshold)

    def _change_freeze(self, question: dict[str, object], *, lifted: bool, needed: int) -> Answer:
        _exactly(question, {"chain_id", "asset", "serial", "signatures"})
        chain_id, asset = question["chain_id"], question["asset"]
        if not (chain_id is None or type(chain_id) is int) or not (asset is None or isinstance(asset, str)):
            raise _Refusal("malformed", "a freeze names a network, an asset on it, or neither")
        if asset is not None and not _ASSET.fullmatch(asset):
            raise _Refusal("malformed", "an asset is native or a token's contract in lower-case hex")
        if chain_id is None and asset is not None:
            raise _Refusal("malformed", "an asset is frozen on a network")
        scope, serial = Scope(chain_id, asset), self._journal.serial
        make = lift_statement if lifted else freeze_statement
        statement = make(serial=serial, chain_id=chain_id, asset=asset)
        names = self._enough(question, statement, needed)
        if not lifted and not self._knows(scope):  # a freeze that stops nothing must not look like one
            raise _Refusal("scope_unknown", "the policy speaks of no such asset there (0x and lower-case hex)")
        if lifted and scope not in self._journal.frozen:
            raise _Refusal("not_frozen", f"{scope} isn't frozen")
        self._journal.record_freeze(scope, lifted=lifted, approved_by=names)
        return self._ok(serial=self._journal.serial)

    def _knows(self, scope: Scope) -> bool:
        """Whether the policy speaks of an asset; of networks that it doesn't know, it knows no asset either."""
        assets = {rule.asset for rule in self._policy.rules if rule.chain_id == scope.chain_id}
        return scope.asset is None or scope.chain_id not in self._policy.networks or scope.asset in assets

    def _confirm_time(self, question: dict[str, object]) -> Answer:
        """Approvers say what time it is: the wall clock must agree, and is believed from here on."""
        _exactly(question, {"seconds", "serial", "signatures"})
        seconds = question["seconds"]
        if type(seconds) is not int:
            raise _Refusal("malformed", "seconds are Unix seconds")
        statement = time_statement(serial=self._journal.serial, seconds=seconds)
        names = self._enough(question, statement, self._policy.threshold)
        if abs(self._journal.wall_seconds() - seconds) > _TIME_SECONDS:
            raise _Refusal("time_differs", f"the wall clock is more than {_TIME_SECONDS} s from the confirmed time")
        self._journal.record_time(approved_by=names)
        return self._ok(serial=self._journal.serial)

    def _enough(self, question: Mapping[str, object], statement: bytes, needed: int) -> frozenset[str]:
        """Who signed a statement about the signer itself. Raises _Refusal when it's old, or too few did."""
        if not self._policy.people:
            raise _Refusal("nobody_enrolled", "the policy has no people who could sign this")
        if question["serial"] != self._journal.serial:
            raise _Refusal("serial_differs", f"the serial is {self._journal.serial}: sign again with it")
        names = proven(statement, signatures_from(question["signatures"]), self._policy.people)
        if isinstance(names, Unproven):
            raise _Refusal(names.code, names.sentence)
        if len(names) < needed:
            raise _Refusal("approvals_missing", f"{needed} signatures are needed, {len(names)} are there")
        return names

    # --- signing -----------------------------------------------------------------------------------------------------

    def _sign(self, question: dict[str, object]) -> Answer | Journalled:
        _exactly(question, {"intent", "highest"}, may={"mandate", "claims"})
        self._check_progress(question["highest"])
        intent = from_map(question["intent"])
        mandate = None if question.get("mandate") is None else mandate_from(question["mandate"])
        claims = claims_of(intent, question.get("claims"))
        at = self._moment()
        frozen = self._journal.frozen_scope(intent, asset_of(intent))
        if frozen is not None:
            raise _Refusal("frozen", f"{frozen} is frozen: nothing leaves until it's lifted")
        for key in keys_of(intent):
            if key.keys not in self._keys:
                raise _Refusal("role_not_held", f"this signer has no {key.keys} key")
        return self._settled(intent, mandate, claims, at)

    def _moment(self) -> Moment:
        now = self._journal.time()
        if isinstance(now, Unsafe):
            raise _Refusal(now.code, now.sentence)
        return now

    def _check_progress(self, highest: object) -> None:
        """A journal that hasn't what a client has seen was put back from a backup, whether it has gone on since or not:
        it must not sign twice."""
        match highest:
            case None:
                pass
            case [int(sequence), bytes(head)] if (
                type(sequence) is int and 1 <= sequence <= _SEQUENCE_MAX and len(head) == _HASH_BYTES
            ):
                self._check_seen(Head(sequence, head))
            case _:
                raise _Refusal("malformed", "highest is [sequence, head] or null")
        if self._journal.halted is not None:
            raise _Refusal(
                "journal_halted",
                "a client had seen rows that this journal hasn't: stop the signer and run onebook signer resync",
            )

    def _check_seen(self, claimed: Head) -> None:
        if self._journal.agrees(claimed):
            return
        is_behind = claimed.sequence > self._journal.head.sequence
        if self._journal.halted is None:
            self._journal.record_halt(claimed)
        if is_behind:
            raise _Refusal("journal_behind", f"this journal is behind: the asker has seen row {claimed.sequence}")
        text = f"row {claimed.sequence} of this journal isn't the one that the asker has seen"
        raise _Refusal("journal_differs", text)

    def _settled(
        self, intent: Intent, mandate: Mandate | None, claims: Claims | None, at: Moment
    ) -> Answer | Journalled:
        """The bytes of `intent` from the journal, or what is to be signed once it's on disk. Raises _Refusal."""
        first_nonce = self._policy.first_nonce(intent.chain_id, intent.sender)
        facts = self._journal.nonce_facts(intent, first_nonce=first_nonce)
        taken_back = None if facts.used is None else self._journal.taken_back(intent)
        if taken_back is not None:
            return _signed_answer(self._same_as(taken_back, intent))
        verdict = judge(intent, facts)
        match verdict:
            case Repeat():
                known = self._journal.signed_bytes(intent)
                return verdict.journalled if known is None else _signed_answer(known)
            case Conflict():
                raise _Refusal(verdict.code, verdict.sentence)
            case Successor():
                self._check_budget(verdict, at)
                return self._journal.record_successor(verdict.intent, verdict.of, at=at)
            case Fresh():
                return self._allowed(verdict.intent, facts, mandate, claims, at)
            case _:
                assert_never(verdict)

    def _allowed(
        self, intent: First, facts: NonceFacts, mandate: Mandate | None, claims: Claims | None, at: Moment
    ) -> Journalled:
        approved_by = frozenset() if mandate is None else self._approved_by(intent, mandate, at)
        decision = evaluate(self._policy, self._situation(at, approved_by), intent)
        if isinstance(decision, Denied):
            raise _Refusal(decision.code, decision.sentence, decision.rule)
        self._check_history(intent)
        conflict = nonce_conflict(intent, facts)
        if conflict is not None:
            raise _Refusal(conflict.code, conflict.sentence)
        return self._journal.record_intent(
            intent,
            rule=decision.rule.name,
            fee_wei_max=_highest_fee(decision, mandate),
            at=at,
            mandate=mandate,
            approved_by=approved_by,
            claims=claims,
        )

    def _situation(self, at: Moment, approved_by: frozenset[str] = frozenset()) -> Situation:
        return Situation(
            counts=self._journal.counts,
            window_us=at.window_us,
            seconds=at.at_us // 1_000_000,
            approved_by=approved_by,
            own_addresses=self._creators,
        )

    def _approved_by(self, intent: First, mandate: Mandate, at: Moment) -> frozenset[str]:
        """Who approved an intent. Raises _Refusal when what they signed isn't this, or isn't theirs to sign."""
        if at.at_us > mandate.not_after * 1_000_000:
            raise _Refusal("approval_expired", f"the mandate ended at {mandate.not_after} (Unix seconds)")
        if mandate.policy_version != self._policy.version:
            text = f"approved under policy version {mandate.policy_version}, in force is {self._policy.version}"
            raise _Refusal("approval_policy_differs", text)
        if mandate.policy_fingerprint != self._policy.fingerprint:
            text = f"approved under another policy of version {mandate.policy_version} than the one in force"
            raise _Refusal("approval_policy_differs", text)
        if intent.fee_wei_max > mandate.fee_wei_max:
            text = f"gas limit x fee is {intent.fee_wei_max} wei, approved are {mandate.fee_wei_max}"
            raise _Refusal("over_approved_fee", text)
        people = self._policy.people
        if mandate.made_by is not None or not _is_of_a_user(intent):
            made = () if mandate.made_by is None else (mandate.made_by,)
            maker = proven(maker_statement(intent, mandate), made, people)
            if isinstance(maker, Unproven) or maker != {mandate.maker}:
                text = "all but a user's withdrawal is made by one of the policy's people, who signs it"
                raise _Refusal("maker_unproven", text)
        names = proven(approval_statement(intent, mandate), mandate.approvals, people, except_for=(mandate.maker,))
        if isinstance(names, Unproven):
            raise _Refusal(names.code, names.sentence)
        return names

    def _check_budget(self, successor: Successor, at: Moment) -> None:
        """A replacement's fee must fit into its role's budget as well, by what it adds."""
        intent = successor.intent
        more = max(0, intent.fee_wei_max - successor.of.intent.fee_wei_max)
        excess = gas_excess(self._policy, self._situation(at), FeeKey(intent.sender.role, intent.chain_id), more)
        if excess is not None:
            raise _Refusal("replacement_over_gas_budget", excess)

    def _check_history(self, intent: First) -> None:
        """What an intent builds on must be in the journal: a batch's allowance, a relay's authorisation."""
        if isinstance(intent, PayoutBatch) and intent.contract is not None:
            allowed = self._journal.allowance_for(intent.subject)
            given = allowed.intent if allowed is not None else None
            fits = isinstance(given, Allowance) and (
                (given.chain_id, given.sender, given.contract, given.spender, given.amount)
                == (intent.chain_id, intent.sender, intent.contract, intent.via, intent.amount)
            )
            if not fits:
                text = f"no allowance of exactly {intent.amount} was signed for {intent.subject}"
                raise _Refusal("allowance_missing", text)
        if isinstance(intent, Relay):
            first = self._journal.first_of(intent.authorisation)
            signed = None if first is None else self._journal.signed_bytes(first.intent)
            given = None if first is None else first.intent
            fits = (
                isinstance(given, Authorisation)
                and signed is not None
                and (given.chain_id, given.sender, given.contract, given.to, given.amount, given.valid_before)
                == (intent.chain_id, intent.owner, intent.contract, intent.to, intent.amount, intent.valid_before)
                and signed.raw == intent.signature
            )
            if not fits:
                raise _Refusal(
                    "authorisation_unknown", f"{intent.authorisation} isn't an authorisation given like that"
                )

    def _same_as(self, taken_back: SignedBytes, intent: Intent) -> SignedBytes:
        """What a resync gave back counts for the same transaction only: nobody knows what else was allowed for it."""
        if isinstance(intent, Authorisation | ProofOfControl) or read(taken_back.raw).transaction != build(
            intent, self._address
        ):
            text = f"{intent.subject} was taken back from the chain with another transaction"
            raise _Refusal("taken_back", text)
        return taken_back

    def _bytes(self, intent: Intent) -> bytes:
        """`intent` signed by its sender's key: a raw transaction, or a message's signature."""
        sender = intent.sender
        held = self._keys[sender.keys]
        if isinstance(intent, Authorisation | ProofOfControl):
            return encode_signature(*held.sign(sender.index, message_digest(intent, self._address)))
        return sign_with(build(intent, self._address), lambda digest: held.sign(sender.index, digest))

    def _refuse(self, refusal: _Refusal, body: bytes, intent: Intent | None) -> Answer:
        head = self._journal.record_refusal(
            code=refusal.code,
            sentence=refusal.sentence,
            rule=refusal.rule,
            question=sha256(body).digest(),
            intent=intent,
        )
        told = {"code": refusal.code, "sentence": refusal.sentence, "rule": refusal.rule}
        return {"refused": told, "sequence": head.sequence, "head": head.hash}

    def _ok(self, **told: object) -> Answer:
        return {"ok": told, "sequence": self._journal.head.sequence, "head": self._journal.head.hash}

    def _held(self, told: object) -> tuple[str, RoleKeys]:
        """The name that policy and journal have for keys, and those: a file may call itself another generation."""
        if not isinstance(told, str) or told not in self._keys:
            raise _Refusal("role_not_held", "this signer has no such key")
        return told, self._keys[told]

    def _derive(self, key: KeyRef) -> bytes:
        return self._keys[key.keys].address(key.index)


def _is_of_a_user(intent: First) -> bool:
    """Whether an intent is a user's withdrawal: by its subject, and only where a user's withdrawal can be meant."""
    return isinstance(intent, NativeTransfer | TokenTransfer) and intent.subject.startswith(_USER_WITHDRAWAL)


def _highest_fee(decision: Allowed, mandate: Mandate | None) -> int:
    """The most that a subject's attempts may cost: what the rule says, or the people who approved it."""
    cap = decision.rule.fee_wei_max
    return cap if mandate is None else min(cap, mandate.fee_wei_max)


def _signed_answer(signed: SignedBytes) -> Answer:
    return {"ok": {"raw": signed.raw}, "sequence": signed.at.sequence, "head": signed.at.hash}


def _intent_within(question: Mapping[str, object]) -> Intent | None:
    """The intent of a question for the journal's sake, if it holds a readable one."""
    try:
        return from_map(question["intent"]) if "intent" in question else None
    except IntentInvalid:
        return None


def _exactly(question: dict[str, object], names: set[str], *, may: set[str] | frozenset[str] = frozenset()) -> None:
    odd = (names - question.keys()) | (question.keys() - names - may)
    if odd:
        raise _Refusal("malformed", f"unknown or missing: {', '.join(sorted(name[:64] for name in odd)[:8])}")
