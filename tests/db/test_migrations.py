import importlib
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from db.engine import create_engine, tx
from db.errors import AccessRefused, AppendOnly, UniqueBroken
from db.migrate import current, head, migrate, pending
from db.server import OWNER, at_database, create_database, drop_database
from db.tables import metadata
from treasury.operations.proposal_store import load_proposal

PACKAGES = ("ledger", "tariff", "identity", "chain", "fiat", "wallet", "treasury", "exchange")
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def empty_url(postgres):
    await create_database(postgres.admin_url, "empty")
    yield at_database(postgres.owner_url, "empty")
    await drop_database(postgres.admin_url, "empty")


@pytest.mark.slow
async def test_an_empty_database_is_upgraded_to_head(empty_url):
    lines: list[str] = []
    assert await current(empty_url) is None
    steps = await pending(empty_url)
    await migrate(empty_url, report=lines.append)
    assert await current(empty_url) == head() == steps[-1]
    assert await pending(empty_url) == []
    assert lines == [f"migration {step} ({n} of {len(steps)})" for n, step in enumerate(steps, 1)]


@pytest.mark.slow
async def test_migrating_again_changes_nothing(empty_url):
    await migrate(empty_url)
    lines: list[str] = []
    await migrate(empty_url, report=lines.append)
    assert lines == []


@pytest.mark.slow
async def test_a_start_cut_short_after_its_migrations_has_its_tables_analysed_by_the_next(empty_url):
    await migrate(empty_url)
    engine = create_engine(empty_url)
    unknown = text("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples = -1")
    known = text("SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'chain_networks'")
    try:
        async with tx(engine) as connection:
            assert (await connection.scalars(unknown)).all() == []
            before = await connection.scalar(known)
            await connection.execute(text("CREATE TABLE never_looked_at ()"))  # as one that a migration has just made
        await migrate(empty_url)
        async with tx(engine) as connection:
            assert (await connection.scalars(unknown)).all() == []
            assert await connection.scalar(known) == before == 1
    finally:
        await engine.dispose()


@pytest.mark.slow
async def test_keys_from_before_generations_are_the_first(empty_url):
    """A book whose addresses, pool and payments say nothing of generations."""
    engine = create_engine(empty_url)
    addresses, now = "'evm', 'deposit', 7", "'2026-01-01T00:00:00Z'"
    before = (
        "INSERT INTO chain_addresses (family, role, key_index, address, book, owner, issued_at)"
        f" VALUES ({addresses}, '0x01', 'main', 'usr_a', {now}), ('evm', 'hot', 0, '0x02', NULL, NULL, {now})",
        "INSERT INTO chain_address_counters (family, role, next_index) VALUES ('evm', 'deposit', 9)",
        f"INSERT INTO chain_address_pool (family, role, key_index, address, derived_at)"
        f" VALUES ('evm', 'deposit', 8, '0x03', {now})",
        "INSERT INTO chain_address_findings (family, role, key_index, found, first_seen_at, last_seen_at)"
        f" VALUES ({addresses}, '0x01', {now}, {now})",
        "INSERT INTO chain_networks VALUES ('local', 1, '0x00', 0, NULL, 0, -1, true, NULL, 1, NULL," + f" {now})",
        *(
            "INSERT INTO chain_transactions (id, network, kind, book, subject, state, sender_role, sender_index,"
            " sender, nonce, recipient, recipient_role, recipient_index, amount, gas_limit, fee_wei_max, created_at,"
            " updated_at)"
            f" VALUES ('{id}', 'local', 'gas_topup', 'main', '{id}', 'reserved', 'gas', 0, '0x04', {nonce}, '0x01',"
            f" {to}, 1, 1, 1, {now}, {now})"
            for id, nonce, to in (("own", 0, "'deposit', 7"), ("stranger", 1, "NULL, NULL"))
        ),
    )
    try:
        async with tx(engine) as connection:
            await connection.run_sync(_upgrade_to, "0010_approvals")
            for statement in before:
                await connection.execute(text(statement))
        await migrate(empty_url)
        async with tx(engine) as connection:
            for table in ("addresses", "address_counters", "address_pool", "address_findings"):
                assert set(await connection.scalars(text(f"SELECT generation FROM chain_{table}"))) == {1}
            asked = "SELECT sender_generation, recipient_generation FROM chain_transactions ORDER BY nonce"
            assert [tuple(row) for row in await connection.execute(text(asked))] == [(1, 1), (1, None)]
            second = before[0].replace("key_index", "generation, key_index").replace("'deposit', 7", "'deposit', 2, 7")
            second = second.partition(", ('evm', 'hot'")[0].replace("0x01", "0x05")
            await connection.execute(text(second))  # the same index of another generation is another address
        with pytest.raises(UniqueBroken):
            async with tx(engine) as connection:
                await connection.execute(text(second.replace("0x05", "0x06")))
    finally:
        await engine.dispose()


