"""Faults of the wire after a charging call has left: a payment is unknown then, until a check, and is never paid twice.

One server, one gateway of our own (`wire_gateway`), one payment for each fault. `till.seen` checks the invariants over
the whole ledger against the books of both gateways.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.faults.till import Answer, Till, till
from tests.faults.wire_faults import (
    Fault,
    cuts_off,
    drips,
    hangs,
    pages,
    resets,
    says_ok_in_html,
    shortens,
    tells,
)
from tests.faults.wire_gateway import WireGateway

pytestmark = pytest.mark.slow

Saw = Callable[..., None]

KEPT_ORDER, KEPT_CHARGE = "a kept connection, the order", "a kept connection, the charge"
WELL, UNASKABLE = "nothing", "nobody can ask"

AT_CHARGE = {
    "no answer": Fault(hangs),
    "a reset": Fault(resets),
    "502": Fault(pages(502)),
    "504": Fault(pages(504)),
    "cut off": Fault(cuts_off),
    "half of a JSON": Fault(shortens),
    "no JSON": Fault(says_ok_in_html),
    "a byte a second": Fault(drips),
    "another amount": Fault(tells, takes=(1001, "INR")),
    "another currency": Fault(tells, takes=(1000, "USD")),
    UNASKABLE: Fault(resets),
}
"""What goes wrong at the charging call of one payment each."""

MOST_TRIES = 5
"""Payments until one meets a connection that is kept: the next one does, unless a check is on it just then."""


@pytest.fixture(scope="module")
def razorpay() -> Iterator[WireGateway]:
    with WireGateway() as gateway:
        yield gateway
        assert gateway.book.odd == []


@pytest.fixture(scope="module")
def shop(razorpay: WireGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    with till(tmp_path_factory.mktemp("wire"), razorpay.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def paid(shop: Till, razorpay: WireGateway) -> Mapping[str, Answer]:
    """Pay once under each fault, before anybody waits for what comes of it."""
    answers = {WELL: shop.pay()}
    for name, fault in AT_CHARGE.items():
        razorpay.on_charge.append(fault)
        answers[name] = shop.pay()
        if name == UNASKABLE:
            razorpay.unaskable.add(answers[name].document["payment_id"])
    fault = Fault(resets, commits=False, when_kept=True)
    razorpay.on_charge.append(fault)
    answers[KEPT_CHARGE] = on_a_kept_connection(shop, razorpay, "charge")
    shop.pay()
    razorpay.on_order.append(fault)
    answers[KEPT_ORDER] = on_a_kept_connection(shop, razorpay, "order")
    return answers


def on_a_kept_connection(shop: Till, razorpay: WireGateway, kind: str) -> Answer:
    """Pay until the connection that was reset had brought a request before."""
    for _ in range(MOST_TRIES):
        answer = shop.pay()
        if not razorpay.on_order and not razorpay.on_charge:
            (call,) = razorpay.calls_of(answer.document["payment_id"], kind)
            assert call.nth > 0
            return answer
    raise AssertionError("no connection was kept")


@pytest.fixture
def lost(paid: Mapping[str, Answer], shop: Till, razorpay: WireGateway) -> Callable[[str, str], str]:
    """Give the way to see what came of a charge that was made and whose answer was lost: a check has found it."""

    def found(name: str, error: str) -> str:
        answer = paid[name]
        assert answer.words == "202 PENDING_VERIFICATION"
        shop.wait_for(answer, "SUCCESS")
        seen = shop.seen(answer, razorpay)
        assert seen.tried == (f"razorpay {error}",)
        assert (seen.orders, seen.posts, seen.charges) == (1, 1, 1)
        return seen.words

    return found


Lost = Callable[[str, str], str]


def test_a_gateway_that_cannot_be_asked_either(
    paid: Mapping[str, Answer], shop: Till, razorpay: WireGateway, saw: Saw
) -> None:
    """A charge was made, and every question about it fails: the payment stays unknown, asked ever less often.

    The first of these tests, because its checks are the last to come.
    """
    first = shop.wait_checked(paid[UNASKABLE], 1)
    later = shop.wait_checked(paid[UNASKABLE], first["checks_made"] + 1)
    seen = shop.seen(paid[UNASKABLE], razorpay)
    assert (seen.answer, seen.end) == ("202 PENDING_VERIFICATION", "PENDING_VERIFICATION")
    assert (seen.posts, seen.charges) == (1, 0)
    assert {(each["result"], each["error_code"]) for each in later["checks"]} == {("UNREACHABLE", "HTTP_504")}
    assert wait_of(first) < wait_of(later)
    longer = "a longer wait" if wait_of(first) < wait_of(later) else "no longer wait"
    saw(42, f"{seen.answer}; checks: {later['last_result']}, then {longer}; {seen.end}; {seen.broken} violations")


def wait_of(checked: Mapping[str, Any]) -> timedelta:
    """Return how long the next check waits."""
    return datetime.fromisoformat(checked["next_check_at"]) - datetime.fromisoformat(checked["last_checked_at"])


def test_nothing_is_wrong(paid: Mapping[str, Answer], shop: Till, razorpay: WireGateway) -> None:
    """Without a fault the gateway's customer approves, pgw captures, and the books agree: what all others rest on."""
    shop.wait_for(paid[WELL], "SUCCESS")
    wanted = "202 REQUIRES_ACTION, then SUCCESS; razorpay REQUIRES_ACTION; 1 charging call, 1 charge; 0 violations"
    assert shop.seen(paid[WELL], razorpay).words == wanted


