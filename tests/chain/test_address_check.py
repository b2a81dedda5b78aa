"""Our keys and addresses beside a real signer's: what was altered is named, and nothing is issued until it's right.

Its deposit key was rotated once: most tests know nothing of it, as a service does where nobody recorded the new one.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from base.clock import Clock
from base.entropy import SystemEntropy
from chain import address_check, addresses
from chain.address_check import OLD_AT_ONCE, AddressCheck, open_findings
from chain.address_pool import AddressPool
from chain.errors import AddressesAltered, AddressesDisagree, SignerUnavailable
from chain.signing import KeySet, OwnKey, Role
from cli.commands.doctor import Verdict, installation
from custody.ceremony import draw_keys, keys_of, store_keys
from custody.client import SignerClient
from custody.clocks import SystemClocks
from custody.derivation import AccountKeys
from custody.derivation import Role as CustodyRole
from custody.enrolment import accept_policy
from custody.keystore import PassphraseWrap, open_key
from custody.policy_file import parse
from db.engine import tx
from db.errors import AccessRefused
from tests.chain.support import BOOK
from tests.custody.samples import policy_text
from tests.support.postgres import Database
from tests.support.signer import LIGHT, PASSPHRASE, RunningSigner, start_signer, write_policy
from wiring.signing import SignerKeys, XpubAddresses

pytestmark = pytest.mark.slow

HIGHEST = 600
STRANGER = "0x" + "66" * 20


@pytest.fixture(scope="module")
def signer(tmp_path_factory) -> Iterator[RunningSigner]:
    """One for all these tests: they only ask it for addresses."""
    folder: Path = tmp_path_factory.mktemp("signer")
    running = start_signer(folder, policy_text(highest_deposit_index=HIGHEST))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def xpubs(signer) -> dict[str, str]:
    """All its public keys by name, once it has a second deposit key."""
    signer.stop()
    public = signer.rotate()
    text = policy_text(highest_deposit_index=HIGHEST).replace("version = 1", "version = 2", 1)
    text += f'\n[keys]\n"deposit.2" = "{public.fingerprint.hex()}"\n'
    held = {
        **keys_of(signer.keys),
        "deposit.2": open_key(signer.folder / "keys", CustodyRole.DEPOSIT, passphrase=PASSPHRASE, generation=2).keys(),
    }
    write_policy(signer.folder, text)
    accept_policy(signer.journal, held, parse(text), clocks=SystemClocks())
    signer.restart()
    return {role.value: xpub for role, xpub in signer.xpubs.items()} | {"deposit.2": public.public}


@dataclass
class Place:
    """A database of ours, its worker's two steps, and whoever may alter it behind our back."""

    database: Database
    clock: Clock
    signer: RunningSigner
    client: SignerClient
    source: XpubAddresses
    rotated: XpubAddresses

    def __post_init__(self) -> None:
        self.engine = self.database.engine()
        self.owner = self.database.engine(owner=True)

    def check(self, source: XpubAddresses | None = None) -> AddressCheck:
        marks = (source or self.source).fingerprints
        keys, always = SignerKeys(self.client), timedelta(0)
        return AddressCheck(self.engine, keys=keys, fingerprints=marks, clock=self.clock, old_every=always)

    async def issue(self, owner: str = "usr_a", source: XpubAddresses | None = None):
        async with tx(self.engine) as connection:
            return await addresses.issue(connection, source or self.source, book=BOOK, owner=owner, clock=self.clock)

    async def fill(self, full: int = 20) -> None:
        pool = AddressPool(
            self.engine,
            source=self.rotated,
            fingerprints=self.rotated.fingerprints,
            keys=None,
            reserver=None,
            clock=self.clock,
            full=full,
        )
        while await pool.step():
            pass

    async def alter(self, statement: str) -> None:
        """What an intruder with the owner's password can do, or an operator who puts it right."""
        async with tx(self.owner) as connection:
            assert (await connection.execute(text(statement))).rowcount == 1

    async def findings(self):
        async with tx(self.engine) as connection:
            return [(str(one.keys), one.key_index, one.derived, one.found) for one in await open_findings(connection)]

    async def unchecked(self) -> int:
        asked = "SELECT (SELECT count(*) FROM chain_addresses WHERE checked_at IS NULL)"
        asked += " + (SELECT count(*) FROM chain_address_pool WHERE checked_at IS NULL)"
        async with tx(self.engine) as connection:
            return int((await connection.execute(text(asked))).scalar_one())

    async def begin(self, generation: int) -> None:
        """Bring a generation into force, as the pool does at the signer's word."""
        async with tx(self.engine) as connection:
            await addresses.begin_indexes(connection, keys=KeySet(Role.DEPOSIT, generation))

    def derived(self, index: int, generation: int = 1) -> str:
        return self.rotated.address(OwnKey(Role.DEPOSIT, index, generation))


