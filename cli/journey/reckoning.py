"""The reckoning: both users' books, the house's, what covers them, a proof that a user checks, and the comparison."""

from collections.abc import Mapping
from typing import Any

from cli import solvency_check
from cli.commands.positions import show_coverage
from cli.journey.people import Person, StoryStopped, is_zero, until
from cli.journey.stage import Ending, Stage
from cli.output import say, show_table
from ledger.money import Asset, format_amount

_UNSETTLED = frozenset({"chain_unsettled", "reserves_unavailable"})
"""Why there's no epoch while a block is just being replaced, or the book hasn't taken the newest ones in."""


def reckoning(people: Mapping[str, Person], stage: Stage) -> Ending:
    """Show all of it, and compare book, chains, bank and providers. Raises StoryStopped, Unavailable."""
    treasurer = people["treasurer"]
    for name in ("alice", "bob"):
        balances = people[name].get("/v1/balances")["items"]
        cells = [(b["asset"], b["balance"], b["held"], b["available"]) for b in balances]
        say()
        show_table(f"{name.title()}'s book", ("asset", "balance", "held", "available"), cells, right=(1, 2, 3))
    trial = treasurer.get("/v1/treasury/trial-balance")
    say()
    rows = [(a["account"], a["asset"], a["balance"]) for a in trial["accounts"]]
    show_table("Trial balance: what the house owes (+) and has (-)", ("account", "asset", "balance"), rows, right=(2,))
    sums = [(s["asset"], s["users"], s["house"], s["sum"]) for s in trial["sums"]]
    say()
    show_table("Sum over all accounts", ("asset", "users", "house", "sum"), sums, right=(1, 2, 3))
    _coverage(treasurer)
    # An epoch waits for a book that is at the newest blocks of both networks, which a busy machine may never be.
    with stage.first.blocks_by_hand(), stage.second.blocks_by_hand():
        _a_proof_is_checked(people["alice"], treasurer)
    found = treasurer.post("/v1/treasury/reconciliations")
    for item in found["breaks"]:
        say(f"  BREAK {item['account']}: expected {item['expected']}, found {item['found']} ({item['reason']})")
    for network in found["networks"]:
        if network["skipped"] is not None:
            say(f"  not compared: {network['network']}, {network['skipped']}")
    # A payment provider whose payouts haven't ended may be left out; a chain that wasn't compared agrees with nothing.
    chains = [n for n in found["networks"] if not n["network"].startswith("rail:")]
    judged = {n["network"]: n["block_number"] for n in chains if n["skipped"] is None}
    zero = all(is_zero(s["sum"]) for s in trial["sums"])
    return Ending(
        people=people,
        assets=len(trial["sums"]),
        accounts=len(trial["accounts"]),
        blocks=judged,
        breaks=len(found["breaks"]),
        agrees=zero and not found["breaks"] and len(judged) == len(chains),
    )


def _coverage(treasurer: Person) -> None:
    """What is owed, and how far what is held reaches."""
    told = treasurer.get("/v1/treasury/positions")
    say()
    show_coverage("Coverage: what is held, of what is owed and on its way out", told)


def _a_proof_is_checked(alice: Person, treasurer: Person) -> None:
    """The house makes an epoch of what it owes and holds; Alice fetches her part of it, and checks it offline."""
    epochs: list[Any] = []

    def is_made() -> bool:
        try:
            epochs.append(treasurer.post("/v1/treasury/solvency"))
        except StoryStopped as no:
            if no.code not in _UNSETTLED:
                raise
            return False
        return True

    until("an epoch of what is owed is made", is_made)
    (epoch,) = epochs
    file = alice.download("/v1/solvency")
    published = alice.download(f"/v1/solvency/epochs/{epoch['number']}")
    checked = solvency_check.check(
        file, user=alice.get("/v1/me")["user"]["id"], epoch=epoch["epoch"], root=None, published=published, trusted=()
    )
    assets = {
        one["code"]: Asset(one["code"], one["kind"], one["scale"]) for one in treasurer.get("/v1/assets")["items"]
    }
    mine = [f"{format_amount(one.amount, assets[one.terms.asset])} {one.terms.asset}" for one in checked.proofs]
    say()
    say(f"  Alice's own proof is verified offline: {', '.join(mine)} are counted in epoch {epoch['epoch']},")
    say(f"  whose hash {epoch['digest'][:16]}... everybody sees at /v1/solvency/epochs/{epoch['number']}")
