"""Building what makes epochs: for every process that may, and with the signer for the worker alone."""

from pathlib import Path

from chain.controls import Controls
from chain.signing import ControlSigner
from treasury.solvency_epochs import Epochs
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
