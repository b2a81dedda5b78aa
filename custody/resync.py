"""Taking a journal up again that is behind, or was lost: what it signed and no longer knows is given back to it.

The signer knows its own signatures: only what an own address signed is taken back, and only where no nonce contradicts
the journal or leaves a gap. Then every window counts as full. Offline, the signer stopped. The file:

{"seen": {"sequence": 14, "head": "HEX"}, "transactions": [{"subject": "wdr_1", "attempt": 1, "key": "hot:0",
 "raw": "0x02f8..."}]}

`seen` is the highest row that clients have seen (null: none): from then on it's accepted from them, though it's lost.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import cbor2

from base.files import sync_folder
from custody.approvals import Person, Signature, Unproven, proven, resync_statement
from custody.clocks import Clocks
from custody.enrolment import Keys, enrol
from custody.errors import IntentInvalid, JournalExists, ResyncRefused
from custody.intent_json import key_named
from custody.intents import Cancel, KeyRef
from custody.journal import Journal, TakenBack
from custody.journal_file import GENESIS, Head, Kind
from custody.policy import Policy
from custody.transactions import read

_FILE_BYTES_MAX: Final = 256 << 20
_ROWS_AT_ONCE: Final = 1_000
_RAW: Final = re.compile(r"0x([0-9a-f]{2})+")

Place = tuple[int, KeyRef, int]
"""Chain id, sender and nonce."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a journal is to be given back, and the highest row that clients have seen."""

    transactions: tuple[TakenBack, ...]
    seen: Head | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be taken back, and what the journal has already."""

    seen: Head | None
    taken: tuple[TakenBack, ...]
    known: tuple[str, ...]
    policy: bytes
    head: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is taken back, as people sign it."""
        listed = [[one.subject, one.attempt, str(one.sender), one.raw] for one in self.taken]
        seen = None if self.seen is None else list(self.seen)
        return sha256(cbor2.dumps([seen, listed], canonical=True)).digest()

    @property
    def statement(self) -> bytes:
        """What people sign."""
        return resync_statement(policy=self.policy, head=self.head, signed=self.digest)


@dataclass(slots=True)
class _Known:
    """What a journal knows: who has each nonce, and each subject's place."""

    holders: dict[Place, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, journal: Journal) -> "_Known":
        known, first = cls(), 1
        while rows := journal.rows(first=first, count=_ROWS_AT_ONCE):
            for row in rows:
                if row.kind in (Kind.INTENT, Kind.RESYNCED) and row.nonce is not None:
                    place = (row.chain_id or 0, _key(str(row.sender)), row.nonce)
                    known.holders[place] = str(row.subject)
                    known.places[str(row.subject)] = place
            first = rows[-1].sequence + 1
        return known

    def next_nonce(self, chain_id: int, sender: KeyRef, *, first: int) -> int:
        """The only nonce that may come next."""
        return max(
            (nonce + 1 for chain, key, nonce in self.holders if (chain, key) == (chain_id, sender)), default=first
        )


