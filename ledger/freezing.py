"""Which freezes, besides one of its own, stop intents on an account. Pure."""

from functools import lru_cache

from ledger.accounts import place_of
from ledger.commands import FreezeScope

_KEPT = 20_000
"""Accounts whose freezable places are remembered."""


@lru_cache(_KEPT)
def freezable(owner: str, purpose: str, asset: str) -> tuple[tuple[FreezeScope, str], ...]:
    """Scope and target of each freeze that stops an account of this owner, purpose and asset, in the order told."""
    places = ((FreezeScope.OWNER, owner), (FreezeScope.ASSET, asset))
    network = place_of(purpose)
    return places if network is None else (*places, (FreezeScope.NETWORK, network))
