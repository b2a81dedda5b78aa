"""Telling a new journal which keys and policy it serves, and which policy comes next; and checking that it was told so
by those who may.

A journal begins with a signature by the first of its keys over what it serves, so that nobody who can only write files
can begin another. A successor is proven by the signatures of those who may change the policy in force, or, where nobody
is enrolled, by the keys again. Not here: making keys (ceremony), what a policy says (policy, policy_file).
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import cbor2

from custody.approvals import (
    Unproven,
    policy_statement,
    proven,
    signature_list,
    signatures_from,
)
from custody.clocks import Clocks
from custody.errors import IntentInvalid, PolicyNotAccepted
from custody.journal import Enrolment, Journal
from custody.messages import encode_signature, message_signer
from custody.policy import Policy
from custody.policy_signatures import PolicySignatures
from custody.rolekeys import RoleKeys

_DOMAIN: Final = "onebook/enrolment/1"

Keys = Mapping[str, RoleKeys]
"""A signer's keys by name: `hot`, `hot.2`."""


def enrolment_of(fingerprints: Mapping[str, bytes], policy: Policy) -> Enrolment:
    """What a journal is told about keys and a policy."""
    return Enrolment(dict(fingerprints), policy.version, policy.fingerprint, policy.people, policy.threshold)


def enrol(journal: Path, keys: Keys, policy: Policy, *, clocks: Clocks) -> None:
    """Begin the journal of these keys with this policy. Raises JournalExists, PolicyNotAccepted."""
    fingerprints = {name: held.fingerprint for name, held in keys.items()}
    _check_stated(policy, fingerprints)
    enrolment = enrolment_of(fingerprints, policy)
    Journal.create(journal, enrolment, proof=_sealed(enrolment, keys), clocks=clocks)


def check_enrolment(policy: Policy, keys: Keys, journal: Journal) -> None:
    """Raises PolicyNotAccepted when keys, policy and journal aren't one another's, or nobody proved that they are."""
    fingerprints = {name: held.fingerprint for name, held in keys.items()}
    if dict(journal.enrolment.fingerprints) != fingerprints:
        raise PolicyNotAccepted("the journal belongs to other keys: put the right journal or key files in place")
    _check_stated(policy, fingerprints)
    before: Enrolment | None = None
    for enrolment, proof in journal.proofs:
        if not _is_proven(enrolment, proof, before, keys):
            raise PolicyNotAccepted(
                f"the journal's policy version {enrolment.policy_version} was not set by its keys or its people: "
                "somebody else began or changed this journal; put the right one back"
            )
        before = enrolment


def accept_successor(policy: Policy, journal: Journal, signed: PolicySignatures | None) -> None:
    """Accept `policy` if it's the one in force, or its successor with enough signatures of those who may change it.

    Raises PolicyNotAccepted.
    """
    accepted = journal.enrolment
    if policy.fingerprint == accepted.policy_fingerprint:
        return
    if policy.version <= accepted.policy_version:
        raise PolicyNotAccepted(
            f"this policy (version {policy.version}) isn't the one accepted last (version {accepted.policy_version}): "
            "put that one back, or have this one accepted with a higher version",
        )
    _check_version(policy, accepted)
    if not accepted.people:
        raise PolicyNotAccepted(
            f"policy version {policy.version} is new, and nobody may sign it: have it accepted with the keys' "
            "passphrase (onebook policy accept), while the signer is stopped"
        )
    signatures = () if signed is None else signed.signatures
    names = proven(policy_statement(policy.fingerprint, policy.version), signatures, accepted.people)
    if isinstance(names, Unproven):
        raise PolicyNotAccepted(f"the signatures under policy version {policy.version} don't hold: {names.sentence}")
    if len(names) < accepted.threshold:
        raise PolicyNotAccepted(
            f"policy version {policy.version} needs {accepted.threshold} signatures of "
            f"{', '.join(person.name for person in accepted.people)}; it has {len(names)} (onebook policy sign)"
        )
    successor = _successor(policy, accepted)
    journal.record_policy(successor, proof={"signatures": [signature_list(one) for one in signatures]})


def accept_policy(journal: Path, keys: Keys, policy: Policy, *, clocks: Clocks) -> None:
    """Record a successor policy where nobody is enrolled to sign it: whoever could open the keys consents.

    Its version must be the accepted one's + 1; the accepted one again changes nothing. Raises PolicyNotAccepted,
    JournalInUse (the signer must be stopped).
    """
    opened = Journal.open(journal, clocks)
    try:
        accepted = opened.enrolment
        for name, mark in accepted.fingerprints.items():
            if name not in keys or keys[name].fingerprint != mark:
                raise PolicyNotAccepted("the journal belongs to other keys")
        if policy.fingerprint == accepted.policy_fingerprint:
            return
        if accepted.people:
            raise PolicyNotAccepted(
                f"a successor is accepted by the signatures of {accepted.threshold} of "
                f"{', '.join(person.name for person in accepted.people)}, not by the passphrase (onebook policy sign)"
            )
        _check_version(policy, accepted)
        successor = _successor(policy, accepted)
        opened.record_policy(successor, proof=_sealed(successor, keys))
    finally:
        opened.close()


def _successor(policy: Policy, accepted: Enrolment) -> Enrolment:
    """The keys in force, and those that the policy names beside them: later generations. None is left out."""
    for name, mark in accepted.fingerprints.items():
        if policy.keys.get(name, mark) != mark:
            raise PolicyNotAccepted(f"the policy was made for another {name} key")
    return enrolment_of({**accepted.fingerprints, **policy.keys}, policy)


def _sealed(enrolment: Enrolment, keys: Keys) -> dict[str, object]:
    """A signature by the first of the keys over an enrolment."""
    name = min(enrolment.fingerprints)
    return {"by": name, "seal": encode_signature(*keys[name].sign(0, _digest(enrolment)))}


def _is_proven(enrolment: Enrolment, proof: Mapping[str, Any], before: Enrolment | None, keys: Keys) -> bool:
    """Whether those who may have set this: the keys where nobody is enrolled yet, else enough of the people before."""
    try:
        if before is None or not before.people:
            signer = message_signer(_digest(enrolment), proof["seal"])
            return signer == keys[proof["by"]].address(0) and proof["by"] in (before or enrolment).fingerprints
        statement = policy_statement(enrolment.policy_fingerprint, enrolment.policy_version)
        names = proven(statement, signatures_from(proof["signatures"]), before.people)
    except (IntentInvalid, KeyError, TypeError):
        return False
    return not isinstance(names, Unproven) and len(names) >= before.threshold


def _digest(enrolment: Enrolment) -> bytes:
    return sha256(cbor2.dumps([_DOMAIN, enrolment.body()], canonical=True)).digest()


def _check_stated(policy: Policy, fingerprints: Mapping[str, bytes]) -> None:
    stated = sorted(name for name, mark in policy.keys.items() if fingerprints.get(name) != mark)
    if stated:
        raise PolicyNotAccepted(f"the policy was made for another {'/'.join(stated)} key")


def _check_version(policy: Policy, accepted: Enrolment) -> None:
    if policy.version != accepted.policy_version + 1:
        raise PolicyNotAccepted(
            f"a successor of policy version {accepted.policy_version} has version {accepted.policy_version + 1}, "
            f"not {policy.version}"
        )
