"""What a run leaves for its checker: what was asked and answered, and where book and chain are. Plain data."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request of a user's, however often it was sent. `ids` and `refusals` are all different answers to it.

    `route` and `key` are what makes it the same request; `kind` is withdraw, transfer or convert. `gives` and `gets`
    are (asset, smallest units) of its user; what a transfer gives goes to `other`.
    """

    kind: str
    user: str
    route: str
    key: str
    gives: tuple[str, int]
    gets: tuple[str, int] | None = None
    other: str = ""
    address: str = ""
    sent: int = 0
    ids: set[str] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)

    @property
    def answered(self) -> bool:
        return bool(self.ids or self.refusals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where to look, and what the run knows by itself. Addresses are lower-case hex.

    `tokens`: contract -> asset; an asset without a contract is the network's own coin, `native`. `addresses`: the
    deposit addresses that users were told, with their users. `minimums`: by asset, the smallest deposit that is
    credited. `listed`: who is on the screening list.
    """

    node_url: str
    book: str
    network: str
    native: str
    tokens: Mapping[str, str]
    hot: Collection[str]
    addresses: Mapping[str, str]
    minimums: Mapping[str, int]
    listed: Collection[str]
    asked: tuple[Asked, ...]
