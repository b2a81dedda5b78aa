"""What a key may do, in small pieces, and the three roles that bundle them. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from identity.errors import InvalidKeyRequest


class Scope(StrEnum):
    """One permission. `wallet:*` and the other user scopes reach only what the key's own user holds."""

    WALLET_READ = "wallet:read"
    TRANSFERS_WRITE = "transfers:write"
    CONVERSIONS_WRITE = "conversions:write"
    DEPOSITS_WRITE = "deposits:write"
    WITHDRAWALS_WRITE = "withdrawals:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    TREASURY_READ = "treasury:read"
    TREASURY_WRITE = "treasury:write"


USER_SCOPES = frozenset(
    {
        Scope.WALLET_READ,
        Scope.TRANSFERS_WRITE,
        Scope.CONVERSIONS_WRITE,
        Scope.DEPOSITS_WRITE,
        Scope.WITHDRAWALS_WRITE,
    }
)
"""Permissions over one user's own money. Only a key that has an owner can carry them."""

OPERATOR_SCOPES = frozenset({Scope.USERS_READ, Scope.USERS_WRITE, Scope.KEYS_READ, Scope.KEYS_WRITE})
TREASURY_SCOPES = frozenset({Scope.TREASURY_READ, Scope.TREASURY_WRITE})
HOUSE_SCOPES = OPERATOR_SCOPES | TREASURY_SCOPES
"""Permissions over the house. Only who has one can grant it, and no key with an owner carries one."""

ROLES: Mapping[str, frozenset[Scope]] = {
    "user": USER_SCOPES,
    "operator": OPERATOR_SCOPES,
    "treasury": TREASURY_SCOPES,
}
"""A role's name may stand wherever a scope may: it means all its scopes."""

_BY_NAME: Mapping[str, Scope] = {str(scope): scope for scope in Scope}


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes that these names (scopes or roles) mean. Raises InvalidKeyRequest for an unknown name, or for none."""
    scopes: set[Scope] = set()
    for name in names:
        if name in ROLES:
            scopes |= ROLES[name]
        elif name in _BY_NAME:
            scopes.add(_BY_NAME[name])
        else:
            raise InvalidKeyRequest(
                f"{name[:40]!r} is no scope", code="unknown_scope", param="scopes", known=[*ROLES, *_BY_NAME]
            )
    if not scopes:
        raise InvalidKeyRequest("a key needs at least one scope", param="scopes")
    return frozenset(scopes)
