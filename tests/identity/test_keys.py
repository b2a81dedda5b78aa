"""Secrets of API keys: their form, their check, their hash. Pure."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.entropy import SeededEntropy
from identity.errors import InvalidKeyRequest, KeyExpired, KeyRevoked, ScopeMissing, WrongKey
from identity.keys import ApiKey, hint_of, make_secret, principal_of, secret_hash
from identity.scopes import HOUSE_SCOPES, USER_SCOPES, Scope, parse_scopes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = make_secret(SeededEntropy(1))


def _key(**terms: object) -> ApiKey:
    fields: dict[str, object] = {
        "id": "key_1",
        "user_id": None,
        "label": "a",
        "hint": "abcd",
        "scopes": frozenset({Scope.USERS_READ}),
        "rate_per_minute": 10,
        "created_at": NOW,
        "created_by": None,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    return ApiKey(**(fields | terms))  # type: ignore[arg-type]


def test_secret_has_256_random_bits_and_a_check():
    assert SECRET.startswith("ob_live_")
    assert len(SECRET) == len("ob_live_") + 52 + 7
    assert make_secret(SeededEntropy(2)) != SECRET


def test_what_is_stored_is_the_sha256_of_the_whole_secret():
    assert secret_hash(SECRET) == hashlib.sha256(SECRET.encode()).digest()


@given(place=st.integers(0, 58), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_mistyped_letter_is_refused_without_the_database(place, letter):
    start = len("ob_live_") + place
    mistyped = SECRET[:start] + letter + SECRET[start + 1 :]
    if mistyped != SECRET:
        with pytest.raises(WrongKey):
            secret_hash(mistyped)


@pytest.mark.parametrize("text", ["", "ob_live_", "ob_live", SECRET[:-1], SECRET + "a", SECRET.upper(), "\u00e9" * 67])
def test_text_that_is_no_key_is_refused(text):
    with pytest.raises(WrongKey):
        secret_hash(text)


def test_a_key_of_another_book_is_refused_and_says_so():
    with pytest.raises(WrongKey, match="another book"):
        secret_hash(make_secret(SeededEntropy(1), "ob_test"))


def test_a_key_ends_at_its_expiry_and_not_before():
    key = _key(expires_at=NOW + timedelta(seconds=1))
    assert principal_of(key, NOW).key_id == "key_1"
    with pytest.raises(KeyExpired):
        principal_of(key, NOW + timedelta(seconds=1))


def test_a_revoked_key_is_refused_even_before_its_expiry():
    with pytest.raises(KeyRevoked):
        principal_of(_key(revoked_at=NOW, expires_at=NOW + timedelta(days=1)), NOW)


def test_hint_is_the_end_of_the_secret():
    assert SECRET.endswith(hint_of(SECRET))
    assert len(hint_of(SECRET)) == 4


def test_missing_scope_is_named():
    with pytest.raises(ScopeMissing) as caught:
        principal_of(_key(), NOW).require(Scope.USERS_WRITE)
    assert caught.value.facts == {"needed": "users:write", "granted": ["users:read"]}


def test_roles_and_scopes_may_be_mixed():
    assert parse_scopes(["user", "treasury:read"]) == USER_SCOPES | {Scope.TREASURY_READ}
    assert parse_scopes(["operator", "treasury"]) == HOUSE_SCOPES


@pytest.mark.parametrize(("names", "code"), [([], "invalid_key_request"), (["root"], "unknown_scope")])
def test_no_scope_and_an_unknown_scope_are_refused(names, code):
    with pytest.raises(InvalidKeyRequest) as caught:
        parse_scopes(names)
    assert caught.value.code == code


def test_every_scope_belongs_to_a_role():
    assert set(Scope) == USER_SCOPES | HOUSE_SCOPES
