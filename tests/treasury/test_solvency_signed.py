"""Proofs of control with the real signer and a real node, from the worker's steps to a check on a reader's machine."""

import json

import pytest
import pytest_asyncio

from chain.errors import SignerUnavailable
from custody.derivation import Role
from tests.support.chain import start_local_chain
from tests.support.command import onebook
from tests.support.postgres import fresh_database
from tests.treasury.solvency_world import (
    address,
    anchoring_policy,
    open_house,
    running_signer,
    seal,
    shown,
    solvent_house,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with start_local_chain(tmp_path_factory.mktemp("signed")) as running:
        yield running


@pytest.fixture(scope="module")
def signer(chain, tmp_path_factory):
    """Its policy lets gas and deposit addresses prove control, and hot ones not."""
    hot = 'kind = "proof"\nrole = "hot"'
    rules = anchoring_policy(chain).split("\n[[rules]]")
    assert len([rule for rule in rules if hot in rule]) == 1
    deposits = f'\nname = "deposits prove control"\nkind = "proof"\nrole = "deposit"\nchain_id = {chain.chain_id}\n'
    kept = [*(rule for rule in rules if hot not in rule), deposits + 'to = "own:deposit"\n']
    with running_signer(tmp_path_factory.mktemp("signer"), "\n[[rules]]".join(kept)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(chain, signer, postgres, tmp_path_factory):
    """It makes an epoch every ten minutes, in which one deposit address is named. Nothing is anchored."""
    home = tmp_path_factory.mktemp("house")
    told = {"every": "10m", "deposit_addresses": 1}
    async with (
        fresh_database(postgres) as database,
        solvent_house(chain, signer, database, home, solvency=told) as found,
    ):
        steps = dict(found.steps)
        found.steps = {name: step for name, step in steps.items() if name != "solvency"}
        await open_house(found, signer)
        found.steps = steps
        yield found


def verified(folder, file, *options):
    path = folder / "file.json"
    path.write_text(json.dumps(file))
    return onebook("verify", "solvency", path, *options, cwd=folder)


def standings(told):
    return {(one["place"].split(" ")[0], one["asset"]): one["standing"] for one in told["reserves"]}


async def test_an_epoch_made_signed_and_sealed_by_the_worker_is_verified_offline(house, signer, tmp_path):
    """The only steps are the worker's own; whoever checks has nothing but the file and the key of seals."""
    await house.work()
    await seal(house)
    await house.work()
    told = await shown(house, 1)
    assert standings(told) == {("hot", "USDC"): "stated", ("gas", "ETH"): "proven", ("deposit", "USDC"): "proven"}
    assert told["controls_at"] is not None
    by_address = {one["address"]: one for one in told["controls"]}
    hot, gas = address(signer, Role.HOT), address(signer, Role.GAS)
    assert (by_address[gas]["signed"], by_address[gas]["refusal"]) == (True, None)
    assert by_address[hot]["signed"] is False
    assert by_address[hot]["refusal"], "why the policy wouldn't"

    file = (await house.alice.get("/v1/solvency", epoch=1)).json()
    settings = house.parts.settings
    key = settings.path(settings.seals) / "seal.pem"
    options = ("--user", house.alice.user, "--epoch", "1", "--root", told["digest"], "--key", key)
    checked = verified(tmp_path, file, *options, "--json")
    assert checked.returncode == 0, checked.stderr
    found = json.loads(checked.stdout)
    assert (found["root_compared"], found["epoch"]["key_compared"]) == (True, True)
    assert [(one["asset"], one["amount"]) for one in found["proofs"]] == [("USDC", str(100 * 10**6))]
    held = {one["asset"]: one for one in found["epoch"]["held"]}
    assert held["USDC"] == {"asset": "USDC", "proven": str(100 * 10**6), "stated": str(100 * 10**6)}
    assert held["ETH"] == {"asset": "ETH", "proven": str(10**18)}

    (own,) = [one for one in file["epoch"]["controls"] if one["address"] == gas]
    others = [one for one in file["epoch"]["controls"] if one["address"] != gas]
    for forged in (own | {"address": hot}, own | {"signature": others[0]["signature"]}):
        altered = file | {"epoch": file["epoch"] | {"controls": [*others, forged]}}
        refused = verified(tmp_path, altered, *options)
        assert (refused.returncode, "isn't by its key" in refused.stderr) == (1, True)


async def test_a_signer_that_is_away_is_told_and_nothing_is_called_proven_until_it_has_signed(house, signer, tmp_path):
    signer.kill()
    await house.work()
    epoch = await house.services.epochs.make()
    number = epoch.row.number
    with pytest.raises(SignerUnavailable):
        await house.steps["solvency-ends"]()
    told = await shown(house, number)
    assert set(standings(told).values()) == {"stated"}
    assert told["controls_at"] is None, "not all have been asked"
    assert not any(one["signed"] for one in told["controls"])
    file = (await house.alice.get("/v1/solvency", epoch=number)).json()
    assert file["epoch"]["controls"] == []
    checked = verified(tmp_path, file, "--json")
    assert checked.returncode == 0
    assert not any("proven" in one for one in json.loads(checked.stdout)["epoch"]["held"])

    signer.restart()
    assert await house.steps["solvency-ends"]() == 1
    told = await shown(house, number)
    assert (told["controls_at"] is not None, standings(told)["gas", "ETH"]) == (True, "proven")
