"""A payment's states: who may change them, what time does to them, and that money moves once."""

from typing import Any

import pytest

from pgw.razorpay_simulator.faults import Effect
from pgw.razorpay_simulator.refusals import CANCELLED, INSUFFICIENT_FUNDS
from tests.sandbox.books import AMOUNT, AUTOMATIC, Shelf, refusal
from tests.sandbox.served import CARD, COLLECT


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_with_manual_capture_a_payment_is_created_then_authorized_then_captured(shelf: Shelf) -> None:
    payment = shelf.charge()
    assert payment.status == "created"
    assert shelf.book.approve(payment.id).status == "authorized"
    assert shelf.capture(payment).status == "captured"


def test_with_automatic_capture_approval_captures(shelf: Shelf) -> None:
    assert shelf.authorized(shelf.order(payment=AUTOMATIC)).status == "captured"


def test_an_order_that_does_not_say_is_captured_by_itself(shelf: Shelf) -> None:
    assert shelf.authorized(shelf.order(payment=None)).status == "captured"


def test_a_payment_authorized_after_the_automatic_period_waits_for_a_capture(shelf: Shelf) -> None:
    payment = shelf.charge(shelf.order(payment=AUTOMATIC))
    shelf.pass_time(minutes=13)
    assert shelf.book.approve(payment.id).status == "authorized"


def test_what_is_not_captured_in_time_goes_back_by_itself_and_was_never_captured(shelf: Shelf) -> None:
    payment = shelf.authorized()
    shelf.pass_time(minutes=11, seconds=59)
    assert shelf.status(payment) == "authorized"
    shelf.pass_time(seconds=1)
    assert shelf.status(payment) == "refunded"
    assert (payment.captured_amount, payment.refunded_amount, payment.released_amount) == (0, 0, AMOUNT)
    assert "authorized and not yet captured" in str(refusal(lambda: shelf.capture(payment)))
    assert "refunded already" in str(refusal(lambda: shelf.refund(payment)))


def test_money_that_goes_back_frees_the_order_and_money_captured_does_not(shelf: Shelf) -> None:
    freed = shelf.order()
    shelf.authorized(freed)
    shelf.pass_time(minutes=12)
    assert shelf.authorized(freed).status == "authorized"

    kept = shelf.captured()
    shelf.refund(kept)
    assert kept.status == "refunded"
    assert refusal(lambda: shelf.charge(kept.order)).failure.reason == "order_already_paid"


def test_of_two_payments_for_one_order_the_second_success_goes_straight_back(shelf: Shelf) -> None:
    order = shelf.order()
    first, second = shelf.charge(order), shelf.charge(order)
    assert shelf.book.approve(first.id).status == "authorized"
    assert shelf.book.approve(second.id).status == "refunded"
    assert second.released_amount == AMOUNT
    assert shelf.capture(first).status == "captured"


def test_approving_twice_takes_money_once(shelf: Shelf) -> None:
    payment = shelf.authorized()
    first = payment.authorized_at
    shelf.pass_time(seconds=1)
    assert shelf.book.approve(payment.id).authorized_at == first


def test_customers_may_pay_by_themselves_after_a_time() -> None:
    shelf = Shelf(approve_after_s=1.0)
    payment = shelf.charge()
    shelf.pass_time(seconds=0.9)
    assert shelf.status(payment) == "created"
    shelf.pass_time(seconds=0.1)
    assert shelf.status(payment) == "authorized"


def test_who_declined_does_not_pay_by_himself_later() -> None:
    shelf = Shelf(approve_after_s=1.0)
    payment = shelf.charge()
    shelf.book.decline(payment.id, INSUFFICIENT_FUNDS)
    shelf.pass_time(minutes=30)
    assert shelf.status(payment) == "failed"


def test_a_declined_payment_says_why_and_may_still_succeed_late(shelf: Shelf) -> None:
    payment = shelf.charge()
    assert shelf.book.decline(payment.id, INSUFFICIENT_FUNDS).failure == INSUFFICIENT_FUNDS
    assert "only a created one" in str(refusal(lambda: shelf.book.decline(payment.id, CANCELLED)))
    late = shelf.book.approve(payment.id)
    assert (late.status, late.failure) == ("authorized", None)


@pytest.mark.parametrize(
    ("members", "minutes", "reason"),
    [({}, 10, "payment_timed_out"), (CARD, 10, "payment_timed_out"), (COLLECT, 5, "payment_collect_request_expired")],
    ids=["intent", "card", "collect"],
)
def test_a_payment_nobody_finishes_is_marked_failed(
    shelf: Shelf, members: dict[str, Any], minutes: int, reason: str
) -> None:
    payment = shelf.charge(**members)
    shelf.pass_time(minutes=minutes, seconds=-1)
    assert shelf.status(payment) == "created"
    shelf.pass_time(seconds=1)
    assert shelf.status(payment) == "failed"
    assert payment.failure is not None
    assert payment.failure.reason == reason


