"""The demo's story: two users, a bank, a chain. Every figure that it prints was read back through the public API.

It plays the people (users, a treasurer, somebody outside) and nothing of the service; `cli.demo` runs the processes.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from base.errors import OnebookError, Unavailable
from base.files import write_atomically
from base.tls import trusted_roots
from chain import local, local_blocks
from cli import solvency_check
from cli.commands.positions import show_coverage
from cli.demo_bank import PAYER_IBAN, DemoBank
from cli.demo_rails import DemoRails
from cli.output import say, show_table
from ledger.money import Asset, format_amount

WAIT_SECONDS = 90.0
"""How long the story waits for one thing to happen before it gives up."""

POLL_SECONDS = 0.1
BANK_ACCOUNT = "ONEBOOK"
OUTSIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
"""Where withdrawals go: a development account that is nobody of ours."""

JUMP_PERCENT = 130
"""What a block's base fee becomes, of all that the first attempt offers: too much for it, less than it may cost."""

GWEI = 10**9

DAYS_MAX = 7
"""Days of the bank within which it carries out a payment, over any weekend."""

_UNSETTLED = frozenset({"chain_unsettled", "reserves_unavailable"})
"""Why there's no epoch while a block is just being replaced, or the book hasn't taken the newest ones in."""

_CARD = {"rail": "stripe", "asset": "EUR", "amount": "60.00"}


class StoryStopped(OnebookError):
    """The API refused what the story asked, or something that should happen didn't."""

    default_code = "story_stopped"


@dataclass(slots=True)
class Person:
    """Somebody with an API key."""

    name: str
    key: str = field(repr=False)
    api: httpx.Client = field(repr=False)
    sent: int = 0

    def get(self, path: str, **query: str) -> Any:
        """Read a resource."""
        return self._answer(self.api.get(path, params=query, headers=self._headers()))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Ask for something, with an idempotency key of its own."""
        self.sent += 1
        headers = {**self._headers(), "Idempotency-Key": f"demo-{self.name}-{self.sent}"}
        return self._answer(self.api.post(path, json=body, headers=headers))

    def upload(self, path: str, content: bytes, filename: str) -> Any:
        """Send a file as it is."""
        headers = {**self._headers(), "Content-Type": "application/xml"}
        return self._answer(self.api.post(path, content=content, params={"filename": filename}, headers=headers))

    def download(self, path: str) -> bytes:
        """A file as it is."""
        response = self.api.get(path, headers=self._headers())
        self._answer(response)
        return response.content

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_error:
            problem = response.json()
            what = f"{response.request.method} {response.url.path}: {problem.get('detail', problem)}"
            raise StoryStopped(what, code=problem.get("code"))
        return response.json()


@dataclass(frozen=True, slots=True)
class Stage:
    """What the story plays on."""

    api_url: str
    operator_key: str = field(repr=False)
    chain_url: str
    block_seconds: int
    hot_address: str
    bank: DemoBank
    bank_iban: str
    bank_folder: Path
    rails: DemoRails


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: the people (with their keys) and what reconciliation found, of how much that it looked at."""

    people: Mapping[str, Person]
    assets: int
    accounts: int
    networks: int
    breaks: int
    block: int
    agrees: bool


def play(stage: Stage) -> Ending:
    """Play the whole story. Raises StoryStopped, Unavailable."""
    with httpx.Client(base_url=stage.api_url, timeout=30, trust_env=False, verify=trusted_roots()) as api:
        people = _cast(api, stage)
        _house_is_funded(people["treasurer"], stage)
        _alice_pays_in_by_bank(people["alice"], people["treasurer"], stage)
        _alice_pays_in_by_card(people["alice"])
        _bob_pays_in_by_paypal(people["bob"], stage)
        _alice_deposits(people["alice"], stage)
        _alice_converts(people["alice"])
        _alice_pays_bob(people["alice"], people["bob"])
        _bob_withdraws(people["bob"], stage)
        _alice_withdraws_what_she_doesnt_have(people["alice"], stage)
        _a_withdrawal_is_stuck(people["alice"], stage)
        _alice_is_paid_out_by_bank(people["alice"], stage)
        return _reckoning(people)


