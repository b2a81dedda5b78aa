"""Personal data at rest: sealed, bound to its row, re-sealed by a new key, and nowhere else."""

import logging

import pytest
from sqlalchemy import text

from base.errors import BrokenInvariant, ConfigError
from db.engine import tx
from fiat.errors import PersonalKeyMissing, StatementRefused
from fiat.personal import KEY_NAME, add_key, drop_keys_but, load_vault, make_key_file
from fiat.sealing import Sealing
from ledger.errors import RefusedByBook, RequestConflict
from tests.fiat.statements import Entry, camt053
from tests.fiat.test_payouts import ADA, THEIRS, ask, fund, key
from tests.support.bank import OUR_IBAN

SECRETS = ("Zacharias Payer", "FR1420041010050500013M02606", "for the dentist", "E2E-OF-PAYER", THEIRS, "Ada Müller")
PLACE = {"book": "main", "table": "t", "row": "r"}


def test_what_is_sealed_opens_only_in_its_own_row(vault):
    sealed = vault.seal({"name": "Zoë", "empty": ""}, **PLACE)
    assert "Zoë".encode() not in sealed
    assert vault.open(sealed, **PLACE) == {"name": "Zoë"}
    assert vault.seal({"name": "Zoë"}, **PLACE) != sealed
    for name in PLACE:
        with pytest.raises(BrokenInvariant):
            vault.open(sealed, **PLACE | {name: "other"})
    for place in range(1, len(sealed)):
        altered = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises((BrokenInvariant, PersonalKeyMissing)):
            vault.open(altered, **PLACE)


def test_equal_values_are_found_by_a_keyed_hash(vault, tmp_path):
    make_key_file(tmp_path / "other")
    assert vault.mark(THEIRS) == vault.mark(THEIRS) != vault.mark(OUR_IBAN)
    assert load_vault(tmp_path / "other").mark(THEIRS) != vault.mark(THEIRS)


def test_a_missing_a_foreign_and_a_broken_key_file_say_so(vault, tmp_path):
    with pytest.raises(PersonalKeyMissing, match=r"no-such\.key"):
        load_vault(tmp_path / "no-such.key")
    make_key_file(tmp_path / "foreign.key")
    with pytest.raises(PersonalKeyMissing):
        load_vault(tmp_path / "foreign.key").open(vault.seal({"a": "b"}, **PLACE), **PLACE)
    with pytest.raises(ConfigError):
        make_key_file(tmp_path / KEY_NAME)
    good = (tmp_path / KEY_NAME).read_text()
    assert (tmp_path / KEY_NAME).stat().st_mode & 0o777 == 0o600
    for bad in ("", "xx yy\n", good[:-2] + "\n", "00000000" + good[8:]):
        (tmp_path / "bad.key").write_text(bad)
        with pytest.raises(ConfigError) as stop:
            load_vault(tmp_path / "bad.key")
        assert not bad or bad.strip() not in str(stop.value)


async def everything(database):
    """Every text of every table, and every bytes as they are."""
    found = []
    async with tx(database.engine(admin=True)) as connection:
        names = await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for name in names.scalars():
            rows = await connection.execute(text(f'SELECT t::text FROM "{name}" AS t'))
            found += [(name, row) for row in rows.scalars()]
    return found


def entry(reference=""):
    return Entry(
        100, f"for the dentist {reference}", payer="Zacharias Payer", end_to_end_id="E2E-OF-PAYER", bank_reference="Z-1"
    )


@pytest.mark.slow
async def test_names_and_accounts_stand_in_no_text_of_the_database(rail, desk, steps, database, caplog):
    caplog.set_level(logging.DEBUG)
    await fund(rail, 100_00)
    await rail.import_statement(camt053(entry(), entry(await rail.reference_for(ADA))), filename="a.xml")
    await ask(desk, 10_00)
    await steps.step()
    hidden = [secret.encode().hex() for secret in SECRETS]
    for name, row in await everything(database):
        assert not [secret for secret in SECRETS if secret in row], name
        assert not [secret for secret in hidden if secret in row], name
    assert not [secret for secret in SECRETS if secret in caplog.text]
    lines = await rail.lines()
    assert {"Zacharias Payer"} <= {line.counterparty for line in lines}
    assert not [secret for secret in SECRETS for line in lines if secret in repr(line)]


BROKEN = [
    (b"Zacharias Payer", b"Zacharias Payer" * 20),
    (b"E2E-OF-PAYER", b"E2E-OF-PAYER" * 5),
    (b"FR1420041010050500013M02606", b"FR1420041010050500013M02606!"),
    (b"for the dentist", b"for the dentist &zacharias;"),
    (b"<Nm>Zacharias Payer</Nm>", b"<Nm>Zacharias Payer"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("was", "becomes"), BROKEN)
async def test_a_refusal_repeats_nothing_personal(rail, was, becomes, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StatementRefused) as stop:
        await rail.import_statement(camt053(entry()).replace(was, becomes), filename="a.xml")
    said = f"{stop.value} {stop.value.facts} {caplog.text}"
    assert not [word for word in ("Zacharias", "FR142004", "dentist", "E2E-OF-PAYER") if word in said]


@pytest.mark.slow
async def test_a_request_repeated_after_a_rotation_is_the_same_payout(rail, desk, tmp_path):
    await fund(rail, 100_00)
    payout = await ask(desk, 10_00)
    with pytest.raises(RefusedByBook):
        await ask(desk, 1_000_00, "too much")
    for _ in range(2):
        add_key(tmp_path / KEY_NAME)
    desk._vault = load_vault(tmp_path / KEY_NAME)
    again = await ask(desk, 10_00)
    assert (again.id, again.replayed) == (payout.id, True)
    with pytest.raises(RefusedByBook):
        await ask(desk, 1_000_00, "too much")
    with pytest.raises(RequestConflict):
        await desk.request(
            key=key("one", {"other": 1}), owner=ADA, asset="EUR", amount=10_00, name="Ada Payer", iban=THEIRS
        )


@pytest.mark.slow
async def test_keys_rotate_and_old_ones_can_go(rail, desk, database, ledger, tmp_path, vault):
    path = tmp_path / KEY_NAME
    await fund(rail, 100_00)
    payout = await ask(desk, 10_00)
    newest = add_key(path)
    rotated = load_vault(path)
    assert rotated.newest == newest != vault.newest
    sealing = Sealing(database.engine(), rotated, book=ledger.book)
    assert await sealing.seal_all() == 2
    assert await sealing.seal_all() == 0
    assert drop_keys_but(path, newest) == 1
    rail._vault = desk._vault = load_vault(path)
    assert (await desk.get(ADA, payout.id)).recipient.iban == THEIRS
    assert (await rail.lines())[0].counterparty == "Ada Payer"
    desk._vault = vault
    with pytest.raises(PersonalKeyMissing):
        await desk.get(ADA, payout.id)


@pytest.mark.slow
async def test_what_an_older_version_kept_in_clear_is_sealed(rail, database, ledger, vault):
    await rail.import_statement(camt053(entry()), filename="a.xml")
    columns = "end_to_end_id = 'E2E-OF-PAYER', remittance = 'for the dentist', counterparty = 'Zacharias Payer'"
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(
            text(f"UPDATE fiat_bank_lines SET {columns}, counterparty_account = 'FR14', personal = NULL")
        )
    before = await rail.lines()
    assert before[0].counterparty == "Zacharias Payer"
    assert await Sealing(database.engine(), vault, book=ledger.book).seal_in_clear() == 1
    assert await rail.lines() == before
    assert not [row for _, row in await everything(database) if "Zacharias" in row]
