"""What a house says of itself in one epoch: what it owes, what it holds, where anybody can look. One hash of it. Pure.

The statement is plain JSON. Its canonical form (keys sorted, no spaces, ASCII) is hashed under a tag, and that hash is
what the book's seals cover, what own addresses sign, and what may be written on a chain. What shows control, and the
seal, come later than the statement and stand beside it, so they are no part of the hash.

How far each reserve is shown is never told by the house: whoever checks works it out (`treasury.solvency_reading`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec

FORMAT = "onebook-epoch-2"

DIGITS = 6
"""Decimals to which a coverage is told, rounded down."""

RESERVES_MAX = 20_000
"""Lines of reserves in a statement; more can't be meant."""

_TAG = b"\x05"
"""Stands before what is hashed, so that it's no node and no root of a tree."""

_KEY_TAG = b"\x06"

Amount = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,77})$")]
Signed = Annotated[str, msgspec.Meta(pattern=r"^(0|-?[1-9][0-9]{0,77})$")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:+-]{1,100}$")]
Text = Annotated[str, msgspec.Meta(pattern=r"^[ !#-\[\]-~]{1,200}$")]
"""Printable ASCII without what JSON would have to escape."""
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{40}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    pass


class ListTold(_Told, frozen=True, kw_only=True):
    """One asset's tree: how many users it lists, what all of them are owed, its root."""

    asset: Name
    users: Count
    total: Amount
    root: Digest


class Coverage(_Told, frozen=True, kw_only=True):
    """One asset in sum, in smallest units. `ratio`: held by owed, rounded down; None where nothing is owed.

    `held` is the sum of its reserves. `receivable` is what users owe the house, `in_transit` and `unassigned` what the
    house owes to somebody who is in no list: beside both sums, and part of neither.
    """

    asset: Name
    owed: Amount
    held: Signed
    ratio: str | None
    receivable: Amount
    in_transit: Signed
    unassigned: Signed


class BlockTold(_Told, frozen=True, kw_only=True):
    """The final block at which a network's balances were read, and how many nodes told them."""

    network: Name
    chain_id: Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]
    block_number: Count
    block_hash: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$")]
    nodes: Annotated[int, msgspec.Meta(ge=1, le=2)]


class AtAddress(_Told, frozen=True, kw_only=True, tag_field="kind", tag="address"):
    """What one named address holds; anybody can look at the block."""

    asset: Name
    amount: Amount
    network: Name
    role: Name
    address: Address


class AtAddresses(_Told, frozen=True, kw_only=True, tag_field="kind", tag="addresses"):
    """What so many addresses hold together which aren't named, since they would tell whose deposits they were."""

    asset: Name
    amount: Amount
    network: Name
    role: Name
    addresses: Count


class AtBank(_Told, frozen=True, kw_only=True, tag_field="kind", tag="bank"):
    """What a bank's statement says that it owes us at the end of a day."""

    asset: Name
    amount: Signed
    account: Name
    statement: Text
    as_of: Text


class AtProvider(_Told, frozen=True, kw_only=True, tag_field="kind", tag="provider"):
    """What a payment provider said that it owes us, when it was asked for this epoch."""

    asset: Name
    amount: Signed
    provider: Name


Reserve = AtAddress | AtAddresses | AtBank | AtProvider


