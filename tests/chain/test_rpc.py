"""JSON-RPC as it goes wrong, on a real socket; the real nodes' words; and the whole reader in-process on py-evm."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from eth_account import Account
from eth_tester import EthereumTester, PyEVMBackend
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.providers.eth_tester import EthereumTesterProvider
from web3.types import Wei

from chain import errors
from chain.errors import NodeMisbehaved, NodeRefused, NodeUnavailable, from_node
from chain.evm import transfers
from chain.evm.node import Node
from chain.evm.rpc import HttpRpc
from chain.networks import Encoding, Network
from tests.support.chain import start_local_chain

Answering = Callable[[Any], Any]


@asynccontextmanager
async def node_that(answer: Answering, *, status: str = "200 OK"):
    """An HTTP server that answers each JSON body by `answer`: a JSON value, or bytes as they are; None: never."""
    questions: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        question = json.loads(await reader.readexactly(length))
        questions.append(question)
        body = answer(question)
        if body is None:
            await reader.read()
        else:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    rpc = HttpRpc(f"http://{host}:{port}", seconds=0.5)
    try:
        yield rpc, questions
    finally:
        await rpc.close()
        server.close()


def right(question):
    return {"jsonrpc": "2.0", "id": question["id"], "result": question["params"][0]}


def saying(answer):
    return lambda question: answer


CALLS = [("echo", [n]) for n in range(5)]


class TestBatches:
    async def test_f10_answers_in_another_order_are_matched_by_id(self):
        async with node_that(lambda batch: [right(one) for one in reversed(batch)]) as (rpc, _):
            assert await rpc.batch(CALLS) == list(range(5))

    async def test_f10_one_call_s_error_stands_in_its_place(self):
        def third_refused(batch):
            refusal = {"code": -32000, "message": "nonce too low"}
            return (
                [right(one) for one in batch[:2]]
                + [{"id": batch[2]["id"], "error": refusal}]
                + [right(one) for one in batch[3:]]
            )

        async with node_that(third_refused) as (rpc, _):
            answers = await rpc.batch(CALLS)
            assert isinstance(answers.pop(2), errors.NonceTooLow)
            assert answers == [0, 1, 3, 4]

    @pytest.mark.parametrize(
        "bend",
        [
            lambda answers: answers[:-1],
            lambda answers: [*answers, answers[0]],
            lambda answers: [*answers[:-1], answers[0]],
            lambda answers: [*answers[:-1], {**answers[-1], "id": 10**9}],
            lambda answers: [{"id": one["id"]} for one in answers],
            lambda answers: "what?",
            lambda answers: None,
        ],
    )
    async def test_f10_a_short_doubled_or_strange_answer_is_refused_whole(self, bend):
        async with node_that(lambda batch: json.dumps(bend([right(one) for one in batch])).encode()) as (rpc, _):
            with pytest.raises(NodeMisbehaved):
                await rpc.batch(CALLS)

    async def test_a_refused_batch_is_that_refusal(self):
        refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "limit exceeded"}}
        async with node_that(lambda batch: refusal) as (rpc, _):
            with pytest.raises(NodeRefused, match="limit exceeded"):
                await rpc.batch(CALLS)

    async def test_a_long_batch_is_asked_in_parts(self):
        async with node_that(lambda batch: [right(one) for one in batch]) as (rpc, questions):
            assert await rpc.batch([("echo", [n]) for n in range(250)]) == list(range(250))
            assert [len(batch) for batch in questions] == [100, 100, 50]


class TestOneCall:
    @pytest.mark.parametrize(
        ("answer", "status", "kind"),
        [
            (b"<html>slow down</html>", "429 Too Many Requests", NodeUnavailable),
            (b"", "502 Bad Gateway", NodeUnavailable),
            (b"<html>hello</html>", "200 OK", NodeMisbehaved),
            (b'{"jsonrpc": "2.0", "id": 1', "200 OK", NodeMisbehaved),
            (b"null", "200 OK", NodeMisbehaved),
            (b'{"jsonrpc": "2.0", "id": 999, "result": "0x1"}', "200 OK", NodeMisbehaved),
            (b'{"jsonrpc": "2.0", "id": 1, "error": "no"}', "200 OK", NodeMisbehaved),
            (None, "200 OK", NodeUnavailable),
        ],
    )
    async def test_f11_what_is_no_answer_says_what_it_is(self, answer, status, kind):
        async with node_that(lambda question: answer, status=status) as (rpc, _):
            with pytest.raises(kind):
                await rpc.call("eth_chainId")

    async def test_nobody_there(self):
        with pytest.raises(NodeUnavailable):
            await HttpRpc("http://127.0.0.1:1", seconds=0.5).call("eth_chainId")

    async def test_a_transaction_is_handed_in_once_whatever_happens(self):
        for answer in (None, b"", b"<html>"):
            async with node_that(saying(answer), status="500 Oops") as (rpc, questions):
                with pytest.raises((NodeUnavailable, NodeMisbehaved)):
                    await rpc.call("eth_sendRawTransaction", "0x02")
                assert len(questions) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["anvil", "hardhat"])
async def test_f33_f34_f35_the_real_nodes_refusals_are_known(kind, tmp_path):
    with start_local_chain(tmp_path, kind) as chain:
        account, poor = Account.from_key("0x" + "51" * 32), Account.from_key("0x" + "52" * 32)
        chain.faucet(account.address, 10**18)
        rpc = HttpRpc(chain.url)

        async def refusal(signer, **changes):
            transaction = {
                "chainId": chain.chain_id,
                "nonce": 1,
                "to": chain.accounts[0],
                "value": 1,
                "gas": 21_000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
            }
            raw = signer.sign_transaction(transaction | changes).raw_transaction
            try:
                await rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
            except NodeRefused as refused:
                return type(refused)
            return None

        assert await refusal(account, nonce=0) is None
        while chain.rpc("eth_getTransactionCount", account.address, "latest") == "0x0":
            await asyncio.sleep(0.01)
        chain.set_automine(False)
        assert await refusal(account, nonce=0, value=2) is errors.NonceTooLow
        assert await refusal(account) is None
        assert await refusal(account) is errors.AlreadyKnown
        assert await refusal(account, value=2) is errors.ReplacementUnderpriced
        assert await refusal(poor, nonce=0) is errors.InsufficientFunds
        assert await refusal(account, nonce=2, gas=20_000) is errors.GasLimitRefused
        with pytest.raises(errors.Reverted):
            await rpc.call(
                "eth_estimateGas", {"from": poor.address, "to": chain.token("USDC"), "data": "0xa9059cbb" + "11" * 64}
            )
        await rpc.close()


@pytest.mark.slow
async def test_more_gas_than_a_transaction_may_have_is_known_for_what_it_is(tmp_path):
    """EIP-7825: 2^24. On Hardhat, which enforces it."""
    with start_local_chain(tmp_path, "hardhat") as chain:
        account = Account.from_key("0x" + "51" * 32)
        chain.faucet(account.address, 10**19)
        rpc = HttpRpc(chain.url)
        terms = {"chainId": chain.chain_id, "nonce": 0, "to": chain.accounts[0], "value": 1, "maxFeePerGas": 10**11}
        for gas, refusal in ((2**24 + 1, errors.GasLimitRefused), (2**24, None)):
            signed = account.sign_transaction(terms | {"gas": gas, "maxPriorityFeePerGas": 10**9})
            raw = "0x" + signed.raw_transaction.hex()
            if refusal is None:
                await rpc.call("eth_sendRawTransaction", raw)
            else:
                with pytest.raises(refusal):
                    await rpc.call("eth_sendRawTransaction", raw)
        await rpc.close()


class InProcess:
    """eth-tester (py-evm) behind the `Rpc` protocol, as far as a block's reader asks."""

    def __init__(self) -> None:
        self.web3 = Web3(EthereumTesterProvider(EthereumTester(PyEVMBackend())))

    async def call(self, method, *params):
        (answer,) = await self.batch([(method, params)])
        if isinstance(answer, NodeRefused):
            raise answer
        return answer

    async def batch(self, calls):
        return [self._answer(method, *params) for method, params in calls]

    def _answer(self, method, *params):
        eth = self.web3.eth
        match method:
            case "eth_chainId":
                return hex(eth.chain_id)
            case "eth_getBlockByNumber" | "eth_getBlockByHash":
                which, full = params
                return as_json(
                    eth.get_block(int(which, 16) if method.endswith("Number") and "0x" in which else which, full)
                )
            case "eth_getTransactionReceipt":
                return as_json(eth.get_transaction_receipt(params[0]))
            case "eth_getBalance":
                return hex(eth.get_balance(to_checksum_address(params[0])))
        return from_node(method, -32601, "not here")


