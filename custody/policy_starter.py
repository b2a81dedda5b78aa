"""The text of a first policy to start from. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from custody.derivation import Role
from custody.intents import NATIVE
from custody.policy import UNLIMITED
from custody.policy_file import UNLIMITED_WORD, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may leave: at once, and within any 24 hours; smallest units."""

    per_transfer: int
    per_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutContract:
    """The contract that pays batches: its creation code's hash, who creates it (`gas:0`) with which nonce, and the most
    that a batch, or the allowance before it, may cost (gas limit x fee, in wei)."""

    code_hash: bytes
    deployer: str = "gas:0"
    nonce: int = 0
    fee_wei_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStart:
    """What a first policy says of one network.

    `tokens`: by contract. `fee_wei_max` caps gas limit x fee of each transaction, `gas_per_day` the sum for each role.
    `names` are what people are shown for assets, and their decimals. Of the tokens in `domains` (by contract: name and
    version for EIP-712) deposit keys may also authorise sweeps (EIP-3009), which the gas key carries.
    """

    chain_id: int
    tokens: Mapping[str, Limits]
    native: Limits
    top_ups: Limits
    fee_wei_max: int
    gas_per_day: int | None = None
    names: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    domains: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    payout: PayoutContract | None = None


def starter_policy(
    *networks: NetworkStart,
    fingerprints: Mapping[Role, bytes] | None = None,
    highest_deposit_index: int = 999_999,
    hot_senders: int = 1,
) -> str:
    """The text of a first policy, for one network or several.

    On each the hot keys (indexes 0 to `hot_senders` - 1) pay `tokens` and the native coin to anybody within their
    limits, which all of them share; deposit keys pay only the first hot address; the gas key tops up deposit and hot
    addresses within `top_ups` of the native coin.
    With `payout` the hot keys pay the same in batches by that contract, which its deployer may create; what it may take
    of a token is limited as a day's payments are, and each leg as a payment.
    Raises PolicyInvalid when an argument makes no policy.
    """
    parts = [
        "# What the signer may sign. Rules are read top to bottom, the first match decides, the rest is denied.",
        "# Amounts are in smallest units. After a change the signer wants it accepted with the keys' passphrase.",
        "version = 1",
        *(f"\n[[networks]]\nchain_id = {network.chain_id}" for network in networks),
        f"\n[highest_index]\ndeposit = {highest_deposit_index}\nhot = {hot_senders - 1}\ngas = 0",
    ]
    for network in networks:
        where = f" on {network.chain_id}" if len(networks) > 1 else ""
        parts += _network_texts(network, "own:hot:0" if hot_senders == 1 else "own:hot", where)
    if fingerprints:
        parts.append("\n[keys]\n" + "\n".join(f'{role.value} = "{mark.hex()}"' for role, mark in fingerprints.items()))
    text = "\n".join(parts) + "\n"
    parse(text)
    return text


def _network_texts(network: NetworkStart, hot_topped_up: str, where: str) -> Iterator[str]:
    """One network's budgets, rules, domains and names; `where` ends the names of its rules, each of which is unique."""
    chain_id, fee_wei_max, top_ups = network.chain_id, network.fee_wei_max, network.top_ups
    assets = [(NATIVE, network.native), *network.tokens.items()]
    hot = [
        ("hot pays", "transfer", "hot", asset, "any", limits.per_transfer, limits.per_day) for asset, limits in assets
    ]
    sweeps = [
        (name, kind, "deposit", asset, "own:hot:0", UNLIMITED, UNLIMITED)
        for name, kind, swept in (
            ("deposits are swept:", "sweep", [asset for asset, _ in assets]),
            ("sweeps are authorised:", "authorisation", network.domains),
        )
        for asset in swept
    ]
    gas = [
        (f"gas for {role}:", "top_up", "gas", NATIVE, to, top_ups.per_transfer, top_ups.per_day)
        for role, to in (("deposits", "own:deposit"), ("hot", hot_topped_up))
    ]
    if network.gas_per_day is not None:
        yield from (_budget_text(chain_id, role, network.gas_per_day) for role in Role)
    yield from (_rule_text(chain_id, where, fee_wei_max, *row) for row in (*hot, *sweeps, *gas))
    yield from (_relay_text(chain_id, where, fee_wei_max, asset) for asset in network.domains)
    yield from (_domain_text(chain_id, asset, *domain) for asset, domain in network.domains.items())
    yield from (_proof_text(chain_id, where, role) for role in (Role.HOT, Role.GAS))
    for asset, (name, decimals) in network.names.items():
        yield f'\n[[names]]\nchain_id = {chain_id}\nasset = "{asset}"\nname = "{name}"\ndecimals = {decimals}'
    if network.payout is not None:
        yield from _payout_texts(chain_id, where, fee_wei_max, network.payout, assets)


