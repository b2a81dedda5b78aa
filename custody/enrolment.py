"""Telling a new journal which keys and policy it serves, and which policy comes next.

Not here: making keys (ceremony), what a policy says (policy, policy_file).
"""

from collections.abc import Mapping
from pathlib import Path

from custody import keystore
from custody.approvals import Unproven, policy_statement, proven
from custody.clocks import Clocks
from custody.derivation import Role
from custody.errors import PolicyNotAccepted
from custody.journal import Enrolment, Journal
from custody.policy import Policy
from custody.policy_signatures import PolicySignatures


def enrolment_of(fingerprints: Mapping[Role, bytes], policy: Policy) -> Enrolment:
    """What a journal is told about keys and a policy."""
    return Enrolment(fingerprints, policy.version, policy.fingerprint, policy.people, policy.threshold)


def enrol(journal: Path, fingerprints: Mapping[Role, bytes], policy: Policy, *, clocks: Clocks) -> None:
    """Begin the journal of these keys with this policy. Raises JournalExists, PolicyNotAccepted."""
    for role, mark in policy.keys.items():
        if fingerprints.get(role) != mark:
            raise PolicyNotAccepted(f"the policy was made for another {role.value} key")
    Journal.create(journal, enrolment_of(fingerprints, policy), clocks=clocks)


def check_keys(policy: Policy, fingerprints: Mapping[Role, bytes], journal: Journal) -> None:
    """Raises PolicyNotAccepted when keys, policy and journal aren't one another's."""
    if dict(journal.enrolment.fingerprints) != dict(fingerprints):
        raise PolicyNotAccepted("the journal belongs to other keys: put the right journal or key files in place")
    stated = {role: mark for role, mark in policy.keys.items() if fingerprints.get(role) != mark}
    if stated:
        raise PolicyNotAccepted(f"the policy was made for another {'/'.join(role.value for role in stated)} key")


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
    statement = policy_statement(policy.fingerprint, policy.version)
    names = proven(statement, () if signed is None else signed.signatures, accepted.people)
    if isinstance(names, Unproven):
        raise PolicyNotAccepted(f"the signatures under policy version {policy.version} don't hold: {names.sentence}")
    if len(names) < accepted.threshold:
        raise PolicyNotAccepted(
            f"policy version {policy.version} needs {accepted.threshold} signatures of "
            f"{', '.join(person.name for person in accepted.people)}; it has {len(names)} (onebook policy sign)"
        )
    journal.record_policy(enrolment_of(accepted.fingerprints, policy), approved_by=names)


def accept_policy(journal: Path, keys: Path, policy: Policy, *, passphrase: bytes, clocks: Clocks) -> None:
    """Record a successor policy where nobody is enrolled to sign it. The passphrase is its holder's consent.

    Its version must be the accepted one's + 1; the accepted one again changes nothing. Raises PolicyNotAccepted,
    KeyFileLocked, JournalInUse (the signer must be stopped).
    """
    opened = Journal.open(journal, clocks)
    try:
        accepted = opened.enrolment
        for role, mark in accepted.fingerprints.items():
            if keystore.open_key(keys, role, passphrase=passphrase).fingerprint != mark:
                raise PolicyNotAccepted("the journal belongs to other keys")
        if policy.fingerprint == accepted.policy_fingerprint:
            return
        if accepted.people:
            raise PolicyNotAccepted(
                f"a successor is accepted by the signatures of {accepted.threshold} of "
                f"{', '.join(person.name for person in accepted.people)}, not by the passphrase (onebook policy sign)"
            )
        _check_version(policy, accepted)
        opened.record_policy(enrolment_of(accepted.fingerprints, policy))
    finally:
        opened.close()


def _check_version(policy: Policy, accepted: Enrolment) -> None:
    if policy.version != accepted.policy_version + 1:
        raise PolicyNotAccepted(
            f"a successor of policy version {accepted.policy_version} has version {accepted.policy_version + 1}, "
            f"not {policy.version}"
        )
