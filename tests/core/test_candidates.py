"""Every gateway is either a candidate that takes the payment, or left out for the first reason that holds."""

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import State
from pgw.core.errors import Code
from pgw.core.payment.payment import Method
from pgw.core.routing.candidates import RETRY_AFTER_S, Excluded, Reason, choose, refusal
from pgw.core.routing.context import Context
from pgw.core.routing.gateway import GatewayConfig
from tests.core.drawn import CONTEXT, TAKES_IT, contexts, gateway_lists

OPEN = {"hdfc": Admission(State.OPEN)}
FORCED_OPEN = {"hdfc": Admission(State.FORCED_OPEN)}

# In the order of the checks: what makes a gateway unfit, and the reason given. Its breaker is looked at last.
UNFIT: list[tuple[dict[str, Any], Reason]] = [
    ({"is_enabled": False}, Reason.DISABLED),
    ({"supported_methods": (Method.CARD,)}, Reason.METHOD),
    ({"supported_currencies": ("USD",)}, Reason.CURRENCY),
    ({"min_amount_minor": 1001}, Reason.AMOUNT),
    ({"required_fields": ("customer.contact",)}, Reason.MISSING_CUSTOMER_FIELDS),
]


standings = st.builds(Admission, st.sampled_from(State), st.floats(0.1, 1.0))


@given(contexts(), gateway_lists, st.data())
def test_each_gateway_is_a_candidate_in_the_order_given_or_excluded_by_id(
    context: Context, gateways: tuple[GatewayConfig, ...], data: st.DataObject
) -> None:
    names = [each.gateway_id for each in gateways]
    unavailable = dict.fromkeys(data.draw(st.sets(st.sampled_from([*names, "gone"]))), "")
    known = data.draw(st.dictionaries(st.sampled_from([*names, "gone"]), standings))
    candidates, excluded = choose(context, gateways, unavailable, known)
    left_out = {each.gateway_id for each in excluded}
    assert [each.gateway_id for each in candidates] == [name for name in names if name not in left_out]
    assert [each.gateway_id for each in excluded] == sorted(left_out)
    assert len(candidates) + len(excluded) == len(gateways)


@given(contexts(), gateway_lists, st.data())
def test_a_candidate_is_enabled_takes_all_of_the_payment_and_its_breaker_is_not_open(
    context: Context, gateways: tuple[GatewayConfig, ...], data: st.DataObject
) -> None:
    names = [each.gateway_id for each in gateways]
    known = data.draw(st.dictionaries(st.sampled_from([*names, "gone"]), standings))
    for each in choose(context, gateways, {}, known)[0]:
        assert each.gateway_id not in known or known[each.gateway_id].state not in {State.OPEN, State.FORCED_OPEN}
        assert each.is_enabled
        assert context.payment_method in each.supported_methods
        assert context.currency in each.supported_currencies
        assert each.min_amount_minor <= context.amount_minor <= each.max_amount_minor
        assert set(each.required_fields) <= set(context.fields)


@pytest.mark.parametrize("bounds", [(1000, 1000), (1, 1000), (1000, 2000)])
def test_the_bounds_of_an_amount_are_taken(bounds: tuple[int, int]) -> None:
    gateway = msgspec.structs.replace(TAKES_IT, min_amount_minor=bounds[0], max_amount_minor=bounds[1])
    assert choose(CONTEXT, [gateway], {}, {}) == ((gateway,), ())


@pytest.mark.parametrize("known", [{}, OPEN, FORCED_OPEN], ids=["closed", "open", "forced open"])
@pytest.mark.parametrize("first", range(len(UNFIT)))
def test_the_first_reason_that_holds_is_the_one_given(first: int, known: Mapping[str, Admission]) -> None:
    gateway = TAKES_IT
    for change, _ in UNFIT[first:]:
        gateway = msgspec.structs.replace(gateway, **change)
    assert choose(CONTEXT, [gateway], {}, known) == ((), (Excluded("hdfc", UNFIT[first][1]),))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.OPEN, Reason.BREAKER_OPEN),
        (State.FORCED_OPEN, Reason.FORCED_OPEN),
        (State.CLOSED, None),
        (State.HALF_OPEN, None),
        (State.FORCED_CLOSED, None),
    ],
)
def test_only_an_open_breaker_leaves_a_gateway_out(state: State, reason: Reason | None) -> None:
    """A half-open one is asked for a probe, a slow start is drawn for: both are for the plan's later stations."""
    candidates, excluded = choose(CONTEXT, [TAKES_IT], {}, {"hdfc": Admission(state, 0.1)})
    assert candidates == (() if reason else (TAKES_IT,))
    assert excluded == ((Excluded("hdfc", reason),) if reason else ())


def test_a_gateway_this_process_cannot_use_is_disabled_whatever_its_breaker_says() -> None:
    assert choose(CONTEXT, [TAKES_IT], {"hdfc": "no key"}, OPEN) == ((), (Excluded("hdfc", Reason.DISABLED),))


ALL_SETS = [chosen for size in range(len(Reason) + 1) for chosen in itertools.combinations(Reason, size)]
REQUEST_CODES = {
    Reason.METHOD: Code.METHOD_NOT_SUPPORTED,
    Reason.CURRENCY: Code.CURRENCY_NOT_SUPPORTED,
    Reason.AMOUNT: Code.AMOUNT_NOT_SUPPORTED,
    Reason.MISSING_CUSTOMER_FIELDS: Code.MISSING_CUSTOMER_FIELDS,
}


@pytest.mark.parametrize("reasons", ALL_SETS, ids=lambda reasons: "+".join(reasons) or "none")
def test_an_empty_plan_is_the_requests_fault_only_if_no_enabled_gateway_would_ever_take_it(
    reasons: tuple[Reason, ...],
) -> None:
    """A disabled gateway says nothing of the request; one whose breaker is open would take it: waiting may help."""
    error = refusal(Excluded(f"gateway-{number}", reason) for number, reason in enumerate(reasons))
    enabled = set(reasons) - {Reason.DISABLED}
    requests_fault = bool(enabled) and not enabled & {Reason.BREAKER_OPEN, Reason.FORCED_OPEN}
    # The reason given is the one a gateway came furthest with: the last in the order of the checks.
    furthest = [REQUEST_CODES[reason] for reason in Reason if reason in enabled & REQUEST_CODES.keys()]
    assert error.code is (furthest[-1] if requests_fault else Code.NO_GATEWAY_AVAILABLE)
    assert error.retry_after_s == (None if requests_fault else RETRY_AFTER_S)