def _cast(api: httpx.Client, stage: Stage) -> dict[str, Person]:
    operator = Person("operator", stage.operator_key, api)
    people = {"operator": operator}
    treasury = operator.post("/v1/api-keys", {"label": "treasurer", "scopes": ["treasury"]})
    people["treasurer"] = Person("treasurer", treasury["secret"], api)
    for handle in ("alice", "bob"):
        user = operator.post("/v1/users", {"handle": handle, "name": handle.title()})
        key = operator.post("/v1/api-keys", {"label": f"{handle}'s", "scopes": ["user"], "user": user["id"]})
        people[handle] = Person(handle, key["secret"], api)
    say(f"  users @alice and @bob have keys; {len(people)} people take part")
    return people


def _house_is_funded(treasurer: Person, stage: Stage) -> None:
    _title("The house brings its stock: 5,000 USDC to sell, 1 ETH to pay gas with")
    local.faucet(stage.chain_url, stage.hot_address, 5_000 * 10**6, "USDC")
    local.faucet(stage.chain_url, stage.hot_address, 10**18, "ETH")
    _until("the inflows are booked", lambda: _suspense(treasurer).keys() >= {"USDC", "ETH"})
    booked = _suspense(treasurer)
    say(f"  seen on chain and, being nobody's, booked to suspense: {booked['USDC']} USDC, {booked['ETH']} ETH")
    for asset, purpose in (("USDC", "fx"), ("ETH", "capital")):
        treasurer.post(
            "/v1/treasury/adjustments",
            {
                "asset": asset,
                "amount": booked[asset],
                "debit": "suspense",
                "credit": purpose,
                "reason": f"opening {purpose}",
            },
        )
    say("  the treasurer assigns them: USDC to the exchange's stock, ETH to capital")


def _alice_pays_in_by_bank(alice: Person, treasurer: Person, stage: Stage) -> None:
    _title("Alice pays in 500.00 EUR by bank transfer")
    instructions = alice.post("/v1/top-ups/instructions")
    say(f"  her reference: {instructions['reference_shown']}")
    stage.bank.receive(stage.bank_iban, 500_00, note=f"Top-up {instructions['reference_shown']}", payer="Alice A.")
    stage.bank.receive(stage.bank_iban, 12_34, note="thanks for lunch", payer="Stranger")
    stage.bank.end_day()
    for number, content in enumerate(stage.bank.statements(BANK_ACCOUNT), start=1):
        receipt = treasurer.upload("/v1/treasury/statements", content, f"camt053-{number}.xml")
        say(f"  bank statement (camt.053): {receipt['credited']} credited, {receipt['suspended']} to suspense")
    for line in treasurer.get("/v1/treasury/statement-lines", state="suspended")["items"]:
        say(f"  in suspense: {line['amount']} {line['asset']}, because {line['reason']}")
    say(f"  Alice has {_have(alice, 'EUR')} EUR")


def _alice_pays_in_by_card(alice: Person) -> None:
    _title("Alice tops up 60.00 EUR by card, at a simulated Stripe; another card of hers is declined")
    declined = alice.post("/v1/top-ups", {**_CARD, "method": "pm_card_visa_chargeDeclinedInsufficientFunds"})
    say(f"  {declined['id']}: {declined['state']}, {declined['code']}: {declined['reason']}")
    if declined["state"] != "failed":
        raise StoryStopped(f"a declined card left a top-up that is {declined['state']}")
    before = _have(alice, "EUR")
    paid = alice.post("/v1/top-ups", {**_CARD, "method": "pm_card_visa"})
    _until("the card is charged", lambda: _top_up(alice, paid["id"])["state"] == "final")
    done = _top_up(alice, paid["id"])
    say(f"  {done['id']}: {done['state']}, {done['captured']} EUR; she had {before}, and has {_have(alice, 'EUR')} EUR")


def _bob_pays_in_by_paypal(bob: Person, stage: Stage) -> None:
    _title("Bob tops up 35.00 EUR by PayPal, on PayPal's own page")
    asked = bob.post(
        "/v1/top-ups",
        {"rail": "paypal", "asset": "EUR", "amount": "35.00", "return_url": "https://shop.example/thanks"},
    )
    say(f"  {asked['id']}: {asked['state']}; he is sent to {asked['action']['value']}")
    stage.rails.approve(asked["source"])
    _until("PayPal has paid", lambda: _top_up(bob, asked["id"])["state"] == "final")
    say(f"  approved there; a webhook said where to look, and PayPal that it's paid; Bob has {_have(bob, 'EUR')} EUR")


