"""The worker's steps by name, in the order in which value flows through them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from chain.address_check import AddressCheck
from chain.address_pool import AddressPool
from chain.addresses import enrol
from chain.broadcaster import Broadcaster
from chain.checkpoints import Checkpoint
from chain.coin_watch import CoinWatch
from chain.errors import NotYetFollowed
from chain.follower import Did, Follower
from chain.foreign_watch import ForeignWatch
from chain.networks import Network
from chain.sender_screening import SenderScreening
from chain.signing import Role, Signer
from chain.status import network_status
from chain.token_watch import TokenWatch
from custody.client import SignerClient
from db.engine import tx
from ledger.expiry import HoldExpiry
from ledger.sealing import SealBook
from ledger.seals import load_seal_key
from tariff.account_fees import AccountFees
from wallet.own_gas import OwnGas
from wallet.receivables import Receivables
from wiring.banking import bank_steps
from wiring.exchange import build_board, build_positions, feed_client
from wiring.journal_watching import build_journal_watch
from wiring.operations import build_freezes
from wiring.parts import Parts, build_identity
from wiring.preparing import house_keys
from wiring.rails import rail_steps
from wiring.signing import CustodySigner, SignerKeys, SignerReservations
from wiring.solvency import build_anchors, build_epochs
from wiring.sweeps import build_refills, build_sweeping
from wiring.treasury import build_reconciler
from wiring.wallet import (
    build_batch_ends,
    build_batches,
    build_deposits,
    build_inflows,
    build_outflows,
    build_quotes,
    build_top_up_orders,
    build_withdrawals,
    payout_contracts,
    rails_of,
)

Step = Callable[[], Awaitable[int]]
"""One bounded piece of background work; returns how many things it moved on."""


ONLY_LOOKING = frozenset(
    {
        "journal",
        "address-pool",
        "address-check",
        "follow",
        "tokens",
        "coins",
        "screening",
        "reconcile",
        "seals",
        "rates",
    }
)
"""Steps that read chain and signer, and write down what they saw. All others wait while payments may be missing."""


def _rail_steps(parts: Parts) -> dict[str, Step]:
    """Nothing where no provider is configured."""
    rails = rails_of(parts)
    return rail_steps(rails) if rails.rails.all else {}


@asynccontextmanager
async def open_steps(
    parts: Parts, signer: CustodySigner | None, *, checkpoint: Checkpoint | None = None
) -> AsyncIterator[dict[str, Step]]:
    """The worker's steps by name, in the order in which value flows through them. At the end their locks are let go."""
    steps: dict[str, Step] = {}
    payouts = payout_contracts(parts)
    batches = build_batches(parts, payouts, checkpoint)
    async with AsyncExitStack() as stack:
        if signer is not None and parts.settings.xpubs:
            asking = SignerClient(parts.settings.path(parts.settings.signer_socket))
            stack.push_async_callback(asking.close)
            steps["journal"] = build_journal_watch(parts, asking).step
            steps |= _address_steps(parts, asking, checkpoint)
        for network in parts.registry.networks.values():
            follower = Follower(
                engine=parts.engine,
                network=network,
                nodes=parts.nodes[network.name],
                clock=parts.clock,
                payouts=[payouts[network.name].address] if network.name in payouts else [],
            )
            stack.push_async_callback(follower.close)
            steps[f"follow:{network.name}"] = _follow(follower)
            if parts.registry.tokens(network.name):
                steps[f"tokens:{network.name}"] = _token_watch(parts, network).step
            if parts.registry.by_contract(network.name, None):
                nodes = parts.nodes[network.name]
                watch = CoinWatch(parts.engine, network=network, nodes=nodes, clock=parts.clock)
                steps[f"coins:{network.name}"] = watch.step
            steps[f"foreign:{network.name}"] = _foreign_watch(parts, network).step
            if network.name in parts.screening:
                steps[f"screening:{network.name}"] = _sender_screening(parts, network).step
        steps["holds"] = HoldExpiry(parts.ledger).step
        steps["freezes"] = build_freezes(parts).step
        steps |= bank_steps(parts)
        steps |= _rail_steps(parts)
        if any(tier.account_fee for tier in parts.tariff.tiers.values()):
            steps["account-fees"] = AccountFees(
                parts.engine, ledger=parts.ledger, tariff=parts.tariff, people=build_identity(parts), clock=parts.clock
            ).step
        steps["receivables"] = Receivables(parts.ledger).step
        if parts.settings.exchange.sources:
            steps["rates"] = build_board(parts, await stack.enter_async_context(feed_client())).step
        steps["quotes"] = build_quotes(parts).step
        steps["orders"] = build_top_up_orders(parts, build_quotes(parts), rails_of(parts).top_ups).step
        steps["exchange"] = build_positions(parts).step
        if parts.registry.networks:
            steps["deposits"] = build_deposits(parts).step
            steps["inflows"] = build_inflows(parts).step
            steps["outflows"] = build_outflows(parts).step
            steps["batches"] = batches.step
            steps["withdrawals"] = build_withdrawals(parts, checkpoint, gathering=batches).step
            steps["batch-ends"] = build_batch_ends(parts, checkpoint).step
            steps["own-gas"] = OwnGas(
                parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock
            ).step
            steps["refills"] = build_refills(parts, build_withdrawals(parts)).step
        for network in parts.registry.networks.values():
            if signer is not None:
                if parts.registry.by_contract(network.name, None):
                    steps[f"sweeps:{network.name}"] = build_sweeping(parts, network, signer, checkpoint).step
                steps[f"broadcast:{network.name}"] = _broadcast(parts, network, signer, checkpoint)
        steps["reconcile"] = build_reconciler(parts).step
        if (sealing := _book_sealing(parts)) is not None:
            steps["seals"] = sealing.step
        epochs = build_epochs(parts, rails_of(parts).balances, signer=signer)
        steps["solvency"], steps["solvency-ends"] = epochs.step, epochs.end_step
        if signer is not None and parts.settings.solvency.anchor is not None:
            steps["solvency-anchors"] = build_anchors(parts, checkpoint).step
        yield {name: step if only_looks(name) else parts.gate.guard(step) for name, step in steps.items()}


