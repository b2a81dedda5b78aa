"""Which policy a journal takes next: the successor, by enough signatures of those whom the one in force names."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.entropy import SeededEntropy
from custody.approvals import Signature, approval_statement, policy_statement, sign_statement
from custody.ceremony import create_keys, keys_of
from custody.derivation import AccountKeys, Role
from custody.enrolment import accept_policy, enrol
from custody.errors import KeyFileLocked, PolicyInvalid, PolicyNotAccepted
from custody.journal import Journal
from custody.policy import Policy
from custody.policy_file import parse
from custody.policy_signatures import PolicySignatures, encode_signatures, read_signatures, signatures_path
from custody.rolekeys import HdKeys, RoleKeys
from custody.service import SignerService
from custody.stores import FileStore
from tests.custody.bench import KEYS, Bench
from tests.custody.clocks import ManualClocks
from tests.custody.samples import COLD, PEOPLE, full_policy, mandate, policy_text, token_transfer
from tests.support.signer import LIGHT, PASSPHRASE

DORA = Ed25519PrivateKey.from_private_bytes(b"dora".ljust(32, b"\0"))


def signed(policy: Policy, *names: str, over: bytes | None = None) -> PolicySignatures:
    statement = over or policy_statement(policy.fingerprint, policy.version)
    keys = PEOPLE | {"dora": DORA}
    signatures = tuple(sign_statement(name, keys[name], statement) for name in names)
    return PolicySignatures(policy.version, policy.fingerprint, signatures)


def successor(version: int = 2) -> str:
    """A policy in which dora has taken cleo's place."""
    old, new = (key.public_key().public_bytes_raw().hex() for key in (PEOPLE["cleo"], DORA))
    return full_policy(version=version).replace('"cleo"', '"dora"').replace(old, new)


def start(bench: Bench, text: str, signatures: PolicySignatures | None) -> None:
    bench.text = text
    bench.again(signatures)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "needs 2 signatures of ada, ben, cleo; it has 0"),
        (("ada",), "it has 1"),
        (("ada", "ada"), "ada signed twice"),
        (("ada", "dora"), "knows nobody called 'dora'"),
        (("dora",), "knows nobody called 'dora'"),
        (("ada", "ben", "dora"), "knows nobody called 'dora'"),
    ],
)
def test_too_few_signatures_of_people_in_force_change_nothing(bench: Bench, names: Sequence[str], told: str):
    with pytest.raises(PolicyNotAccepted, match=told):
        start(bench, successor(), signed(parse(successor()), *names))
    start(bench, full_policy(), None)
    assert bench.rows("policy") == 0


def test_f79_enough_signatures_make_it_the_policy_and_the_older_one_is_refused(bench: Bench):
    two = parse(successor())
    start(bench, successor(), signed(two, "cleo", "ada"))
    assert bench.journal.enrolment.policy_fingerprint == two.fingerprint
    assert "dora" in [person.name for person in bench.journal.enrolment.people]
    start(bench, successor(), None)
    assert bench.rows("policy") == 1, "accepted once, it needs its signatures no more"
    for names in ((), ("ada", "ben"), ("ada", "dora")):
        with pytest.raises(PolicyNotAccepted, match="accepted last"):
            start(bench, full_policy(), signed(parse(full_policy()), *names))
        start(bench, successor(), None)
    altered = successor().replace('"2500"', '"2501"')
    with pytest.raises(PolicyNotAccepted, match="accepted last"):
        start(bench, altered, signed(parse(altered), "ada", "dora"))
    start(bench, successor(3), signed(parse(successor(3)), "dora", "ben"))
    assert bench.journal.enrolment.policy_version == 3


def test_f79_no_version_is_skipped(bench: Bench):
    with pytest.raises(PolicyNotAccepted, match="has version 2, not 3"):
        start(bench, successor(3), signed(parse(successor(3)), "ada", "ben"))
    start(bench, full_policy(), None)


def test_signatures_over_anything_else_do_not_count(bench: Bench):
    two, other = parse(successor()), parse(full_policy(version=2))
    intent = token_transfer()
    statements = [
        policy_statement(other.fingerprint, 2),
        policy_statement(two.fingerprint, 3),
        two.fingerprint,
        approval_statement(intent, mandate(intent)),
    ]
    for statement in statements:
        with pytest.raises(PolicyNotAccepted, match="don't hold"):
            start(bench, successor(), signed(two, "ada", "ben", over=statement))
    start(bench, successor(), signed(two, "ada", "ben"))


def test_limits_outlive_a_change_of_policy(bench: Bench):
    for number in range(2):
        bench.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=700))
    start(bench, successor(), signed(parse(successor()), "ada", "ben"))
    assert bench.sign(token_transfer(subject="wdr_2", nonce=2, amount=101)) == "over_hour_limit"
    assert isinstance(bench.sign(token_transfer(subject="wdr_2", nonce=2, amount=100)), bytes)


