"""Scenes of coins that leave: on both networks at the same time, and one whose fees the market left behind."""

from dataclasses import dataclass
from typing import Any

from chain import local, local_blocks
from cli.journey.people import Person, StoryStopped, title, until
from cli.journey.stage import OUTSIDER, Net, Stage
from cli.output import say

JUMP_PERCENT = 130
"""What a block's base fee becomes, of all that the first attempt offers: too much for it, less than it may cost."""

GWEI = 10**9


def on_both_networks(alice: Person, bob: Person, stage: Stage) -> None:
    """One asset on two networks: Bob's dollars came in on the first and leave on the second.

    Alice's leave on the first: convert and withdraw, in one request: from euros to an address outside.
    """
    first, second = stage.first, stage.second
    title(f"Bob withdraws 40.00 USDC on {second.name}; those that he has came in on {first.name}")
    before = _outside(first), _outside(second)
    asked = _ask_for_withdrawal(bob, second, "40.00")
    states = [asked["state"]]
    order = _alice_withdraws_what_she_doesnt_have(alice, first)
    until("Bob's withdrawal is final", lambda: _withdrawal(bob, asked["id"], states)["state"] == "final")
    say(f"  Bob's, seen on its way: {' > '.join(states)}")
    _must_have_arrived(bob, asked["id"], second, before[1], 40 * 10**6)
    until("Alice's withdrawal is final", lambda: _withdrawal(alice, order["following"])["state"] == "final")
    say("  Alice's is final as well:")
    _must_have_arrived(alice, order["following"], first, before[0], 30 * 10**6)


def _alice_withdraws_what_she_doesnt_have(alice: Person, net: Net) -> Any:
    title(f"Meanwhile Alice withdraws 30.00 USDC on {net.name} and pays them in EUR, in one request")
    to = {"withdrawal": {"network": net.name, "address": OUTSIDER}}
    told = alice.post("/v1/order-quotes", {"pay_with": "EUR", "asset": "USDC", "amount": "30.00", **to})
    quote = told["quote"]
    say(f"  shown before: {quote['total']} EUR buy {quote['buy_amount']} USDC: 30.00 to be withdrawn, the house's fee")
    say(f"  {told['fee']}, and at most {told['network_fee']} for the network, of which what isn't needed stays hers")
    accepted = {"fee_accepted": told["fee"], "network_fee_accepted": told["network_fee"]}
    order = alice.post("/v1/orders", {"quote": quote["id"], "amount": "30.00", **accepted, **to})
    say(f"  {order['id']}: {order['state']}; converted by {order['conversion']}, withdrawn by {order['following']}")
    return order


@dataclass(frozen=True, slots=True)
class Stuck:
    """A withdrawal that was outbid and is offered anew; `before`: what its recipient had, in smallest units."""

    id: str
    before: int


def one_is_stuck(alice: Person, stage: Stage) -> Stuck:
    """The market leaves its fees behind; the same nonce is offered with higher ones. Waits for no more than that."""
    net = stage.first
    title("Alice withdraws 25.00 USDC, and the price of gas jumps before it's mined")
    before = _outside(net)
    with net.blocks_by_hand():
        local_blocks.set_next_base_fee(net.url, GWEI)  # a quiet chain's would have fallen to nearly nothing
        local.mine(net.url)
        asked = _ask_for_withdrawal(alice, net, "25.00")
        until("the withdrawal is sent", lambda: _withdrawal(alice, asked["id"])["state"] == "broadcast")
        first = local.rpc(net.url, "eth_getTransactionByHash", _withdrawal(alice, asked["id"])["tx_hash"])
        say(f"  sent with nonce {int(first['nonce'], 16)}: {first['hash']}")
        offered = int(first["maxFeePerGas"], 16)
        local_blocks.set_next_base_fee(net.url, offered * JUMP_PERCENT // 100)
        local.mine(net.url)
        asks = _gwei(_base_fee(net))
        say(f"  it offers {_gwei(offered)} gwei at most; the next block asks for {asks}, and leaves it out")
        until("it's outbid", lambda: _withdrawal(alice, asked["id"])["tx_hash"] != first["hash"])
        second = local.rpc(net.url, "eth_getTransactionByHash", _withdrawal(alice, asked["id"])["tx_hash"])
        if second["nonce"] != first["nonce"]:
            raise StoryStopped("a replacement must have the nonce of what it replaces")
        say(f"  replaced, same nonce, {_gwei(int(second['maxFeePerGas'], 16))} gwei at most: {second['hash']}")
    return Stuck(asked["id"], before)


def the_stuck_one_was_paid(alice: Person, stage: Stage, stuck: Stuck) -> None:
    """Once."""
    title("The withdrawal whose fees were raised")
    until("the withdrawal is final", lambda: _withdrawal(alice, stuck.id)["state"] == "final")
    _must_have_arrived(alice, stuck.id, stage.first, stuck.before, 25 * 10**6)
    say("  one of the two was mined, as only one can be; what she is charged is within what was held")


def _ask_for_withdrawal(person: Person, net: Net, amount: str) -> Any:
    body = {"asset": "USDC", "network": net.name, "address": OUTSIDER, "amount": amount}
    estimate = person.post("/v1/withdrawals/estimate", body)
    asked = person.post("/v1/withdrawals", body)
    say(f"  {asked['id']}: held {amount} and at most {estimate['fee_highest']} USDC for the network's fee")
    return asked


def _withdrawal(person: Person, id: str, states: list[str] | None = None) -> Any:
    """The withdrawal as it stands; a state not seen before is added to `states`."""
    found = person.get(f"/v1/withdrawals/{id}")
    if states is not None and found["state"] != states[-1]:
        states.append(found["state"])
    if found["state"] in ("rejected", "reverted", "needs_review", "cancelled"):
        raise StoryStopped(f"the withdrawal ended {found['state']}: {found.get('reason')}")
    return found


def _must_have_arrived(person: Person, id: str, net: Net, before: int, units: int) -> None:
    paid = _withdrawal(person, id)
    arrived = _outside(net) - before
    say(f"  {net.name}: transaction {paid['tx_hash']} in block {paid['block_number']}; fee {paid['fee']} USDC")
    if arrived != units:
        raise StoryStopped(f"the chain {net.name} says that {arrived} units arrived, not {units}")


def _outside(net: Net) -> int:
    """What the outsider has of USDC there, in smallest units."""
    return local.balance(net.url, "USDC", OUTSIDER)


def _base_fee(net: Net) -> int:
    """The newest block's base fee, in wei per gas."""
    return int(local.rpc(net.url, "eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)


def _gwei(wei: int) -> str:
    return f"{wei // GWEI}.{wei % GWEI * 1000 // GWEI:03d}"