def only_looks(name: str) -> bool:
    """Whether a step goes on in a database that must be recovered first: it reads, and moves nothing."""
    return name.partition(":")[0] in ONLY_LOOKING


def _book_sealing(parts: Parts) -> SealBook | None:
    """What seals the book; None for an installation without a key for it, which `onebook doctor` tells."""
    settings = parts.settings
    path = settings.path(settings.seal_key)
    if not path.exists():
        return None
    key, folder = load_seal_key(path), settings.path(settings.seals)
    return SealBook(parts.engine, book=settings.book, key=key, folder=folder, clock=parts.clock)


def _address_steps(parts: Parts, asking: SignerClient, checkpoint: Checkpoint | None) -> dict[str, Step]:
    """Deposit addresses derived ahead of need, and all our addresses compared with the signer's own derivation."""
    keys = SignerKeys(asking)
    check = AddressCheck(parts.engine, keys=keys, fingerprints=parts.addresses.fingerprints, clock=parts.clock)
    steps: dict[str, Step] = {"address-check": check.step}
    if not any(recorded.role is Role.DEPOSIT for recorded in parts.addresses.fingerprints):
        return steps
    pool = AddressPool(
        parts.engine,
        source=parts.addresses,
        fingerprints=parts.addresses.fingerprints,
        keys=keys,
        reserver=SignerReservations(asking),
        clock=parts.clock,
        checkpoint=checkpoint,
    )
    return {"address-pool": pool.step} | steps


def _follow(follower: Follower) -> Step:
    async def step() -> int:
        progress = await follower.step()
        return int(progress.did in (Did.ADVANCED, Did.WENT_BACK))

    return step


def _token_watch(parts: Parts, network: Network) -> TokenWatch:
    return TokenWatch(
        parts.engine,
        network=network,
        tokens=parts.registry.tokens(network.name),
        reader=parts.nodes[network.name].tokens,
        clock=parts.clock,
    )


def _foreign_watch(parts: Parts, network: Network) -> ForeignWatch:
    return ForeignWatch(
        parts.engine,
        network=network,
        contracts=parts.registry.tokens(network.name),
        nodes=parts.nodes[network.name],
        clock=parts.clock,
    )


def _sender_screening(parts: Parts, network: Network) -> SenderScreening:
    return SenderScreening(
        parts.engine,
        network=network,
        tokens=parts.registry.tokens(network.name),
        screening=parts.screening[network.name],
        node=parts.nodes[network.name],
        clock=parts.clock,
    )


def _broadcast(parts: Parts, network: Network, signer: Signer, checkpoint: Checkpoint | None) -> Step:
    broadcaster = Broadcaster(
        engine=parts.engine,
        network=network,
        nodes=[parts.nodes[network.name]],
        signer=signer,
        clock=parts.clock,
        checkpoint=checkpoint,
    )
    senders = house_keys(parts.settings)

    async def step() -> int:
        if senders and not await _is_followed(parts, network):
            return 0
        while senders:  # before a sender's first payment its nonces are begun where the chain says; once per process
            async with tx(parts.engine) as connection:
                own = await enrol(connection, parts.addresses, key=senders[-1], clock=parts.clock)
            await broadcaster.enrol(own)
            senders.pop()
        return len((await broadcaster.step()).states)

    return step


async def _is_followed(parts: Parts, network: Network) -> bool:
    async with tx(parts.engine) as connection:
        try:
            await network_status(connection, network)
        except NotYetFollowed:
            return False
    return True