def _alice_is_paid_out_by_bank(alice: Person, stage: Stage) -> None:
    _title("Alice has 120.00 EUR paid out to her bank account")
    recipient = {"name": "Alice Anders", "iban": PAYER_IBAN}
    asked = alice.post("/v1/payouts", {"asset": "EUR", "amount": "120.00", "recipient": recipient})
    say(f"  {asked['id']}: {asked['state']}, held on her account")
    _until("the payment file is written", lambda: list((stage.bank_folder / "out").glob("*.xml")))
    stage.bank.carry(stage.bank_folder / "out")
    say("  a payment file (pain.001) went to the bank")
    told = len(stage.bank.statements(BANK_ACCOUNT))
    for _ in range(DAYS_MAX):
        stage.bank.end_day()
        fresh = stage.bank.statements(BANK_ACCOUNT)[told:]
        for number, content in enumerate(fresh, start=told + 1):
            write_atomically(stage.bank_folder / "in" / f"camt053-{number}.xml", content)
        told += len(fresh)
        if any(asked["end_to_end_id"].encode() in content for content in fresh):
            break
    else:
        raise StoryStopped(f"after {DAYS_MAX} days the bank hasn't paid {asked['end_to_end_id']}")
    _until("the payout is paid", lambda: alice.get(f"/v1/payouts/{asked['id']}")["state"] == "paid")
    say(f"  the bank's statement shows it: paid, once; Alice has {_have(alice, 'EUR')} EUR")


def _top_up(person: Person, id: str) -> Any:
    return person.get(f"/v1/top-ups/{id}")


def _alice_deposits(alice: Person, stage: Stage) -> None:
    _title("Somebody outside sends Alice 250 USDC on chain")
    address = alice.post("/v1/deposit-addresses", {"network": "local"})["address"]
    with _blocks_by_hand(stage):
        before = local_blocks.take_snapshot(stage.chain_url)
        tx_hash = local.transfer(stage.chain_url, "USDC", address, 250 * 10**6, seconds=None)
        say(f"  to her address {address}")
        say(f"  transaction {tx_hash}")
        local.mine(stage.chain_url)
        _until("the deposit is seen", lambda: _deposit_states(alice) == ["pending"])
        seen = alice.get("/v1/deposits")["items"][0]
        say(f"  seen in block {seen['block_number']}: {seen['state']}, {seen['amount']} {seen['asset']}")
        local.mine(stage.chain_url)
        _until("the deposit can be spent", lambda: _have(alice, "USDC") == "250.00")
        say(f"  credited; Alice has {_have(alice, 'USDC')} USDC")
        _the_chain_changes_its_mind(alice, stage, before, tx_hash)


def _the_chain_changes_its_mind(alice: Person, stage: Stage, before: local_blocks.Snapshot, tx_hash: str) -> None:
    """Another branch without her deposit, taken back; then the same transaction once more, credited anew."""
    _title("A reorganisation: the chain takes that deposit away, and gives it back")
    raw = local_blocks.raw_transaction(stage.chain_url, tx_hash)
    lost = local.height(stage.chain_url) - before.height
    local_blocks.reorganise(stage.chain_url, lost, keep=False, marks=(before,))
    say(f"  the last {lost} blocks are others now, and the transaction is in none of them")
    _until("the deposit is taken back", lambda: _deposit_states(alice) == ["reversed"])
    say(f"  taken back; Alice has {_have(alice, 'USDC')} USDC")
    if _have(alice, "USDC") != "0.00":
        raise StoryStopped("the deposit left the chain, and Alice has it still")
    local_blocks.send_raw(stage.chain_url, raw)
    local.mine(stage.chain_url, 2)
    _until("the deposit is back", lambda: _deposit_states(alice) == ["credited", "reversed"])
    again = alice.get("/v1/deposits")["items"][0]
    say(f"  the same transaction, now in block {again['block_number']}: a new deposit, {again['state']}")
    say(f"  Alice has {_have(alice, 'USDC')} USDC, once")
    if _have(alice, "USDC") != "250.00":
        raise StoryStopped("one deposit that came twice must count once")


@contextmanager
def _blocks_by_hand(stage: Stage) -> Iterator[None]:
    """No block comes by itself, so that the scene is the same on every machine; afterwards they come again."""
    local.mine_at_once(stage.chain_url, False)
    try:
        yield
    finally:
        local.mine_every(stage.chain_url, stage.block_seconds)


