"""Twenty-odd hands that put one unit of drift into a house, each where another check has to look.

A hand tells the account it has altered, and the network or rail where there is one. What it does to rows it does as
whoever owns the server; what it does on chain as whoever owns a key, or the token, or the node.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from chain import local
from chain.signing import Role
from custody.derivation import Role as CustodyRole
from custody.derivation import keccak
from exchange.positions import HousePositions
from exchange.terms import Terms
from ledger.accounts import house_account, user_account
from ledger.commands import BankEvidence, ChainEvidence
from tests.fiat.statements import Entry
from tests.needle.haystack import FINAL_DEPTH, POINTS, Haystack, custody
from tests.support.chain import RunningChain
from tests.support.whole_house import BESIDE
from tests.wallet.foreign_world import stolen
from wiring.exchange import ConversionTrades, build_rates

NETWORK = "local"
BANK = house_account("bank:main", "EUR")
PROVIDER = house_account("provider:sandbox", "EUR")
NOBODY = "0x" + "de" * 20


@dataclass(frozen=True, slots=True)
class Put:
    """Where a hand has put it: the account (or several), and the network or rail.

    `beside`: accounts that have to be named as well, with the network BESIDE.
    """

    accounts: tuple[str, ...]
    network: str = ""
    beside: tuple[str, ...] = ()
    one_will_do: bool = False
    """Of several accounts one is enough: it shows on any of them."""

    def met_by(self, named: Collection[str]) -> bool:
        """Whether these accounts are those that had to be named."""
        wanted = {*self.accounts, *self.beside}
        met = wanted & {*named}
        return bool(met) if self.one_will_do else met == wanted

    def is_at(self, account: str, network: str) -> bool:
        """Whether this account is to be named, with this network or rail."""
        return (account in self.accounts and network == self.network) or (account in self.beside and network == BESIDE)


@dataclass(frozen=True, slots=True)
class Hand:
    """What it does, the kinds of break that name it, and the check without which nobody would notice."""

    name: str
    kinds: tuple[str, ...]
    check: str
    put: Callable[[Haystack], Awaitable[Put]]


HANDS: list[Hand] = []

Putting = Callable[[Haystack], Awaitable[Put]]


def hand(*kinds: str, check: str) -> Callable[[Putting], Putting]:
    """Register what a hand does under the words of its name."""

    def register(put: Putting) -> Putting:
        HANDS.append(Hand(put.__name__.replace("_", " "), kinds, check, put))
        return put

    return register


# Rows of the book


@hand("counter_drift", check="book")
async def a_balance_row_of_a_user(stack: Haystack) -> Put:
    account = stack.straw()
    await stack.tamper(f"UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE name = '{account}'")
    return Put((account,))


@hand("counter_drift", check="book")
async def a_balance_row_of_the_house(stack: Haystack) -> Put:
    account = custody(Role.HOT, "USDC")
    await stack.tamper(f"UPDATE ledger_accounts SET debits_posted = debits_posted + 1 WHERE name = '{account}'")
    return Put((account,))


@hand("counter_drift", check="book")
async def two_balance_rows_that_make_up_for_each_other(stack: Haystack) -> Put:
    """The sum over all accounts doesn't change."""
    first, second = stack.straw(), stack.straw()
    while second == first:
        second = stack.straw()
    await stack.tamper(
        f"UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE name = '{first}'",
        f"UPDATE ledger_accounts SET credits_posted = credits_posted - 1 WHERE name = '{second}'",
    )
    return Put((first, second))


@hand("counter_drift", check="book")
async def what_is_pending_on_an_account(stack: Haystack) -> Put:
    account = stack.straw()
    await stack.tamper(f"UPDATE ledger_accounts SET debits_pending = debits_pending + 1 WHERE name = '{account}'")
    return Put((account,))


@hand("counter_drift", check="book")
async def the_amount_of_a_posting(stack: Haystack) -> Put:
    account = stack.straw()
    await stack.tamper(
        "UPDATE ledger_lines SET amount = amount + 1"
        f" WHERE credit = (SELECT account FROM ledger_accounts WHERE name = '{account}')"
    )
    return Put((account,))


@hand("counter_drift", check="book")
async def a_posting_that_is_gone(stack: Haystack) -> Put:
    account = user_account(f"usr_straw{0:07}", POINTS)  # of one point: what is gone is one unit
    await stack.tamper(
        f"DELETE FROM ledger_lines WHERE credit = (SELECT account FROM ledger_accounts WHERE name = '{account}')"
    )
    return Put((account,))


