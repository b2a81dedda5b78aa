"""What a run leaves behind of its findings: new breaks, those seen again, those that are gone. In the caller's tx.

A difference seen again is the same break, growing older; one that a judged comparison no longer sees is resolved. What
people said of a break meanwhile ends here as well: an entry that didn't help, an acceptance whose date has come, a
proposal for what is gone. Not here: what may be behind a break (`treasury.break_causes`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from treasury import break_store
from treasury.break_records import HistoryKind, ResolutionState
from treasury.break_sightings import keep_sightings
from treasury.break_states import Act, BreakState, advance, in_cycle
from treasury.break_store import Said, revised
from treasury.records import Break, Cause, Finding, Reconciliation

BREAKS_TOLD_MAX = 500
"""Open breaks that a run carries with it, the oldest; the others are counted, and listed by pages."""

COMMITS_WITHIN = timedelta(seconds=2)
"""How long after an entry's instant a run may begin to read and still miss the entry, which commits a bit later."""

Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Changes:
    """What is to be written."""

    seen: list[Break] = field(default_factory=list)
    told: list[tuple[Break, Said]] = field(default_factory=list)
    standing: list[Break] = field(default_factory=list)


async def record(
    connection: AsyncConnection,
    book: str,
    run: Reconciliation,
    findings: Sequence[Finding],
    *,
    causes: Mapping[Key, tuple[Cause, ...]],
    judged: Callable[[Break], bool],
    new_id: Callable[[], str],
) -> Reconciliation:
    """Write what `run` found, and return it with the breaks that stand now. One run at a time, by the caller's lock.

    `judged`: whether the run could have seen this break; one that it couldn't stays as it is.
    """
    found = {finding.key: finding for finding in findings}
    changes = _Changes()
    for entry in await break_store.load_standing(connection, book, lock=True):
        _judge(entry, found.pop(entry.key, None), run, changes, causes=causes, judged=judged)
    new = [_opened(new_id(), finding, run, causes.get(finding.key, ())) for finding in found.values()]
    ended = [entry.id for entry, _ in changes.told if entry.state is BreakState.RESOLVED]
    now = run.finished_at
    await break_store.see_again(connection, book, changes.seen, run=run.id, now=now)
    await break_store.change_breaks(connection, book, changes.told)
    await break_store.close_proposals(connection, book, ended, ResolutionState.OVERTAKEN, by=None, now=now)
    await break_store.insert_breaks(connection, book, new, run=run.id)
    await keep_sightings(connection, book, (*changes.seen, *new), run=run.id, now=now)
    standing = sorted((*changes.standing, *new), key=lambda entry: entry.id)
    return replace(
        run,
        breaks=tuple(standing[:BREAKS_TOLD_MAX]),
        open_breaks=len(standing),
        explained=sum(entry.explained(now) for entry in standing),
        changed=bool(new or changes.told),
    )


def _judge(
    entry: Break,
    finding: Finding | None,
    run: Reconciliation,
    changes: _Changes,
    *,
    causes: Mapping[Key, tuple[Cause, ...]],
    judged: Callable[[Break], bool],
) -> None:
    """What the run does to a break that stood before it."""
    now, acts = run.finished_at, _acts(entry, finding, run, judged=judged)
    for act in acts:
        state = advance(entry.state, act)
        if state is not entry.state:
            entry = _moved(entry, state, now=now)
            changes.told.append((entry, _said(act, run)))
    if finding is not None and acts and acts[-1] is not Act.LAPSE:
        entry = replace(
            entry,
            expected=finding.expected,
            found=finding.found,
            evidence=finding.evidence,
            causes=causes.get(finding.key, ()),
            last_seen_at=now,
        )
        changes.seen.append(entry)
    if entry.state is not BreakState.RESOLVED:
        changes.standing.append(entry)


def _acts(
    entry: Break, finding: Finding | None, run: Reconciliation, *, judged: Callable[[Break], bool]
) -> tuple[Act, ...]:
    lapsed = entry.lapsed(run.finished_at)
    if finding is None and not judged(entry):
        return (Act.LAPSE,) if lapsed else ()
    settles = COMMITS_WITHIN if finding is not None else timedelta(0)
    return in_cycle(
        entry.state,
        seen=finding is not None,
        changed=finding is not None and finding.found - finding.expected != entry.difference,
        lapsed=lapsed,
        begun_before=entry.explained_at is not None and run.started_at <= entry.explained_at + settles,
    )


def _moved(entry: Break, state: BreakState, *, now: datetime) -> Break:
    """The break in a state to which a run brings it: open once more, or resolved."""
    resolved_at = now if state is BreakState.RESOLVED else None
    return revised(entry, state=state, explained_at=None, accepted_until=None, resolved_at=resolved_at)


def _said(act: Act, run: Reconciliation) -> Said:
    match act:
        case Act.LAPSE:
            return Said(HistoryKind.LAPSED, "the date until which it was accepted has come", run.finished_at)
        case Act.MISS:
            return Said(HistoryKind.RESOLVED, f"{run.id} no longer saw it", run.finished_at)
        case Act.CHANGE:
            return Said(HistoryKind.STILL_THERE, f"{run.id} saw another difference than before", run.finished_at)
        case _:
            return Said(HistoryKind.STILL_THERE, f"{run.id} saw the same difference, after its entry", run.finished_at)


def _opened(id: str, finding: Finding, run: Reconciliation, causes: tuple[Cause, ...]) -> Break:
    return Break(
        id=id,
        reason=finding.reason,
        account=finding.account,
        asset=finding.asset,
        expected=finding.expected,
        found=finding.found,
        network=finding.network,
        detail=finding.detail,
        first_seen_at=run.finished_at,
        last_seen_at=run.finished_at,
        resolved_at=None,
        at=finding.at or _place(finding, run),
        evidence=finding.evidence,
        causes=causes,
        revision=1,
    )


def _place(finding: Finding, run: Reconciliation) -> str:
    """Where it was first seen, of a finding that doesn't say it: the block that was judged, else the run itself."""
    for judged in run.networks:
        if judged.network == finding.network and judged.block_hash is not None:
            return f"block {judged.block_number} {judged.block_hash}"
    return run.id
