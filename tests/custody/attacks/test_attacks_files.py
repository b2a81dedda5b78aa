"""Who can write the signer's files: policies swapped, journals put back, cut, deleted, or another signer's."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.entropy import SystemEntropy
from base.errors import ConfigError
from custody.approvals import approval_statement, policy_statement, sign_statement
from custody.ceremony import create_keys, keys_of
from custody.clocks import SystemClocks
from custody.derivation import Role
from custody.enrolment import accept_successor, enrol, enrolment_of
from custody.errors import JournalTampered, PolicyNotAccepted
from custody.journal import Journal
from custody.policy_file import parse
from custody.policy_signatures import PolicySignatures, encode_signatures, read_signatures, signatures_path
from custody.rolekeys import RoleKeys
from custody.service import SignerService
from custody.stores import FileStore
from tests.custody.attacks.stage import ACCOUNTS, Line, Scene, question
from tests.custody.samples import CHAIN, PEOPLE, full_policy, mandate, token_transfer
from tests.support.forked import PIPE, Forked
from tests.support.signer import LIGHT, PASSPHRASE, PROJECT, RunningSigner

pytestmark = pytest.mark.slow

THIEVES = {name: Ed25519PrivateKey.from_private_bytes(name.encode().rjust(32, b"\0")) for name in PEOPLE}
RICHER = ('"1000"', '"100000"')
"""What a thief changes in a policy."""


@dataclass
class Files:
    """A signer's files, and a signer of our own process on them."""

    folder: Path
    keys: dict[str, RoleKeys]
    text: str

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite"

    @contextmanager
    def scene(self) -> Iterator[Scene]:
        with closing(Journal.open(self.journal, SystemClocks())) as journal:
            store = FileStore(self.folder / "keys", PASSPHRASE)
            held = {name: store.find(Role(name), keys.fingerprint) for name, keys in self.keys.items()}
            signed = read_signatures(self.folder / "policy.toml")
            yield Scene(CHAIN, self.journal, SignerService(held, parse(self.text), journal, signatures=signed).answer)

    def copy(self, to: Path) -> "Files":
        shutil.copytree(self.folder, to)
        return replace(self, folder=to)

    def start(self) -> RunningSigner:
        """The real process on these files."""
        running = RunningSigner(self.folder, {}, subprocess.Popen(["true"]))
        running.restart()
        return running


