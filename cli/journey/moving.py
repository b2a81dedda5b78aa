"""Scenes of money that moves within the book: from asset to asset and from user to user."""

from cli.journey.people import Person, StoryStopped, title, until
from cli.output import say


def both_convert(alice: Person, bob: Person) -> None:
    """Selling an exact amount, buying an exact one, and a coin for a currency through the reference."""
    title("Alice exchanges 100.00 EUR for USDC, and buys 10.00 EUR back; Bob buys 0.02 ETH with pounds")
    until("the rates are known", lambda: _rates_known(alice, "EUR", "USDC") and _rates_known(bob, "GBP", "ETH"))
    for person, asked in (
        (alice, {"sell": "EUR", "buy": "USDC", "sell_amount": "100.00"}),
        (alice, {"sell": "USDC", "buy": "EUR", "buy_amount": "10.00"}),
        (bob, {"sell": "GBP", "buy": "ETH", "buy_amount": "0.02"}),
    ):
        quote = person.post("/v1/quotes", asked)
        sell, buy = quote["sell"], quote["buy"]
        rounded = buy if quote["exact"] == "sell" else sell
        say(f"  quoted: {quote['total']} {sell} for {quote['buy_amount']} {buy}, of it fee {quote['fee']} {sell}")
        say(f"  a {sell} is {quote['rate']} {buy}, less {quote['spread_basis_points']} basis points of spread")
        say(f"  rounding takes {quote['rounding']} of a smallest unit of {rounded}")
        done = person.post("/v1/conversions", {"quote": quote["id"]})
        say(f"  gave {done['total']} {sell}, got {done['buy_amount']} {buy}")


def they_pay_each_other(alice: Person, bob: Person) -> None:
    """Nothing of it is on any chain, whichever the coins came from."""
    title("Alice sends Bob 75.00 USDC, and Bob sends her 20.00 DAI")
    for sender, recipient, asset, amount, memo in (
        (alice, bob, "USDC", "75.00", "rent"),
        (bob, alice, "DAI", "20.00", "tickets"),
    ):
        asked = {"recipient": f"@{recipient.name}", "asset": asset, "amount": amount, "memo": memo}
        sent = sender.post("/v1/transfers", asked)
        lines = recipient.get(f"/v1/receipts/{sent['id']}")["lines"]
        name, has = recipient.name.title(), recipient.has(asset)
        say(f"  transfer {sent['id']}; {name}'s receipt shows {len(lines)} line; {name} has {has} {asset}")


def alice_pays_pounds_that_she_doesnt_have(alice: Person, bob: Person) -> None:
    """Convert and send, in one request."""
    title("Alice owes Bob 20.00 GBP and has none: she pays them out of her dollars, in one request")
    before = bob.has("GBP")
    to = {"transfer": {"recipient": "@bob", "memo": "dinner"}}
    told = alice.post("/v1/order-quotes", {"pay_with": "USD", "asset": "GBP", "amount": "20.00", **to})
    quote = told["quote"]
    asked = {"quote": quote["id"], "amount": "20.00", "fee_accepted": told["fee"], **to}
    order = alice.post("/v1/orders", asked)
    say(f"  {order['id']}: {order['state']}; {quote['total']} USD of hers became {quote['buy_amount']} GBP of his")
    say(f"  Bob had {before} GBP, and has {bob.has('GBP')} GBP; Alice has {alice.has('USD')} USD")


def _rates_known(person: Person, sell: str, buy: str) -> bool:
    """Whether the worker has asked the sources: before, a quote is refused as not available now."""
    try:
        person.post("/v1/quotes", {"sell": sell, "buy": buy, "sell_amount": "10.00"})
    except StoryStopped:
        return False
    return True