def as_json(told):
    """What web3.py made comfortable, as it is on the wire."""
    match told:
        case bool() | None | str():
            return told
        case int():
            return hex(told)
        case bytes():
            return "0x" + bytes(told).hex()
        case Mapping():
            return {name: as_json(value) for name, value in told.items()}
    return [as_json(value) for value in told]


class TestInProcess:
    async def test_a_block_of_py_evm_is_read_with_its_transfers(self):
        rpc = InProcess()
        payer, payee = list(rpc.web3.eth.accounts)[:2]
        sent = rpc.web3.eth.send_transaction({"from": payer, "to": payee, "value": Wei(5), "gas": 21_000})
        network = Network(
            name="test",
            chain_id=rpc.web3.eth.chain_id,
            rpc_urls=("in-process",),
            native_asset="ETH",
            spendable_depth=1,
            final_depth=1,
            encoding=Encoding.UNKNOWN,
        )
        node = Node(network, rpc)
        await node.check(None)
        head = await node.head()
        block = await node.block(head)
        assert block is not None
        (found,) = transfers.observations(block, {payee.lower()})
        assert (found.tx_hash, found.sender, found.amount) == ("0x" + sent.hex(), payer.lower(), 5)
        (outgoing,) = transfers.outgoing(block, {payer.lower()})
        assert outgoing.fee_wei == 10**24 - 5 - await node.balance(None, payer.lower())
        assert await node.refs([head.number]) == {head.number: head}