@pytest.fixture
async def place(database, clock, signer, xpubs) -> AsyncIterator[Place]:
    client = SignerClient(signer.socket)
    yield Place(database, clock, signer, client, XpubAddresses(signer.xpubs), XpubAddresses(xpubs))
    await client.close()


def others() -> XpubAddresses:
    """The addresses of somebody else's keys."""
    return XpubAddresses({role: AccountKeys(role, bytes(range(64))).xpub for role in CustodyRole})


async def test_what_is_new_is_compared_once_and_marked(place):
    await place.fill()
    for name in ("usr_a", "usr_b"):
        await place.issue(name)
    async with tx(place.engine) as connection:
        await addresses.enrol(connection, place.source, key=OwnKey(Role.HOT, 0), clock=place.clock)
    check = place.check()
    assert await check.step() == 21
    assert await place.unchecked() == 0
    assert await check.step() == 0
    assert await place.findings() == []


async def test_f81_an_issued_address_that_was_altered_is_named_and_issuing_stops_until_it_is_right(place):
    first = await place.issue()
    check = place.check()
    await check.step()
    await place.alter(f"UPDATE chain_addresses SET address = '{STRANGER}' WHERE key_index = 0")
    with pytest.raises(AddressesAltered, match=f"deposit address 0: {STRANGER} here, the signer has {first.address}"):
        await check.step()
    assert await place.findings() == [("deposit", 0, first.address, STRANGER)]
    with pytest.raises(AddressesDisagree):
        await place.issue("usr_b")
    with pytest.raises(AddressesAltered):  # as long as it lasts
        await check.step()
    assert len(await place.findings()) == 1

    await place.alter(f"UPDATE chain_addresses SET address = '{first.address}' WHERE key_index = 0")
    await check.step()
    assert await place.findings() == []
    assert (await place.issue("usr_b")).address == place.derived(1)


async def test_f81_an_address_of_the_pool_that_was_altered_is_named_before_anybody_gets_it(place):
    await place.fill()
    check = place.check()
    await check.step()
    await place.alter(f"UPDATE chain_address_pool SET address = '{STRANGER}' WHERE key_index = 7")
    with pytest.raises(AddressesAltered):
        await check.step()
    assert await place.findings() == [("deposit", 7, place.derived(7), STRANGER)]
    with pytest.raises(AddressesDisagree):
        await place.issue()
    await place.alter("DELETE FROM chain_address_pool WHERE key_index = 7")
    await check.step()
    assert [(await place.issue()).key.index for _ in range(8)] == [0, 1, 2, 3, 4, 5, 6, 8]


async def test_f81_an_extended_public_key_that_is_not_the_signers_is_named_and_issuing_stops(place):
    wrong = others()
    with pytest.raises(AddressesAltered, match="deposit extended public key"):
        await place.check(wrong).step()
    named = await place.findings()
    assert [(keys, index) for keys, index, _, _ in named] == [(role, None) for role in ("deposit", "hot", "gas")]
    marks = {role.value: key.fingerprint for role, key in place.signer.keys.items()}
    assert all(derived == marks[keys].hex() != found for keys, _, derived, found in named)
    with pytest.raises(AddressesDisagree):
        await place.issue()
    await place.check().step()
    assert await place.findings() == []


async def test_f81_an_address_issued_by_a_process_with_another_key_is_named_in_the_next_step(place):
    """The worker's key is right; some API process derives from another one, and the pool was empty."""
    foreign = await place.issue(source=others())
    with pytest.raises(AddressesAltered):
        await place.check().step()
    assert await place.findings() == [("deposit", 0, place.derived(0), foreign.address)]
    with pytest.raises(AddressesDisagree):
        await place.issue("usr_b")


async def test_f81_a_process_with_another_key_gives_out_nothing_of_the_pool(place):
    await place.fill()
    with pytest.raises(AddressesDisagree):
        await place.issue(source=others())
    assert (await place.issue()).key.index == 0


async def test_f81_older_rows_come_up_in_turn_within_one_cycle(place, monkeypatch):
    monkeypatch.setattr(address_check, "OLD_AT_ONCE", 8)
    await place.fill(full=30)
    check = place.check()
    await check.step()
    await place.alter(f"UPDATE chain_address_pool SET address = '{STRANGER}' WHERE key_index = 29")
    named = 0
    for _ in range(5):  # 30 rows, 8 in a step: four steps, and one that may have begun
        try:
            await check.step()
        except AddressesAltered:
            named += 1
    assert named
    assert await place.findings() == [("deposit", 29, place.derived(29), STRANGER)]
    assert OLD_AT_ONCE == 200


