"""Is the book what the chain and the users say? Plain SQL and plain JSON-RPC; nothing of the service's own code.

async with connected(url) as connection:
    differences = await check(facts, connection)

It runs once everything has come to rest: no request is under way and the last block is final. The recipient's balance
on chain decides whether a withdrawal was paid: each pays an address that nobody used before.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum

import httpx

from tests.chaos.book_view import Book, Connection, Row, read_book
from tests.chaos.chain_view import Chain, Json
from tests.chaos.records import Asked, Facts

PAID, UNPAID = frozenset({"final"}), frozenset({"rejected", "cancelled", "reverted"})
"""How a withdrawal may end."""

ENDED = ("final", "reverted", "cancelled")
"""How an own transaction that was sent may end."""

GONE = frozenset({"orphaned", "reversed"})
"""States of a deposit whose block left the chain."""

INTERNAL = frozenset({"sweep", "gas_topup", "refill"})
"""Kinds of own transactions that move the house's own from one of its addresses to another."""


class Kind(StrEnum):
    """What is wrong."""

    PAYMENT = "a recipient has something else than its withdrawal says"
    LOST = "a request that was accepted left nothing"
    EXTRA = "something was made that nobody asked for"
    REPEAT = "a request and its repeats had other than one effect"
    UNFINISHED = "a request has no end"
    DEPOSIT = "a deposit isn't what the chain tells"
    CUSTODY = "custody in the book isn't what own addresses hold"
    USER = "a user has something else than moved"
    FEES = "fees or gas don't add up"
    OWN = "an own transaction on chain isn't one on record"
    HOLD = "a hold is left over"
    COUNTER = "an account's counter isn't the sum of its lines"
    BALANCE = "debits aren't credits"


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


async def check(facts: Facts, connection: Connection) -> list[Difference]:
    """Every difference that there is. `connection` may be inside a transaction of its own."""
    book = await read_book(facts, connection)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        chain = Chain(http, facts.node_url)
        await chain.read()
        return [
            *_books_own(book),
            *_requests(facts, book),
            *await _payments(facts, book, chain),
            *await _own_transactions(facts, book, chain),
            *await _custody(facts, book, chain),
            *await _deposits(facts, book, chain),
            *_users(facts, book),
        ]


def _books_own(book: Book) -> Iterator[Difference]:
    sums: Counter[str] = Counter()
    for account in book.accounts:
        sums[account["asset"]] += int(account["credits_posted"] - account["debits_posted"])
        summed = book.lines.get(account["account"])
        for name in ("debits_posted", "credits_posted", "debits_pending", "credits_pending"):
            expected = 0 if summed is None else int(summed[name])
            if int(account[name]) != expected:
                yield Difference(Kind.COUNTER, f"{account['name']} {name} {account[name]}, its lines {expected}")
    for asset, total in sums.items():
        if total:
            yield Difference(Kind.BALANCE, f"all {asset} together come to {total}")
    held: Counter[tuple[int, str]] = Counter()
    for hold in book.open_holds:
        yield Difference(Kind.HOLD, f"{hold['remaining']} held on {hold['debit_name']} for {hold['subject']}")
        held[hold["debit"], "debits_pending"] += int(hold["remaining"])
        held[hold["credit"], "credits_pending"] += int(hold["remaining"])
    for account in book.accounts:
        for name in ("debits_pending", "credits_pending"):
            if int(account[name]) != held[account["account"], name]:
                yield Difference(Kind.HOLD, f"{account['name']} {name} {account[name]}, but no hold explains it")


def _requests(facts: Facts, book: Book) -> Iterator[Difference]:
    for asked in facts.asked:
        yield from _request(asked, book)
    accepted = Counter(asked.kind for asked in facts.asked if asked.ids)
    made = {
        "withdraw": len(book.withdrawals),
        "convert": len(book.conversions),
        "transfer": sum(
            subject.startswith("trf_") and not refusal for subject, refusal in book.subjects.values() if subject
        ),
    }
    for kind, count in made.items():
        if count > accepted[kind]:
            yield Difference(Kind.EXTRA, f"{count} of kind {kind}, {accepted[kind]} were accepted")