class Statement(_Told, frozen=True, kw_only=True):
    """An epoch. `seq`: the command of the book at which users and the house's accounts were read together.

    `books`: how many books share the addresses and accounts; what they hold is for the users of all of them. `untold`:
    providers that couldn't say what they owe us; nothing of theirs is counted. `key`: the hash of the secret that the
    salts are made with, so that the house has one only.
    """

    format: str
    book: Name
    number: Annotated[int, msgspec.Meta(ge=1, lt=2**59)]
    seq: Count
    booked_at: Text
    made_at: Text
    key: Digest
    books: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    lists: Annotated[tuple[ListTold, ...], msgspec.Meta(max_length=1_000)]
    coverage: Annotated[tuple[Coverage, ...], msgspec.Meta(max_length=2_000)]
    networks: Annotated[tuple[BlockTold, ...], msgspec.Meta(max_length=1_000)]
    reserves: Annotated[tuple[Reserve, ...], msgspec.Meta(max_length=RESERVES_MAX)]
    untold: Annotated[tuple[Name, ...], msgspec.Meta(max_length=1_000)]

    @property
    def epoch(self) -> str:
        """Its name: `<book>/<number>`."""
        return f"{self.book}/{self.number}"

    def list_of(self, asset: str) -> ListTold | None:
        """The list of an asset, if there is one."""
        return next((one for one in self.lists if one.asset == asset), None)

    def canonical(self) -> bytes:
        """The very bytes that are hashed (with the tag before them)."""
        return msgspec.json.encode(self, order="sorted")

    def digest(self) -> bytes:
        """What everybody compares, 32 bytes."""
        return hashlib.sha256(_TAG + self.canonical()).digest()


def read_statement(content: bytes) -> Statement:
    """The statement in its canonical bytes. Raises msgspec.ValidationError and DecodeError."""
    return msgspec.json.decode(content, type=Statement)


def key_hash(key: bytes) -> str:
    """What a statement tells of an epoch's secret key."""
    return hashlib.sha256(_KEY_TAG + key).hexdigest()


def ratio(held: int, owed: int) -> str | None:
    """held / owed as a decimal with six places, rounded down (towards less); None where nothing is owed."""
    if owed == 0:
        return None
    scaled = held * 10**DIGITS // owed
    whole, rest = divmod(abs(scaled), 10**DIGITS)
    return f"{'-' if scaled < 0 else ''}{whole}.{rest:0{DIGITS}}"


def covered(
    lists: Iterable[ListTold], reserves: Sequence[Reserve], beside: dict[str, tuple[int, int, int]]
) -> tuple[Coverage, ...]:
    """Every asset that is owed or held, by code. `beside`: its receivable, in transit, unassigned."""
    owed = {one.asset: int(one.total) for one in lists}
    held = dict.fromkeys(owed, 0)
    for reserve in reserves:
        held[reserve.asset] = held.get(reserve.asset, 0) + int(reserve.amount)
    found = []
    for asset in sorted(held.keys() | {asset for asset, sums in beside.items() if any(sums)}):
        receivable, in_transit, unassigned = beside.get(asset, (0, 0, 0))
        has, owes = held.get(asset, 0), owed.get(asset, 0)
        found.append(
            Coverage(
                asset=asset,
                owed=str(owes),
                held=str(has),
                ratio=ratio(has, owes),
                receivable=str(receivable),
                in_transit=str(in_transit),
                unassigned=str(unassigned),
            )
        )
    return tuple(found)


class ControlTold(_Told, frozen=True, kw_only=True):
    """A signature over this epoch's number and hash (EIP-191).

    `key`: by the address's own, 65 bytes. `contract`: what the contract there took as its own at this block (ERC-1271),
    which only a node can tell.
    """

    network: Name
    address: Address
    signature: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){0,8192}$")]
    kind: Literal["key", "contract"] = "key"
    block_number: Count | None = None
    block_hash: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$")] | None = None


class AnchorTold(_Told, frozen=True, kw_only=True):
    """Where the epoch's hash is written on a chain: the data of a transaction. Anybody can look at a node."""

    network: Name
    sender: Address
    to: Address
    tx: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$")]
    block_number: Count
    block_hash: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$")]
    state: Literal["mined", "final"]


class Published(_Told, frozen=True, kw_only=True):
    """What everybody is shown of an epoch. `seal`: how the book's seals cover its hash, as docs/proof.md has it.

    `anchor`: None while its hash is on no chain.
    """

    statement: Statement
    digest: Digest
    controls: Annotated[tuple[ControlTold, ...], msgspec.Meta(max_length=RESERVES_MAX)]
    seal: dict[str, Any] | None
    anchor: AnchorTold | None = None

    def document(self) -> bytes:
        """Its JSON."""
        return msgspec.json.encode(self)