def _deposit_states(person: Person) -> list[str]:
    """The states of a person's deposits, newest first."""
    return [deposit["state"] for deposit in person.get("/v1/deposits")["items"]]


def _alice_converts(alice: Person) -> None:
    _title("Alice exchanges 100.00 EUR for USDC, and buys 10.00 EUR back")
    _until("the rates are known", lambda: _rates_known(alice))
    for asked in (
        {"sell": "EUR", "buy": "USDC", "sell_amount": "100.00"},
        {"sell": "USDC", "buy": "EUR", "buy_amount": "10.00"},
    ):
        quote = alice.post("/v1/quotes", asked)
        sell, buy = quote["sell"], quote["buy"]
        rounded = buy if quote["exact"] == "sell" else sell
        say(f"  quoted: {quote['total']} {sell} for {quote['buy_amount']} {buy}, of it fee {quote['fee']} {sell}")
        say(f"  a {sell} is {quote['rate']} {buy}, less {quote['spread_basis_points']} basis points of spread")
        say(f"  rounding takes {quote['rounding']} of a smallest unit of {rounded}")
        done = alice.post("/v1/conversions", {"quote": quote["id"]})
        say(f"  gave {done['total']} {sell}, got {done['buy_amount']} {buy}")


def _rates_known(person: Person) -> bool:
    """Whether the worker has asked the sources: before, a quote is refused as not available now."""
    try:
        person.post("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": "1.00"})
    except StoryStopped:
        return False
    return True


