"""The real process and its socket: what it signs, what it survives, what it refuses to start with."""

import pytest

from custody.derivation import Role
from tests.custody.samples import token_transfer
from tests.support.signer import RunningSigner

pytestmark = pytest.mark.slow


async def test_an_allowed_transfer_is_signed_by_the_hot_key(signer: RunningSigner):
    client = signer.client()
    status = await client.status()
    assert status.xpubs == signer.xpubs
    signed = await client.sign(token_transfer(), highest=None)
    assert signed.sequence == 3
    assert await client.addresses(Role.DEPOSIT, first=0, count=1000) == [
        signer.address(Role.DEPOSIT, i) for i in range(1000)
    ]
    await client.close()
