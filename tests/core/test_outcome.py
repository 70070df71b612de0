"""Money that may have moved leads to no other gateway, whatever was asked for and however it is said."""

from itertools import product
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.outcome import (
    AFTER_DEBIT_STEPS,
    BEFORE_DEBIT_STEPS,
    BENEFICIARY_BANK,
    CONFIGURATION_REASONS,
    CUSTOMER_REASONS,
    GATEWAYS_UNAVAILABLE,
    SOURCE_BLAMES,
    TECHNICAL_REASONS,
    UNKNOWN_REASONS,
    ActionRequired,
    Blame,
    Captured,
    FinalDecline,
    Finish,
    GatewayDecline,
    NotSent,
    TryNext,
    Unknown,
    Verdict,
    attempt_end,
    checked_amount,
    declined,
    next_step,
)
from pgw.core.payment.payment import AttemptStatus, NextAction, Status
from tests.core.drawn import amounts, captures, currencies, gateway_declines, not_sent, unknowns, verdicts

BOOLEANS = (False, True)
REASONS = sorted({*CONFIGURATION_REASONS, *TECHNICAL_REASONS, *CUSTOMER_REASONS, *UNKNOWN_REASONS})
SAYS_NOTHING = (None, "", "NA", "never_heard_of")
BETWEEN = ("payment_authentication", "payment_authorization", "payment_debit_request", "payment_debit_response")
STEPS = [*SAYS_NOTHING, *sorted(BEFORE_DEBIT_STEPS), *BETWEEN, *sorted(AFTER_DEBIT_STEPS)]
SOURCES = [*SAYS_NOTHING, BENEFICIARY_BANK, *sorted(SOURCE_BLAMES)]


def test_the_only_way_to_the_next_gateway_takes_a_proof_that_no_money_moved() -> None:
    assert set(get_args(get_type_hints(TryNext)["cause"])) == {NotSent, GatewayDecline}


@pytest.mark.parametrize("only_not_sent", BOOLEANS)
@pytest.mark.parametrize("may_continue", BOOLEANS)
def test_no_refusal_a_gateway_can_word_leads_on_unless_no_money_moved_and_the_gateway_is_to_blame(
    may_continue: bool, only_not_sent: bool
) -> None:
    """All reasons, steps and sources of the tables, in every state of the chain."""
    for reason, step, source in product([*REASONS, "", "never_heard_of", "INSUFFICIENT_FUNDS"], STEPS, SOURCES):
        verdict = declined(reason, step, source)
        after = next_step(verdict, may_continue=may_continue, only_not_sent=only_not_sent)
        if isinstance(verdict, Unknown):
            assert after == Finish(Status.PENDING_VERIFICATION)
        elif isinstance(after, TryNext):
            assert isinstance(verdict, GatewayDecline)
            assert verdict.blame is Blame.GATEWAY
            assert reason in CONFIGURATION_REASONS or (reason in TECHNICAL_REASONS and step in BEFORE_DEBIT_STEPS)
            assert source != BENEFICIARY_BANK
            assert step not in AFTER_DEBIT_STEPS
            assert may_continue


@given(unknowns, st.booleans(), st.booleans())
def test_an_unknown_outcome_is_verified_in_every_state_of_the_chain(
    verdict: Unknown, may_continue: bool, only_not_sent: bool
) -> None:
    after = next_step(verdict, may_continue=may_continue, only_not_sent=only_not_sent)
    assert after == Finish(Status.PENDING_VERIFICATION)


@given(st.text() | st.sampled_from(REASONS), st.none() | st.text() | st.sampled_from(STEPS))
def test_a_reason_the_tables_do_not_know_is_unknown(reason: str, step: str | None) -> None:
    verdict = declined(reason, step)
    known = reason in {*CONFIGURATION_REASONS, *TECHNICAL_REASONS, *CUSTOMER_REASONS}
    assert known or isinstance(verdict, Unknown)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("reason", sorted(UNKNOWN_REASONS))