def _alice_pays_bob(alice: Person, bob: Person) -> None:
    _title("Alice sends Bob 75.00 USDC")
    sent = alice.post("/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "75.00", "memo": "rent"})
    receipt = bob.get(f"/v1/receipts/{sent['id']}")
    say(f"  transfer {sent['id']}; Bob's receipt shows {len(receipt['lines'])} line; he has {_have(bob, 'USDC')} USDC")


def _bob_withdraws(bob: Person, stage: Stage) -> None:
    _title("Bob withdraws 40.00 USDC to an address outside")
    before = local.balance(stage.chain_url, "USDC", OUTSIDER)
    asked = _ask_for_withdrawal(bob, "40.00")
    states = [asked["state"]]
    _until("the withdrawal is final", lambda: _withdrawal(bob, asked["id"], states)["state"] == "final")
    say(f"  seen on its way: {' > '.join(states)}")
    _must_have_arrived(bob, asked["id"], stage, before, 40 * 10**6)


def _alice_withdraws_what_she_doesnt_have(alice: Person, stage: Stage) -> None:
    """Convert and withdraw, in one request: from euros to an address outside."""
    _title("Alice withdraws 30.00 USDC and pays them in EUR, in one request")
    before = local.balance(stage.chain_url, "USDC", OUTSIDER)
    to = {"withdrawal": {"network": "local", "address": OUTSIDER}}
    told = alice.post("/v1/order-quotes", {"pay_with": "EUR", "asset": "USDC", "amount": "30.00", **to})
    quote = told["quote"]
    say(f"  shown before: {quote['total']} EUR buy {quote['buy_amount']} USDC: 30.00 to be withdrawn, the house's fee")
    say(f"  {told['fee']}, and at most {told['network_fee']} for the network, of which what isn't needed stays hers")
    accepted = {"fee_accepted": told["fee"], "network_fee_accepted": told["network_fee"]}
    order = alice.post("/v1/orders", {"quote": quote["id"], "amount": "30.00", **accepted, **to})
    say(f"  {order['id']}: {order['state']}; converted by {order['conversion']}, withdrawn by {order['following']}")
    _until("the withdrawal is final", lambda: _withdrawal(alice, order["following"])["state"] == "final")
    _must_have_arrived(alice, order["following"], stage, before, 30 * 10**6)


def _a_withdrawal_is_stuck(alice: Person, stage: Stage) -> None:
    """The market leaves its fees behind; the same nonce is offered with higher ones, and pays once."""
    _title("Alice withdraws 25.00 USDC, and the price of gas jumps before it's mined")
    before = local.balance(stage.chain_url, "USDC", OUTSIDER)
    with _blocks_by_hand(stage):
        local_blocks.set_next_base_fee(stage.chain_url, GWEI)  # a quiet chain's would have fallen to nearly nothing
        local.mine(stage.chain_url)
        asked = _ask_for_withdrawal(alice, "25.00")
        _until("the withdrawal is sent", lambda: _withdrawal(alice, asked["id"])["state"] == "broadcast")
        first = local.rpc(stage.chain_url, "eth_getTransactionByHash", _withdrawal(alice, asked["id"])["tx_hash"])
        say(f"  sent with nonce {int(first['nonce'], 16)}: {first['hash']}")
        offered = int(first["maxFeePerGas"], 16)
        local_blocks.set_next_base_fee(stage.chain_url, offered * JUMP_PERCENT // 100)
        local.mine(stage.chain_url)
        asks = _gwei(_base_fee(stage))
        say(f"  it offers {_gwei(offered)} gwei at most; the next block asks for {asks}, and leaves it out")
        _until("it's outbid", lambda: _withdrawal(alice, asked["id"])["tx_hash"] != first["hash"])
        second = local.rpc(stage.chain_url, "eth_getTransactionByHash", _withdrawal(alice, asked["id"])["tx_hash"])
        if second["nonce"] != first["nonce"]:
            raise StoryStopped("a replacement must have the nonce of what it replaces")
        say(f"  replaced, same nonce, {_gwei(int(second['maxFeePerGas'], 16))} gwei at most: {second['hash']}")
    _until("the withdrawal is final", lambda: _withdrawal(alice, asked["id"])["state"] == "final")
    _must_have_arrived(alice, asked["id"], stage, before, 25 * 10**6)
    say("  one of the two was mined, as only one can be; what she is charged is within what was held")


def _ask_for_withdrawal(person: Person, amount: str) -> Any:
    body = {"asset": "USDC", "network": "local", "address": OUTSIDER, "amount": amount}
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


def _must_have_arrived(person: Person, id: str, stage: Stage, before: int, units: int) -> None:
    paid = _withdrawal(person, id)
    arrived = local.balance(stage.chain_url, "USDC", OUTSIDER) - before
    say(f"  transaction {paid['tx_hash']} in block {paid['block_number']}; fee {paid['fee']} USDC")
    if arrived != units:
        raise StoryStopped(f"the chain says that {arrived} units arrived, not {units}")


def _base_fee(stage: Stage) -> int:
    """The newest block's base fee, in wei per gas."""
    return int(local.rpc(stage.chain_url, "eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)


def _gwei(wei: int) -> str:
    return f"{wei // GWEI}.{wei % GWEI * 1000 // GWEI:03d}"


def _reckoning(people: Mapping[str, Person]) -> Ending:
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
    _a_proof_is_checked(people["alice"], treasurer)
    found = treasurer.post("/v1/treasury/reconciliations")
    for item in found["breaks"]:
        say(f"  BREAK {item['account']}: expected {item['expected']}, found {item['found']} ({item['reason']})")
    for network in found["networks"]:
        if network["skipped"] is not None:
            say(f"  not compared: {network['network']}, {network['skipped']}")
    # A payment provider whose payouts haven't ended may be left out; a chain that wasn't compared agrees with nothing.
    chains = [n for n in found["networks"] if not n["network"].startswith("rail:")]
    judged = [n for n in chains if n["skipped"] is None]
    zero = all(_is_zero(s["sum"]) for s in trial["sums"])
    return Ending(
        people=people,
        assets=len(trial["sums"]),
        accounts=len(trial["accounts"]),
        networks=len(judged),
        breaks=len(found["breaks"]),
        block=max((n["block_number"] for n in judged), default=0),
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

    _until("an epoch of what is owed is made", is_made)
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


def _suspense(treasurer: Person) -> dict[str, str]:
    """What stands in suspense, by asset, as positive amounts."""
    accounts = treasurer.get("/v1/treasury/trial-balance")["accounts"]
    return {
        a["asset"]: a["balance"]
        for a in accounts
        if a["account"].startswith("house/suspense/") and not _is_zero(a["balance"])
    }


def _is_zero(amount: str) -> bool:
    return not amount.strip("-0.")


def _have(person: Person, asset: str) -> str:
    return str(person.get(f"/v1/balances/{asset}")["available"])


def _until(what: str, is_so: Callable[[], object]) -> None:
    """Wait until `is_so`. Raises Unavailable when it takes too long."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Unavailable(f"after {WAIT_SECONDS:.0f} s it still isn't so that {what}; see .onebook/logs/")
        time.sleep(POLL_SECONDS)


def _title(text: str) -> None:
    say()
    say(f"* {text}")