@hand("counter_drift", check="book")
async def a_posting_that_nobody_booked(stack: Haystack) -> Put:
    account = stack.straw()
    await stack.tamper(
        "INSERT INTO ledger_lines (book, seq, line, kind, debit, credit, amount, debit_balance, credit_balance)"
        " SELECT l.book, l.seq, l.line + 1, l.kind, l.debit, l.credit, 1, l.debit_balance - 1, l.credit_balance + 1"
        f" FROM ledger_lines l JOIN ledger_accounts a ON a.account = l.credit WHERE a.name = '{account}'"
    )
    return Put((account,))


@hand("counter_drift", check="book")
async def a_posting_that_went_to_another(stack: Haystack) -> Put:
    account = stack.straw()
    other = stack.straw()
    while other == account:
        other = stack.straw()
    await stack.tamper(
        f"UPDATE ledger_lines SET credit = (SELECT account FROM ledger_accounts WHERE name = '{other}')"
        f" WHERE credit = (SELECT account FROM ledger_accounts WHERE name = '{account}')"
    )
    return Put((account, other))


@hand("journal_differs", check="book")
async def a_posting_and_the_balances_rewritten_alike(stack: Haystack) -> Put:
    """Lines and counters still agree: only who remembers what was booked can tell."""
    account = stack.straw()
    of = f"(SELECT account FROM ledger_accounts WHERE name = '{account}')"
    await stack.tamper(
        f"UPDATE ledger_lines SET amount = amount + 1, credit_balance = credit_balance + 1 WHERE credit = {of}",
        f"UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE name = '{account}'",
        "UPDATE ledger_accounts SET debits_posted = debits_posted + 1"
        f" WHERE name = '{house_account('promotion', POINTS)}'",
    )
    return Put((account, house_account("promotion", POINTS)), one_will_do=True)


# What the chain did and the book didn't, and the other way round


@hand("chain_differs", check="chain")
async def a_token_burn_without_an_event(stack: Haystack) -> Put:
    """As the token's owner can behind a proxy."""
    _set_token_balance(stack.chain, stack.person().address, -1)
    stack.chain.mine(FINAL_DEPTH + 1)
    return Put((custody(Role.DEPOSIT, "USDC"),), NETWORK)


@hand("chain_differs", check="chain")
async def a_token_minted_without_an_event(stack: Haystack) -> Put:
    _set_token_balance(stack.chain, stack.hot, 1)
    stack.chain.mine(FINAL_DEPTH + 1)
    return Put((custody(Role.HOT, "USDC"),), NETWORK)


@hand("foreign_outflow", check="foreign")
async def a_transfer_out_signed_outside(stack: Haystack) -> Put:
    thief = stolen(stack.signer, CustodyRole.HOT)
    wanted: dict[str, Any] = {
        "chainId": stack.chain.chain_id,
        "nonce": int(stack.chain.rpc("eth_getTransactionCount", thief.address, "latest"), 16),
        "to": stack.chain.token("USDC"),
        "value": 0,
        "data": local.encode_call("transfer(address,uint256)", NOBODY, 1),
        "gas": 100_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    }
    raw = thief.sign_transaction(wanted).raw_transaction.to_0x_hex()
    stack.chain.receipt(str(stack.chain.rpc("eth_sendRawTransaction", raw)))
    await _until_final(stack)
    return Put((house_account("suspense", "USDC"),), NETWORK)


@hand("surplus", check="surplus")
async def ether_that_nothing_tells_of(stack: Haystack) -> Put:
    _add_ether(stack.chain, stack.person().address, 1)
    await _until_final(stack)
    return Put((house_account("suspense", "ETH"),), NETWORK)


@hand("foreign_outflow", check="foreign")
async def ether_that_is_gone(stack: Haystack) -> Put:
    _add_ether(stack.chain, stack.person().address, -1)
    await _until_final(stack)
    return Put((house_account("suspense", "ETH"),), NETWORK)


@hand("chain_differs", check="chain")
async def a_block_that_the_follower_skipped(stack: Haystack) -> Put:
    """It believes that it has taken in a block whose transfers it never recorded."""
    person = stack.person()
    stack.chain.faucet(person.address, 1, "USDC")
    await stack.house.work(only="follow:")
    await stack.tamper(
        f"DELETE FROM chain_observations WHERE recipient = '{person.address}' AND amount = 1",
    )
    await stack.house.work(blocks=FINAL_DEPTH + 1)
    return Put((custody(Role.DEPOSIT, "USDC"),), NETWORK)


