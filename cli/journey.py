"""The demo's story: two users, a bank, a chain. Every figure that it prints was read back through the public API.

It plays the people (users, a treasurer, somebody outside) and nothing of the service; `cli.demo` runs the processes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from base.errors import OnebookError, Unavailable
from chain import local
from cli.demo_bank import DemoBank
from cli.output import say, show_table

WAIT_SECONDS = 90.0
"""How long the story waits for one thing to happen before it gives up."""

POLL_SECONDS = 0.1
BANK_ACCOUNT = "ONEBOOK"
OUTSIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
"""Where Bob's withdrawal goes: a development account that is nobody of ours."""


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

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_error:
            problem = response.json()
            raise StoryStopped(f"{response.request.method} {response.url.path}: {problem.get('detail', problem)}")
        return response.json()


@dataclass(frozen=True, slots=True)
class Stage:
    """What the story plays on."""

    api_url: str
    operator_key: str = field(repr=False)
    chain_url: str
    hot_address: str
    bank: DemoBank
    bank_iban: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: the people (with their keys) and what reconciliation found."""

    people: Mapping[str, Person]
    breaks: int
    block: int
    agrees: bool


def play(stage: Stage) -> Ending:
    """Play the whole story. Raises StoryStopped, Unavailable."""
    with httpx.Client(base_url=stage.api_url, timeout=30, trust_env=False) as api:
        people = _cast(api, stage)
        _house_is_funded(people["treasurer"], stage)
        _alice_pays_in_by_bank(people["alice"], people["treasurer"], stage)
        _alice_deposits(people["alice"], stage)
        _alice_converts(people["alice"])
        _alice_pays_bob(people["alice"], people["bob"])
        _bob_withdraws(people["bob"], stage)
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
    instructions = alice.post("/v1/top-ups")
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


def _alice_deposits(alice: Person, stage: Stage) -> None:
    _title("Somebody outside sends Alice 250 USDC on chain")
    address = alice.post("/v1/deposit-addresses", {"network": "local"})["address"]
    tx_hash = local.transfer(stage.chain_url, "USDC", address, 250 * 10**6)
    say(f"  to her address {address}")
    say(f"  transaction {tx_hash}")
    _until("the deposit is seen", lambda: alice.get("/v1/deposits")["items"])
    seen = alice.get("/v1/deposits")["items"][0]
    say(f"  seen in block {seen['block_number']}: {seen['state']}, {seen['amount']} {seen['asset']}")
    _until("the deposit can be spent", lambda: _have(alice, "USDC") == "250.00")
    say(f"  credited; Alice has {_have(alice, 'USDC')} USDC")


def _alice_converts(alice: Person) -> None:
    _title("Alice exchanges 100.00 EUR for USDC")
    quote = alice.post("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": "100.00"})
    done = alice.post("/v1/conversions", {"quote": quote["id"]})
    say(f"  gave {done['sell_amount']} EUR ({done['spread']} of it spread), got {done['buy_amount']} USDC")


def _alice_pays_bob(alice: Person, bob: Person) -> None:
    _title("Alice sends Bob 75.00 USDC")
    sent = alice.post("/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "75.00", "memo": "rent"})
    receipt = bob.get(f"/v1/receipts/{sent['id']}")
    say(f"  transfer {sent['id']}; Bob's receipt shows {len(receipt['lines'])} line; he has {_have(bob, 'USDC')} USDC")


def _bob_withdraws(bob: Person, stage: Stage) -> None:
    _title("Bob withdraws 40.00 USDC to an address outside")
    body = {"asset": "USDC", "network": "local", "address": OUTSIDER, "amount": "40.00"}
    estimate = bob.post("/v1/withdrawals/estimate", body)
    before = local.balance(stage.chain_url, "USDC", OUTSIDER)
    asked = bob.post("/v1/withdrawals", body)
    say(f"  {asked['id']}: held 40.00 and at most {estimate['fee_highest']} USDC for the network's fee")
    states = [asked["state"]]

    def is_final() -> bool:
        state = bob.get(f"/v1/withdrawals/{asked['id']}")["state"]
        if state != states[-1]:
            states.append(state)
        if state in ("rejected", "reverted", "needs_review", "cancelled"):
            raise StoryStopped(f"the withdrawal ended {state}")
        return bool(state == "final")

    _until("the withdrawal is final", is_final)
    paid = bob.get(f"/v1/withdrawals/{asked['id']}")
    say(f"  seen on its way: {' > '.join(states)}")
    arrived = local.balance(stage.chain_url, "USDC", OUTSIDER) - before
    say(f"  transaction {paid['tx_hash']} in block {paid['block_number']}; fee {paid['fee']} USDC")
    if arrived != 40 * 10**6:
        raise StoryStopped(f"the chain says that {arrived} units arrived, not 40000000")


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
    found = treasurer.post("/v1/treasury/reconciliations")
    for item in found["breaks"]:
        say(f"  BREAK {item['account']}: expected {item['expected']}, found {item['found']} ({item['reason']})")
    zero = all(_is_zero(s["sum"]) for s in trial["sums"])
    return Ending(
        people=people,
        breaks=len(found["breaks"]),
        block=max((n["block_number"] or 0 for n in found["networks"]), default=0),
        agrees=zero and not found["breaks"],
    )


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