def _payout_texts(
    chain_id: int, where: str, fee_wei_max: int, payout: PayoutContract, assets: Sequence[tuple[str, Limits]]
) -> Iterator[str]:
    """The contract, who may create it, what it may take of each token, and that batches go by it."""
    contract, role = f"chain_id = {chain_id}", payout.deployer.partition(":")[0].partition(".")[0]
    yield (
        f'\n[[contracts]]\nname = "payout"\n{contract}\ncode_hash = "{payout.code_hash.hex()}"\n'
        f'deployer = "{payout.deployer}"\nnonce = {payout.nonce}'
    )
    to, most = 'to = "contract:payout"', payout.fee_wei_max
    yield (
        f'\n[[rules]]\nname = "the payout contract is created{where}"\nkind = "deployment"\nrole = "{role}"\n'
        f'{contract}\n{to}\nfee_wei_max = "{max(most, fee_wei_max)}"'
    )
    for asset, limits in assets:
        if asset != NATIVE:
            day = limits.per_day
            yield _rule_text(
                *(chain_id, where, most, "batches may take", "allowance", "hot", asset, "contract:payout", day, day)
            )
        yield (
            f'\n[[rules]]\nname = "batches of {asset}{where}"\nkind = "payout"\nrole = "hot"\n{contract}\n'
            f'asset = "{asset}"\n{to}\nfee_wei_max = "{most}"'
        )


def _budget_text(chain_id: int, role: Role, per_day: int) -> str:
    return f'\n[[gas_budgets]]\nchain_id = {chain_id}\nrole = "{role.value}"\nper_day = "{per_day}"'


def _rule_text(
    chain_id: int,
    where: str,
    fee_wei_max: int,
    name: str,
    kind: str,
    role: str,
    asset: str,
    to: str,
    per_transfer: int,
    per_day: int,
) -> str:
    fee = "" if kind == "authorisation" else f'\nfee_wei_max = "{fee_wei_max}"'
    return f"""
[[rules]]
name = "{name} {asset}{where}"
kind = "{kind}"
role = "{role}"
chain_id = {chain_id}
asset = "{asset}"
to = "{to}"
per_transfer = "{_amount_text(per_transfer)}"
per_day = "{_amount_text(per_day)}"{fee}"""


def _relay_text(chain_id: int, where: str, fee_wei_max: int, asset: str) -> str:
    return f"""
[[rules]]
name = "authorisations are carried: {asset}{where}"
kind = "relay"
role = "gas"
chain_id = {chain_id}
asset = "{asset}"
fee_wei_max = "{fee_wei_max}\""""


def _proof_text(chain_id: int, where: str, role: Role) -> str:
    """These keys may prove that they control their addresses: a message that moves nothing."""
    return f"""
[[rules]]
name = "{role.value} addresses prove control{where}"
kind = "proof"
role = "{role.value}"
chain_id = {chain_id}
to = "own:{role.value}\""""


def _domain_text(chain_id: int, asset: str, name: str, version: str) -> str:
    return f'''
[[tokens]]
chain_id = {chain_id}
contract = "{asset}"
name = "{name}"
version = "{version}"'''


def _amount_text(amount: int) -> str:
    return UNLIMITED_WORD if amount >= UNLIMITED else str(amount)
