"""Any sequence of calls, faults and waiting: the book never gives away money that is not there."""

from hypothesis import given
from hypothesis import strategies as st

from pgw.razorpay_simulator.documents import book_document
from pgw.razorpay_simulator.faults import EFFECTS, PLAIN
from pgw.razorpay_simulator.refusals import CANCELLED, Refused
from pgw.razorpay_simulator.states import SimulatedOrder, SimulatedPayment
from tests.sandbox.books import AMOUNT, AUTOMATIC, MANUAL, Shelf

MOST_STEPS = 30

steps = st.one_of(
    st.tuples(st.just("order"), st.sampled_from((MANUAL, AUTOMATIC, None))),
    st.tuples(st.just("charge"), st.integers(0, 3), st.sampled_from((PLAIN, *EFFECTS.values()))),
    st.tuples(st.just("approve"), st.integers(0, 5)),
    st.tuples(st.just("decline"), st.integers(0, 5)),
    st.tuples(st.just("capture"), st.integers(0, 5), st.sampled_from((AMOUNT, AMOUNT + 100))),
    st.tuples(
        st.just("refund"),
        st.integers(0, 5),
        st.sampled_from((None, 100, 400, AMOUNT)),
        st.sampled_from((None, "late-0123456789", "late-9876543210")),
    ),
    st.tuples(st.just("wait"), st.sampled_from((0.5, 5.0, 300.0, 720.0, 4000.0))),
)


def _do(shelf: Shelf, orders: list[SimulatedOrder], payments: list[SimulatedPayment], step: tuple[object, ...]) -> None:
    match step:
        case ("order", capture):
            orders.append(shelf.order(payment=capture))
        case ("charge", int(which), effect) if which < len(orders):
            payments.append(shelf.charge(orders[which], effect))  # type: ignore[arg-type]  # as `steps` draws it
        case ("approve", int(which)) if which < len(payments):
            shelf.book.approve(payments[which].id)
        case ("decline", int(which)) if which < len(payments):
            shelf.book.decline(payments[which].id, CANCELLED)
        case ("capture", int(which), int(amount)) if which < len(payments):
            shelf.capture(payments[which], amount)
        case ("refund", int(which), int() | None as amount, str() | None as key) if which < len(payments):
            shelf.refund(payments[which], amount, key)
        case ("wait", float(seconds)):
            shelf.clock.advance(seconds)
        case _:
            pass


def _check(shelf: Shelf) -> None:
    book = book_document(shelf.book.payments())
    for each in book["payments"]:
        assert each["captured_amount"] <= each["ordered_amount"]
        assert each["refunded_amount"] <= each["captured_amount"]
        assert each["captured_amount"] + each["released_amount"] <= each["authorized_amount"]
        captures = [step["amount"] for step in book["captures"] if step["payment_id"] == each["payment_id"]]
        refunds = [step["amount"] for step in book["refunds"] if step["payment_id"] == each["payment_id"]]
        assert (sum(captures), sum(refunds)) == (each["captured_amount"], each["refunded_amount"])
        assert len(captures) <= 1
    paid = [each["order_id"] for each in book["payments"] if each["captured_amount"]]
    assert len(paid) == len(set(paid))
    for order in shelf.book.orders():
        assert sum(each.status == "authorized" for each in order.payments) <= 1
        assert order.amount_paid in {0, order.asked.amount}


def _facts(shelf: Shelf) -> dict[str, tuple[int, int, int]]:
    return {
        each.id: (each.captured_amount, each.refunded_amount, each.released_amount) for each in shelf.book.payments()
    }


@given(st.lists(steps, max_size=MOST_STEPS), st.sampled_from((None, 0.0, 1.0)))
def test_no_more_is_captured_than_was_ordered_and_no_more_refunded_than_was_captured(
    taken: list[tuple[object, ...]], approve_after_s: float | None
) -> None:
    shelf = Shelf(approve_after_s)
    orders: list[SimulatedOrder] = [shelf.order()]
    payments: list[SimulatedPayment] = []
    for step in taken:
        before = _facts(shelf)
        try:
            _do(shelf, orders, payments, step)
        except Refused:
            assert _facts(shelf) == before
        _check(shelf)
        after = _facts(shelf)
        assert all(after[name] >= amounts for name, amounts in before.items())