def test_a_mandate_under_the_policy_before_does_not_count(bench: Bench):
    start(bench, successor(), signed(parse(successor()), "ada", "ben"))
    paid = token_transfer(subject="wdr_7", to=COLD)
    assert bench.sign(paid, mandate=mandate(paid, maker="usr_1")) == "approval_policy_differs"
    assert isinstance(
        bench.sign(
            paid,
            mandate=mandate(paid, maker="usr_1", policy_version=2, policy_fingerprint=parse(successor()).fingerprint),
        ),
        bytes,
    )


def test_only_the_accepted_policy_and_the_enrolled_keys_start(bench: Bench):
    altered = bench.text.replace('"2500"', '"2501"')
    with pytest.raises(PolicyNotAccepted, match="accepted last"):
        SignerService(KEYS, parse(altered), bench.journal)
    others: dict[str, RoleKeys] = {role.value: HdKeys(AccountKeys(role, b"other" * 13)) for role in Role}
    with pytest.raises(PolicyNotAccepted, match="other keys"):
        SignerService(others, parse(bench.text), bench.journal)
    with pytest.raises(PolicyNotAccepted, match="other keys"):
        SignerService({"hot": KEYS["hot"]}, parse(bench.text), bench.journal)
    stated = parse(full_policy(version=2) + f'\n[keys]\nhot = "{"ab" * 32}"\n')
    with pytest.raises(PolicyNotAccepted, match="another hot key"):
        SignerService(KEYS, stated, bench.journal, signatures=signed(stated, "ada", "ben"))


def test_a_policy_made_for_other_keys_is_not_enrolled(tmp_path: Path):
    text = policy_text(fingerprints={Role.HOT: bytes(32)})
    with pytest.raises(PolicyNotAccepted):
        enrol(tmp_path / "journal", KEYS, parse(text), clocks=ManualClocks())
    assert not (tmp_path / "journal").exists()


def test_f79_policy_versions_rise_by_one_and_older_ones_are_refused(tmp_path: Path):
    """Where nobody is enrolled, the passphrase's holder decides."""
    clocks = ManualClocks()
    keys = create_keys(tmp_path / "keys", passphrase=PASSPHRASE, entropy=SeededEntropy(5), cost=LIGHT)
    one, two, three = (parse(policy_text().replace("version = 1", f"version = {n}")) for n in (1, 2, 3))
    path = tmp_path / "journal.sqlite"
    enrol(path, keys_of(keys), one, clocks=clocks)

    def accept(policy: Any, passphrase: bytes = PASSPHRASE) -> None:
        store = FileStore(tmp_path / "keys", passphrase)
        held = {role.value: store.find(role, key.fingerprint) for role, key in keys.items()}
        accept_policy(path, held, policy, clocks=clocks)

    with pytest.raises(PolicyNotAccepted, match="has version 2"):
        accept(three)
    with pytest.raises(KeyFileLocked):
        accept(two, b"wrong")
    accept(two)
    accept(two)
    with pytest.raises(PolicyNotAccepted, match="has version 3"):
        accept(one)
    journal = Journal.open(path, clocks)
    assert (journal.head.sequence, journal.enrolment.policy_fingerprint) == (2, two.fingerprint)
    assert set(journal.enrolment.fingerprints) == set(Role)
    journal.close()
    people = parse(full_policy(version=3))
    accept(people)
    with pytest.raises(PolicyNotAccepted, match="not by the passphrase"):
        accept(parse(full_policy(version=4)))


def test_without_people_a_successor_wants_the_passphrase(plain: Bench):
    two = policy_text().replace("version = 1", "version = 2")
    for signatures in (None, signed(parse(two), "ada", "ben")):
        with pytest.raises(PolicyNotAccepted, match="keys' passphrase"):
            start(plain, two, signatures)
        start(plain, policy_text(), None)


def test_signatures_lie_beside_the_policy_and_are_read_back(tmp_path: Path):
    policy = tmp_path / "policy.toml"
    assert read_signatures(policy) is None
    told = signed(parse(successor()), "ada", "ben")
    signatures_path(policy).write_text(encode_signatures(told))
    assert read_signatures(policy) == told
    whole = json.loads(encode_signatures(told))
    for spoiled in (
        "",
        "[]",
        "{}",
        json.dumps(whole | {"signatures": [{"by": "ada"}]}),
        json.dumps(whole | {"signatures": None}),
        json.dumps(whole | {"policy": "xyz"}),
        json.dumps(whole | {"version": "one"}),
        " " * 65_537,
    ):
        signatures_path(policy).write_text(spoiled)
        with pytest.raises(PolicyInvalid, match="isn't a file of signatures"):
            read_signatures(policy)
    assert "signature" not in repr(Signature("ada", b"secret")).replace("Signature", "")