@pytest.mark.slow
async def test_top_ups_that_were_ordered_long_ago_forget_the_providers_tokens(empty_url):
    engine, now = create_engine(empty_url), "'2026-01-01T00:00:00Z'"
    waiting = ("requested", "submitted", "unknown")
    answered = ("requires_action", "approved", "processing", "authorised", "final", "failed", "cancelled")
    try:
        async with tx(engine) as connection:
            await connection.run_sync(_upgrade_to, "0028_sealed_rails")
            for state in (*waiting, *answered):
                captured = 1 if state == "final" else 0
                await connection.execute(
                    text(
                        "INSERT INTO fiat_top_ups (book, id, owner, rail, asset, amount, state, captured, method,"
                        " customer, created_at, updated_at) VALUES ('main', :state, 'usr_a', 'stripe', 'EUR', 1,"
                        f" :state, :captured, 'pm_1', 'cus_1', {now}, {now})"
                    ),
                    {"state": state, "captured": captured},
                )
        await migrate(empty_url)
        async with tx(engine) as connection:
            rows = await connection.execute(text("SELECT id, method, customer FROM fiat_top_ups"))
            kept = {id: (method, customer) for id, method, customer in rows}
        assert kept == dict.fromkeys(waiting, ("pm_1", "cus_1")) | dict.fromkeys(answered, (None, None))
    finally:
        await engine.dispose()


@pytest.mark.slow
async def test_adjustments_that_were_proposed_before_keep_their_terms_and_what_they_became(empty_url):
    engine, now = create_engine(empty_url), "'2026-01-01T00:00:00Z'"
    rows = (
        f"('prp_1', 'open', '{2**70}', NULL, {now}, {now}, NULL, NULL, NULL)",
        f"('prp_2', 'confirmed', '5', 'inf_1', {now}, {now}, 'key_b', {now}, 'adj_1')",
    )
    try:
        async with tx(engine) as connection:
            await connection.run_sync(_upgrade_to, "0041_solvency")
            await connection.execute(
                text(
                    "INSERT INTO treasury_proposals (book, source, target, asset, reason, maker, id, state, amount,"
                    " evidence, created_at, expires_at, closed_by, closed_at, adjustment)"
                    " SELECT 'main', 'house/suspense/ETH', 'house/capital/ETH', 'ETH', 'ours', 'key_a', id, state,"
                    " amount::numeric, evidence, made_at::timestamptz, ends_at::timestamptz, by, at::timestamptz,"
                    " became"
                    f" FROM (VALUES {', '.join(rows)})"
                    " AS told (id, state, amount, evidence, made_at, ends_at, by, at, became)"
                )
            )
        await migrate(empty_url)
        async with tx(engine) as connection:
            kept = [await load_proposal(connection, "main", id) for id in ("prp_1", "prp_2")]
        first, second = [one for one in kept if one is not None]
        assert (first.kind, first.state, first.made, second.made) == ("adjustment", "open", None, "adj_1")
        assert first.terms == {
            "source": "house/suspense/ETH",
            "target": "house/capital/ETH",
            "asset": "ETH",
            "amount": str(2**70),
            "evidence": None,
        }
        assert (second.terms["evidence"], second.maker, second.closed_by) == ("inf_1", "key_a", "key_b")
    finally:
        await engine.dispose()


