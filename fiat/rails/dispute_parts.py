"""A dispute over several payments, taken apart: each of them bears its part of what the provider takes. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from fiat.rails.protocol import DisputeTruth


def parts_of(truth: DisputeTruth) -> tuple[DisputeTruth, ...]:
    """What the provider says of a dispute, for each payment as if it were disputed by itself."""
    if not truth.payments:
        return (truth,)
    weights = [weight for _, weight in truth.payments]
    shares = zip(
        truth.payments,
        split(truth.amount, weights),
        split(truth.withdrawn, weights),
        split(truth.fee, weights),
        strict=True,
    )
    return tuple(
        replace(truth, payment=payment, payments=(), amount=amount, withdrawn=withdrawn, fee=fee)
        for (payment, _), amount, withdrawn, fee in shares
    )


def split(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """`total`, which may be negative, in parts by weight that make it up exactly; equal ones where nothing weighs."""
    if not sum(weights):
        weights = [1] * len(weights)
    ends = [total * sum(weights[: place + 1]) // sum(weights) for place in range(len(weights))]
    return tuple(end - begin for begin, end in zip([0, *ends], ends, strict=False))
