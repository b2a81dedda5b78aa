"""Scenes of money that comes in: the house's own; by bank, card and PayPal; on two chains, one of which reorganises."""

from typing import Any

from chain import local, local_blocks
from cli.journey.people import Person, StoryStopped, title, until
from cli.journey.stage import Net, Stage
from cli.output import say

CARD = {"rail": "stripe", "asset": "USD", "amount": "60.00"}
ETHER = 10**18

STOCK = {"ETH": "3.00", "USDC": "7000.00"}
"""What the house brings, on both networks together."""


def house_sends_its_stock(stage: Stage) -> None:
    """Gas is paid on each network from what is there, so that each needs ETH of its own. Waits for nothing."""
    title("The house brings its stock on two networks: 7,000 USDC and 1 ETH to sell, 2 ETH to pay gas with")
    for net, usdc, ether in ((stage.first, 5_000, 1), (stage.second, 2_000, 2)):
        local.faucet(net.url, stage.hot_address, usdc * 10**6, "USDC", seconds=None)
        local.faucet(net.url, stage.hot_address, ether * ETHER, "ETH", seconds=None)
        say(f"  {usdc:,} USDC and {ether} ETH are on their way on {net.name}")


def stock_is_assigned(treasurer: Person) -> None:
    """What reached the house's own addresses is nobody's until the treasurer says whose."""
    title("The house's stock has arrived")
    until("the inflows are booked", lambda: {asset: _suspended(treasurer, asset) for asset in STOCK} == STOCK)
    booked = ", ".join(f"{_suspended(treasurer, asset)} {asset}" for asset in STOCK)
    say(f"  seen on both networks and, being nobody's, booked to suspense: {booked}")
    for asset, amount, purpose in (("USDC", STOCK["USDC"], "fx"), ("ETH", "1.00", "fx"), ("ETH", "2.00", "capital")):
        treasurer.post(
            "/v1/treasury/adjustments",
            {
                "asset": asset,
                "amount": amount,
                "debit": "suspense",
                "credit": purpose,
                "reason": f"opening {purpose}",
            },
        )
    say("  the treasurer assigns them: what is to be sold to the exchange's stock, the rest to capital")


def both_pay_in_by_bank(alice: Person, bob: Person, treasurer: Person, stage: Stage) -> None:
    """Into two accounts; a stranger's payment, which names nobody, waits in suspense."""
    title("Meanwhile Alice pays in 500.00 EUR by bank transfer, and Bob 200.00 GBP")
    for person, account, amount in ((alice, stage.euros, 500_00), (bob, stage.pounds, 200_00)):
        reference = person.post("/v1/top-ups/instructions")["reference_shown"]
        say(f"  {person.name.title()}'s reference: {reference}")
        stage.bank.receive(account.iban, amount, note=f"Top-up {reference}", payer=f"{person.name.title()} A.")
    stage.bank.receive(stage.euros.iban, 12_34, note="thanks for lunch", payer="Stranger")
    stage.bank.end_day()
    for account in (stage.euros, stage.pounds):
        for number, content in enumerate(stage.bank.statements(account.name), start=1):
            receipt = treasurer.upload("/v1/treasury/statements", content, f"camt053-{account.name}-{number}.xml")
            found = f"{receipt['credited']} credited, {receipt['suspended']} to suspense"
            say(f"  bank statement (camt.053) in {account.asset}: {found}")
    for line in treasurer.get("/v1/treasury/statement-lines", state="suspended")["items"]:
        say(f"  in suspense: {line['amount']} {line['asset']}, because {line['reason']}")
    say(f"  Alice has {alice.has('EUR')} EUR, Bob {bob.has('GBP')} GBP")


def alice_pays_in_by_card(alice: Person) -> None:
    """The card is charged in another currency than her bank's."""
    title("Alice tops up 60.00 USD by card, at a simulated Stripe; another card of hers is declined")
    declined = alice.post("/v1/top-ups", {**CARD, "method": "pm_card_visa_chargeDeclinedInsufficientFunds"})
    say(f"  {declined['id']}: {declined['state']}, {declined['code']}: {declined['reason']}")
    if declined["state"] != "failed":
        raise StoryStopped(f"a declined card left a top-up that is {declined['state']}")
    paid = alice.post("/v1/top-ups", {**CARD, "method": "pm_card_visa"})
    until("the card is charged", lambda: _top_up(alice, paid["id"])["state"] == "final")
    done = _top_up(alice, paid["id"])
    say(f"  {done['id']}: {done['state']}, {done['captured']} USD; she has {alice.has('USD')} USD")