@hand("chain_differs", check="chain")
async def a_deposit_that_nobody_credits(stack: Haystack) -> Put:
    """Its row says that it's done, and the book has nothing of it."""
    person = stack.person()
    stack.chain.faucet(person.address, 1 * 10**6, "USDC")
    stack.chain.mine(FINAL_DEPTH + 1)
    await stack.house.work(only="follow:")
    await stack.house.work(only="tokens:")
    await stack.tamper(
        "UPDATE chain_observations SET orphaned = true"
        f" WHERE recipient = '{person.address}' AND block_number = (SELECT max(block_number) FROM chain_observations)"
    )
    return Put((custody(Role.DEPOSIT, "USDC"),), NETWORK)


@hand("chain_differs", check="chain")
async def an_orphan_that_stays_credited(stack: Haystack) -> Put:
    """The block is gone, and the deposit's row was altered so that nobody takes it back."""
    person = stack.person()
    stack.chain.faucet(person.address, 1 * 10**6, "USDC")
    await stack.house.work(blocks=2)
    entry = await stack.ask("SELECT entry FROM wallet_deposits ORDER BY block_number DESC LIMIT 1")
    deposit = f"(SELECT id FROM wallet_deposits WHERE entry = '{entry}')"
    seq = f"(SELECT seq FROM ledger_commands WHERE id = '{entry}' OR subject = {deposit})"
    await stack.tamper(f"DELETE FROM ledger_evidence WHERE seq IN {seq}", altered=None)
    await stack.tamper(f"UPDATE wallet_deposits SET state = 'final' WHERE entry = '{entry}'")
    stack.chain.reorg(3, longer=1)
    await stack.house.work(blocks=FINAL_DEPTH + 2)
    return Put((custody(Role.DEPOSIT, "USDC"),), NETWORK)


@hand("chain_differs", check="chain")
async def gas_that_is_not_booked(stack: Haystack) -> Put:
    """One wei of what a payment cost, out of the line and out of both accounts."""
    hot, fees = custody(Role.HOT, "ETH"), house_account("network-fees", "ETH")
    line = (
        "(SELECT max(l.seq) FROM ledger_lines l JOIN ledger_accounts d ON d.account = l.debit"
        f" JOIN ledger_accounts c ON c.account = l.credit WHERE d.name = '{fees}' AND c.name = '{hot}')"
    )
    await stack.tamper(
        "UPDATE ledger_lines SET amount = amount - 1"
        f" WHERE seq = {line} AND debit = (SELECT account FROM ledger_accounts WHERE name = '{fees}')",
        f"UPDATE ledger_accounts SET debits_posted = debits_posted - 1 WHERE name = '{fees}'",
        f"UPDATE ledger_accounts SET credits_posted = credits_posted - 1 WHERE name = '{hot}'",
    )
    return Put((hot,), NETWORK)


@hand("chain_differs", check="chain")
async def a_deposit_that_is_booked_twice(stack: Haystack) -> Put:
    person = stack.person()
    stack.chain.faucet(person.address, 1, "USDC")
    await stack.house.work(blocks=FINAL_DEPTH + 1)
    row: str = await stack.ask(
        "SELECT concat_ws(' ', block_number, block_hash, tx_hash, place)"
        " FROM chain_observations ORDER BY seq DESC LIMIT 1"
    )
    number, block, tx_hash, place = row.split()
    evidence = ChainEvidence(NETWORK, int(number), block, tx_hash, place)
    account = custody(Role.DEPOSIT, "USDC")
    await stack.post("twice", account, user_account(person.id, "USDC"), "USDC", evidence=evidence)
    return Put((account,), NETWORK)


@hand("chain_differs", check="chain")
async def an_entry_by_hand(stack: Haystack) -> Put:
    account = custody(Role.HOT, "USDC")
    await stack.post("by hand", account, house_account("capital", "USDC"), "USDC")
    return Put((account,), NETWORK)


@hand("surplus", check="surplus")
async def ether_that_nothing_tells_of_on_the_second_network(stack: Haystack) -> Put:
    _add_ether(stack.beside, stack.person().address, 1)
    await _until_final(stack)
    return Put((), beside=(house_account("suspense", "ETH"),))


@hand("chain_differs", check="chain")
async def a_token_burn_on_the_second_network(stack: Haystack) -> Put:
    _set_token_balance(stack.beside, stack.person().address, -1)
    stack.beside.mine(FINAL_DEPTH + 1)
    return Put((), beside=(custody(Role.DEPOSIT, "USDC", BESIDE),))


