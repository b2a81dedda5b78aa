"""`onebook policy` and `onebook approver` as processes: what they say, what they write, how they end."""

import json
import subprocess
from pathlib import Path

import pytest

from base.entropy import SystemEntropy
from custody.ceremony import create_keys, keys_of
from custody.clocks import SystemClocks
from custody.enrolment import enrol
from custody.intent_json import intent_to_json
from custody.journal import Journal
from custody.policy_file import parse
from custody.policy_signatures import read_signatures
from tests.custody.samples import COLD, full_policy, policy_text, token_transfer
from tests.support import signer as signers
from tests.support.approvers import LIGHT, PASSPHRASE, approver_files
from tests.support.command import onebook
from tests.support.signer import RunningSigner, start_signer

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(full_policy())
    (tmp_path / "next.toml").write_text(full_policy(version=2).replace('"1000"', '"2000"'))
    (tmp_path / "same.toml").write_text(full_policy(version=2))
    (tmp_path / "payment.json").write_text(json.dumps(intent_to_json(token_transfer(to=COLD))))
    return tmp_path


def test_an_approvers_key_is_made_once_and_shown_without_its_passphrase(home: Path):
    made = onebook("approver", "create", "dora", cwd=home, passphrase=b"of dora\n")
    assert made.returncode == 0, made.stderr
    again = onebook("approver", "create", "dora", cwd=home, passphrase=b"of dora")
    assert (again.returncode, "never written over" in again.stderr) == (2, True)
    shown = onebook("approver", "show", "dora.approver", "--json", cwd=home)
    entry = json.loads(shown.stdout)["entry"]
    assert parse(full_policy().replace("[[people]]", f"{entry}\n[[people]]", 1)).people[0].name == "dora"
    unasked = onebook("approver", "create", "emil", cwd=home)
    assert (unasked.returncode, "--passphrase-fd" in unasked.stderr) == (2, True)
    assert not (home / "emil.approver").exists()


def test_check_says_what_a_policy_means_and_refuses_what_is_none(home: Path):
    said = onebook("policy", "check", "policy.toml", cwd=home)
    assert said.returncode == 0, said.stderr
    assert parse(full_policy()).fingerprint.hex() in said.stdout
    assert "to cold: the hot key may pay" in said.stdout
    assert "warning: there are no ceilings" in said.stdout
    assert onebook("policy", "check", "policy.toml", "--strict", cwd=home).returncode == 1
    (home / "broken.toml").write_text(full_policy() + "\nsurprise = 1\n")
    broken = onebook("policy", "check", "broken.toml", "--json", cwd=home)
    assert (broken.returncode, json.loads(broken.stdout)["valid"]) == (1, False)
    missing = onebook("policy", "check", "nowhere.toml", cwd=home)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


def test_explain_names_the_rule_and_what_is_missing(home: Path):
    refused = onebook("policy", "explain", "policy.toml", "payment.json", "--json", cwd=home)
    told = json.loads(refused.stdout)
    assert (refused.returncode, told["code"], told["rule"]) == (1, "approvals_missing", "to cold")
    assert told["missing"] == ["2 more approvals, of ada, ben, cleo; never its maker's"]
    people = ("--approved-by", "ada", "--approved-by", "ben")
    allowed = onebook("policy", "explain", "policy.toml", "payment.json", *people, cwd=home)
    assert (allowed.returncode, "signed (allowed)" in allowed.stdout) == (0, True)
    unknown = onebook("policy", "explain", "policy.toml", "payment.json", "--approved-by", "zoe", cwd=home)
    assert (unknown.returncode, "nobody called zoe" in unknown.stderr) == (2, True)


