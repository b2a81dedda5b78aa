"""Whether the chain bears out what the configuration says of tokens, asked when the worker starts and by `doctor`.

A token that is seen for the first time must be what is configured; one that was accepted before and has changed since
is stopped by `chain.token_watch` instead, while everything else goes on.
"""

from collections.abc import Sequence

from base.errors import ConfigError, Unavailable
from chain import token_store
from chain.errors import WrongChain
from chain.networks import Network
from chain.token_store import KnownToken
from chain.tokens import TokenState, misfit
from db.engine import tx
from wiring.parts import Parts


async def token_misfits(parts: Parts) -> list[str]:
    """A line per deployment that the chain contradicts: where it stands, and why. Raises Unavailable, WrongChain."""
    found: list[str] = []
    for network in parts.registry.networks.values():
        tokens = parts.registry.tokens(network.name)
        if not tokens:
            continue
        states = await _states(parts, network, list(tokens))
        async with tx(parts.engine) as connection:
            known = await token_store.load_tokens(connection, network.name, list(tokens))
        for number, entry in enumerate(parts.settings.deployments):
            if entry.network == network.name and entry.contract is not None:
                state = states[entry.contract]
                problem = misfit(state, decimals=entry.decimals)
                if problem is not None and not _changed(known[entry.contract], state):
                    key = "contract" if not state.is_token else "decimals"
                    found.append(f"{parts.settings.where('deployments', number, key)}: {entry.asset}: {problem}")
    return found


async def refuse_misfits(parts: Parts) -> str | None:
    """Raises ConfigError if a token isn't what is configured; else None, or why that can't be told now."""
    try:
        misfits = await token_misfits(parts)
    except (Unavailable, WrongChain) as error:  # who follows the chain refuses a wrong one
        return error.message
    if misfits:
        raise ConfigError("; ".join(misfits), code="token_misfit")
    return None


async def _states(parts: Parts, network: Network, contracts: Sequence[str]) -> dict[str, TokenState]:
    node = parts.nodes[network.name]
    await node.check(None)
    return await node.tokens.states(contracts, block=(await node.head()).block_hash)


def _changed(known: KnownToken, state: TokenState) -> bool:
    """It was accepted once as something else: then it isn't the configuration that is wrong."""
    return known.accepted is not None and known.accepted != state