def read_missing(text: str, address_of: Callable[[KeyRef], bytes]) -> Missing:
    """What a file's text says is missing, each transaction signed by the address it names. Raises ResyncRefused."""
    if len(text) > _FILE_BYTES_MAX:
        raise ResyncRefused("the file of missing transactions is too long")
    try:
        told = json.loads(text)
        listed, seen = told["transactions"], told["seen"]
        head = None if seen is None else Head(_whole(seen["sequence"]), bytes.fromhex(seen["head"]))
        entries = [(one["subject"], one["attempt"], one["key"], one["raw"]) for one in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ResyncRefused(
            'the file is {"seen", "transactions": [{"subject", "attempt", "key", "raw"}, ...]}, and this isn\'t'
        ) from problem
    if head is not None and len(head.hash) != len(GENESIS):
        raise ResyncRefused("seen: a head has 32 bytes")
    made = tuple(_taken_back(number, *entry, address_of) for number, entry in enumerate(entries, start=1))
    return Missing(made, head)


def plan(missing: Missing, policy: Policy, journal: Journal | None) -> Plan:
    """What of `missing` a journal (None: a new one) takes back under `policy`. Raises ResyncRefused."""
    if journal is not None and journal.enrolment.policy_fingerprint != policy.fingerprint:
        raise ResyncRefused(
            f"the policy isn't the journal's, which is version {journal.enrolment.policy_version}: put that in place"
        )
    known = _Known() if journal is None else _Known.of(journal)
    already: list[str] = []
    latest: dict[Place, TakenBack] = {}
    for one in sorted(missing.transactions, key=lambda one: (one.chain_id, str(one.sender), one.nonce, one.attempt)):
        place = (one.chain_id, one.sender, one.nonce)
        _check_allowed(one, policy)
        if known.holders.get(place) == one.subject:
            already.append(f"{one.subject} attempt {one.attempt}")
            continue
        _check_place(one, place, known, latest)
        latest[place] = one
        known.places[one.subject] = place
    taken = tuple(_in_order(latest.values(), policy, known))
    head = GENESIS if journal is None else journal.head.hash
    seen = missing.seen if journal is None or missing.seen is None or not journal.agrees(missing.seen) else None
    return Plan(seen, taken, tuple(already), policy.fingerprint, head)


def take_up(journal: Journal, planned: Plan, *, signatures: Sequence[Signature]) -> Head:
    """Take up a journal whose people signed the plan. Raises ResyncRefused when too few did."""
    enrolment = journal.enrolment
    names = _enough(planned, signatures, enrolment.people, enrolment.threshold)
    _check_current(journal, planned)
    return _record(journal, planned, names)


def take_up_by_keys(journal: Journal, planned: Plan, keys: Keys) -> Head:
    """Take up a journal whose policy has no people: whoever could open its keys consents. Raises ResyncRefused."""
    if journal.enrolment.people:
        raise ResyncRefused("the policy's people sign a resync; the passphrase isn't enough")
    if {name: held.fingerprint for name, held in keys.items()} != dict(journal.enrolment.fingerprints):
        raise ResyncRefused("the journal belongs to other keys")
    _check_current(journal, planned)
    return _record(journal, planned, frozenset())


def begin_again(
    path: Path,
    planned: Plan,
    policy: Policy,
    keys: Keys,
    *,
    signatures: Sequence[Signature],
    clocks: Clocks,
) -> Head:
    """A new journal for keys whose journal is lost, complete or not there at all.

    Whoever begins it could open the keys, and has the signatures of the policy's people, if it has some. Raises
    ResyncRefused, JournalExists, PolicyNotAccepted.
    """
    if path.exists():
        raise JournalExists(f"{path} exists: a journal is never begun anew while there is one")
    names = _enough(planned, signatures, policy.people, policy.threshold) if policy.people else frozenset[str]()
    draft = path.with_name(f".{path.name}.draft")
    for left in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", ".lock"))):
        left.unlink(missing_ok=True)
    enrol(draft, keys, policy, clocks=clocks)
    journal = Journal.open(draft, clocks)
    try:
        head = _record(journal, planned, names)
    finally:
        journal.close()
    os.link(draft, path)  # unlike a rename, never over a journal that came meanwhile
    draft.unlink()
    draft.with_name(draft.name + ".lock").unlink()
    sync_folder(path.parent)
    return head


def missing_to_json(missing: Missing) -> str:
    """The text of a file of missing transactions."""
    listed = [
        {"subject": one.subject, "attempt": one.attempt, "key": str(one.sender), "raw": "0x" + one.raw.hex()}
        for one in missing.transactions
    ]
    seen = None if missing.seen is None else {"sequence": missing.seen.sequence, "head": missing.seen.hash.hex()}
    return json.dumps({"seen": seen, "transactions": listed}, indent=1) + "\n"


def _record(journal: Journal, planned: Plan, names: frozenset[str]) -> Head:
    """All rows or none: what clients saw, what comes back, and that it goes on."""
    with journal.batch():
        if planned.seen is not None:
            journal.record_halt(planned.seen)
        return journal.record_resync(planned.taken, approved_by=names)


# --- checks ----------------------------------------------------------------------------------------------------------


def _taken_back(
    number: int, subject: object, attempt: object, key: object, raw: object, address_of: Callable[[KeyRef], bytes]
) -> TakenBack:
    where = f"transaction {number} of the file"
    if not isinstance(raw, str) or not _RAW.fullmatch(raw):
        raise ResyncRefused(f"{where}: raw is 0x and hexadecimal digits, in lower case")
    try:
        sender, signed = _key(str(key)), read(bytes.fromhex(raw[2:]))
        told = signed.transaction
        Cancel(  # what has such a place has this form
            subject=subject,  # type: ignore[arg-type]
            attempt=attempt,  # type: ignore[arg-type]
            chain_id=told.chain_id,
            sender=sender,
            nonce=told.nonce,
            gas_limit=21_000,
            max_fee_per_gas=1,
            max_priority_fee_per_gas=0,
        )
    except IntentInvalid as problem:
        raise ResyncRefused(f"{where}: {problem.message}") from problem
    if signed.sender != address_of(sender):
        raise ResyncRefused(f"{where} isn't signed by {sender}: only our own signatures are taken back")
    return TakenBack(str(subject), int(str(attempt)), sender, told.chain_id, told.nonce, signed.raw)


def _whole(told: object) -> int:
    if type(told) is not int or not 0 < told < 2**63:
        raise ValueError("a sequence is a whole number")
    return told


def _key(told: str) -> KeyRef:
    return key_named(told)


def _check_allowed(one: TakenBack, policy: Policy) -> None:
    if one.chain_id not in policy.networks:
        raise ResyncRefused(f"{one.subject} is on network {one.chain_id}, which the policy doesn't know")
    if one.sender.index > policy.highest_index.get(one.sender.role, -1):
        raise ResyncRefused(f"{one.subject} is by {one.sender}, beyond the policy's highest index of that role")


def _check_place(one: TakenBack, place: Place, known: _Known, latest: Mapping[Place, TakenBack]) -> None:
    where = f"nonce {one.nonce} of {one.sender} on network {one.chain_id}"
    if place in known.holders:
        raise ResyncRefused(f"{where} was signed for {known.holders[place]} by this journal, not for {one.subject}")
    if place in latest and latest[place].subject != one.subject:
        raise ResyncRefused(f"{where} stands in the file for {latest[place].subject} and for {one.subject}")
    if known.places.get(one.subject, place) != place:
        raise ResyncRefused(f"{one.subject} has another nonce already than {where}: one subject is signed once")


def _in_order(taken: Iterable[TakenBack], policy: Policy, known: _Known) -> Iterator[TakenBack]:
    """By sender and nonce, each sender's without a gap from where the journal ends."""
    expected: dict[tuple[int, KeyRef], int] = {}
    for one in taken:
        sender = (one.chain_id, one.sender)
        if sender not in expected:
            first = policy.first_nonce(*sender)
            expected[sender] = known.next_nonce(*sender, first=first)
        if one.nonce != expected[sender]:
            raise ResyncRefused(
                f"the next nonce of {one.sender} on network {one.chain_id} is {expected[sender]}, the file goes on "
                f"with {one.nonce}: nothing may be missing between (first_nonces in the policy: where a sender began)"
            )
        expected[sender] += 1
        yield one


def _enough(planned: Plan, signatures: Sequence[Signature], people: Sequence[Person], threshold: int) -> frozenset[str]:
    names = proven(planned.statement, signatures, people)
    if isinstance(names, Unproven):
        raise ResyncRefused(f"the signatures don't hold: {names.sentence}")
    if not people or len(names) < threshold:
        raise ResyncRefused(f"{threshold} signatures are needed, {len(names)} are there (--sign-only, --with)")
    return names


def _check_current(journal: Journal, planned: Plan) -> None:
    if (planned.head, planned.policy) != (journal.head.hash, journal.enrolment.policy_fingerprint):
        raise ResyncRefused("the journal has gone on since this was planned: look again")
