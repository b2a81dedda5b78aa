"""Who is asked about listed addresses on each network: the file and the oracles that the settings name."""

from collections.abc import Mapping

from base.errors import Unavailable
from chain.errors import SilentOracle, WrongChain
from chain.evm.node import Node
from chain.evm.sanctions import SanctionsOracle
from chain.screening import AllOf, Screening, ScreeningList
from wiring.settings import Settings


def build_screening(settings: Settings, nodes: Mapping[str, Node]) -> dict[str, Screening]:
    """By network; empty where neither a list nor an oracle is configured. Nothing is read or asked yet."""
    asked: dict[str, list[Screening]] = {network.name: [] for network in settings.networks}
    listed = _listed(settings)
    if listed is not None:
        for screenings in asked.values():
            screenings.append(listed)
    for network in settings.networks:
        if network.sanctions_oracle is not None:
            asked[network.name].append(SanctionsOracle(nodes[network.name].rpc, network.sanctions_oracle))
    return {name: AllOf(screenings) for name, screenings in asked.items() if screenings}


def listed_addresses(settings: Settings) -> int | None:
    """How many the list has; None without one. Raises InvalidScreeningList: who starts the service lets it pass."""
    listed = _listed(settings)
    return None if listed is None else len(listed.load())


def _listed(settings: Settings) -> ScreeningList | None:
    return None if settings.screening_list is None else ScreeningList(settings.path(settings.screening_list))


async def silent_oracles(settings: Settings, nodes: Mapping[str, Node]) -> list[str]:
    """A line per configured oracle that isn't one: where it stands, and why. Raises Unavailable, WrongChain."""
    found: list[str] = []
    for number, network in enumerate(settings.networks):
        if network.sanctions_oracle is not None:
            node = nodes[network.name]
            await node.check(None)
            oracle = SanctionsOracle(node.rpc, network.sanctions_oracle)
            if not await oracle.answers(block=(await node.head()).block_hash):
                where = settings.where("networks", number, "sanctions_oracle")
                found.append(f"{where}: no contract there answers isSanctioned(address); correct the address")
    return found


async def refuse_silent_oracles(settings: Settings, nodes: Mapping[str, Node]) -> str | None:
    """Raises SilentOracle if a configured oracle isn't one; else None, or why that can't be told now."""
    try:
        silent = await silent_oracles(settings, nodes)
    except (Unavailable, WrongChain) as error:  # deposits wait meanwhile
        return error.message
    if silent:
        raise SilentOracle("; ".join(silent))
    return None
