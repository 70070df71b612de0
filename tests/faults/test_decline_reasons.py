"""Technical declines of Razorpay, over HTTP: a second gateway is called only where no debit can have happened.

The scripted gateway captures the money and then answers that the payment failed, which is what its documentation means
by "any amount deducted will be refunded".
"""

from collections.abc import Iterator, Mapping
from itertools import product

import pytest

from tests.faults.till import Answer, Till, till
from tests.faults.wire_faults import Fault, declines
from tests.faults.wire_gateway import WireGateway

pytestmark = pytest.mark.slow

GATEWAYS_FAULT = ("gateway_technical_error", "payment_declined_due_to_high_traffic")
BANKS_FAULT = (
    "bank_technical_error",
    "bank_not_available",
    "bank_cutoff_in_progress",
    "issuer_technical_error",
    "psp_not_available",
    "upi_app_technical_error",
)
MAY_FOLLOW_A_DEBIT = [
    (None, None),
    ("", ""),
    ("NA", "NA"),
    ("payment_authorization", "gateway"),
    ("payment_authentication", "customer"),
    ("payment_debit_request", "issuer_bank"),
    ("a_step_of_next_year", None),
    ("payment_credit_response", "issuer_bank"),
    ("payment_response", "gateway"),
    ("payment_capture", "internal"),
    ("payment_initiation", "beneficiary_bank"),
]
BEFORE_THE_DEBIT = ["payment_initiation", "payment_eligibility_check", "payment_authentication_request"]


@pytest.fixture(scope="module")
def razorpay() -> Iterator[WireGateway]:
    with WireGateway() as gateway:
        yield gateway
        assert gateway.book.odd == []


@pytest.fixture(scope="module")
def shop(razorpay: WireGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    with till(tmp_path_factory.mktemp("reasons"), razorpay.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def captured(shop: Till, razorpay: WireGateway) -> Mapping[tuple[str, str | None, str | None], Answer]:
    """Pay once for each decline that hides a capture, before waiting for what a check finds."""
    answers = {}
    for reason, (step, source) in product((*GATEWAYS_FAULT, *BANKS_FAULT), MAY_FOLLOW_A_DEBIT):
        razorpay.on_charge.append(Fault(declines(reason, step, source), takes=(1000, "INR")))
        answers[reason, step, source] = shop.pay()
    return answers


@pytest.mark.parametrize(("step", "source"), MAY_FOLLOW_A_DEBIT)
@pytest.mark.parametrize("reason", [*GATEWAYS_FAULT, *BANKS_FAULT])
def test_a_captured_payment_that_is_called_failed_is_charged_once_and_found(
    captured: Mapping[tuple[str, str | None, str | None], Answer],
    shop: Till,
    razorpay: WireGateway,
    reason: str,
    step: str | None,
    source: str | None,
) -> None:
    """No second gateway is called, the payment waits for verification, and a check finds the capture."""
    answer = captured[reason, step, source]
    assert answer.words == "202 PENDING_VERIFICATION"
    shop.wait_for(answer, "SUCCESS")
    seen = shop.seen(answer, razorpay)
    assert (seen.tried, seen.posts, seen.charges) == ((f"razorpay {reason.upper()}",), 1, 1)


@pytest.mark.parametrize("step", BEFORE_THE_DEBIT)
@pytest.mark.parametrize("reason", GATEWAYS_FAULT)
def test_a_fault_of_the_gateway_before_the_debit_falls_back(
    shop: Till, razorpay: WireGateway, reason: str, step: str
) -> None:
    razorpay.on_charge.append(Fault(declines(reason, step, "gateway"), commits=False))
    answer = shop.pay()
    assert answer.words == "201 SUCCESS"
    seen = shop.seen(answer, razorpay)
    assert (seen.tried, seen.charges) == ((f"razorpay {reason.upper()}", "hdfc SUCCESS"), 1)


@pytest.mark.parametrize("step", BEFORE_THE_DEBIT)
@pytest.mark.parametrize("reason", BANKS_FAULT)
def test_a_fault_of_the_customers_bank_before_the_debit_is_final(
    shop: Till, razorpay: WireGateway, reason: str, step: str
) -> None:
    razorpay.on_charge.append(Fault(declines(reason, step, "issuer_bank"), commits=False))
    answer = shop.pay()
    assert answer.words == "201 FAILURE"
    assert answer.document["failure_code"] == reason.upper()
    seen = shop.seen(answer, razorpay)
    assert (seen.tried, seen.charges) == ((f"razorpay {reason.upper()}",), 0)