def _request(asked: Asked, book: Book) -> Iterator[Difference]:
    name, what = command_id(asked), f"{asked.kind} {asked.key} of {asked.user}"
    if not asked.answered:
        yield Difference(Kind.UNFINISHED, f"{what} never got an answer, sent {asked.sent} times")
        return
    if len(asked.ids) + len(asked.refusals) > 1:
        yield Difference(Kind.REPEAT, f"{what} was answered by {sorted(asked.ids | asked.refusals)}")
    if not asked.ids:
        return
    if book.commands[name] != 1 or book.subjects[name] not in {(one, "") for one in asked.ids}:
        yield Difference(Kind.REPEAT, f"{what}: {book.commands[name]} commands, {book.subjects.get(name)}")
    rows = {"withdraw": book.withdrawals, "convert": book.conversions}.get(asked.kind)
    for one in asked.ids:
        if rows is None:
            continue
        row = rows.get(one)
        if row is None:
            yield Difference(Kind.LOST, f"{what}: there is no {one}")
        elif asked.kind == "withdraw":
            found = (row["owner"], row["asset"], int(row["amount"]), row["address"])
            if found != (asked.user, *asked.gives, asked.address):
                yield Difference(Kind.LOST, f"{what} became {found}")
        elif asked.kind == "convert":
            found_conversion = (row["owner"], (row["sell"], int(row["sold"])), (row["buy"], int(row["bought"])))
            if found_conversion != (asked.user, asked.gives, asked.gets):
                yield Difference(Kind.LOST, f"{what} became {found_conversion}")


def command_id(asked: Asked) -> str:
    """The name that the book remembers a request by."""
    name = "\0".join((asked.user, f"POST {asked.route}", asked.key))
    return f"req:{hashlib.sha256(name.encode()).hexdigest()}"


async def _payments(facts: Facts, book: Book, chain: Chain) -> list[Difference]:
    """Each recipient has exactly its withdrawal where that is final, else nothing; of every other asset nothing."""
    found: list[Difference] = []
    contracts = {facts.native: None} | {asset: contract for contract, asset in facts.tokens.items()}
    rows = list(book.withdrawals.values())
    asked = [(row, asset) for row in rows for asset in contracts]
    held = await chain.balances([(contracts[asset], row["address"]) for row, asset in asked])
    for (row, asset), has in zip(asked, held, strict=True):
        due = int(row["chain_amount"]) if asset == row["asset"] and row["state"] in PAID else 0
        if has != due and not (row["state"] not in PAID | UNPAID and has == int(row["chain_amount"])):
            words = f"{row['id']} is {row['state']}: {row['address']} has {has} {asset}, not {due}"
            found.append(Difference(Kind.PAYMENT, words))
    receipts = await chain.receipts(row["tx_hash"] for row in rows if row["state"] in PAID and row["tx_hash"])
    for row in rows:
        if row["state"] not in PAID | UNPAID:
            found.append(Difference(Kind.UNFINISHED, f"{row['id']} is {row['state']}, waits for {row['waiting_for']}"))
        if row["state"] in PAID:
            receipt = receipts.get(row["tx_hash"])
            if receipt is None or int(receipt["status"], 16) != 1:
                found.append(Difference(Kind.PAYMENT, f"{row['id']} is final by {row['tx_hash']}: {_status(receipt)}"))
    return found