def test_a_late_success_is_declined_and_then_authorized(shelf: Shelf) -> None:
    payment = shelf.charge(effect=Effect(authorizes_after_s=5.0, decline=CANCELLED))
    shelf.pass_time(seconds=4.9)
    assert shelf.status(payment) == "failed"
    shelf.pass_time(seconds=0.1)
    assert shelf.status(payment) == "authorized"


def test_events_long_past_happened_in_their_order(shelf: Shelf) -> None:
    """Nobody looked for an hour: the late success, and then the end of the time to capture it."""
    payment = shelf.charge(effect=Effect(authorizes_after_s=5.0, decline=CANCELLED))
    created = payment.created_at
    shelf.pass_time(hours=1)
    assert shelf.status(payment) == "refunded"
    assert payment.authorized_at is not None
    assert payment.released_at is not None
    assert ((payment.authorized_at - created).seconds, (payment.released_at - created).seconds) == (5, 720)


def test_of_two_successes_nobody_saw_the_earlier_one_counts() -> None:
    shelf = Shelf(approve_after_s=60.0)
    order = shelf.order()
    first = shelf.charge(order)
    shelf.pass_time(seconds=30)
    second = shelf.charge(order)
    shelf.pass_time(seconds=90)
    assert [shelf.status(first), shelf.status(second)] == ["authorized", "refunded"]


def test_a_success_after_the_time_to_capture_goes_back_at_once(shelf: Shelf) -> None:
    payment = shelf.charge()
    shelf.pass_time(days=2)
    assert shelf.book.approve(payment.id).status == "refunded"
    assert payment.released_at == payment.authorized_at


@pytest.mark.parametrize(
    ("amount", "currency", "told"),
    [(AMOUNT + 1, "INR", "equal to the amount authorized"), (AMOUNT, "USD", "currency")],
)
def test_a_capture_names_what_was_authorized(shelf: Shelf, amount: int, currency: str, told: str) -> None:
    payment = shelf.authorized()
    assert told in str(refusal(lambda: shelf.capture(payment, amount, currency)))
    assert payment.status == "authorized"


def test_only_an_authorized_payment_is_captured(shelf: Shelf) -> None:
    payment = shelf.charge()
    assert "authorized and not yet captured" in str(refusal(lambda: shelf.capture(payment)))
    shelf.book.decline(payment.id, CANCELLED)
    assert "authorized and not yet captured" in str(refusal(lambda: shelf.capture(payment)))


def test_a_wrong_amount_can_never_be_captured(shelf: Shelf) -> None:
    payment = shelf.charge(effect=Effect(authorizes_after_s=0.0, surplus=100))
    assert (payment.status, payment.amount) == ("authorized", AMOUNT + 100)
    for amount, told in ((AMOUNT, "amount authorized"), (AMOUNT + 100, "amount of the order")):
        refused = refusal(lambda amount=amount: shelf.capture(payment, amount))  # type: ignore[misc]
        assert told in str(refused)
    automatic = shelf.charge(shelf.order(payment=AUTOMATIC), Effect(authorizes_after_s=0.0, surplus=100))
    assert automatic.status == "authorized"


def test_a_captured_payment_stays_captured_and_is_captured_once(shelf: Shelf) -> None:
    payment = shelf.captured()
    shelf.pass_time(days=30)
    assert shelf.status(payment) == "captured"
    assert "already been captured" in str(refusal(lambda: shelf.capture(payment)))
    shelf.refund(payment)
    assert "already been captured" in str(refusal(lambda: shelf.capture(payment)))


def test_refunds_never_exceed_what_was_captured(shelf: Shelf) -> None:
    payment = shelf.captured()
    assert shelf.refund(payment, 900) == 900
    assert "greater than amount captured" in str(refusal(lambda: shelf.refund(payment, 101)))
    assert shelf.refund(payment) == 100
    assert "fully refunded" in str(refusal(lambda: shelf.refund(payment, 100)))


def test_only_captured_money_is_refunded(shelf: Shelf) -> None:
    payment = shelf.authorized()
    assert "should be captured" in str(refusal(lambda: shelf.refund(payment)))


def test_a_refused_refund_uses_up_no_key(shelf: Shelf) -> None:
    payment = shelf.authorized()
    refusal(lambda: shelf.refund(payment, key="late-0123456789"))
    shelf.capture(payment)
    assert shelf.refund(payment, key="late-0123456789") == AMOUNT
    assert shelf.refund(payment, key="late-0123456789") == AMOUNT
    assert payment.refunded_amount == AMOUNT


def test_a_refund_key_belongs_to_one_payment(shelf: Shelf) -> None:
    first, second = shelf.captured(), shelf.captured()
    shelf.refund(first, key="late-0123456789")
    told = str(refusal(lambda: shelf.refund(second, key="late-0123456789")))
    assert told.startswith("Different request with the same idempotency key")
    assert second.status == "captured"
