"""Which payout contracts the signer's policy names, by network, and where each lies.

The policy is the one place that says who creates the contract, and with which nonce: so its address can be computed,
and at no other one would the signer sign a batch.
"""

from collections.abc import Iterable
from pathlib import Path

from eth_hash.auto import keccak

from base.errors import ConfigError, OnebookError
from chain.evm.addresses import created_address
from chain.networks import Network
from chain.payout import payout_code
from chain.payout_contract import PayoutContract
from chain.signing import AddressSource, OwnKey, Role
from custody.policy import Policy
from custody.policy_file import parse


def read_policy_copy(path: Path) -> Policy:
    """Our copy of the signer's policy. Raises ConfigError, which names the file."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"the signer's policy can't be read at {path}: {problem}") from problem
    except OnebookError as problem:
        raise ConfigError(f"{path}: {problem.message}") from problem


def contract_on(policy: Policy, network: Network, addresses: AddressSource) -> PayoutContract | None:
    """The contract with our code that the policy names on `network`; None if it names none.

    Raises NoKeyAtIndex, KeyNotRecorded where no public key of its deployer is configured.
    """
    code_hash = bytes(keccak(payout_code().creation))
    for contract in policy.contracts:
        if contract.chain_id == network.chain_id and contract.code_hash == code_hash:
            key = contract.deployer
            deployer = OwnKey(Role(key.role.value), key.index, key.generation)
            address = created_address(addresses.address(deployer).lower(), contract.nonce)
            return PayoutContract(network.name, address, deployer, contract.nonce)
    return None


def known_contracts(path: Path, networks: Iterable[Network], addresses: AddressSource) -> dict[str, PayoutContract]:
    """The contracts that our copy of the policy names, by network; none where there is no copy that can be read."""
    try:
        policy = read_policy_copy(path)
        found = {network.name: contract_on(policy, network, addresses) for network in networks}
    except OnebookError:
        return {}
    return {name: contract for name, contract in found.items() if contract is not None}
