"""Scenarios for developers: small scripts under `hardhat-local/scenarios/`, each a story on the local chain.

A script is a module with a docstring (its first line is what the list shows) and `play(scene)`. It plays the outside
world only: it needs no service, and a service that follows the chain sees all of it.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from base.entropy import Entropy
from base.errors import ConfigError, NotFound
from chain import local

FOLDER = "scenarios"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a scenario plays on. `to` is whom it pays: somebody's deposit address, or nobody's."""

    url: str
    to: str
    say: Callable[[str], None]

    def balance(self, token: str, owner: str) -> int:
        """What `owner` has of the token contract `token`, in its smallest units."""
        asked = "0x" + local.encode_call("balanceOf(address)", owner).hex()
        return int(local.rpc(self.url, "eth_call", {"to": token, "data": asked}, "latest"), 16)

    def create(self, contract: str, types: str, *arguments: object, source: str = "test/QuirkyTokens") -> str:
        """Put a contract of `hardhat-local/contracts/` on the chain: its checksummed address."""
        code = bytes.fromhex(local.artifact(contract, source=source)["bytecode"].removeprefix("0x"))
        return local.deploy(self.url, code + encode(types.split(","), arguments))

    def call(self, to: str, function: str, *arguments: object, sender: int = 1) -> str:
        """Call a contract as a development account; the transaction's hash, once mined."""
        return local.send(self.url, to=to, call=local.encode_call(function, *arguments), sender=sender)

    def slot(self, contract: str, slot: str) -> str:
        """A word of a contract's storage, as an address."""
        return to_checksum_address("0x" + local.rpc(self.url, "eth_getStorageAt", contract, slot, "latest")[-40:])

    @contextmanager
    def blocks_by_hand(self) -> Iterator[None]:
        """Where each transaction is mined at once, it isn't meanwhile; a chain with a block time keeps it."""
        at_once = bool(local.rpc(self.url, "hardhat_getAutomine"))
        if at_once:
            local.mine_at_once(self.url, False)
        try:
            yield
        finally:
            if at_once:
                local.mine_at_once(self.url, True)


def summaries() -> dict[str, str]:
    """What each scenario says of itself, by its name."""
    found = {}
    for path in sorted(_folder().glob("*.py")):
        module = _load(path)
        found[_name(path)] = (module.__doc__ or "").strip().partition("\n")[0]
    return found


def play(name: str, scene: Scene) -> None:
    """Play the scenario called `name`. Raises NotFound, and what the local node says."""
    paths = {_name(path): path for path in _folder().glob("*.py")}
    if name not in paths:
        raise NotFound(f"no scenario {name[:60]!r}; there are: {', '.join(sorted(paths))}", param="name")
    _load(paths[name]).play(scene)


def nobody(entropy: Entropy) -> str:
    """A fresh address that nobody has a key for."""
    return to_checksum_address(entropy.draw(20))


def _folder() -> Path:
    return local.hardhat_project() / FOLDER


def _name(path: Path) -> str:
    return path.stem.replace("_", "-")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