def bob_pays_in_by_paypal(bob: Person, stage: Stage) -> None:
    """He approves on PayPal's side, and the service hears of it by webhook."""
    title("Bob tops up 35.00 EUR by PayPal, on PayPal's own page")
    asked = bob.post(
        "/v1/top-ups",
        {"rail": "paypal", "asset": "EUR", "amount": "35.00", "return_url": "https://shop.example/thanks"},
    )
    say(f"  {asked['id']}: {asked['state']}; he is sent to {asked['action']['value']}")
    stage.rails.approve(asked["source"])
    until("PayPal has paid", lambda: _top_up(bob, asked["id"])["state"] == "final")
    say(f"  approved there; a webhook said where to look, and PayPal that it's paid; Bob has {bob.has('EUR')} EUR")


def deposits_on_both_networks(alice: Person, bob: Person, stage: Stage) -> None:
    """The second network goes on by itself while the first one's blocks are made, unmade and made again by hand."""
    first, second = stage.first, stage.second
    title(f"Somebody outside sends Alice 250 USDC on {first.name}, and Bob 300 DAI on {second.name}")
    to_bob = _address(bob, second)
    sent = local.transfer(second.url, "DAI", to_bob, 300 * ETHER, seconds=None)
    say(f"  on {second.name}, to Bob's address {to_bob}:")
    say(f"  transaction {sent}")
    address = _address(alice, first)
    with first.blocks_by_hand():
        before = local_blocks.take_snapshot(first.url)
        tx_hash = local.transfer(first.url, "USDC", address, 250 * 10**6, seconds=None)
        say(f"  on {first.name}, to Alice's address {address}:")
        say(f"  transaction {tx_hash}")
        local.mine(first.url)
        until("the deposit is seen", lambda: _deposit_states(alice) == ["pending"])
        seen = alice.get("/v1/deposits")["items"][0]
        say(f"  seen in block {seen['block_number']}: {seen['state']}, {seen['amount']} {seen['asset']}")
        local.mine(first.url)
        until("the deposit can be spent", lambda: alice.has("USDC") == "250.00")
        say(f"  credited; Alice has {alice.has('USDC')} USDC")
        _the_chain_changes_its_mind(alice, first, before, tx_hash)
    until("the deposit on the other network can be spent", lambda: bob.has("DAI") == "300.00")
    told = ", ".join(_deposit_states(bob))
    say(f"  nothing of that on {second.name}: Bob's deposit there is {told}; he has {bob.has('DAI')} DAI")


def _the_chain_changes_its_mind(alice: Person, net: Net, before: local_blocks.Snapshot, tx_hash: str) -> None:
    """Another branch without her deposit, taken back; then the same transaction once more, credited anew."""
    title("A reorganisation: the chain takes that deposit away, and gives it back")
    raw = local_blocks.raw_transaction(net.url, tx_hash)
    lost = local.height(net.url) - before.height
    local_blocks.reorganise(net.url, lost, keep=False, marks=(before,))
    say(f"  the last {lost} blocks are others now, and the transaction is in none of them")
    until("the deposit is taken back", lambda: _deposit_states(alice) == ["reversed"])
    say(f"  taken back; Alice has {alice.has('USDC')} USDC")
    if alice.has("USDC") != "0.00":
        raise StoryStopped("the deposit left the chain, and Alice has it still")
    local_blocks.send_raw(net.url, raw)
    local.mine(net.url, 2)
    until("the deposit is back", lambda: _deposit_states(alice) == ["credited", "reversed"])
    again = alice.get("/v1/deposits")["items"][0]
    say(f"  the same transaction, now in block {again['block_number']}: a new deposit, {again['state']}")
    say(f"  Alice has {alice.has('USDC')} USDC, once")
    if alice.has("USDC") != "250.00":
        raise StoryStopped("one deposit that came twice must count once")


def _address(person: Person, net: Net) -> str:
    return str(person.post("/v1/deposit-addresses", {"network": net.name})["address"])


def _deposit_states(person: Person) -> list[str]:
    """The states of a person's deposits, newest first."""
    return [deposit["state"] for deposit in person.get("/v1/deposits")["items"]]


def _top_up(person: Person, id: str) -> Any:
    return person.get(f"/v1/top-ups/{id}")


def _suspended(treasurer: Person, asset: str) -> str | None:
    """What of an asset stands in suspense; None before anything did."""
    accounts = treasurer.get("/v1/treasury/trial-balance")["accounts"]
    return next((str(one["balance"]) for one in accounts if one["account"] == f"house/suspense/{asset}"), None)
