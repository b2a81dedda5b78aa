"""Building what makes epochs and anchors them: for every process that may, and with the signer for the worker alone."""

from pathlib import Path

from base.errors import ConfigError
from chain.checkpoints import Checkpoint
from chain.controls import Controls
from chain.estimates import NetworkFees
from chain.signing import ControlSigner
from treasury.solvency_anchors import Anchors
from treasury.solvency_epochs import Epochs
from treasury.solvency_handed import HandedControls
from treasury.solvency_reserves import ProviderBalances, Reserves
from wiring.banking import build_bank
from wiring.parts import Parts
from wiring.sweeps import cold_addresses


def solvency_folder(parts: Parts) -> Path:
    """Where epochs' files are."""
    return parts.settings.path(parts.settings.solvency.folder)


def build_epochs(parts: Parts, rails: ProviderBalances, *, signer: ControlSigner | None = None) -> Epochs:
    """Epochs of this book; `signer` where this process can ask it."""
    told = parts.settings.solvency
    cold = {network: sorted(addresses) for network, addresses in cold_addresses(parts.settings).items()}
    reserves = Reserves(
        registry=parts.registry,
        nodes=parts.nodes,
        banks=[build_bank(parts)],
        rails=rails,
        cold=cold,
        named_deposits=told.deposit_addresses,
    )
    return Epochs(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        reserves=reserves,
        folder=solvency_folder(parts),
        clock=parts.clock,
        entropy=parts.entropy,
        every=told.interval,
        controls=None if signer is None else Controls(parts.engine, signer=signer, clock=parts.clock),
    )


def build_anchors(parts: Parts, checkpoint: Checkpoint | None = None) -> Anchors:
    """What writes epochs' hashes on a chain. Raises ConfigError where no network is named for it."""
    told = parts.settings.solvency.anchor
    if told is None:
        raise ConfigError(
            "no network is named for it: [solvency] anchor = { network, to } in onebook.toml (docs/solvency.md)",
            code="no_anchor",
        )
    return Anchors(
        parts.engine,
        book=parts.settings.book,
        network=parts.registry.network(told.network),
        to=told.to,
        node=parts.nodes[told.network],
        fees=NetworkFees(parts.nodes, clock=parts.clock),
        clock=parts.clock,
        entropy=parts.entropy,
        checkpoint=checkpoint,
    )


def build_handed_controls(parts: Parts, epochs: Epochs) -> HandedControls:
    """What takes signatures that were made elsewhere."""
    return HandedControls(parts.engine, epochs=epochs, registry=parts.registry, nodes=parts.nodes, clock=parts.clock)
