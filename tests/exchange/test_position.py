"""The house's position against a ledger of lots kept apart: nothing is lost between cost, result and what is left."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from exchange.position import MoveKind, Position, fine, move

trades = st.lists(
    st.tuples(
        st.sampled_from([MoveKind.BOUGHT, MoveKind.SOLD, MoveKind.SPREAD, MoveKind.BROUGHT_IN]),
        st.integers(1, 10**12),
        st.integers(0, 10**15),
    ),
    max_size=40,
)


def signed(kind: MoveKind, quantity: int, value: int) -> tuple[int, int]:
    return (-quantity, -value) if kind in (MoveKind.SOLD, MoveKind.TAKEN_OUT) else (quantity, value)


@given(trades)
def test_all_value_that_came_in_is_cost_or_was_realised(moves):
    """What was paid and got, and what is left at cost, make up the result exactly: no rounding is lost."""
    position, paid = Position(), 0
    for kind, quantity, value in moves:
        more, worth = signed(kind, quantity, value)
        position = move(position, kind, more, worth)
        paid += worth
    assert position.quantity == sum(signed(*one)[0] for one in moves)
    assert position.realised == position.cost - paid
    assert position.earned == sum(value for kind, _, value in moves if kind is MoveKind.SPREAD)
    assert position.quantity or not position.cost


@given(trades)
def test_the_average_cost_is_what_fractions_say_within_one_unit_a_move(moves):
    quantity, cost = 0, Fraction(0)
    position = Position()
    for kind, amount, value in moves:
        more, worth = signed(kind, amount, value)
        position = move(position, kind, more, worth)
        if quantity * more >= 0:
            quantity, cost = quantity + more, cost + worth
            continue
        closing = min(abs(quantity), abs(more))
        cost -= cost * closing / abs(quantity)
        cost += worth - Fraction(worth * closing, abs(more))
        quantity += more
    assert abs(position.cost - cost) <= len(moves)


def test_selling_at_a_gain_realises_it_and_leaves_the_average():
    position = move(Position(), MoveKind.BOUGHT, 10, 1000)
    position = move(position, MoveKind.BOUGHT, 10, 2000)
    assert position.average == 150
    position = move(position, MoveKind.SOLD, -5, -1000)
    assert position == Position(quantity=15, cost=2250, realised=250)
    assert position.unrealised(1500) == -750


def test_what_the_treasurer_takes_out_goes_at_cost_and_has_no_result():
    position = move(Position(), MoveKind.BROUGHT_IN, 10, 1000)
    position = move(position, MoveKind.TAKEN_OUT, -4, -4000)
    assert position == Position(quantity=6, cost=600)


def test_a_position_that_turns_round_begins_anew_at_the_price_of_the_turn():
    position = move(Position(), MoveKind.BOUGHT, 10, 1000)
    position = move(position, MoveKind.SOLD, -15, -3000)
    assert position == Position(quantity=-5, cost=-1000, realised=1000)
    position = move(position, MoveKind.BOUGHT, 5, 900)
    assert position == Position(quantity=0, cost=0, realised=1100)


def test_worth_is_kept_to_the_nearest_thousandth():
    assert [fine(Fraction(n, 10_000)) for n in (4, 5, 6, 15, 25)] == [0, 0, 1, 2, 2]