async def _own_transactions(facts: Facts, book: Book, chain: Chain) -> list[Difference]:
    """What left own addresses is on record, transaction by transaction, and so is what its gas cost.

    One whose bytes are on record, but that hasn't ended there, is told as unfinished.
    """
    found: list[Difference] = []
    own = {row["address"] for row in book.addresses}
    sent = {tx_hash: one for tx_hash, one in chain.sent.items() if one["from"] in own}
    ended = {row["tx_hash"]: row for row in book.transactions if row["state"] in ENDED}
    found += [
        Difference(Kind.OWN, f"{tx_hash} was sent by {one['from']}, nonce {int(one['nonce'], 16)}")
        for tx_hash, one in sent.items()
        if tx_hash not in ended and tx_hash not in book.attempts
    ]
    found += [Difference(Kind.OWN, f"{one} is on record as mined, not on chain") for one in ended.keys() - sent.keys()]
    found += [
        Difference(Kind.UNFINISHED, f"own transaction {row['id']} is {row['state']}, waits for {row['waiting_for']}")
        for row in book.transactions
        if row["state"] not in (*ENDED, "refused", "given_back")
    ]
    found += [
        Difference(Kind.UNFINISHED, f"sweep {row['id']} is {row['state']}")
        for row in book.sweeps
        if row["state"] not in ("final", "unsweepable", "dropped")
    ]
    booked_by = {row["tx_hash"]: row["id"] for row in book.sweeps if row["state"] == "final"}
    states = ", ".join(f"{row['id']} {row['state']} {row['tx_hash']}" for row in book.sweeps if row["state"] != "final")
    found += [
        Difference(Kind.OWN, f"{row['tx_hash']} swept for {row['subject']}, which isn't final by it ({states})")
        for row in book.transactions
        if row["kind"] == "sweep" and row["state"] == "final" and row["tx_hash"] not in booked_by
    ]
    receipts = await chain.receipts(sent)
    gas = sum(int(one["gasUsed"], 16) * int(one["effectiveGasPrice"], 16) for one in receipts.values())
    booked = -book.balance(f"house/network-fees/{facts.native}")
    if gas != booked:
        found.append(Difference(Kind.FEES, f"gas of own transactions cost {gas}, {booked} are booked"))
    fees: Counter[str] = Counter()
    for row in book.withdrawals.values():
        fees[row["asset"]] += int(row["fee"] or 0)
    found += [
        Difference(Kind.FEES, f"withdrawals' fees are {total} {asset}, {booked} are booked")
        for asset, total in fees.items()
        if (booked := book.balance(f"house/fees/{asset}")) != total
    ]
    return found


async def _custody(facts: Facts, book: Book, chain: Chain) -> list[Difference]:
    """For each role and asset: what the book says is what all own addresses of that role hold."""
    found: list[Difference] = []
    assets = {facts.native: None} | {asset: contract for contract, asset in facts.tokens.items()}
    told = {row["address"]: row for row in book.addresses}
    for address, user in facts.addresses.items():
        row = told.get(address)
        if row is None or (row["role"], row["owner"]) != ("deposit", user):
            found.append(Difference(Kind.CUSTODY, f"{address} was told to {user}, on record: {row and row['owner']}"))
    for hot in facts.hot:
        if told.get(hot) is None or told[hot]["role"] != "hot":
            found.append(Difference(Kind.CUSTODY, f"{hot} isn't on record as a hot address"))
    asked = [(row["role"], asset, row["address"]) for row in book.addresses for asset in assets]
    held = await chain.balances([(assets[asset], address) for _, asset, address in asked])
    on_chain: Counter[tuple[str, str]] = Counter()
    for (role, asset, _), has in zip(asked, held, strict=True):
        on_chain[role, asset] += has
    for (role, asset), has in on_chain.items():
        booked = -book.balance(f"house/custody:{facts.network}:{role}/{asset}")
        if booked != has:
            found.append(Difference(Kind.CUSTODY, f"{role} addresses hold {has} {asset}, {booked} are booked"))
    return found


async def _deposits(facts: Facts, book: Book, chain: Chain) -> list[Difference]:
    """Each transfer to a user's address is one deposit that counts, and each deposit that counts is on the chain."""
    found: list[Difference] = []
    internal = {row["tx_hash"] for row in book.transactions if row["kind"] in INTERNAL}
    owners = {row["address"]: row["owner"] for row in book.addresses if row["role"] == "deposit"}
    live: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    told_otherwise: Counter[str] = Counter()
    for row in book.deposits:
        if row["state"] in GONE:
            continue
        if chain.hashes.get(row["block_number"]) != row["block_hash"]:
            found.append(Difference(Kind.DEPOSIT, f"{row['id']} is {row['state']} in a block that isn't on the chain"))
        if row["place"] == "value" or row["place"].startswith("log:"):
            live[row["tx_hash"], row["place"]].append(row)
        elif row["state"] in ("final", "surplus"):
            told_otherwise[row["address"]] += int(row["amount"] or 0)
        else:
            found.append(Difference(Kind.DEPOSIT, f"{row['id']} at {row['place']} is {row['state']}"))
    for arrived in [one async for one in _arrived(facts, owners, chain, internal)]:
        found += _deposit(facts, owners, arrived, live.pop((arrived.tx_hash, arrived.place), []))
    found += [
        Difference(Kind.DEPOSIT, f"{row['id']} ({row['state']}, {row['amount']} {row['asset']}) isn't on the chain")
        for rows in live.values()
        for row in rows
    ]
    for address, inner in (await _inner(owners, chain)).items():
        if inner != told_otherwise[address]:
            words = f"{address} got {inner} wei by inner calls, {told_otherwise[address]} are on record"
            found.append(Difference(Kind.DEPOSIT, words))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A transfer to a user's address, as the chain tells it."""

    tx_hash: str
    place: str
    sender: str
    address: str
    asset: str | None
    amount: int


