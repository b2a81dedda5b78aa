"""Looks at who is to be paid: in our own records, and on the chain. What is found is judged in `wallet.recipients`."""

from datetime import timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import addresses, token_store
from chain.evm.payees import Payee
from chain.networks import Deployment, Registry
from chain.signing import AddressSource
from chain.tokens import Quirk
from db.engine import tx
from wallet import recipient_store as store
from wallet.address_forms import has_checksum, read_address
from wallet.errors import NotCreditable
from wallet.recipients import RECENT_DAYS, Note, Recipient, refuse_lost, user_at, warn_of


class PayeeReader(Protocol):
    """Knows what stands at an address; the chain's node answers."""

    async def look(self, deployment: Deployment, *, sender: str, to: str, amount: int) -> Payee:
        """Code or none, and whether it takes `amount` chain units. Raises Unavailable."""
        ...


class RecipientChecks:
    """Checks recipients of one book's withdrawals. Without `payees` nobody is asked what stands at an address.

    With `source` a user's address is derived again before it's taken for one, as whoever shows it does.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        registry: Registry,
        clock: Clock,
        payees: PayeeReader | None = None,
        source: AddressSource | None = None,
    ) -> None:
        self._engine = engine
        self._book = book
        self._registry = registry
        self._clock = clock
        self._payees = payees
        self._source = source
        self._contracts = {entry.contract: entry.asset for entry in registry.deployments if entry.contract is not None}

    async def look(self, owner: str, to: str, deployment: Deployment, *, sender: str, amount: int) -> Recipient:
        """Who `to` is, for `owner` who wants to pay `amount` chain units there from the house's address `sender`.

        Raises InvalidAddress, Precompile, TokenContract, OwnAddress, NotCreditable, AddressesDisagree (a user's address
        isn't what our public keys give), and Unavailable where the chain can't be asked.
        """
        address = read_address(to)
        refuse_lost(address, self._contracts)
        since = self._clock.now() - timedelta(days=RECENT_DAYS)
        family = self._registry.network(deployment.network).family
        async with tx(self._engine) as connection:
            held = await store.load_held(connection, family, address)
            user = user_at(held, book=self._book, owner=owner)
            dealings = await store.load_dealings(connection, self._book, owner, address, since=since)
            doubt = await token_store.doubt(connection, deployment.network, deployment.contract)
        if held is not None and user is not None:
            if self._source is not None:
                addresses.confirmed(self._source, held.own)
            _refuse_uncreditable(deployment, doubt)
        payee = Payee(is_contract=False, refuses=False)
        if user is None and self._payees is not None:
            payee = await self._payees.look(deployment, sender=sender, to=address, amount=amount)
        found = {
            Note.FIRST_TIME: not dealings.paid,
            Note.NO_CHECKSUM: not has_checksum(to),
            Note.CONTRACT: payee.is_contract,
        }
        return Recipient(
            address=address,
            user=user,
            warnings=warn_of(address, paid=dealings.paid, known=dealings.twins, refuses=payee.refuses),
            notes=tuple(note for note, is_so in found.items() if is_so),
        )


def _refuse_uncreditable(deployment: Deployment, doubt: str | None) -> None:
    """Raise NotCreditable for what wouldn't be credited to a user either if it came over the chain."""
    asset, network = deployment.asset, deployment.network
    if doubt is not None:
        raise NotCreditable(
            f"this address is a user's here, and nobody is credited with {asset} on {network} now: {doubt}",
            param="asset",
            networks=[network],
        )
    if Quirk.REBASING in deployment.quirks:
        raise NotCreditable(
            f"this address is a user's here, and deposits of {asset} on {network} aren't credited by themselves: its"
            " balances change without a transfer",
            param="asset",
            networks=[network],
        )
