"""The hostile contracts of `hardhat-local/contracts/test/`, put on a local chain, and questions to contracts."""

import json
from typing import Any

import httpx
from eth_abi.abi import encode

from chain import local
from tests.support.chain import RunningChain


def create(chain: RunningChain, name: str, types: str = "", *arguments: object, value: int = 0) -> str:
    """Deploy the contract `name` of `contracts/test/`: its address in lower case. `types` as in `address,uint256`."""
    (path,) = (local.hardhat_project() / "artifacts/contracts/test").glob(f"*.sol/{name}.json")
    code = bytes.fromhex(json.loads(path.read_bytes())["bytecode"].removeprefix("0x"))
    return local.deploy(chain.url, code + encode(types.split(",") if types else [], arguments), value=value).lower()


def ask(chain: RunningChain, contract: str, function: str, *arguments: object) -> int:
    """The one number that a view function answers."""
    call = {"to": contract, "data": "0x" + local.encode_call(function, *arguments).hex()}
    return int(chain.rpc("eth_call", call, "latest"), 16)


def why_reverted(chain: RunningChain, tx: dict[str, Any]) -> bytes:
    """What a call of `tx` reverts with: the encoded error. Empty if it doesn't say; fails if the call succeeds."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [tx, "latest"]}
    error = httpx.post(chain.url, json=request, trust_env=False).json()["error"]
    told = error.get("data", "0x")
    told = told["data"] if isinstance(told, dict) else told  # Hardhat nests it
    return bytes.fromhex(told.removeprefix("0x"))