@hand("chain_differs", check="chain")
async def a_unit_booked_on_the_other_network(stack: Haystack) -> Put:
    """Of the asset as much is held as is booked: only who looks at each network by itself can tell."""
    here, there = custody(Role.HOT, "USDC"), custody(Role.HOT, "USDC", BESIDE)
    await stack.post("the wrong network", there, here, "USDC")
    return Put((here,), NETWORK, beside=(there,))


# Banks and providers


@hand("bank_differs", check="bank")
async def a_wrong_closing_balance(stack: Haystack) -> Put:
    await stack.bank_sends(Entry(50_00, "rent"))
    await stack.tamper(f"UPDATE fiat_bank_statements SET closing = closing + 1 WHERE bank_id = '{stack.statement}'")
    return Put((BANK,))


@hand("bank_differs", check="bank")
async def a_wrong_statement_line(stack: Haystack) -> Put:
    """The bank books a cent more than it tells."""
    await stack.bank_sends(Entry(50_01, "rent"))
    seq = f"(SELECT seq FROM ledger_evidence WHERE statement = '{stack.statement}')"
    suspense = house_account("suspense", "EUR")
    await stack.tamper(
        f"UPDATE ledger_lines SET amount = amount - 1 WHERE seq IN {seq}",
        f"UPDATE ledger_accounts SET debits_posted = debits_posted - 1 WHERE name = '{BANK}'",
        f"UPDATE ledger_accounts SET credits_posted = credits_posted - 1 WHERE name = '{suspense}'",
    )
    return Put((BANK,))


@hand("statement_gap", check="bank")
async def a_statement_that_never_came(stack: Haystack) -> Put:
    """The next one begins with a cent more than the last one ended with."""
    await stack.bank_sends(Entry(50_00, "rent"), opening=stack.told_cents + 1, skip_days=1)
    return Put((BANK,))


@hand("bank_differs", check="bank")
async def a_line_booked_twice(stack: Haystack) -> Put:
    await stack.bank_sends(Entry(1, "a cent"))
    evidence = BankEvidence("main", stack.statement, 1)
    await stack.post("twice", BANK, house_account("suspense", "EUR"), "EUR", evidence=evidence)
    return Put((BANK,))


@hand("rail_differs", check="rails")
async def a_cent_with_the_payment_provider(stack: Haystack) -> Put:
    await stack.post("by hand", PROVIDER, house_account("rail-fees", "EUR"), "EUR")
    return Put((PROVIDER,), "rail:sandbox")


# What the exchange made of its stock


@hand("position_differs", check="exchange")
async def a_thousandth_of_a_cent_of_what_the_stock_cost(stack: Haystack) -> Put:
    await _stock(stack)
    await stack.tamper("UPDATE exchange_positions SET cost = cost + 1 WHERE asset = 'EUR'")
    return Put((house_account("fx", "EUR"),))


@hand("position_differs", check="exchange")
async def a_move_of_the_stock_that_was_worth_more(stack: Haystack) -> Put:
    await _stock(stack)
    await stack.tamper("UPDATE exchange_moves SET value = value + 1 WHERE asset = 'EUR'")
    return Put((house_account("fx", "EUR"),))


async def _stock(stack: Haystack) -> None:
    """The exchange gets five euros, which cost what they are worth."""
    parts, (capital, stock) = stack.house.parts, (house_account(name, "EUR") for name in ("capital", "fx"))
    await parts.ledger.ensure_open(capital, stock)
    await stack.post("stock", capital, stock, "EUR", 5_00)
    exchange = HousePositions(
        parts.engine,
        ledger=parts.ledger,
        rates=build_rates(parts.settings, parts.engine, parts.clock),
        trades=ConversionTrades(parts.engine, parts.settings.book),
        terms=Terms(reference="EUR"),
        clock=parts.clock,
    )
    assert await exchange.step() == 1


# What hands do on chain


async def _until_final(stack: Haystack) -> None:
    """What happened is final, and what the house does about it is done: a surplus takes a block more."""
    await stack.house.work(blocks=FINAL_DEPTH + 1)
    await stack.house.work(blocks=1)


def _set_token_balance(chain: RunningChain, address: str, step: int) -> None:
    """Behind the token's back: its first mapping is who has how much."""
    slot = "0x" + keccak(bytes(12) + bytes.fromhex(address[2:]) + bytes(32)).hex()
    units = chain.balance("USDC", address) + step
    chain.rpc("anvil_setStorageAt", chain.token("USDC"), slot, f"0x{units:064x}")
    assert chain.balance("USDC", address) == units


def _add_ether(chain: RunningChain, address: str, step: int) -> None:
    chain.rpc("anvil_setBalance", address, hex(chain.balance("ETH", address) + step))
