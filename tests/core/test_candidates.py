"""Every gateway is either a candidate that takes the payment, or left out for the first reason that holds."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.candidates import Excluded, Reason, choose, refusal
from pgw.core.context import Context
from pgw.core.errors import Code
from pgw.core.gateway import GatewayConfig
from pgw.core.payment import Method
from tests.core.drawn import CONTEXT, TAKES_IT, contexts, gateway_lists

# In the order of the checks: what makes a gateway unfit, and the reason given.
UNFIT: list[tuple[dict[str, Any], Reason]] = [
    ({"is_enabled": False}, Reason.DISABLED),
    ({"supported_methods": (Method.CARD,)}, Reason.METHOD),
    ({"supported_currencies": ("USD",)}, Reason.CURRENCY),
    ({"min_amount_minor": 1001}, Reason.AMOUNT),
    ({"required_fields": ("customer.contact",)}, Reason.MISSING_CUSTOMER_FIELDS),
]


@given(contexts(), gateway_lists, st.data())
def test_each_gateway_is_a_candidate_or_excluded_in_the_order_given(
    context: Context, gateways: tuple[GatewayConfig, ...], data: st.DataObject
) -> None:
    names = [each.gateway_id for each in gateways]
    unavailable = dict.fromkeys(data.draw(st.sets(st.sampled_from([*names, "gone"]))), "")
    candidates, excluded = choose(context, gateways, unavailable)
    left_out = {each.gateway_id for each in excluded}
    assert [each.gateway_id for each in candidates] == [name for name in names if name not in left_out]
    assert [each.gateway_id for each in excluded] == [name for name in names if name in left_out]
    assert len(candidates) + len(excluded) == len(gateways)


@given(contexts(), gateway_lists)
def test_a_candidate_is_enabled_and_takes_all_of_the_payment(
    context: Context, gateways: tuple[GatewayConfig, ...]
) -> None:
    for each in choose(context, gateways, {})[0]:
        assert each.is_enabled
        assert context.payment_method in each.supported_methods
        assert context.currency in each.supported_currencies
        assert each.min_amount_minor <= context.amount_minor <= each.max_amount_minor
        assert set(each.required_fields) <= set(context.fields)


@pytest.mark.parametrize("bounds", [(1000, 1000), (1, 1000), (1000, 2000)])
def test_the_bounds_of_an_amount_are_taken(bounds: tuple[int, int]) -> None:
    gateway = msgspec.structs.replace(TAKES_IT, min_amount_minor=bounds[0], max_amount_minor=bounds[1])
    assert choose(CONTEXT, [gateway], {}) == ((gateway,), ())


@pytest.mark.parametrize("first", range(len(UNFIT)))
def test_the_first_reason_that_holds_is_the_one_given(first: int) -> None:
    gateway = TAKES_IT
    for change, _ in UNFIT[first:]:
        gateway = msgspec.structs.replace(gateway, **change)
    assert choose(CONTEXT, [gateway], {}) == ((), (Excluded("hdfc", UNFIT[first][1]),))


def test_a_gateway_this_process_cannot_use_is_disabled() -> None:
    assert choose(CONTEXT, [TAKES_IT], {"hdfc": "no key"}) == ((), (Excluded("hdfc", Reason.DISABLED),))


ALL_SETS = [chosen for size in range(len(Reason) + 1) for chosen in itertools.combinations(Reason, size)]
REQUEST_CODES = {
    Reason.METHOD: Code.METHOD_NOT_SUPPORTED,
    Reason.CURRENCY: Code.CURRENCY_NOT_SUPPORTED,
    Reason.AMOUNT: Code.AMOUNT_NOT_SUPPORTED,
    Reason.MISSING_CUSTOMER_FIELDS: Code.MISSING_CUSTOMER_FIELDS,
}


@pytest.mark.parametrize("reasons", ALL_SETS, ids=lambda reasons: "+".join(reasons) or "none")
def test_an_empty_plan_is_the_requests_fault_exactly_if_some_gateway_is_enabled(reasons: tuple[Reason, ...]) -> None:
    """A disabled gateway says nothing of the request; when all are disabled, waiting may help."""
    error = refusal(Excluded(f"gateway-{number}", reason) for number, reason in enumerate(reasons))
    requests_fault = {REQUEST_CODES[reason] for reason in reasons if reason is not Reason.DISABLED}
    assert error.code in (requests_fault or {Code.NO_GATEWAY_AVAILABLE})
    assert (error.retry_after_s is None) == bool(requests_fault)