async def test_f81_a_row_beyond_the_policy_is_named_and_hides_no_other(place):
    for name in ("usr_a", "usr_b"):
        await place.issue(name)
    beyond = f"('evm', 'deposit', 1, {HIGHEST + 1}, '{STRANGER}', 'main', 'usr_c', now())"
    columns = "(family, role, generation, key_index, address, book, owner, issued_at)"
    await place.alter(f"INSERT INTO chain_addresses {columns} VALUES {beyond}")
    await place.alter(f"UPDATE chain_addresses SET address = '{'0x' + '67' * 20}' WHERE key_index = 1")
    with pytest.raises(AddressesAltered, match="2 of our keys or addresses"):
        await place.check().step()
    assert {index: derived for _, index, derived, _ in await place.findings()} == {
        1: place.derived(1),
        HIGHEST + 1: None,
    }


async def test_a_range_that_the_signer_refuses_is_compared_as_far_as_it_goes(place):
    async with tx(place.engine) as connection:
        await addresses.begin_indexes(connection)
        await connection.execute(text("UPDATE chain_address_counters SET next_index = 598"))
    for number in range(5):  # 598 to 602; the highest of the policy is 600
        await place.issue(f"usr_{number}")
    with pytest.raises(AddressesAltered):
        await place.check().step()
    assert [(index, derived) for _, index, derived, _ in await place.findings()] == [(601, None), (602, None)]
    assert await place.unchecked() == 2


async def test_addresses_of_all_generations_are_compared(place):
    """The same index of two keys: the altered one is named, and with its key's name."""
    old = await place.issue("usr_a")
    await place.begin(2)
    await place.fill()
    new = await place.issue("usr_a", source=place.rotated)
    check = place.check(place.rotated)
    assert await check.step() == 21
    assert (old.address, new.address) == (place.derived(0), place.derived(0, 2))
    await place.alter(f"UPDATE chain_addresses SET address = '{STRANGER}' WHERE generation = 2")
    with pytest.raises(AddressesAltered, match=f"deposit.2 address 0: {STRANGER} here, the signer has {new.address}"):
        await check.step()
    assert await place.findings() == [("deposit.2", 0, new.address, STRANGER)]
    await place.alter(f"UPDATE chain_addresses SET address = '{new.address}' WHERE generation = 2")
    await place.alter(f"UPDATE chain_addresses SET address = '{STRANGER}' WHERE generation = 1")
    with pytest.raises(AddressesAltered):
        await check.step()
    assert await place.findings() == [("deposit", 0, old.address, STRANGER)]


async def test_f81_a_new_key_that_is_not_the_signers_is_named_and_nothing_is_issued_until_it_is_corrected(place, xpubs):
    await place.fill()
    wrong = XpubAddresses(xpubs | {"deposit.2": AccountKeys(CustodyRole.DEPOSIT, bytes(range(64))).xpub})
    with pytest.raises(AddressesAltered, match=r"deposit\.2 extended public key"):
        await place.check(wrong).step()
    with pytest.raises(AddressesDisagree, match=r"deposit\.2 key"):
        await place.issue()
    for corrected in (place.rotated, place.source):  # the right one, or none
        await place.check(corrected).step()
        assert await place.findings() == []
        with pytest.raises(AddressesAltered):
            await place.check(wrong).step()


async def test_a_key_that_is_recorded_before_the_signer_has_it_stops_nothing(place, xpubs):
    early = XpubAddresses(xpubs | {"deposit.3": AccountKeys(CustodyRole.DEPOSIT, bytes(range(64))).xpub})
    await place.issue(source=early)
    assert await place.check(early).step() == 1
    assert await place.findings() == []


async def test_addresses_of_a_key_that_the_signer_lost_are_named(place, xpubs):
    lost = XpubAddresses(xpubs | {"deposit.3": AccountKeys(CustodyRole.DEPOSIT, bytes(range(64))).xpub})
    await place.begin(3)
    own = await place.issue(source=lost)
    with pytest.raises(AddressesAltered, match=r"deposit\.3 address 0: .* here, the signer derives none"):
        await place.check(lost).step()
    assert await place.findings() == [("deposit.3", 0, None, own.address)]


