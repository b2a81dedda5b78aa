"""`onebook approve` on files: what people see and type, and that the signer believes what they signed, once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from custody.approval_requests import read_request, signed_from_text
from custody.approvals import Mandate, approval_statement
from custody.errors import SignerRefused
from custody.intent_json import intent_to_json
from tests.custody.samples import CHAIN, COLD, PEOPLE, TOKEN, full_policy, token_transfer
from tests.support.approvers import PASSPHRASE, approver_files
from tests.support.command import onebook
from tests.support.signer import start_signer

pytestmark = pytest.mark.slow

NAMED = full_policy(extra=f'\n[[names]]\nchain_id = {CHAIN}\nasset = "0x{TOKEN.hex()}"\nname = "USDC"\ndecimals = 6\n')
PAYMENT = token_transfer(subject="mov_1", to=COLD, amount=125_000)


class Desk:
    """A folder with a policy, people's keys and a request of cleo's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = approver_files(folder)
        (folder / "policy.toml").write_text(NAMED)
        (folder / "payment.json").write_text(json.dumps(intent_to_json(PAYMENT)))
        made = self.run("approver", "request", "payment.json", "--fee-wei-max", str(10**16), by="cleo", typed="y\n")
        assert made[0] == 0, made

    def run(self, *words: str, by: str, typed: str = "", out: str = "request.json") -> tuple[int, str]:
        arguments: tuple[str | Path, ...] = (*words, "--policy", "policy.toml", "--key", self.files[by], "--out", out)
        ended = onebook(*arguments, cwd=self.folder, passphrase=PASSPHRASE, typed=typed)
        return ended.returncode, ended.stdout + ended.stderr

    def approve(self, by: str, typed: str = "0.125\n", request: str = "request.json") -> tuple[int, str]:
        return self.run("approve", request, by=by, typed=typed, out=f"{by}.signature")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_approvals_from_files_are_believed_by_the_signer_once(desk: Desk):
    code, said = desk.approve("ada")
    assert code == 0, said
    assert "0.125 USDC" in said
    assert "0x3C44 CdDd B6a9 00fa 2b58 5dd2 99e0 3d12 FA42 93BC" in said
    assert "This can't check:" in said
    assert desk.approve("ben")[0] == 0
    request = read_request((desk.folder / "request.json").read_text())
    signatures = []
    for name in ("ada", "ben"):
        statement, signature = signed_from_text((desk.folder / f"{name}.signature").read_text())
        assert statement == request.statement == approval_statement(PAYMENT, request.mandate)
        signatures.append(signature)

    signer = start_signer(desk.folder / "signer", NAMED)
    client = signer.client()

    async def refusal(mandate: Mandate | None) -> str:
        with pytest.raises(SignerRefused) as caught:
            await client.sign(PAYMENT, highest=None, mandate=mandate)
        return caught.value.code

    assert await refusal(None) == "approvals_missing"
    assert await refusal(replace(request.mandate, approvals=(signatures[0],))) == "approvals_missing"
    whole = replace(request.mandate, approvals=tuple(signatures))
    assert await refusal(replace(whole, not_after=whole.not_after + 1)) == "maker_unproven"
    signed = await client.sign(PAYMENT, highest=None, mandate=whole)
    assert (await client.sign(PAYMENT, highest=None)).raw == signed.raw
    await client.close()
    assert signer.stop() == 0


def test_nobody_signs_without_typing_the_amount(desk: Desk):
    for typed in ("", "y\n", "125000\n", "0.1250\n", " 0.125 0\n"):
        code, said = desk.approve("ada", typed)
        assert (code, "nothing was done" in said) == (1, True), said
    assert not (desk.folder / "ada.signature").exists()


def test_the_maker_a_stranger_and_another_version_cannot_approve(desk: Desk):
    code, said = desk.approve("cleo")
    assert (code, "cleo made it, and can't approve it" in said) == (1, True)
    (desk.folder / "policy.toml").write_text(NAMED.replace("version = 1", "version = 2", 1))
    code, said = desk.approve("ada")
    assert (code, "it's for policy version 1, your file is version 2" in said) == (1, True)
    ada = PEOPLE["ada"].public_key().public_bytes_raw().hex()
    (desk.folder / "policy.toml").write_text(NAMED.replace(ada, "11" * 32))
    code, said = desk.approve("ada")
    assert (code, "belongs to none of the people" in said) == (2, True)


def test_a_changed_request_is_shown_as_it_is_signed(desk: Desk):
    told = json.loads((desk.folder / "request.json").read_text())
    told["terms"]["amount"] = "1250000000"
    (desk.folder / "request.json").write_text(json.dumps(told))
    code, said = desk.approve("ada")
    assert (code, "1250 USDC" in said) == (1, True), "typing the old amount isn't enough"
    (desk.folder / "request.json").write_text("{}")
    assert desk.approve("ada")[0] == 1
