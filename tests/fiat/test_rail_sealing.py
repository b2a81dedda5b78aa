"""What is personal or secret of saved methods and webhooks is sealed, opens for its own row, and goes in time."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from base.errors import NotFound
from db.engine import tx
from fiat.errors import PersonalKeyMissing
from fiat.personal import KEY_NAME, NoVault, add_key, drop_keys_but, load_vault
from fiat.rails.records import WebhookState
from fiat.sealing import Sealing
from tests.fiat.rail_world import ADA, World, make_world


async def column(database, table: str, name: str) -> list[Any]:
    async with tx(database.engine(admin=True)) as connection:
        return list((await connection.execute(text(f"SELECT {name} FROM {table}"))).scalars())


async def save(world: World, name: str = "m"):
    return await world.rails.methods.save(key=world.key(name), owner=ADA, rail="sandbox", token="tok_visa")


async def test_a_saved_methods_token_and_digits_are_sealed_and_still_shown_to_its_owner(world: World, database):
    saved = await save(world)
    assert (saved.brand, saved.last4, await world.rails.methods.list_for(ADA)) == ("visa", "4242", [saved])
    (row,) = await column(database, "fiat_payment_methods", "fiat_payment_methods::text")
    assert not [secret for secret in (saved.token, saved.customer or saved.token, "4242") if secret in str(row)]
    (sealed,) = await column(database, "fiat_payment_methods", "personal")
    assert saved.token.encode() not in bytes(sealed)
    assert (await world.top_up(method=saved.id)).state == "final"


async def test_without_a_key_no_method_is_saved_and_the_provider_isnt_asked(database, ledger, clock, entropy):
    world = make_world(database.engine(), ledger, clock, entropy, NoVault("there is no key"))
    with pytest.raises(PersonalKeyMissing):
        await save(world)
    async with world.record.session() as session:
        assert await session.all("method") == []
    await world.rails.inbox.aclose()


async def test_a_webhooks_body_is_sealed_readable_for_thirty_days_and_then_dropped(world: World, database, clock):
    await world.top_up(method="tok_disputed")
    await world.deliver()
    webhooks = await world.rails.inbox.list_all(state=WebhookState.DONE)
    bodies = {world.sandbox.sign(event.body).body for event in world.sent}
    assert {await world.rails.inbox.body(webhook.id) for webhook in webhooks} == bodies
    assert not [one for one in await column(database, "fiat_webhooks", "body_sealed") if bytes(one) in bodies]
    clock.advance(timedelta(days=30))
    assert await world.rails.inbox.drop_bodies() == 0
    clock.advance(timedelta(seconds=1))
    assert await world.rails.inbox.drop_bodies() == len(webhooks) > 0
    assert {await world.rails.inbox.body(webhook.id) for webhook in webhooks} == {None}
    assert await world.rails.inbox.drop_bodies() == 0
    assert await world.rails.inbox.get(webhooks[0].id) == webhooks[0]
    with pytest.raises(NotFound):
        await world.rails.inbox.body("whk_nowhere")


async def test_without_a_key_a_webhook_is_taken_in_and_its_body_not_kept(database, ledger, clock, entropy):
    world = make_world(database.engine(), ledger, clock, entropy)
    await world.top_up(method="tok_disputed")
    await world.deliver()
    webhooks = await world.rails.inbox.list_all()
    assert {await world.rails.inbox.body(webhook.id) for webhook in webhooks} == {None}
    await world.rails.inbox.aclose()


async def test_keys_of_rails_rotate_and_the_old_one_can_go(world: World, database, ledger, clock, entropy, tmp_path):
    saved = await save(world)
    await world.top_up(method="tok_disputed")
    await world.deliver()
    (kept, *more) = await world.rails.inbox.list_all()
    body = await world.rails.inbox.body(kept.id)
    newest = add_key(tmp_path / KEY_NAME)
    sealing = Sealing(database.engine(), load_vault(tmp_path / KEY_NAME), book=ledger.book)
    assert await sealing.seal_all() == 2 + len(more)
    assert await sealing.seal_all() == 0
    assert drop_keys_but(tmp_path / KEY_NAME, newest) == 1
    other = make_world(database.engine(), ledger, clock, entropy, load_vault(tmp_path / KEY_NAME))
    assert await other.rails.methods.list_for(ADA) == [saved]
    assert await other.rails.inbox.body(kept.id) == body
    await other.rails.inbox.aclose()
    with pytest.raises(PersonalKeyMissing):
        await world.rails.methods.list_for(ADA)


async def test_methods_that_an_older_version_kept_in_clear_are_sealed(world: World, database, ledger, vault):
    saved = await save(world)
    async with tx(database.engine(admin=True)) as connection:
        in_clear = "personal = NULL, token = :token, customer = :customer, last4 = '4242'"
        clear = text(f"UPDATE fiat_payment_methods SET {in_clear}")
        await connection.execute(clear, {"token": saved.token, "customer": saved.customer})
    assert await world.rails.methods.list_for(ADA) == [saved]
    sealing = Sealing(database.engine(), vault, book=ledger.book)
    assert (await sealing.seal_in_clear(), await sealing.seal_in_clear()) == (1, 0)
    assert await world.rails.methods.list_for(ADA) == [saved]
    assert await column(database, "fiat_payment_methods", "token") == [None]
