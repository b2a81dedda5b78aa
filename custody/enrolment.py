"""Telling a new journal which keys and policy it serves, and which policy comes next.

Not here: making keys (ceremony), what a policy says (policy, policy_file).
"""

from pathlib import Path

from base.clock import Clock
from custody import keystore
from custody.derivation import Role
from custody.errors import PolicyNotAccepted
from custody.journal import Enrolment, Journal
from custody.policy import Policy


def enrol(journal: Path, fingerprints: dict[Role, bytes], policy: Policy, *, clock: Clock) -> None:
    """Begin the journal of these keys with this policy. Raises JournalExists, PolicyNotAccepted."""
    for role, mark in policy.keys.items():
        if fingerprints.get(role) != mark:
            raise PolicyNotAccepted(f"the policy was made for another {role.value} key")
    Journal.create(journal, Enrolment(fingerprints, policy.version, policy.fingerprint), now_us=_now_us(clock))


def accept_policy(journal: Path, keys: Path, policy: Policy, *, passphrase: bytes, clock: Clock) -> None:
    """Record a successor policy, for the signer's next start. The passphrase is its holder's consent.

    Its version must be the accepted one's + 1; the accepted one again changes nothing. Raises PolicyNotAccepted,
    KeyFileLocked, JournalInUse (the signer must be stopped).
    """
    opened = Journal.open(journal)
    try:
        enrolment = opened.enrolment
        for role, mark in enrolment.fingerprints.items():
            if keystore.open_key(keys, role, passphrase=passphrase).fingerprint != mark:
                raise PolicyNotAccepted("the journal belongs to other keys")
        if policy.fingerprint == enrolment.policy_fingerprint:
            return
        if policy.version != enrolment.policy_version + 1:
            raise PolicyNotAccepted(
                f"a successor of policy version {enrolment.policy_version} has version "
                f"{enrolment.policy_version + 1}, not {policy.version}"
            )
        opened.record_policy(version=policy.version, fingerprint=policy.fingerprint, now_us=_now_us(clock))
    finally:
        opened.close()


def _now_us(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1_000_000)