def write_text(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def begun(folder: Path) -> Files:
    """New keys, and a journal with the first policy."""
    folder.mkdir(mode=0o700)
    keys = create_keys(folder / "keys", passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    made = Files(folder, keys_of(keys), full_policy())
    write_text(folder / "policy.toml", made.text)
    enrol(made.journal, made.keys, parse(made.text), clocks=SystemClocks())
    return made


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Files of a signer whose accepted policy is version 2, and which has paid once."""
    made = begun(tmp_path / "files")
    made.text = full_policy(version=2)
    write_policy(made.folder, made.text, "ada", "ben")
    with made.scene() as scene:
        scene.honest(token_transfer(amount=700))
    return made


def write_policy(
    folder: Path,
    text: str,
    *names: str,
    over: bytes | None = None,
    keys: Mapping[str, Ed25519PrivateKey] = PEOPLE,
) -> None:
    """A policy and the signatures of these people under it, or under something else."""
    path, policy = folder / "policy.toml", parse(text)
    write_text(path, text)
    statement = over or policy_statement(policy.fingerprint, policy.version)
    signed = tuple(sign_statement(name, keys[name], statement) for name in names)
    write_text(signatures_path(path), encode_signatures(PolicySignatures(policy.version, policy.fingerprint, signed)))


def thieves(version: int) -> str:
    """A policy whose people are thieves under the old names."""
    text = full_policy(version=version).replace(*RICHER)
    for name, key in PEOPLE.items():
        text = text.replace(
            key.public_key().public_bytes_raw().hex(), THIEVES[name].public_key().public_bytes_raw().hex()
        )
    return text


def ended(folder: Path) -> str:
    """What a signer says that can't start on these files; "" when it started (and is stopped again)."""
    places = {"socket": "run/signer.sock", "keys": "keys", "policy": "policy.toml", "journal": "journal.sqlite"}
    options = [word for name, place in places.items() for word in (f"--{name}", str(folder / place))]
    with Forked(
        "custody.signer:_run",
        ["signer", *options],
        cwd=PROJECT,
        env={"ONEBOOK_SIGNER_PASSPHRASE": PASSPHRASE.decode(), "PATH": "/usr/bin"},
        stdout=PIPE,
        stderr=PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        if child.stdout.readline():
            child.terminate()
        _, told = child.communicate(timeout=30)
    return told.splitlines()[-1] if child.returncode else ""


Swap = Callable[[Path], None]
STEPS: dict[str, tuple[str, Swap]] = {
    "an older version": ("isn't the one accepted last", lambda f: write_policy(f, full_policy(), "ada", "ben")),
    "the same version, with other limits": (
        "isn't the one accepted last",
        lambda f: write_policy(f, full_policy(version=2).replace(*RICHER), "ada", "ben"),
    ),
    "a successor without signatures": (
        "needs 2 signatures",
        lambda f: write_policy(f, full_policy(version=3).replace(*RICHER)),
    ),
    "signed by too few": ("it has 1", lambda f: write_policy(f, full_policy(version=3).replace(*RICHER), "ada")),
    "signed twice by one": ("signed twice", lambda f: write_policy(f, full_policy(version=3), "ada", "ada")),
    "signed by its own new people only": (
        "isn't over what is asked",
        lambda f: write_policy(f, thieves(3), "ada", "ben", keys=THIEVES),
    ),
    "signatures of another policy": (
        "isn't over what is asked",
        lambda f: write_policy(
            f,
            full_policy(version=3).replace(*RICHER),
            "ada",
            "ben",
            over=policy_statement(parse(full_policy(version=3)).fingerprint, 3),
        ),
    ),
    "signatures under an approval": (
        "isn't over what is asked",
        lambda f: write_policy(
            f,
            full_policy(version=3),
            "ada",
            "ben",
            over=approval_statement(token_transfer(), mandate(token_transfer())),
        ),
    ),
    "a version left out": ("has version 3, not 4", lambda f: write_policy(f, full_policy(version=4), "ada", "ben")),
}


IN_PROCESS = (
    "signed twice by one",
    "signatures of another policy",
    "signatures under an approval",
    "a version left out",
)
"""A start takes a second or two: these are asked of what the signer asks at its start."""


@pytest.mark.parametrize("swapped", STEPS)
def test_f79_a_policy_put_there_by_a_thief_is_refused(swapped: str, files: Files):
    told, change = STEPS[swapped]
    change(files.folder)
    assert told in (refused_in_process(files) if swapped in IN_PROCESS else ended(files.folder))


def refused_in_process(files: Files) -> str:
    """Why the policy beside a journal isn't accepted; "" when it is."""
    path = files.folder / "policy.toml"
    with closing(Journal.open(files.journal, SystemClocks())) as journal:
        try:
            accept_successor(parse(path.read_text()), journal, read_signatures(path))
        except PolicyNotAccepted as problem:
            return problem.message
    return ""


def test_f79_only_comments_changed_or_signed_by_enough_it_starts(files: Files):
    """The accepted twins; after the second, the policy of before is an older one."""
    write_text(files.folder / "policy.toml", "# only a comment\n" + full_policy(version=2))
    signatures_path(files.folder / "policy.toml").unlink()
    assert ended(files.folder) == ""
    write_policy(files.folder, full_policy(version=3).replace(*RICHER), "ben", "cleo")
    assert ended(files.folder) == ""
    write_policy(files.folder, full_policy(version=2), "ada", "ben")
    assert "isn't the one accepted last" in refused_in_process(files)


def test_f79_the_journal_is_the_memory_of_policies(files: Files):
    """Begun anew by a thief of files, it isn't served; the control, by who holds the keys: only clients notice that."""
    write_policy(files.folder, thieves(1))
    files.journal.unlink()
    marks = {name: keys.fingerprint for name, keys in files.keys.items()}
    seal = {"by": "deposit", "seal": bytes(64) + b"\x1b"}
    Journal.create(files.journal, enrolment_of(marks, parse(thieves(1))), proof=seal, clocks=SystemClocks())
    assert "somebody else began or changed this journal" in ended(files.folder)
    files.journal.unlink()
    enrol(files.journal, files.keys, parse(thieves(1)), clocks=SystemClocks())
    running = files.start()
    with closing(Line(running)) as line:
        scene = Scene(CHAIN, running.journal, line.answer)
        scene.honest(scene.make(token_transfer, amount=1400))
        scene.theft("journal_behind", scene.make(token_transfer, amount=1), highest=[1000, bytes(32)])
        scene.theft("journal_halted", scene.make(token_transfer, amount=1))
    running.stop()


# --- the journal -----------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def forget_rows(path: Path) -> None:
    """The payment taken out, with the triggers that forbid it."""
    _alter(path, "DELETE FROM rows WHERE kind = 'intent'")


def forget_subjects(path: Path) -> None:
    _alter(path, "DELETE FROM subjects")


def change_nonces(path: Path) -> None:
    _alter(path, "UPDATE rows SET nonce = 7 WHERE kind = 'intent'")


def _alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for trigger in ("rows_stay", "rows_remain", "subjects_stay", "subjects_remain"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)


def another_signers(path: Path) -> None:
    path.unlink()
    enrol(path, ACCOUNTS, parse(full_policy(version=2)), clocks=SystemClocks())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut, "journal"),
        (delete, "is missing"),
        (empty, "isn't a journal"),
        (forget_rows, "isn't what was written"),
        (forget_subjects, "the index of subjects"),
        (change_nonces, "isn't what was written"),
        (another_signers, "has the fingerprint"),
    ],
)
def test_f47_a_journal_that_isnt_whole_or_isnt_its_own_starts_nothing(spoil: Swap, told: str, files: Files):
    spoil(files.journal)
    if spoil in (forget_rows, another_signers):
        assert told in ended(files.folder)
    else:
        with pytest.raises((ConfigError, JournalTampered), match=told):
            Journal.open(files.journal, SystemClocks())


