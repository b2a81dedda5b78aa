"""What one treasurer may do alone: the limits of what is moved by hand, asked for each act and kept by the book."""

from collections.abc import Mapping

from base.clock import Clock
from base.errors import ConfigError, OnebookError, Unavailable
from exchange.rates import Rates, RateSource
from ledger.commands import Charge, Record
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey, worker_id
from treasury.errors import SecondPersonNeeded
from treasury.operations.manual_limits import ManualLimits, asset_of


class ByHandAlone:
    """The limits of one book. `rates` may be None where no limit is on the worth."""

    def __init__(self, limits: ManualLimits, *, ledger: Ledger, clock: Clock, rates: RateSource | None = None) -> None:
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._rates = rates

    async def charges(self, treasurer: str, moved: Mapping[str, int]) -> tuple[Charge, ...]:
        """What moving so much (smallest units by asset) uses up of a treasurer's day. Raises SecondPersonNeeded."""
        if not self._limits.any or not any(moved.values()):
            return ()
        return self._limits.charges(
            treasurer,
            moved,
            day=self._clock.now().astimezone(self._limits.zone).date(),
            assets=await self._ledger.assets(),
            rates=await self._current(),
        )

    async def record(self, key: RequestKey, treasurer: str, moved: Mapping[str, int]) -> tuple[Record, ...]:
        """The same as a command that goes before one without charges of its own; none where nothing is used up."""
        charges = await self.charges(treasurer, moved)
        if not charges:
            return ()
        return (Record(id=worker_id(f"by-hand:{key.id}", 1), facts={"by_hand": treasurer}, charges=charges),)

    async def _current(self) -> Rates | OnebookError:
        if self._rates is None:
            return Unavailable("there are no rates here")
        try:
            return await self._rates.current()
        except (Unavailable, ConfigError) as error:
            return error


def second_person(refusal: RefusedByBook) -> Exception:
    """The book's refusal in the treasurer's words, if it's about what they moved by hand."""
    asset = asset_of(refusal.facts.get("counter")) if refusal.code == Refused.LIMIT_EXCEEDED else None
    if asset is None:
        return refusal
    said, facts = "that and what you moved by hand today need a second treasurer", refusal.facts
    return SecondPersonNeeded(
        said, asset=asset, required=facts.get("required"), used=facts.get("used"), cap=facts.get("cap")
    )
