"""Proofs of entries: made from the book, checked without it, by our verifier and by one written from docs/proof.md."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from base.clock import ManualClock
from ledger.commands import alone
from ledger.errors import BookCorrupt, EntryUnknown, NotSealed, ProofInvalid
from ledger.proofs import EntryProof, read_proof, verify
from ledger.proving import prove_entry
from ledger.sealing import SealBook
from ledger.seals import make_seal_key, read_seal, seal_path
from ledger.service import PostgresLedger
from tests.ledger.histories import START
from tests.ledger.test_audit import A, B, post, tamper, usd, write_history

pytestmark = pytest.mark.slow


@pytest.fixture
async def sealed(database, tmp_path):
    """A ledger whose first stretch is sealed, its sealer and the key."""
    clock = ManualClock(START)
    ledger = PostgresLedger(database.engine(), clock=clock)
    await write_history(ledger, clock)
    key = make_seal_key(tmp_path / "seal.key")
    folder = tmp_path / "seals"
    sealer = SealBook(ledger._engine, book="main", key=key, folder=folder, clock=clock, interval=timedelta(0))
    await sealer.step()
    return ledger, sealer, key


def written(proof: EntryProof) -> bytes:
    return json.dumps(proof.document()).encode()


def by_the_book_of_docs(content: bytes) -> bool:
    """A verifier by docs/proof.md alone: hashlib, an Ed25519 library, and no code of ours."""
    proof = json.loads(content)
    statement = proof["seal"]["statement"]
    told = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(proof["seal"]["key"]))
    key.verify(bytes.fromhex(proof["seal"]["signature"]), told)
    fields = proof["entry"].split("\n")[0].split("\t")
    place, last = int(fields[1]) - statement["first_seq"], statement["last_seq"] - statement["first_seq"]
    found = hashlib.sha256(b"\0" + proof["entry"].encode()).digest()
    for node in map(bytes.fromhex, proof["path"]):
        if place % 2 or place == last:
            found = hashlib.sha256(b"\1" + node + found).digest()
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = hashlib.sha256(b"\1" + found + node).digest()
        place, last = place // 2, last // 2
    shown = proof.get("metadata")
    if shown:
        values = json.dumps(shown["values"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert hashlib.sha256(bytes.fromhex(shown["salt"]) + values).hexdigest() == fields[10]
    return (last, found.hex(), fields[0]) == (0, statement["root"], statement["book"])


async def test_every_entry_is_proven_by_both_verifiers(sealed, tmp_path):
    ledger, _, key = sealed
    outside = read_seal(seal_path(tmp_path / "seals", "main", 1))
    for seq in range(1, await ledger.last_seq() + 1):
        content = written(await prove_entry(ledger._engine, "main", seq))
        proven = verify(read_proof(content), trusted=(key.public,), outside=outside)
        assert proven.command["seq"] == str(seq)
        assert by_the_book_of_docs(content)


async def test_a_proof_tells_the_lines_and_what_the_metadata_said(sealed):
    ledger, *_ = sealed
    proven = verify(await prove_entry(ledger._engine, "main", "rent"))
    assert proven.metadata == {"memo": "rent"}
    [line] = proven.lines
    assert (line["debit"], line["credit"], line["amount"], line["kind"]) == (A, B, "10", "posted")
    withheld = await prove_entry(ledger._engine, "main", "rent", with_metadata=False)
    assert b"memo" not in written(withheld)
    assert verify(withheld).metadata is None


async def test_an_entry_whose_metadata_is_erased_still_proves(sealed):
    ledger, *_ = sealed
    assert await ledger.erase_metadata("rent")
    proof = await prove_entry(ledger._engine, "main", "rent")
    assert proof.metadata is None
    assert verify(proof).lines


async def test_odd_characters_survive(sealed):
    ledger, sealer, _ = sealed
    odd = "tab\t line\n back\\slash \\N \r\v\f\b 中文 🙂"
    await ledger.submit(alone(post("odd", usd(A, B, 1), subject=odd, metadata={odd: odd})))
    await sealer.step()
    content = written(await prove_entry(ledger._engine, "main", "odd"))
    proven = verify(read_proof(content))
    assert proven.command["subject"] == odd
    assert proven.metadata == {odd: odd}
    assert by_the_book_of_docs(content)


async def test_a_record_is_proven_word_by_word(sealed):
    """What happened beside the book, under the same seals."""
    ledger, *_ = sealed
    proven = verify(await prove_entry(ledger._engine, "main", "fact"))
    assert (proven.command["kind"], proven.command["subject"], proven.lines) == ("record", "epoch/1", ())
    assert json.loads(proven.command["detail"] or "{}")["terms"] == {"facts": {"root": "ab" * 32}}


async def test_what_is_not_there_or_not_sealed_yet_says_so(sealed, database):
    ledger, *_ = sealed
    for unknown in ("nobody", 0, -1, 10**6, 2**80):
        with pytest.raises(EntryUnknown):
            await prove_entry(ledger._engine, "main", unknown)
    await ledger.submit(alone(post("fresh", usd(A, B, 1))))
    with pytest.raises(NotSealed):
        await prove_entry(ledger._engine, "main", "fresh")
    [rent] = await ledger.outcomes("rent")
    await tamper(database, f"UPDATE ledger_lines SET amount = amount + 1 WHERE seq = {rent.seq}")
    with pytest.raises(BookCorrupt):
        await prove_entry(ledger._engine, "main", "rent")


ALTERATIONS = {
    "the amount": lambda told: told | {"entry": told["entry"].replace("\t10\t", "\t11\t")},
    "the seq": lambda told: told | {"entry": told["entry"].replace("main\t9\t", "main\t10\t")},
    "the book": lambda told: told | {"entry": told["entry"].replace("main\t", "other\t", 1)},
    "a line left out": lambda told: told | {"entry": told["entry"].split("\n")[0]},
    "a node": lambda told: told | {"path": ["00" * 32, *told["path"][1:]]},
    "a node too few": lambda told: told | {"path": told["path"][:-1]},
    "a node too many": lambda told: told | {"path": [*told["path"], "00" * 32]},
    "the metadata": lambda told: told | {"metadata": told["metadata"] | {"values": {"memo": "other"}}},
    "the salt": lambda told: told | {"metadata": told["metadata"] | {"salt": "00"}},
    "the root": lambda told: told | {"seal": altered_statement(told["seal"], root="00" * 32)},
    "the range": lambda told: told | {"seal": altered_statement(told["seal"], first_seq=2)},
    "the signature": lambda told: told | {"seal": told["seal"] | {"signature": "00" * 64}},
    "the format": lambda told: told | {"format": "onebook-proof-2"},
    "no path": lambda told: {name: value for name, value in told.items() if name != "path"},
    "a path of numbers": lambda told: told | {"path": [1]},
    "an entry of numbers": lambda told: told | {"entry": 5},
    "half a surrogate": lambda told: told | {"entry": told["entry"] + "\ud800"},
    "a list": lambda told: [told],
}


def altered_statement(seal, **more):
    return seal | {"statement": seal["statement"] | more}


async def test_an_altered_proof_proves_nothing(sealed):
    ledger, _, key = sealed
    told = (await prove_entry(ledger._engine, "main", "rent")).document()
    assert verify(read_proof(json.dumps(told).encode()), trusted=(key.public,))
    for what, alter in ALTERATIONS.items():
        altered = json.dumps(alter(told)).encode()
        assert altered != json.dumps(told).encode(), what
        with pytest.raises(ProofInvalid):
            print(what, verify(read_proof(altered), trusted=(key.public,)))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000, b"{}", b'{"format": "onebook-proof-1"}']
)
def test_what_is_no_proof_is_said_to_be_none(content):
    with pytest.raises(ProofInvalid):
        read_proof(content)


async def test_another_key_or_another_seal_than_the_kept_one_proves_nothing(sealed, tmp_path):
    ledger, sealer, key = sealed
    proof = await prove_entry(ledger._engine, "main", "rent")
    with pytest.raises(ProofInvalid, match="another key"):
        verify(proof, trusted=(make_seal_key(tmp_path / "other.key").public,))
    await ledger.submit(alone(post("more", usd(A, B, 1))))
    await sealer.step()
    second = read_seal(seal_path(tmp_path / "seals", "main", 2))
    with pytest.raises(ProofInvalid, match="isn't the one that you kept"):
        verify(proof, trusted=(key.public,), outside=second)
    with pytest.raises(ProofInvalid):
        verify(replace(proof, seal=second))


async def test_verify_needs_no_database_and_says_what_is_proven(sealed, tmp_path):
    ledger, *_ = sealed
    file = tmp_path / "rent.proof.json"
    file.write_bytes(written(await prove_entry(ledger._engine, "main", "rent")))
    run = (
        "import sys; from cli.main import run\n"
        "try: run()\n"
        "finally: print('database' if {'sqlalchemy', 'asyncpg'} & sys.modules.keys() else 'alone')"
    )

    def verified(*options):
        command = [sys.executable, "-c", run, "verify", "entry", str(file), *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    good = verified("--key", str(tmp_path / "seals" / "seal.pem"))
    assert good.returncode == 0, good.stderr
    assert "usr_a/wallet/USD -> usr_b/wallet/USD  10" in good.stdout
    assert good.stdout.endswith("alone\n")
    assert json.loads(verified("--json").stdout.removesuffix("alone\n"))["trusted"] is False
    assert verified("--seal", str(seal_path(tmp_path / "seals", "main", 1))).returncode == 0
    assert verified("--key", "ab" * 32).returncode == 1
    assert verified("--key", str(tmp_path / "nothing.pem")).returncode == 2
    file.write_text("{}")
    assert verified().returncode == 1
    file.unlink()
    assert verified().returncode == 2
