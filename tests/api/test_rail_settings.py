"""Card rails by the settings: which may be in which book, and that their secrets are told nowhere."""

from typing import Any

import pytest

from base.errors import ConfigError
from tests.api.conftest import settings_for
from wiring.rails import build_rails

STRIPE = {"api_key": "rk_live_secretsecret", "webhook_secret": "whsec_secretsecret"}
SQUARE = {
    "access_token": "EAAAsecretsecret",
    "webhook_signature_key": "keysecretsecret",
    "location_id": "L1",
    "notification_url": "https://example.com/v1/rails/square/webhooks",
}


class Nowhere:
    book = "main"


def built(settings: Any, clock: Any, entropy: Any) -> Any:
    return build_rails(settings, None, Nowhere(), clock=clock, entropy=entropy)  # type: ignore[arg-type]


async def test_rails_that_are_told_are_there_under_their_names(tmp_path, clock, entropy):
    settings = settings_for(tmp_path, bank_accounts=[], rails={"stripe": STRIPE, "square": SQUARE})
    services = built(settings, clock, entropy)
    assert set(services.rails.all) == {"stripe", "square"}
    assert "secretsecret" not in f"{settings!r} {services!r} {services.rails.all!r}"
    for rail in services.rails.all.values():
        await rail.aclose()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("stripe", STRIPE | {"api_key": "sk_test_secretsecret"}),
        ("stripe", STRIPE | {"api_key": "rk_test_secretsecret"}),
        ("stripe", STRIPE | {"base_url": "http://127.0.0.1:9"}),
        ("square", SQUARE | {"environment": "sandbox"}),
        ("square", SQUARE | {"base_url": "http://127.0.0.1:9"}),
    ],
)
async def test_play_money_is_refused_in_a_book_with_real_value(tmp_path, clock, entropy, name: str, told: Any):
    with pytest.raises(ConfigError, match="test mode") as refused:
        built(settings_for(tmp_path, bank_accounts=[], rails={name: told}), clock, entropy)
    assert refused.value.code == "play_rail_in_live_book"
    assert "secretsecret" not in f"{refused.value!r}"
    services = built(settings_for(tmp_path, bank_accounts=[], rails={name: told}, environment="test"), clock, entropy)
    for rail in services.rails.all.values():
        await rail.aclose()


def test_a_key_that_is_none_is_refused_without_being_told(tmp_path, clock, entropy):
    settings = settings_for(tmp_path, bank_accounts=[], rails={"stripe": STRIPE | {"api_key": "pk_live_secretsecret"}})
    with pytest.raises(ConfigError, match="api_key must be") as refused:
        built(settings, clock, entropy)
    assert "secretsecret" not in f"{refused.value!r}"
