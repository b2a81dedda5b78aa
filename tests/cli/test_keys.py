"""`onebook keys` as people use it: real processes, real files, piped or at a terminal."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from base.entropy import SystemEntropy
from base.files import write_atomically
from custody import keyring, keystore
from custody.ceremony import create_keys
from custody.derivation import Role, checksummed
from custody.keystore import copy_path, key_path, open_key
from custody.passphrases import FAILURES_NAME, Guard
from tests.support import hsm
from tests.support.command import onebook
from tests.support.conversation import Conversation
from tests.support.signer import LIGHT

pytestmark = pytest.mark.slow

WORD = "of the test"
PASSPHRASE = WORD.encode()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    create_keys(folder, passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    return folder


def talk(cwd: Path, *arguments: str | Path, answers: list[str], code: int = 0, terminal: bool = False, **more: str):
    conversation = Conversation(*arguments, cwd=cwd, answers=answers, terminal=terminal, **more)
    assert conversation.code == code, conversation.shown
    return conversation


def fingerprint(folder: Path, role: Role, generation: int = 1) -> str:
    return keystore.read_header(key_path(folder, role, generation)).fingerprint.hex()


def test_a_ceremony_shows_the_words_and_stores_what_they_bring_back(tmp_path: Path):
    made = talk(tmp_path, "ceremony", "--public", "public.json", answers=["yes", WORD, WORD])
    assert len(made.cards) == 3
    assert "Next: the signer's policy must name these fingerprints" in made.shown
    for role, words in zip(Role, made.cards, strict=True):
        drilled = talk(tmp_path, "drill", role.value, "--recorded", "public.json", answers=["yes", " ".join(words)])
        assert "OK: same fingerprint and first addresses as in public.json" in drilled.shown
        assert open_key(tmp_path / "keys", role, passphrase=PASSPHRASE).fingerprint.hex() == fingerprint(
            tmp_path / "keys", role
        )


def test_the_file_of_a_ceremony_has_public_things_only(tmp_path: Path):
    made = talk(tmp_path, "ceremony", "--role", "hot", "--public", "public.json", answers=["yes", WORD, WORD])
    text = (tmp_path / "public.json").read_text()
    document = json.loads(text)
    assert set(document["keys"][0]) == {"role", "generation", "fingerprint", "public", "language", "addresses"}
    assert len(document["keys"][0]["addresses"]) == 5
    opened = open_key(tmp_path / "keys", Role.HOT, passphrase=PASSPHRASE)
    for secret in (opened.secret.hex(), opened.account().private_key(0).hex(), WORD, " ".join(made.cards[0][:2])):
        assert secret not in text


def test_f51_words_shown_at_a_ceremony_restore_the_same_key(tmp_path: Path):
    made = talk(tmp_path, "ceremony", "--role", "deposit", "--public", "public.json", answers=["yes", WORD, WORD])
    mark = fingerprint(tmp_path / "keys", Role.DEPOSIT)
    answers = ["yes", " ".join(made.cards[0]), mark[:16], "another", "another"]
    talk(tmp_path, "import", "deposit", "--keys", "elsewhere", answers=answers)
    before, after = (
        open_key(tmp_path / name, Role.DEPOSIT, passphrase=word).keys()
        for name, word in (("keys", PASSPHRASE), ("elsewhere", b"another"))
    )
    assert [before.address(index) for index in range(5)] == [after.address(index) for index in range(5)]
    assert before.fingerprint == after.fingerprint


def test_f51_share_cards_shown_at_a_ceremony_restore_the_same_key(tmp_path: Path):
    made = talk(
        tmp_path,
        *("ceremony", "--role", "hot", "--shares", "2of3", "--public", "public.json"),
        answers=["yes", WORD, WORD],
    )
    assert len(made.cards) == 3
    assert "not hardened" in made.shown
    assert "share 3 of 3, 2 needed" in made.shown
    answers = ["yes", " ".join(made.cards[2]), " ".join(made.cards[0])]
    drilled = talk(tmp_path, "drill", "hot", "--shares", "--recorded", "public.json", answers=answers)
    assert "OK: same fingerprint and first addresses" in drilled.shown
    mark = fingerprint(tmp_path / "keys", Role.HOT)
    restored = talk(
        tmp_path, "import", "hot", "--shares", "--keys", "elsewhere", answers=[*answers, mark, "another", "another"]
    )
    assert fingerprint(tmp_path / "elsewhere", Role.HOT) == mark
    words = open_key(tmp_path / "elsewhere", Role.HOT, passphrase=b"another")
    assert words.secret == open_key(tmp_path / "keys", Role.HOT, passphrase=PASSPHRASE).secret
    assert "another" not in restored.shown.replace("from another", "")


def test_a_bad_share_is_named_and_can_be_typed_again(tmp_path: Path):
    made = talk(tmp_path, "ceremony", "--role", "hot", "--shares", "2of3", answers=["yes", WORD, WORD])
    first, second, third = (" ".join(card) for card in made.cards)
    swapped = " ".join([*made.cards[1][:-2], *reversed(made.cards[1][-2:])])
    drilled = talk(tmp_path, "drill", "hot", "--shares", answers=["yes", first, swapped, first, second])
    assert "share 2 doesn't pass its checksum" in drilled.shown
    assert "share 2 is share 1 once more" in drilled.shown
    assert "OK: same fingerprint" in drilled.shown
    assert third not in drilled.shown


def test_a_drill_with_another_key_says_what_differs_and_writes_nothing(tmp_path: Path):
    made = talk(
        tmp_path, "ceremony", "--role", "hot", "--role", "gas", "--public", "public.json", answers=["yes", WORD, WORD]
    )
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words = " ".join(made.cards[1])
    drilled = talk(tmp_path, "drill", "hot", "--recorded", "public.json", answers=["yes", words], code=1)
    assert drilled.shown.count("differs: ") == 6, "its fingerprint and five addresses"
    assert talk(tmp_path, "drill", "hot", answers=["yes", words], code=1).shown.count("differs: ") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert words not in drilled.shown


def test_a_drill_compares_with_the_xpubs_of_a_configuration(tmp_path: Path):
    made = talk(tmp_path, "ceremony", "--role", "hot", "--public", "public.json", answers=["yes", WORD, WORD])
    public = json.loads((tmp_path / "public.json").read_text())["keys"][0]["public"]
    (tmp_path / "onebook.toml").write_text(f'[xpubs]\nhot = "{public}"\n')
    answers = ["yes", " ".join(made.cards[0])]
    assert "OK" in talk(tmp_path, "drill", "hot", "--recorded", "onebook.toml", answers=answers).shown
    refused = talk(tmp_path, "drill", "gas", "--recorded", "onebook.toml", answers=answers, code=2)
    assert "records no gas key" in refused.shown


def test_a_drill_of_a_later_generation_compares_with_its_own_xpub(keys: Path):
    made = talk(keys.parent, "rotate", "hot", "--public", "public.json", answers=["yes", WORD])
    public = json.loads((keys.parent / "public.json").read_text())["keys"][0]["public"]
    (keys.parent / "onebook.toml").write_text(f'[xpubs]\nhot = "first"\n"hot.2" = "{public}"\n')
    drilled = ("drill", "hot", "--recorded", "onebook.toml", "--generation")
    answers = ["yes", " ".join(made.cards[0])]
    assert "OK" in talk(keys.parent, *drilled, "2", answers=answers).shown
    refused = talk(keys.parent, *drilled, "3", answers=answers, code=2)
    assert "records no hot key of generation 3" in refused.shown


def test_a_rotation_says_what_is_to_be_done_next(keys: Path):
    shown = talk(keys.parent, "rotate", "gas", answers=["yes", WORD]).shown
    assert f'"gas.2" = "{fingerprint(keys, Role.GAS, 2)}"' in shown
    assert "nothing pays by gas.2 of itself yet" in shown
    assert "new addresses come from" not in shown


def test_a_ceremony_that_is_broken_off_stores_nothing(tmp_path: Path):
    written = onebook("keys", "ceremony", cwd=tmp_path, typed=f"yes\n{WORD}\n{WORD}\n\nno idea\n")
    assert written.returncode == 2
    assert "the input ended" in written.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_ceremony_does_not_begin_where_there_are_keys(keys: Path):
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert "a key file is never written over" in talk(keys.parent, "ceremony", answers=[], code=2).shown
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before


def test_a_ceremony_at_a_terminal_hides_the_passphrase_and_clears_the_screen(tmp_path: Path):
    made = talk(tmp_path, "ceremony", "--role", "gas", answers=["yes", WORD, WORD], terminal=True)
    assert WORD not in made.shown
    assert made.shown.count("\x1b[2J") == 3, "before the card, after it, and after the words that were typed back"
    assert " ".join(made.cards[0][:2]) not in made.shown.rsplit("\x1b[2J", 1)[1]
    assert open_key(tmp_path / "keys", Role.GAS, passphrase=PASSPHRASE)


def test_an_import_of_chinese_words_gives_their_own_wallet(tmp_path: Path):
    words = "犯宝亭术圈斯度鸭允但荒兼"
    made = talk(tmp_path, "import", "hot", "--public", "p.json", answers=["yes", words, "", "yes", WORD, WORD])
    assert words not in made.shown
    entry = json.loads((tmp_path / "p.json").read_text())["keys"][0]
    assert entry["language"] == "chinese_simplified"
    assert "OK" in talk(tmp_path, "drill", "hot", "--recorded", "p.json", answers=["yes", words]).shown


def test_an_import_under_another_fingerprint_is_refused(tmp_path: Path):
    refused = talk(tmp_path, "import", "hot", answers=["yes", "abandon " * 11 + "about", "00" * 8], code=2)
    assert "that isn't the fingerprint of this key" in refused.shown
    assert not (tmp_path / "keys").exists()


def test_an_import_needs_the_passphrase_of_the_keys_that_are_there(keys: Path):
    keyring.destroy(keys, Role.HOT, 1, typed=fingerprint(keys, Role.HOT), entropy=SystemEntropy(), force=True)
    words = "abandon " * 11 + "about"
    refused = talk(keys.parent, "import", "hot", answers=["yes", words, "", "yes", "other", "other"], code=2)
    assert keystore.LOCKED in refused.shown
    assert not key_path(keys, Role.HOT).exists()
    talk(keys.parent, "import", "hot", answers=["yes", words, "", "yes", WORD, WORD])


def test_a_rotation_adds_a_generation_and_keeps_the_one_before(keys: Path):
    before = fingerprint(keys, Role.DEPOSIT)
    talk(keys.parent, "rotate", "deposit", answers=["yes", WORD])
    assert fingerprint(keys, Role.DEPOSIT) == before != fingerprint(keys, Role.DEPOSIT, 2)
    listed = json.loads(talk(keys.parent, "list", "--json", answers=[]).shown)
    assert [(row["role"], row["generation"]) for row in listed] == [
        *(("deposit", 1), ("deposit", 2), ("hot", 1), ("gas", 1))
    ]


def test_the_list_needs_no_passphrase_and_tells_damage_and_wrong_tries(keys: Path):
    key_path(keys, Role.HOT).unlink()
    (keys / FAILURES_NAME).write_text("3\n")
    shown = talk(keys.parent, "list", answers=[]).shown
    assert fingerprint(keys, Role.GAS) in shown
    assert "hot.key is missing or damaged" in shown
    assert "argon2id 0 MiB x 1" in shown
    assert "3 wrong passphrases since the last right one" in shown


def test_the_list_opens_keys_as_the_signer_does_when_asked(keys: Path):
    key_path(keys, Role.HOT).write_bytes(b"damaged")
    shown = talk(keys.parent, "list", "--open", answers=[WORD]).shown
    assert "hot.key is damaged or missing; the copy opened" in shown
    for role in Role:
        assert checksummed(open_key(keys, role, passphrase=PASSPHRASE).keys().address(0)) in shown
    talk(keys.parent, "list", "--open", answers=["wrong"], code=2)
    assert Guard(keys).failures() == 1


def test_f49_a_wrong_passphrase_at_the_command_has_the_constant_text_and_is_counted(keys: Path):
    refused = talk(keys.parent, "rotate", "hot", answers=["yes", "wrong"], code=2)
    assert refused.shown.splitlines()[-1] == f"onebook: {keystore.LOCKED}"
    assert Guard(keys).failures() == 1
    talk(keys.parent, "passphrase", answers=[WORD, "new one", "new one"])
    assert Guard(keys).failures() == 0


def test_a_passphrase_is_changed_through_descriptors(keys: Path):
    read_ends = []
    for word in (PASSPHRASE, b"new one"):
        reading, writing = os.pipe()
        os.write(writing, word)
        os.close(writing)
        read_ends.append(reading)
    command = ["passphrase", "--passphrase-fd", str(read_ends[0]), "--new-passphrase-fd", str(read_ends[1])]
    ended = onebook("keys", *command, cwd=keys.parent, inherited=tuple(read_ends))
    assert ended.returncode == 0, ended.stderr
    assert "3 keys have the new passphrase" in ended.stdout
    assert all(open_key(keys, role, passphrase=b"new one") for role in Role)
    assert not any(key.header is None or key.header.weak for key in keyring.list_keys(keys))


def test_a_passphrase_from_the_environment_comes_with_a_warning(keys: Path):
    shown = talk(keys.parent, "rotate", "hot", answers=["yes"], ONEBOOK_SIGNER_PASSPHRASE=WORD).shown
    assert "warning: the passphrase comes from ONEBOOK_SIGNER_PASSPHRASE" in shown
    assert WORD not in shown


def test_a_key_is_destroyed_after_typing_its_fingerprint(keys: Path):
    talk(keys.parent, "rotate", "hot", answers=["yes", WORD])
    assert talk(keys.parent, "destroy", "hot", answers=["0" * 16], code=2)
    assert key_path(keys, Role.HOT).exists()
    talk(keys.parent, "destroy", "hot", answers=[fingerprint(keys, Role.HOT)[:16]])
    assert not key_path(keys, Role.HOT).exists()
    assert not copy_path(key_path(keys, Role.HOT)).exists()
    assert key_path(keys, Role.HOT, 2).exists()


def test_the_only_key_of_a_role_is_destroyed_only_when_force_is_typed(keys: Path):
    mark = fingerprint(keys, Role.GAS)
    assert "only gas key" in talk(keys.parent, "destroy", "gas", answers=[mark], code=2).shown
    talk(keys.parent, "destroy", "gas", "--force", answers=["yes"], code=2)
    assert key_path(keys, Role.GAS).exists()
    talk(keys.parent, "destroy", "gas", "--force", answers=["force", mark])
    assert not key_path(keys, Role.GAS).exists()


def test_a_ceremony_with_a_token_makes_hot_and_gas_inside_it(tmp_path: Path):
    module = hsm.softhsm()
    configuration = hsm.make_configuration(tmp_path / "softhsm")
    hsm.make_token(configuration, "custody")
    token = ["--pkcs11-module", str(module), "--pkcs11-token", "custody"]
    more: dict[str, Any] = {"SOFTHSM2_CONF": str(configuration)}
    pin = hsm.PIN.decode()
    made = talk(tmp_path, "ceremony", *token, "--public", "p.json", answers=["yes", pin], **more)
    assert len(made.cards) == 1, "the deposit seed alone has words"
    assert sorted(path.name for path in (tmp_path / "keys").glob("*.key*")) == ["deposit.key", "deposit.key.copy"]
    listed = json.loads(
        talk(tmp_path, "list", "--json", *token, ONEBOOK_SIGNER_PASSPHRASE=pin, answers=[], **more).shown.split(
            "\n", 1
        )[1]
    )
    assert [(row["role"], row["cost"]) for row in listed] == [
        *(("deposit", "token key 'onebook wrap'"), ("hot", "in token custody"), ("gas", "in token custody"))
    ]
    public = {entry["role"]: entry for entry in json.loads((tmp_path / "p.json").read_text())["keys"]}
    assert public["hot"]["public"].startswith("secp256k1:")
    assert len(public["hot"]["addresses"]) == 1
    drilled = talk(tmp_path, "drill", "deposit", "--recorded", "p.json", answers=["yes", " ".join(made.cards[0])])
    assert "OK" in drilled.shown
    opened = talk(tmp_path, "list", "--open", "--json", *token, answers=[pin], **more).shown
    shown = {row["role"]: row["address"] for row in json.loads(opened[opened.index("[") :])}
    assert shown == {role: entry["addresses"][0] for role, entry in public.items()}
    rotated = [talk(tmp_path, "rotate", role, *token, answers=["yes", pin], **more) for role in ("hot", "deposit")]
    assert [len(each.cards) for each in rotated] == [0, 1]
    assert "hot generation 2" in rotated[0].shown
    assert key_path(tmp_path / "keys", Role.DEPOSIT, 2).exists()
    answers = [public["hot"]["fingerprint"], pin]
    assert "from the token" in talk(tmp_path, "destroy", "hot", *token, answers=answers, **more).shown
    again = talk(tmp_path, "ceremony", "--role", "hot", *token, answers=["yes", pin], code=2, **more)
    assert "the token has keys already" in again.shown


def test_a_file_that_is_no_record_is_refused(tmp_path: Path):
    for name, content in (("p.json", b"{"), ("q.json", b"[]"), ("r.json", b'{"keys": []}'), ("s.toml", b"a = ")):
        write_atomically(tmp_path / name, content)
        assert "records no hot key" in talk(tmp_path, "drill", "hot", "--recorded", name, answers=[], code=2).shown
    assert "can't be read" in talk(tmp_path, "drill", "hot", "--recorded", "none.json", answers=[], code=2).shown