def test_no_answer_to_a_charge_that_was_made(lost: Lost, saw: Saw) -> None:
    saw(4, lost("no answer", "TIMEOUT"))


def test_a_reset_after_a_charge_that_was_made(lost: Lost, saw: Saw) -> None:
    saw(6, lost("a reset", "CONNECTION_LOST"))


def test_a_kept_connection_is_reset_by_the_charging_call(
    paid: Mapping[str, Answer], shop: Till, razorpay: WireGateway, saw: Saw
) -> None:
    """The call is repeated by nobody, on no connection; that it charged nothing, pgw cannot know."""
    shop.wait_checked(paid[KEPT_CHARGE], 1)
    seen = shop.seen(paid[KEPT_CHARGE], razorpay)
    assert (seen.end, seen.tried) == ("PENDING_VERIFICATION", ("razorpay CONNECTION_LOST",))
    assert (seen.orders, seen.posts, seen.charges) == (1, 1, 0)
    saw(7, seen.words, case="by the charging call")


def test_a_kept_connection_is_reset_by_an_order(
    paid: Mapping[str, Answer], shop: Till, razorpay: WireGateway, saw: Saw
) -> None:
    """Nobody can pay an order that no payment was created on: this one is not repeated, and hdfc charges."""
    seen = shop.seen(paid[KEPT_ORDER], razorpay)
    assert (seen.end, seen.tried) == ("SUCCESS", ("razorpay NOT_SENT_ORDER_CONNECTION_LOST", "hdfc SUCCESS"))
    assert (seen.orders, seen.posts, seen.charges) == (1, 0, 1)
    saw(7, seen.words, case="by the order before it")


def test_502_with_a_page_of_html(lost: Lost, saw: Saw) -> None:
    saw(8, lost("502", "HTTP_502"), case="502")


def test_504_with_a_page_of_html(lost: Lost, saw: Saw) -> None:
    saw(8, lost("504", "HTTP_504"), case="504")


def test_an_answer_whose_connection_ends_in_the_middle(lost: Lost, saw: Saw) -> None:
    saw(9, lost("cut off", "CONNECTION_LOST"), case="the connection ends within it")


def test_an_answer_that_is_whole_and_half_a_json(lost: Lost, saw: Saw) -> None:
    saw(9, lost("half of a JSON", "UNREADABLE_ANSWER"), case="half of it, said to be all")


def test_an_answer_that_is_no_json(lost: Lost, saw: Saw) -> None:
    saw(9, lost("no JSON", "UNREADABLE_ANSWER"), case="a page of HTML")


def test_an_answer_of_one_byte_a_second(lost: Lost, saw: Saw) -> None:
    saw(12, lost("a byte a second", "TIMEOUT"))


@pytest.fixture
def other_money(paid: Mapping[str, Answer], shop: Till, razorpay: WireGateway) -> Callable[[str], str]:
    """Give the way to see what came of a charge of something else than was asked for: no client hears of a success."""

    def found(name: str) -> str:
        shop.wait_for(paid[name], "MANUAL_REVIEW")
        seen = shop.seen(paid[name], razorpay)
        assert (seen.answer, shop.again(paid[name]).words) == ("202 REQUIRES_ACTION", "202 MANUAL_REVIEW")
        assert (seen.orders, seen.posts, seen.charges) == (1, 1, 1)
        return seen.words

    return found


def test_another_amount(other_money: Callable[[str], str], saw: Saw) -> None:
    saw(18, other_money("another amount"), case="amount")


def test_another_currency(other_money: Callable[[str], str], saw: Saw) -> None:
    saw(18, other_money("another currency"), case="currency")