async def test_explain_counts_what_a_journal_says_and_leaves_it_as_it_was(home: Path, tmp_path: Path):
    signer: RunningSigner = start_signer(tmp_path / "signer", full_policy())
    client = signer.client()
    for number in range(2):
        await client.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=700), highest=None)
    await client.close()
    (home / "small.json").write_text(json.dumps(intent_to_json(token_transfer(subject="wdr_9", nonce=2, amount=200))))
    before = signer.journal.read_bytes()
    explain = ("policy", "explain", "policy.toml", "small.json", "--journal", str(signer.journal), "--json")
    over = json.loads(onebook(*explain, cwd=home).stdout)
    assert (over["code"], over["sentence"]) == (
        "over_hour_limit",
        "200 after 1400 in an hour is over the limit of 1500",
    )
    later = json.loads(onebook(*explain, "--at", "2100-01-01T00:00:00Z", cwd=home).stdout)
    assert (later["code"], later["counted"][0]) == (
        "allowed",
        "0 smallest units of 0x5FbDB2315678afecb367f032d93F642f64180aa3 signed within an hour",
    )
    (home / "small.json").write_text(json.dumps(intent_to_json(token_transfer(subject="wdr_9", nonce=7, amount=5))))
    wrong = json.loads(onebook(*explain, cwd=home).stdout)
    assert (wrong["code"], wrong["missing"]) == ("nonce_not_next", ["nonce 2"])
    past = onebook(*explain, "--at", "2001-01-01T00:00:00Z", cwd=home)
    assert (past.returncode, "isn't counted again" in past.stderr) == (2, True)
    assert signer.journal.read_bytes() == before
    assert signer.stop() == 0


def test_diff_shouts_what_gets_looser(home: Path):
    looser = onebook("policy", "diff", "policy.toml", "next.toml", cwd=home)
    assert (looser.returncode, looser.stdout.startswith("!!! LOOSER in")) == (1, True)
    back = onebook("policy", "diff", "next.toml", "policy.toml", cwd=home)
    assert (back.returncode, "LOOSER" in back.stdout) == (0, False)
    assert onebook("policy", "diff", "policy.toml", "policy.toml", cwd=home).stdout == "nothing changes in meaning\n"


def test_a_successor_is_signed_by_people_after_a_yes_and_then_starts_the_signer(home: Path, tmp_path: Path):
    files = approver_files(home)
    signer = start_signer(tmp_path / "signer", full_policy())
    signer.stop()
    (tmp_path / "signer" / "policy.toml").write_text((home / "next.toml").read_text())

    def sign(name: str, typed: str, **more: bytes) -> tuple[int, str]:
        arguments = ("policy", "sign", "next.toml", "--against", "policy.toml", "--key", str(files[name]))
        ended = onebook(*arguments, cwd=home, typed=typed, **{"passphrase": PASSPHRASE} | more)  # type: ignore[arg-type]
        return ended.returncode, ended.stdout + ended.stderr

    code, said = sign("ada", "n\n")
    assert (code, "!!! looser" in said, "nothing was done" in said) == (1, True, True)
    assert read_signatures(home / "next.toml") is None
    assert sign("ada", "y\n", passphrase=b"wrong")[0] == 2
    assert sign("ada", "y\n")[0] == 0
    assert "signed this policy already" in sign("ada", "y\n")[1]
    code, said = sign("cleo", "y\n")
    assert (code, "start the signer anew" in said) == (0, True)
    signed = read_signatures(home / "next.toml")
    assert signed is not None
    assert {one.by for one in signed.signatures} == {"ada", "cleo"}
    (home / "next.toml.signatures").rename(tmp_path / "signer" / "policy.toml.signatures")
    signer.restart()
    assert signer.stop() == 0


