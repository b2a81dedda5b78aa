"""Random histories of a small book near its limits: few accounts, small amounts, repeats, conflicts, groups, holds."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from ledger.commands import (
    BankEvidence,
    Command,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
)
from ledger.money import Asset, AssetKind

START = datetime(2026, 1, 1, tzinfo=UTC)
ASSETS = (Asset("USD", AssetKind.FIAT, 2), Asset("ETH", AssetKind.CRYPTO, 18))
ACCOUNTS = (
    "usr_a/wallet/USD",
    "usr_b/wallet/USD",
    "usr_a/wallet/ETH",
    "house/fx/USD",
    "house/bank:main/USD",
    "house/receivable:usr_a/USD",
    "house/custody:local:hot/ETH",
)
OPENING = Group(tuple(OpenAccount(id=f"open:{account}", account=account) for account in ACCOUNTS))

amounts = st.one_of(st.integers(1, 12), st.sampled_from([0, -1, 2**256 - 1, 2**256, 2**255]))
named_accounts = st.one_of(st.sampled_from(ACCOUNTS), st.just("usr_x/wallet/USD"))
evidence = st.one_of(st.none(), st.just(BankEvidence("main", "S1", 1)))


@st.composite
def sound_postings(draw: st.DrawFn, *, rests: bool) -> Posting:
    asset = draw(st.sampled_from(["USD", "USD", "USD", "ETH"]))
    of_asset = [account for account in ACCOUNTS if account.endswith(f"/{asset}")]
    debit, credit = draw(st.permutations(of_asset))[:2]
    rest = "house/receivable:usr_a/USD"
    has_rest = rests and asset == "USD" and rest not in (debit, credit) and draw(st.integers(0, 3)) == 0
    side = draw(st.booleans())
    return Posting(
        debit=debit,
        credit=credit,
        asset=asset,
        amount=draw(st.integers(1, 12)),
        debit_rest=rest if has_rest and side else None,
        credit_rest=rest if has_rest and not side else None,
    )


wild_postings = st.builds(
    Posting, debit=named_accounts, credit=named_accounts, asset=st.sampled_from(["USD", "ETH"]), amount=amounts
)


def postings(*, rests: bool) -> st.SearchStrategy[tuple[Posting, ...]]:
    sound = sound_postings(rests=rests)
    choice = st.one_of(sound, sound, sound, sound, wild_postings)
    return st.lists(choice, min_size=0, max_size=3).map(tuple)


@st.composite
def commands(draw: st.DrawFn, ids: st.SearchStrategy[str], holds: st.SearchStrategy[str], now: datetime) -> Command:
    name = draw(ids)
    kind = draw(st.sampled_from(["post"] * 4 + ["hold"] * 3 + ["settle"] * 3 + ["void", "expire", "line", "freeze"]))
    if kind == "post":
        covered = draw(st.integers(0, 4)) == 0
        return Post(id=name, postings=draw(postings(rests=True)), evidence=draw(evidence), covered=covered)
    if kind == "hold":
        lifetime = draw(st.one_of(st.none(), st.integers(0, 5)))
        expires_at = None if lifetime is None else now + timedelta(seconds=lifetime)
        return Hold(id=name, postings=draw(postings(rests=False)), expires_at=expires_at)
    if kind == "settle":
        parts = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=2).map(tuple)
        return Settle(id=name, hold=draw(holds), amounts=draw(st.one_of(st.none(), parts)), close=draw(st.booleans()))
    if kind == "line":
        return SetCreditLine(id=name, account=draw(st.sampled_from(ACCOUNTS)), cap=draw(st.integers(0, 10)))
    if kind == "freeze":
        scope, target = draw(st.sampled_from([(FreezeScope.OWNER, "usr_b"), (FreezeScope.ACCOUNT, ACCOUNTS[0])]))
        lifted = draw(st.sampled_from([False, True, True]))
        return (Unfreeze if lifted else Freeze)(id=name, scope=scope, target=target)
    if kind == "void":
        return Void(id=name, hold=draw(holds))
    return Expire(id=name, hold=draw(holds))


@st.composite
def histories(draw: st.DrawFn, *, steps: int) -> list[tuple[datetime, list[Group]]]:
    """Batches of groups with the clock's instant of each; some ids repeat, with equal or other content."""
    history: list[tuple[datetime, list[Group]]] = []
    now, count = START, 0
    for _ in range(draw(st.integers(1, steps))):
        now += timedelta(seconds=draw(st.integers(-1, 2)))
        batch = []
        for _ in range(draw(st.integers(1, 6))):
            count += 1
            recent = [f"c{n}" for n in range(max(1, count - 6), count + 1)]
            said = history[-1][1] if history else []
            if said and draw(st.integers(0, 7)) == 0:
                batch.append(draw(st.sampled_from(said)))  # a true repeat
                continue
            ids = st.sampled_from([f"c{count}"] * 12 + recent)
            first = draw(commands(ids, st.sampled_from(recent), now))
            second = draw(
                st.one_of(st.none(), st.none(), commands(st.just(f"c{count}b"), st.sampled_from(recent), now))
            )
            batch.append(Group((first,) if second is None else (first, second)))
        history.append((now, batch))
    return history
