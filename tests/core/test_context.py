"""A decision sees the few facts the contract names, read from the request as the contract says."""

from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.currency import MAX_AMOUNT_MINOR
from pgw.core.payment.payment import (
    Card,
    Client,
    Customer,
    Instrument,
    Method,
    Netbanking,
    PaymentRequest,
    Upi,
    UpiFlow,
)
from pgw.core.routing.context import SEED_BANKS, SizeBand, make_context, size_band

NOW = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
METHODS = {Upi: Method.UPI, Card: Method.CARD, Netbanking: Method.NETBANKING}


def _request(instrument: Instrument, customer: Customer | None = None, client: Client | None = None) -> PaymentRequest:
    return PaymentRequest(
        amount_minor=1000,
        currency="INR",
        payment_method=METHODS[type(instrument)],
        merchant_id="m_001",
        customer_id="cust_001",
        instrument=instrument,
        customer=customer,
        client=client,
    )


@pytest.mark.parametrize(
    ("handle", "bank"),
    [
        *[(handle, "HDFC") for handle in ("okhdfcbank", "hdfcbank", "OkHdfcBank")],
        *[(handle, "ICICI") for handle in ("okicici", "icici")],
        *[(handle, "AXIS") for handle in ("okaxis", "axl", "axisbank")],
        *[(handle, "SBI") for handle in ("oksbi", "sbi")],
        ("ybl", "YES"),
        ("somebank", "SOMEBANK"),
    ],
)
def test_a_upi_handle_names_its_bank_and_an_unmapped_one_stands_for_itself(handle: str, bank: str) -> None:
    assert make_context(_request(Upi(vpa=f"name@{handle}")), NOW, SEED_BANKS).issuing_bank == bank


@pytest.mark.parametrize(
    ("instrument", "bank"),
    [
        (Card(token="t", bin="411111"), "HDFC"),
        (Card(token="t", bin="41111199"), "HDFC"),
        (Card(token="t", bin="555555"), "ICICI"),
        (Card(token="t", bin="444433"), "AXIS"),
        (Card(token="t", bin="400000"), "UNKNOWN"),
        (Card(token="t"), "UNKNOWN"),
        (Netbanking(bank_code="hdfc"), "HDFC"),
        (Upi(), "UNKNOWN"),
    ],
)
def test_a_card_bin_and_a_bank_code_name_their_bank_and_the_rest_is_unknown(instrument: Instrument, bank: str) -> None:
    assert make_context(_request(instrument), NOW, SEED_BANKS).issuing_bank == bank


@pytest.mark.parametrize(
    ("amount_minor", "band"),
    [
        (1, "lt_500"),
        (49_999, "lt_500"),
        (50_000, "500_2000"),
        (199_999, "500_2000"),
        (200_000, "2000_10000"),
        (999_999, "2000_10000"),
        (1_000_000, "gt_10000"),
        (MAX_AMOUNT_MINOR, "gt_10000"),
    ],
)
def test_a_size_band_includes_its_lower_bound(amount_minor: int, band: str) -> None:
    assert size_band(amount_minor) == band


@given(st.lists(st.integers(1, MAX_AMOUNT_MINOR), min_size=2).map(sorted))
def test_a_larger_amount_is_never_in_a_smaller_band(amounts: list[int]) -> None:
    places = [list(SizeBand).index(size_band(amount)) for amount in amounts]
    assert [pair for pair in pairwise(places) if pair[0] > pair[1]] == []


def test_the_hour_and_the_day_are_those_of_the_moment_given() -> None:
    context = make_context(_request(Upi()), NOW, SEED_BANKS)
    assert (context.hour, context.day_of_month) == (23, 31)


def test_the_fields_name_the_optional_facts_that_are_there() -> None:
    request = _request(Upi(), Customer(email="a@b.example"), Client(ip="192.0.2.1", referer="https://shop.example/"))
    assert set(make_context(request, NOW, SEED_BANKS).fields) == {"customer.email", "client.ip", "client.referer"}


@pytest.mark.parametrize(
    ("instrument", "flow"),
    [(Upi(vpa="a@ybl"), UpiFlow.COLLECT), (Upi(), UpiFlow.INTENT), (Netbanking(bank_code="HDFC"), None)],
)
def test_only_a_upi_payment_has_a_upi_flow(instrument: Instrument, flow: UpiFlow | None) -> None:
    assert make_context(_request(instrument), NOW, SEED_BANKS).upi_flow == flow


secrets = st.text("QXZ", min_size=12, max_size=12)


@given(secrets)
def test_nothing_that_identifies_the_customer_reaches_the_decision(secret: str) -> None:
    customer = Customer(email=secret, contact=secret)
    client = Client(ip=secret, user_agent=secret, referer=secret)
    for instrument in (Upi(vpa=f"{secret}@ybl"), Card(token=secret, bin="411111", last4="1111", name=secret)):
        request = msgspec.structs.replace(_request(instrument, customer, client), customer_id=secret)
        assert secret not in msgspec.json.encode(make_context(request, NOW, SEED_BANKS)).decode()