def test_a_reason_that_leaves_it_open_is_unknown_at_every_step(reason: str, step: str | None) -> None:
    assert isinstance(declined(reason, step), Unknown)


def test_the_reasons_that_leave_it_open_are_those_of_the_table() -> None:
    expected = {
        "payment_timed_out",
        "request_timed_out",
        "payment_pending",
        "deemed_transaction",
        "verification_failed",
        "invalid_response_from_gateway",
        "collect_request_pending",
        "duplicate_request",
        "duplicate_rrn_found",
        "server_error",
        # Not in the table's list, but its meaning is that the debit went through.
        "credit_failed",
    }
    assert expected == set(UNKNOWN_REASONS)


MAY_FOLLOW_A_DEBIT = [*SAYS_NOTHING, *BETWEEN, *sorted(AFTER_DEBIT_STEPS)]


@pytest.mark.parametrize("step", MAY_FOLLOW_A_DEBIT)
@pytest.mark.parametrize("reason", TECHNICAL_REASONS)
def test_a_technical_fault_is_unknown_unless_its_step_comes_before_the_debit(reason: str, step: str | None) -> None:
    assert declined(reason, step) == Unknown(reason.upper(), TECHNICAL_REASONS[reason])


@pytest.mark.parametrize("step", sorted(BEFORE_DEBIT_STEPS))
@pytest.mark.parametrize("reason", TECHNICAL_REASONS)
def test_a_technical_fault_before_the_debit_is_definitive_and_falls_back_only_from_the_gateways_own(
    reason: str, step: str
) -> None:
    """Banks and apps go with the customer to every gateway."""
    verdict = declined(reason, step)
    after = next_step(verdict, may_continue=True, only_not_sent=False)
    if TECHNICAL_REASONS[reason] is Blame.GATEWAY:
        assert verdict == GatewayDecline(reason.upper(), Blame.GATEWAY)
        assert after == TryNext(verdict)
    else:
        assert verdict == FinalDecline(reason.upper(), Blame.BANK)
        assert after == Finish(Status.FAILURE, reason.upper())


@pytest.mark.parametrize("reason", REASONS)
def test_no_reason_is_definitive_at_the_receiving_bank_or_after_the_debit(reason: str) -> None:
    assert isinstance(declined(reason, "payment_initiation", BENEFICIARY_BANK), Unknown)
    for step in AFTER_DEBIT_STEPS:
        assert isinstance(declined(reason, step), Unknown)


@pytest.mark.parametrize(
    ("source", "blame"),
    [
        *((each, Blame.GATEWAY) for each in (*SAYS_NOTHING, "gateway", "internal")),
        *((each, Blame.BANK) for each in ("bank", "issuer", "issuer_bank", "customer_psp")),
        ("network", Blame.NETWORK),
        ("customer", Blame.CUSTOMER),
        ("business", Blame.NONE),
    ],
)
def test_high_traffic_is_blamed_on_its_source_and_falls_back_only_from_the_gateways(
    source: str | None, blame: Blame
) -> None:
    verdict = declined("payment_declined_due_to_high_traffic", "payment_initiation", source)
    assert attempt_end(verdict).blame is blame
    assert isinstance(verdict, GatewayDecline) == (blame is Blame.GATEWAY)


@pytest.mark.parametrize("reason", sorted(CONFIGURATION_REASONS))
def test_an_account_that_is_not_set_up_for_a_payment_leads_to_another_gateway(reason: str) -> None:
    verdict = declined(reason)
    assert verdict == GatewayDecline(reason.upper(), Blame.GATEWAY)
    assert next_step(verdict, may_continue=True, only_not_sent=False) == TryNext(verdict)


@pytest.mark.parametrize(
    "reason",
    [
        "insufficient_funds",
        "incorrect_otp",
        "incorrect_pin",
        "transaction_daily_limit_exceeded",
        "payment_cancelled",
        "payment_collect_request_expired",
        "invalid_vpa",
        "card_expired",
        "payment_risk_check_failed",
        "order_amount_mismatch",
        "payment_failed",
    ],
)
def test_a_decline_that_lies_with_the_customer_ends_the_payment(reason: str) -> None:
    after = next_step(declined(reason, "payment_debit_request"), may_continue=True, only_not_sent=False)
    assert after == Finish(Status.FAILURE, reason.upper())


