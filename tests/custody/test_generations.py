"""A rotated key beside the old one, and journals that somebody else began: with the real process."""

from pathlib import Path

import pytest

from custody.approvals import policy_statement, sign_statement
from custody.clocks import SystemClocks
from custody.derivation import AddressSource, Role
from custody.enrolment import enrol, enrolment_of
from custody.errors import SignerRefused, SignerUnavailable
from custody.intents import KeyRef
from custody.journal import Journal
from custody.policy_file import parse
from custody.policy_signatures import PolicySignatures, encode_signatures, signatures_path
from tests.custody.samples import PEOPLE, full_policy, proof, sweep, token_transfer
from tests.support.signer import RunningSigner, start_signer, write_policy

pytestmark = pytest.mark.slow


def rotated(signer: RunningSigner) -> str:
    """A second deposit key in the signer's folder, and the policy that takes it in; the key's xpub."""
    public = signer.rotate()
    take_in(signer, "deposit.2", public.fingerprint)
    return public.public


def take_in(signer: RunningSigner, name: str, mark: bytes) -> None:
    """The policy that names a key more, signed by its people."""
    marks = {role.value: key.fingerprint for role, key in signer.keys.items()} | {name: mark}
    stated = "\n".join(f'"{name}" = "{mark.hex()}"' for name, mark in marks.items())
    text = full_policy(version=2, extra=f"\n\n[keys]\n{stated}\n")
    path = write_policy(signer.folder, text)
    policy = parse(text)
    statement = policy_statement(policy.fingerprint, policy.version)
    signatures = tuple(sign_statement(name, PEOPLE[name], statement) for name in ("ada", "ben"))
    beside = signatures_path(path)
    beside.write_text(encode_signatures(PolicySignatures(policy.version, policy.fingerprint, signatures)))
    beside.chmod(0o600)


async def test_after_a_rotation_new_addresses_come_from_the_new_seed_and_the_old_one_still_sweeps(tmp_path: Path):
    signer = start_signer(tmp_path, full_policy())
    try:
        xpub = rotated(signer)
        signer.restart()
        client = signer.client()
        client.xpubs = {role.value: key.xpub for role, key in signer.keys.items()} | {"deposit.2": xpub}
        assert (await client.status()).policy_version == 2
        assert await client.addresses("deposit.2", first=0, count=3) == [
            AddressSource(xpub).address(index) for index in range(3)
        ]
        assert await client.reserve("deposit.2", count=10, highest=None) == 0
        assert await client.reserve("deposit", count=10, highest=None) == 0
        old = await client.sign(sweep(), highest=None)
        new = await client.sign(sweep(subject="swp_2", sender=KeyRef(Role.DEPOSIT, 3, 2)), highest=None)
        assert old.raw != new.raw, "each by its own key, checked by the client"
        again = await client.sign(sweep(subject="swp_2", sender=KeyRef(Role.DEPOSIT, 3, 2)), highest=None)
        assert again.raw == new.raw
        with pytest.raises(SignerRefused) as refused:
            await client.sign(sweep(subject="swp_3", sender=KeyRef(Role.DEPOSIT, 3, 3)), highest=None)
        assert refused.value.code == "role_not_held"
        await client.close()
    finally:
        signer.stop()


async def test_a_policy_that_names_a_key_which_is_not_there_is_not_accepted_and_can_be_corrected(tmp_path: Path):
    signer = start_signer(tmp_path, full_policy())
    try:
        public = signer.rotate()
        take_in(signer, "deposit.2", bytes(32))
        with pytest.raises(SignerUnavailable, match=r"no deposit key in .* has the fingerprint 0000"):
            signer.restart()
        take_in(signer, "deposit.2", public.fingerprint)
        signer.restart()
        client = signer.client()
        assert (await client.status()).keys == signer.xpubs | {"deposit.2": public.public}
        await client.close()
    finally:
        signer.stop()


async def test_keys_are_asked_for_by_the_name_that_the_policy_gives_them(tmp_path: Path):
    signer = start_signer(tmp_path, full_policy())
    try:
        public = signer.rotate()
        take_in(signer, "deposit.7", public.fingerprint)  # its file says 2
        signer.restart()
        client = signer.client()
        assert await client.addresses("deposit.7", first=0, count=1) == [AddressSource(public.public).address(0)]
        assert [await client.reserve("deposit.7", count=10, highest=None) for _ in range(2)] == [0, 10]
        await client.close()
    finally:
        signer.stop()


def test_a_journal_that_was_begun_by_others_is_not_served(tmp_path: Path):
    signer = start_signer(tmp_path, full_policy())
    signer.stop()
    marks = {role.value: key.fingerprint for role, key in signer.keys.items()}
    mine = full_policy().replace(PEOPLE["ada"].public_key().public_bytes_raw().hex(), "11" * 32)
    policy = parse(mine)
    write_policy(tmp_path, mine)
    signer.journal.unlink()
    forged = enrolment_of(marks, policy)
    Journal.create(signer.journal, forged, proof={"by": "deposit", "seal": bytes(64) + b"\x1b"}, clocks=SystemClocks())
    with pytest.raises(SignerUnavailable, match="somebody else began or changed this journal"):
        signer.restart()
    signer.journal.unlink()
    enrol(signer.journal, {role.value: key.keys() for role, key in signer.keys.items()}, policy, clocks=SystemClocks())
    signer.restart()
    signer.stop()


def test_a_successor_in_the_journal_without_enough_signatures_is_not_served(tmp_path: Path):
    signer = start_signer(tmp_path, full_policy())
    signer.stop()
    text = full_policy(version=2)
    policy = parse(text)
    write_policy(tmp_path, text)
    journal = Journal.open(signer.journal, SystemClocks())
    one = sign_statement("ada", PEOPLE["ada"], policy_statement(policy.fingerprint, policy.version))
    journal.record_policy(
        enrolment_of(journal.enrolment.fingerprints, policy),
        proof={"signatures": [[one.by, one.scheme, one.signature]]},
    )
    journal.close()
    with pytest.raises(SignerUnavailable, match="was not set by its keys or its people"):
        signer.restart()


async def test_the_journal_remembers_whose_withdrawal_it_signed(tmp_path: Path):
    signer = start_signer(tmp_path, full_policy())
    try:
        client = signer.client()
        said = {"account": "user:usr_1:USDC", "asset": "USDC", "amount": "500", "key_hash": bytes(range(32))}
        signed = await client.sign(token_transfer(), highest=None, claims=said)
        rows = await client.rows(first=1, count=50)
        kept = [row for row in rows if row.kind == "intent"]
        assert len(kept) == 1
        assert b"user:usr_1:USDC" in kept[0].body
        assert bytes(range(32)) in kept[0].body
        assert signed.sequence == rows[-1].sequence
        with pytest.raises(SignerRefused) as refused:
            await client.sign(token_transfer(subject="wdr_2", nonce=1), highest=None, claims={"account": "x"})
        assert refused.value.code == "intent_invalid"
        assert (await client.sign(proof(), highest=None)).raw, "messages as well"
        await client.close()
    finally:
        signer.stop()