async def _arrived(facts: Facts, owners: dict[str, str], chain: Chain, internal: set[str]) -> AsyncIterator[Arrived]:
    for log in await chain.transfers_to(sorted(owners)):
        amount = int(log["data"], 16)
        if amount and log["transactionHash"] not in internal:
            yield Arrived(
                tx_hash=log["transactionHash"],
                place=log["place"],
                sender="0x" + log["topics"][1][26:],
                address="0x" + log["topics"][2][26:],
                asset=facts.tokens.get(log["address"]),
                amount=amount,
            )
    paying = {tx_hash: one for tx_hash, one in chain.sent.items() if one["to"] in owners and int(one["value"], 16)}
    receipts = await chain.receipts(paying)
    for tx_hash, one in paying.items():
        if int(receipts[tx_hash]["status"], 16) and tx_hash not in internal:
            yield Arrived(
                tx_hash=tx_hash,
                place="value",
                sender=one["from"],
                address=one["to"],
                asset=facts.native,
                amount=int(one["value"], 16),
            )


def _deposit(facts: Facts, owners: dict[str, str], arrived: Arrived, rows: list[Row]) -> Iterator[Difference]:
    if arrived.asset is None:
        expected = "unknown_token"
    elif arrived.sender in facts.listed:
        expected = "sender_listed"
    elif arrived.amount < facts.minimums.get(arrived.asset, 1):
        expected = "below_minimum"
    else:
        expected = "final"
    amount = None if arrived.asset is None else arrived.amount
    due = [(expected, owners[arrived.address], arrived.asset, amount)]
    found = [
        (row["state"], row["owner"], row["asset"], None if row["amount"] is None else int(row["amount"]))
        for row in rows
    ]
    if found != due:
        words = f"{arrived.amount} {arrived.asset} to {arrived.address} by {arrived.tx_hash}"
        yield Difference(Kind.DEPOSIT, f"{words}: {found or 'no deposit'} instead of {due[0]}")


async def _inner(owners: dict[str, str], chain: Chain) -> dict[str, int]:
    """What each address got of the coin without a transaction that names it: what it has, less all that is told."""
    addresses = sorted(owners)
    has = dict(zip(addresses, await chain.balances([(None, one) for one in addresses]), strict=True))
    touching = {h: one for h, one in chain.sent.items() if one["to"] in owners or one["from"] in owners}
    receipts = await chain.receipts(touching)
    for tx_hash, one in touching.items():
        receipt, value = receipts[tx_hash], int(one["value"], 16)
        if one["from"] in owners:
            has[one["from"]] += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        if int(receipt["status"], 16):
            if one["from"] in owners:
                has[one["from"]] += value
            if one["to"] in owners:
                has[one["to"]] -= value
    return has


def _users(facts: Facts, book: Book) -> Iterator[Difference]:
    """Deposits that count, less and plus what moved: that is what a user has, less what they owe."""
    due: Counter[tuple[str, str]] = Counter()
    for row in book.deposits:
        if row["state"] == "final":
            due[row["owner"], row["asset"]] += int(row["amount"])
    for row in book.withdrawals.values():
        if row["state"] in PAID:
            due[row["owner"], row["asset"]] -= int(row["amount"]) + int(row["fee"])
    for asked in facts.asked:
        if asked.ids and asked.kind == "transfer":
            due[asked.user, asked.gives[0]] -= asked.gives[1]
            due[asked.other, asked.gives[0]] += asked.gives[1]
        if asked.ids and asked.kind == "convert" and asked.gets is not None:
            due[asked.user, asked.gives[0]] -= asked.gives[1]
            due[asked.user, asked.gets[0]] += asked.gets[1]
    for user in sorted(set(facts.addresses.values())):
        for asset in (facts.native, *facts.tokens.values()):
            has = book.balance(f"{user}/wallet/{asset}") + book.balance(f"house/receivable:{user}/{asset}")
            if has != due[user, asset]:
                yield Difference(Kind.USER, f"{user} has {has} {asset}, moved were {due[user, asset]}")


def _status(receipt: Json) -> str:
    return "not on chain" if receipt is None else json.dumps({"status": receipt["status"]})