@given(not_sent | gateway_declines, st.booleans())
def test_what_may_fall_back_does_so_exactly_while_the_chain_may_continue(
    verdict: NotSent | GatewayDecline, only_not_sent: bool
) -> None:
    assert next_step(verdict, may_continue=True, only_not_sent=only_not_sent) == TryNext(verdict)
    assert isinstance(next_step(verdict, may_continue=False, only_not_sent=only_not_sent), Finish)


@given(not_sent)
def test_when_no_gateway_was_reached_the_payment_says_so(verdict: NotSent) -> None:
    after = next_step(verdict, may_continue=False, only_not_sent=True)
    assert after == Finish(Status.FAILURE, GATEWAYS_UNAVAILABLE)


@given(not_sent | gateway_declines)
def test_when_some_gateway_was_reached_the_last_reason_is_the_payments(verdict: NotSent | GatewayDecline) -> None:
    after = next_step(verdict, may_continue=False, only_not_sent=False)
    assert after == Finish(Status.FAILURE, verdict.error_code)


@given(verdicts, st.booleans(), st.booleans())
def test_only_a_capture_is_a_success_and_it_always_is(
    verdict: Verdict, may_continue: bool, only_not_sent: bool
) -> None:
    after = next_step(verdict, may_continue=may_continue, only_not_sent=only_not_sent)
    assert (after == Finish(Status.SUCCESS)) == isinstance(verdict, Captured)


@given(verdicts)
def test_an_attempt_is_written_down_as_what_it_was(verdict: Verdict) -> None:
    expected = {
        Captured: AttemptStatus.SUCCESS,
        ActionRequired: AttemptStatus.REQUIRES_ACTION,
        NotSent: AttemptStatus.FAILURE,
        GatewayDecline: AttemptStatus.FAILURE,
        FinalDecline: AttemptStatus.FAILURE,
        Unknown: AttemptStatus.TIMEOUT,
    }
    end = attempt_end(verdict)
    assert end.status == expected[type(verdict)]
    assert end.error_code == getattr(verdict, "error_code", None)
    assert end.transaction_ref == getattr(verdict, "transaction_ref", None)


@pytest.mark.parametrize(
    ("verdict", "blame"),
    [
        (Captured("ref", 1, "INR"), Blame.NONE),
        (ActionRequired("ref", NextAction(type="intent", url="upi://pay")), Blame.NONE),
        (NotSent("NOT_SENT_REFUSED", Blame.NETWORK), Blame.NETWORK),
        (FinalDecline("BANK_NOT_AVAILABLE", Blame.BANK), Blame.BANK),
        (FinalDecline("CARD_EXPIRED"), Blame.CUSTOMER),
        (Unknown("READ_TIMEOUT", Blame.GATEWAY), Blame.GATEWAY),
    ],
)
def test_an_attempts_blame_is_its_verdicts(verdict: Verdict, blame: Blame) -> None:
    assert attempt_end(verdict).blame == blame


@given(captures, amounts, currencies, st.booleans())
def test_a_capture_of_another_amount_or_currency_is_neither_a_success_nor_a_way_on(
    verdict: Captured, amount_minor: int, currency: str, may_continue: bool
) -> None:
    checked = checked_amount(verdict, amount_minor, currency)
    if (verdict.amount_minor, verdict.currency) == (amount_minor, currency):
        assert checked is verdict
    else:
        after = next_step(checked, may_continue=may_continue, only_not_sent=False)
        assert isinstance(after, Finish)
        assert not after.status.is_final


@given(verdicts.filter(lambda verdict: not isinstance(verdict, Captured)), amounts, currencies)
def test_the_amount_is_asked_only_of_a_capture(verdict: Verdict, amount_minor: int, currency: str) -> None:
    assert checked_amount(verdict, amount_minor, currency) is verdict
