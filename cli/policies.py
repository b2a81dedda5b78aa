"""What commands about policies, keys and approvals share: files and paths, from arguments or from the configuration."""

from collections.abc import Mapping
from pathlib import Path

from base.errors import ConfigError
from cli.asking import read_text
from custody.approvals import Person
from custody.approver_keys import ApproverKeyHeader
from custody.errors import PolicyInvalid
from custody.intents import KeyRef
from custody.policy import Policy
from custody.policy_file import parse
from custody.rolekeys import address_source
from wiring.settings import Settings, find_config, load_settings


def settings_if_any(config: Path | None) -> Settings | None:
    """The configuration named, or the one that's found; None when there is none and none was named."""
    try:
        path = find_config(config)
    except ConfigError:
        if config is not None:
            raise
        return None
    return load_settings(path)


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises PolicyInvalid, which names the file."""
    try:
        return parse(read_text(path))
    except PolicyInvalid as problem:
        raise PolicyInvalid(f"{path}: {problem.message}") from problem


def policy_path(named: Path | None, settings: Settings | None, *, option: str) -> Path:
    """The policy's file: the one named, else the configured one. Raises ConfigError."""
    return _path(named, settings, "policy", option)


def journal_path(named: Path | None, settings: Settings | None) -> Path:
    """The journal's file: the one named, else the configured one. Raises ConfigError."""
    return _path(named, settings, "journal", "--journal")


def keys_path(named: Path | None, settings: Settings | None) -> Path:
    """The folder of the key files: the one named, else the configured one. Raises ConfigError."""
    return _path(named, settings, "keys", "--keys")


def socket_path(named: Path | None, settings: Settings | None) -> Path:
    """The signer's socket: the one named, else the configured one. Raises ConfigError."""
    return _path(named, settings, "signer_socket", "--socket")


def person_of(policy: Policy, key: ApproverKeyHeader, path: Path) -> Person:
    """Whom a policy calls the owner of a key. Raises ConfigError when it's nobody's."""
    found = next((person for person in policy.people if person.key == key.public_key), None)
    if found is None:
        raise ConfigError(
            f"the key in {path} belongs to none of the people of policy version {policy.version}: "
            f"{', '.join(person.name for person in policy.people) or 'it has none'}"
        )
    return found


def creators(policy: Policy, settings: Settings | None) -> Mapping[KeyRef, bytes]:
    """The addresses of the keys that create the policy's contracts, as far as the configured xpubs tell."""
    if settings is None:
        return {}
    sources = {str(name): address_source(public) for name, public in settings.xpubs.items()}
    wanted = {contract.deployer for contract in policy.contracts}
    return {key: sources[key.keys].address(key.index) for key in wanted if key.keys in sources}


def _path(named: Path | None, settings: Settings | None, setting: str, option: str) -> Path:
    if named is not None:
        return named
    if settings is None:
        raise ConfigError(f"there is no onebook.toml that would say where it is: give {option}, or --config")
    found: Path = getattr(settings, setting)
    return settings.path(found)