@pytest.mark.parametrize("goes_on", [False, True], ids=["behind", "driven past what was seen"])
def test_f47_after_one_honest_request_a_journal_put_back_serves_nobody(tmp_path: Path, goes_on: bool):
    """The control is the thief before that: who says nothing of what was seen gets a nonce signed twice."""
    files = begun(tmp_path / "files")
    with files.scene() as scene:
        scene.honest(scene.make(token_transfer, amount=1))
    yesterdays = files.copy(tmp_path / "yesterday")
    with files.scene() as scene:
        true = scene.make(token_transfer, subject="wdr_true", amount=1000)
        told = scene.ask(question(true))
        assert told is not None
    signer = yesterdays.start()
    with closing(Line(signer)) as line:
        scene = Scene(CHAIN, signer.journal, line.answer)
        stolen = scene.make(token_transfer, subject="wdr_stolen", amount=400)
        assert stolen.nonce == true.nonce
        scene.honest(stolen)  # the control
        seen = [told["sequence"] + (0 if goes_on else 3), told["head"]]
        honest = scene.make(token_transfer, subject="wdr_honest", amount=1)
        scene.theft("journal_differs" if goes_on else "journal_behind", honest, highest=seen)
        scene.theft("journal_halted", honest)
        signer.restart()
        scene.theft("journal_halted", honest)
        scene.theft("journal_halted", stolen)
    signer.stop()
