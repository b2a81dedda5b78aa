"""Tokens that behave as some real ones do, proxies to change under our feet, WETH9 and a Safe, on a local chain."""

import json
from dataclasses import dataclass

from eth_abi.abi import encode

from chain import local
from tests.support.chain import RunningChain
from tests.support.contracts import ask, create

SUPPLY = 10**15
"""Smallest units of each token that its payer owns at first."""

PAYER = 1
"""Index of the development account that owns them."""

NOBODY = "0x" + "00" * 20

ZOS_SLOT = "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3"
"""keccak("org.zeppelinos.proxy.implementation")."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token on `chain`, at `address` (lower-case hex)."""

    chain: RunningChain
    address: str

    def send(self, function: str, *arguments: object, sender: int = PAYER, gas: int | None = None) -> str:
        """Call it as a development account: the hash, once mined."""
        call = local.encode_call(function, *arguments)
        return local.send(self.chain.url, to=self.address, call=call, sender=sender, gas=gas)

    def pay(self, to: str, amount: int, *, gas: int | None = None) -> str:
        """`transfer` as its payer; the hash, once mined. With `gas` given it may fail and is mined all the same."""
        return self.send("transfer(address,uint256)", to, amount, gas=gas)

    def balance(self, owner: str) -> int:
        return ask(self.chain, self.address, "balanceOf(address)", owner)

    def decimals(self) -> int:
        return ask(self.chain, self.address, "decimals()")


def quirky(chain: RunningChain, name: str) -> Token:
    """The token contract `name` of `contracts/test/`, made with a payer and a supply."""
    return Token(chain, create(chain, name, "address,uint256", chain.accounts[PAYER], SUPPLY))


def named(chain: RunningChain, name: str, symbol: str, decimals: int = 6) -> Token:
    """A plain token that calls itself what it likes."""
    arguments = (name, symbol, decimals, chain.accounts[PAYER], SUPPLY)
    return Token(chain, create(chain, "NamedToken", "string,string,uint8,address,uint256", *arguments))


def behind_proxy(chain: RunningChain, *, decimals: int = 6, beacon: str | None = None) -> Token:
    """An exchangeable token behind an EIP-1967 proxy, or behind one that asks `beacon`."""
    start = local.encode_call("initialize(uint8,address,uint256)", decimals, chain.accounts[PAYER], SUPPLY)
    if beacon is not None:
        return Token(chain, create(chain, "TestBeaconProxy", "address,bytes", beacon, start))
    return Token(chain, create(chain, "TestProxy", "address,bytes", implementation(chain, 1), start))


def implementation(chain: RunningChain, version: int) -> str:
    """Code for behind a proxy; another version is other code."""
    return create(chain, "Upgradable", "uint256", version)


def make_beacon(chain: RunningChain) -> Token:
    """A beacon that tells of version 1 and obeys the faucet account."""
    return Token(chain, create(chain, "TestBeacon", "address,address", implementation(chain, 1), chain.accounts[0]))


def deploy_weth(chain: RunningChain) -> Token:
    """WETH9, as its publisher compiled it."""
    return Token(chain, local.deploy(chain.url, _published("canonical-weth/build/contracts/WETH9.json")).lower())


def deploy_safe(chain: RunningChain, owners: list[str], threshold: int, *, signs: bool = False) -> str:
    """A Safe 1.4.1 of its publisher's bytes behind its own proxy: the address in lower case.

    `signs`: it has the handler by which it says whose signatures it takes (ERC-1271).
    """
    folder = "@safe-global/safe-contracts/build/artifacts/contracts"
    singleton = local.deploy(chain.url, _published(f"{folder}/Safe.sol/Safe.json"))
    proxy = _published(f"{folder}/proxies/SafeProxy.sol/SafeProxy.json") + encode(["address"], [singleton])
    safe = local.deploy(chain.url, proxy).lower()
    name = "CompatibilityFallbackHandler"
    handler = local.deploy(chain.url, _published(f"{folder}/handler/{name}.sol/{name}.json")) if signs else NOBODY
    types = ["address[]", "uint256", "address", "bytes", "address", "address", "uint256", "address"]
    call = local.encode_call(f"setup({','.join(types)})", owners, threshold, NOBODY, b"", handler, NOBODY, 0, NOBODY)
    local.send(chain.url, to=safe, call=call)
    return safe


def exec_safe(chain: RunningChain, safe: str, *, to: str, value: int = 0, call: bytes = b"", owner: int = PAYER) -> str:
    """Let a Safe with one owner, a development account, call `to`; the hash, once mined."""
    types = "address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes"
    approved = encode(["address", "uint256"], [chain.accounts[owner], 0]) + b"\x01"  # by being the sender
    doing = local.encode_call(f"execTransaction({types})", to, value, call, 0, 0, 0, 0, NOBODY, NOBODY, approved)
    return local.send(chain.url, to=safe, call=doing, sender=owner)


def _published(path: str) -> bytes:
    found = json.loads((local.hardhat_project() / "node_modules" / path).read_bytes())
    return bytes.fromhex(found["bytecode"].removeprefix("0x"))