@pytest.mark.slow
async def test_the_migrated_schema_is_what_the_tables_declare(database):
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("tables.py")):  # fiat.rails has its own
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    async with tx(database.engine(owner=True)) as connection:
        asked = text("SELECT relname FROM pg_class WHERE relispartition")
        unlisted = {"alembic_version", *await connection.scalars(asked)}
        of_tests = {name for name, table in metadata.tables.items() if table.info.get("of") == "tests"}
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(
                    sync,
                    opts={
                        "compare_type": True,
                        "compare_server_default": False,
                        "include_object": lambda thing, name, *_: name not in unlisted | of_tests,
                    },
                ),
                metadata,
            )
        )
    assert differences == []


@pytest.mark.slow
async def test_the_tables_are_analysed_after_migrating(empty_url, postgres):
    await migrate(empty_url)
    engine = create_engine(at_database(postgres.admin_url, "empty"))
    async with tx(engine) as connection:
        asked = "SELECT reltuples FROM pg_class WHERE relname = 'alembic_version'"
        assert await connection.scalar(text(asked)) == 1
    await engine.dispose()


@pytest.mark.slow
async def test_a_single_role_database_migrates_without_the_service_role(postgres):
    await create_database(postgres.admin_url, "single")
    try:
        admin = create_engine(at_database(postgres.admin_url, "postgres"))
        async with tx(admin) as connection:
            await connection.execute(text("ALTER ROLE onebook_app RENAME TO somebody_else"))
        try:
            await migrate(at_database(postgres.owner_url, "single"))
            assert await pending(at_database(postgres.owner_url, "single")) == []
        finally:
            async with tx(admin) as connection:
                await connection.execute(text("ALTER ROLE somebody_else RENAME TO onebook_app"))
            await admin.dispose()
    finally:
        await drop_database(postgres.admin_url, "single")


@pytest.mark.slow
async def test_the_service_role_owns_nothing_and_creates_nothing(database):
    with pytest.raises(AccessRefused):
        async with tx(database.engine()) as connection:
            await connection.execute(text("CREATE TABLE mine (id int)"))
    async with tx(database.engine()) as connection:
        owners = await connection.scalars(text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"))
        assert set(owners) == {OWNER}


@pytest.mark.slow
@pytest.mark.parametrize("change", ["UPDATE kept SET id = 2", "DELETE FROM kept", "TRUNCATE kept"])
async def test_append_only_rows_are_never_changed(database, change):
    engine = database.engine(owner=True)
    async with tx(engine) as connection:
        await connection.execute(text("CREATE TABLE kept (id int)"))
        await connection.execute(text("INSERT INTO kept VALUES (1)"))
        await connection.run_sync(_append_only, "kept")
    with pytest.raises(AppendOnly):
        async with tx(engine) as connection:
            await connection.execute(text(change))


@pytest.mark.slow
@pytest.mark.parametrize("change", ["UPDATE kept SET id = 2", "DELETE FROM kept_1", "TRUNCATE kept_1", "TRUNCATE kept"])
async def test_append_only_reaches_every_partition(database, change):
    engine = database.engine(owner=True)
    async with tx(engine) as connection:
        await connection.execute(text("CREATE TABLE kept (id int) PARTITION BY LIST (id)"))
        await connection.execute(text("CREATE TABLE kept_1 PARTITION OF kept DEFAULT"))
        await connection.execute(text("INSERT INTO kept VALUES (1)"))
        await connection.run_sync(_append_only, "kept")
        await connection.run_sync(_append_only, "kept_1")
    with pytest.raises(AppendOnly):
        async with tx(engine) as connection:
            await connection.execute(text(change))


def _upgrade_to(connection, revision):
    config = Config()
    config.set_main_option("script_location", str(ROOT / "db" / "migrations"))
    config.attributes.update(connection=connection, applied=lambda **_: None)
    command.upgrade(config, revision)


def _append_only(connection, table):
    from alembic.operations import Operations

    from db.migrations.ops import append_only

    with Operations.context(MigrationContext.configure(connection)):
        append_only(table)