def test_signatures_under_another_policy_and_strangers_keys_are_refused(home: Path):
    files = approver_files(home)
    first = ("policy", "sign", "same.toml", "--against", "policy.toml", "--key", files["ada"])
    assert onebook(*first, cwd=home, typed="y\n", passphrase=PASSPHRASE).returncode == 0
    (home / "same.toml").write_text(full_policy(version=2).replace('"2500"', '"2400"'))
    other = ("policy", "sign", "same.toml", "--against", "policy.toml", "--key", files["ben"])
    mixed = onebook(*other, cwd=home, typed="y\n", passphrase=PASSPHRASE)
    assert (mixed.returncode, "under another policy" in mixed.stderr) == (2, True)
    onebook("approver", "create", "zoe", cwd=home, passphrase=b"of zoe")
    stranger = onebook(
        "policy", "sign", "next.toml", "--against", "policy.toml", "--key", "zoe.approver", cwd=home, typed="y\n"
    )
    assert (stranger.returncode, "belongs to none of the people" in stranger.stderr) == (2, True)
    itself = onebook("policy", "sign", "policy.toml", "--against", "policy.toml", "--key", files["ada"], cwd=home)
    assert itself.returncode == 2


def test_a_policy_without_people_is_accepted_with_the_keys_passphrase(tmp_path: Path):
    keys = create_keys(tmp_path / "keys", passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    enrol(tmp_path / "journal.sqlite", keys_of(keys), parse(policy_text()), clocks=SystemClocks())
    (tmp_path / "next.toml").write_text(policy_text().replace("version = 1", "version = 2"))
    arguments = ("policy", "accept", "next.toml", "--journal", "journal.sqlite", "--keys", "keys")
    assert onebook(*arguments, cwd=tmp_path, typed="n\n", passphrase=PASSPHRASE).returncode == 1
    assert onebook(*arguments, cwd=tmp_path, typed="y\n", passphrase=b"wrong").returncode == 2
    accepted = onebook(*arguments, "--yes", cwd=tmp_path, passphrase=PASSPHRASE)
    assert accepted.returncode == 0, accepted.stderr
    journal = Journal.open(tmp_path / "journal.sqlite", SystemClocks())
    assert journal.enrolment.policy_version == 2
    journal.close()
    (tmp_path / "far.toml").write_text(policy_text().replace("version = 1", "version = 9"))
    far = onebook(*arguments[:2], "far.toml", *arguments[3:], "--yes", cwd=tmp_path, passphrase=PASSPHRASE)
    assert (far.returncode, "has version 3, not 9" in far.stderr) == (2, True)


def test_a_journal_begins_with_the_first_policy_and_never_again(tmp_path: Path):
    keys = create_keys(tmp_path / "keys", passphrase=signers.PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    marks = "\n".join(f'{role.value} = "{key.fingerprint.hex()}"' for role, key in keys.items())
    (tmp_path / "bare.toml").write_text(full_policy())
    (tmp_path / "policy.toml").write_text(full_policy(extra=f"\n\n[keys]\n{marks}\n"))
    places = ("--journal", "journal.sqlite", "--keys", "keys")
    bare = onebook("policy", "enrol", "bare.toml", *places, cwd=tmp_path, typed="y\n", passphrase=signers.PASSPHRASE)
    assert (bare.returncode, "[keys] is missing" in bare.stderr) == (2, True)
    arguments = ("policy", "enrol", "policy.toml", *places)
    assert onebook(*arguments, cwd=tmp_path, typed="n\n", passphrase=signers.PASSPHRASE).returncode == 1
    assert onebook(*arguments, "--yes", cwd=tmp_path, passphrase=b"wrong").returncode == 2
    assert not (tmp_path / "journal.sqlite").exists()
    begun = onebook(*arguments, "--yes", cwd=tmp_path, passphrase=signers.PASSPHRASE)
    assert begun.returncode == 0, begun.stderr
    again = onebook(*arguments, "--yes", cwd=tmp_path, passphrase=signers.PASSPHRASE)
    assert (again.returncode, "never begun anew" in again.stderr) == (2, True)
    (tmp_path / "policy.toml").chmod(0o600)
    running = RunningSigner(tmp_path, keys, subprocess.Popen(["true"]))
    running.restart()
    assert running.stop() == 0, "the signer serves it"