async def test_the_services_own_role_cant_alter_what_was_issued(place):
    await place.issue()
    with pytest.raises(AccessRefused):
        async with tx(place.engine) as connection:
            await connection.execute(text(f"UPDATE chain_addresses SET address = '{STRANGER}'"))


async def test_a_signer_that_is_away_leaves_everything_as_it_is(place, tmp_path):
    await place.issue()
    away = AddressCheck(
        place.engine,
        keys=SignerKeys(SignerClient(tmp_path / "nobody.sock")),
        fingerprints=place.source.fingerprints,
        clock=place.clock,
    )
    with pytest.raises(SignerUnavailable):
        await away.step()
    assert await place.unchecked() == 1
    assert (await place.issue("usr_b")).key.index == 1


def configured(place: Place, folder: Path, xpubs: Mapping[str, str] | Mapping[CustodyRole, str]) -> Path:
    """An installation's file that records these public keys."""
    config = folder / "onebook.toml"
    config.write_text(
        f'database_url = "{place.database.app_url}"\nsigner_socket = "{place.signer.socket}"\n'
        '[[assets]]\ncode = "ETH"\nkind = "crypto"\nscale = 18\n'
        '[[networks]]\nname = "local"\nchain_id = 31337\nrpc_urls = ["http://127.0.0.1:9"]\nnative_asset = "ETH"\n'
        "[xpubs]\n" + "".join(f'"{name!s}" = "{xpub}"\n' for name, xpub in xpubs.items())
    )
    return config


async def shown(config: Path) -> dict[str, tuple[Verdict, str]]:
    """What doctor says of it."""
    return {finding.what: (finding.verdict, finding.text) for finding in await installation(config)}


async def test_doctor_says_how_far_a_rotation_has_come(place, xpubs, tmp_path):
    public = AccountKeys(CustodyRole.DEPOSIT, bytes(range(64))).xpub
    unrecorded = {role.value: xpub for role, xpub in place.signer.xpubs.items()}
    drawn = draw_keys(SystemEntropy(), [CustodyRole.DEPOSIT], generation=3)
    store_keys(tmp_path / "keys", drawn, wrap=PassphraseWrap(PASSPHRASE, LIGHT), entropy=SystemEntropy())

    verdict, told = (await shown(configured(place, tmp_path, xpubs)))["deposit.3 key"]
    assert (verdict, told[:47]) == (Verdict.MIND, "its file is there, but the signer hasn't got it")
    said = await shown(configured(place, tmp_path, unrecorded))
    assert said["deposit.2 key"][0] is Verdict.MIND
    assert "it isn't recorded, so nothing comes from it" in said["deposit.2 key"][1]
    assert xpubs["deposit.2"] not in said["deposit.2 key"][1], "what the socket says is nothing to be copied"
    verdict, told = (await shown(configured(place, tmp_path, xpubs | {"deposit.3": public})))["deposit.3 key"]
    assert (verdict, told[:39]) == (Verdict.MISSING, "recorded, but the signer hasn't got it:")
    verdict, told = (await shown(configured(place, tmp_path, xpubs | {"deposit.2": public})))["deposit.2 key"]
    assert (verdict, told[-33:]) == (Verdict.MISSING, "put back the one it was made with")

    done = await shown(configured(place, tmp_path, xpubs))
    assert "deposit.2 key" not in done
    assert done["addresses"] == (Verdict.FINE, "none was found to differ from the signer's; new ones come from deposit")
    await place.begin(2)
    assert (await shown(configured(place, tmp_path, xpubs)))["addresses"][1].endswith("new ones come from deposit.2")
    lost = (await shown(configured(place, tmp_path, unrecorded)))["addresses"]
    assert lost[0] is Verdict.MISSING
    assert "deposit.2, which isn't recorded" in lost[1]


async def test_f81_doctor_shows_an_altered_address_and_a_key_that_is_not_the_signers(place, tmp_path):
    xpubs = place.signer.xpubs | {CustodyRole.GAS: AccountKeys(CustodyRole.GAS, bytes(range(64))).xpub}
    config = configured(place, tmp_path, xpubs)

    before = await shown(config)
    assert before["addresses"][0] is Verdict.FINE
    assert before["gas key"][0] is Verdict.MISSING
    assert "deposit key" not in before
    await place.issue()
    await place.alter(f"UPDATE chain_addresses SET address = '{STRANGER}' WHERE key_index = 0")
    with pytest.raises(AddressesAltered):
        await place.check().step()
    verdict, told = (await shown(config))["addresses"]
    assert verdict is Verdict.MISSING
    assert f"deposit address 0: {STRANGER} here, the signer has {place.derived(0)}" in told
