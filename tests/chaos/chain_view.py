"""What the checker asks the node, in plain JSON-RPC."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import httpx

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak("Transfer(address,address,uint256)")."""

BALANCE_OF = "0x70a08231"
"""The selector of balanceOf(address)."""

CALLS_AT_ONCE = 100
"""Questions in one request to the node."""

Json: TypeAlias = Any

One = TypeVar("One")


@dataclass(slots=True)
class Chain:
    """The whole chain as one node tells it, read once. Hashes and addresses are lower-case hex."""

    http: httpx.AsyncClient
    url: str
    hashes: dict[int, str] = field(default_factory=dict)
    sent: dict[str, Json] = field(default_factory=dict)
    """Every transaction, by its hash."""

    async def ask(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Json]:
        results: list[Json] = []
        for part in parts_of(calls):
            asked = [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                for number, (method, params) in enumerate(part)
            ]
            replies = (await self.http.post(self.url, json=asked)).json()
            by_id = {reply["id"]: reply for reply in replies}
            for number, (method, params) in enumerate(part):
                reply = by_id[number]
                assert "result" in reply, f"{method} {params}: {reply}"
                results.append(reply["result"])
        return results

    async def read(self) -> None:
        [head] = await self.ask([("eth_blockNumber", [])])
        for block in await self.ask(
            [("eth_getBlockByNumber", [hex(height), True]) for height in range(int(head, 16) + 1)]
        ):
            self.hashes[int(block["number"], 16)] = block["hash"]
            for one in block["transactions"]:
                self.sent[one["hash"]] = one

    async def receipts(self, hashes: Iterable[str]) -> dict[str, Json]:
        wanted = sorted(set(hashes))
        found = await self.ask([("eth_getTransactionReceipt", [one]) for one in wanted])
        return dict(zip(wanted, found, strict=True))

    async def balances(self, asked: Sequence[tuple[str | None, str]]) -> list[int]:
        """Of (contract or None, address), at the newest block."""
        calls: list[tuple[str, Sequence[object]]] = [
            ("eth_getBalance", [address, "latest"])
            if contract is None
            else ("eth_call", [{"to": contract, "data": BALANCE_OF + padded(address)[2:]}, "latest"])
            for contract, address in asked
        ]
        return [int(told, 16) for told in await self.ask(calls)]

    async def transfers_to(self, addresses: Sequence[str]) -> list[Json]:
        """The logs of all token transfers to these, each with its place in its receipt as `place`."""
        logs: list[Json] = []
        for part in parts_of(addresses):
            where = {"fromBlock": "0x0", "toBlock": "latest"}
            [found] = await self.ask(
                [("eth_getLogs", [{**where, "topics": [TRANSFER, None, [padded(one) for one in part]]}])]
            )
            logs += found
        receipts = await self.receipts(log["transactionHash"] for log in logs)
        for log in logs:
            here = [one["logIndex"] for one in receipts[log["transactionHash"]]["logs"]]
            log["place"] = f"log:{here.index(log['logIndex'])}"
        return logs


def parts_of(many: Sequence[One]) -> Iterator[Sequence[One]]:
    for start in range(0, len(many), CALLS_AT_ONCE):
        yield many[start : start + CALLS_AT_ONCE]


def padded(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")
