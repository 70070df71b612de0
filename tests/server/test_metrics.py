"""How a gateway did, over HTTP: by window, method and bank, with its age; and what is not asked for like that."""

import asyncio
import math
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pgw.core.errors import PgwError
from pgw.core.flow.metrics.windows import BREAKER_WINDOW_S, WINDOWS_S, MetricWindows
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.ledger.configuration import SANDBOX_GATEWAYS
from pgw.core.metrics.counters import field_of, fold, slice_of
from pgw.core.payment.outcome import AttemptEnd
from pgw.core.routing.plan import HOT_LIMIT
from pgw.server.routes.metrics import MAX_CELLS, GatewayMetrics, MetricsQuery, WindowName, figures
from tests.core.told import FAULT, HANGING, SUCCEEDED, told
from tests.doubles import NOON, VirtualClock
from tests.server.serving import Inside, Served
from tests.server.wire import eventually, payment

HDFC = SANDBOX_GATEWAYS[0]
EMPTY = {
    "attempts": 0,
    "successes": 0,
    "failures": 0,
    "unknown": 0,
    "pending": 0,
    "success_rate": None,
    "latency": {"calls": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "relative_error": 0.05},
    "blame": {},
    "errors": {},
}


def _windows(*ends: tuple[AttemptEnd, int, str, str]) -> MetricWindows:
    """Show what was told of hdfc: an end, how many minutes ago, by which method, for which bank."""
    clock = VirtualClock()
    hot = InProcessHotState(clock)
    mirror = MetricWindows(hot, clock)
    hot.apply(
        fold(
            told(end, NOON - timedelta(minutes=ago), payment_method=method, issuing_bank=bank)
            for end, ago, method, bank in ends
        )
    )
    asyncio.run(mirror.refresh())
    return mirror


def _shown(mirror: MetricWindows, **query: str) -> GatewayMetrics:
    return figures(mirror, HDFC, msgspec.convert(query, MetricsQuery), NOON)


def test_every_window_that_may_be_asked_for_is_kept() -> None:
    """The one that nobody can ask for here is the breakers' own."""
    kept = tuple(each for each in WINDOWS_S if each != BREAKER_WINDOW_S)
    assert tuple(int(window.span.total_seconds()) for window in WindowName) == kept


def test_the_figures_of_a_gateway_are_those_of_its_cells_together() -> None:
    shown = _shown(
        _windows(
            *[(SUCCEEDED, 1, "UPI", "HDFC")] * 6,
            *[(FAULT, 1, "UPI", "SBI")] * 2,
            (HANGING, 2, "UPI", "SBI"),
            (SUCCEEDED, 3, "CARD", "HDFC"),
        )
    )
    assert (shown.gateway_id, shown.window, shown.payment_method, shown.issuing_bank) == ("hdfc", "5m", None, None)
    assert (shown.attempts, shown.successes, shown.failures, shown.unknown, shown.success_rate) == (10, 7, 2, 1, 0.7)
    assert (shown.blame, shown.errors) == ({"gateway": 3}, {"GATEWAY_TECHNICAL_ERROR": 2, "TIMEOUT": 1})
    assert [(each.payment_method, each.issuing_bank, each.attempts, each.success_rate) for each in shown.cells] == [
        ("UPI", "HDFC", 6, 1.0),
        ("UPI", "SBI", 3, 0.0),
        ("CARD", "HDFC", 1, 1.0),
    ]


@pytest.mark.parametrize(
    ("query", "attempts"),
    [
        ({"window": "1m"}, 1),
        ({}, 2),
        ({"window": "15m"}, 4),
        ({"window": "60m"}, 5),
        ({"window": "60m", "payment_method": "upi"}, 4),
        ({"window": "60m", "issuing_bank": "sbi"}, 2),
        ({"window": "60m", "payment_method": "CARD", "issuing_bank": "HDFC"}, 0),
        ({"issuing_bank": "A bank nobody has"}, 0),
    ],
    ids=str,
)
def test_what_is_named_is_shown_alone_and_what_is_not_is_rolled_up(query: dict[str, str], attempts: int) -> None:
    mirror = _windows(
        (SUCCEEDED, 0, "UPI", "HDFC"),
        (SUCCEEDED, 4, "UPI", "SBI"),
        (SUCCEEDED, 6, "UPI", "HDFC"),
        (SUCCEEDED, 14, "CARD", "SBI"),
        (SUCCEEDED, 59, "UPI", "HDFC"),
        (SUCCEEDED, 61, "UPI", "HDFC"),
    )
    shown = _shown(mirror, **query)
    assert attempts == shown.attempts
    assert attempts == sum(each.attempts for each in shown.cells)


def test_figures_say_how_old_they_are() -> None:
    mirror = _windows((SUCCEEDED, 0, "UPI", "HDFC"))
    ages = [timedelta(0), HOT_LIMIT, HOT_LIMIT + timedelta(seconds=1)]
    shown = [figures(mirror, HDFC, MetricsQuery(), NOON + age) for age in ages]
    assert [(each.as_of, each.stale) for each in shown] == [(NOON, False), (NOON, False), (NOON, True)]
    never = figures(MetricWindows(InProcessHotState(VirtualClock()), VirtualClock()), HDFC, MetricsQuery(), NOON)
    assert (never.as_of, never.stale, never.attempts) == (None, True, 0)


def test_of_many_cells_those_with_most_attempts_are_shown_and_all_are_counted() -> None:
    clock = VirtualClock()
    hot = InProcessHotState(clock)
    hot.apply({slice_of(NOON): {field_of(("hdfc", "UPI", f"B{n:03}"), "s:SUCCESS"): n for n in range(1, 301)}})
    mirror = MetricWindows(hot, clock)
    asyncio.run(mirror.refresh())
    shown = _shown(mirror)
    assert [each.attempts for each in shown.cells] == list(range(300, 300 - MAX_CELLS, -1))
    assert shown.attempts == sum(range(1, 301))


def test_a_method_the_gateway_does_not_take_is_refused_by_name() -> None:
    upi_alone = msgspec.structs.replace(HDFC, supported_methods=("UPI",))
    with pytest.raises(PgwError, match="hdfc takes UPI"):
        figures(_windows(), upi_alone, MetricsQuery(payment_method="CARD"), NOON)


def test_a_gateway_nobody_called_has_empty_figures_and_no_rate(within: Inside) -> None:
    shown = within.api.get("/metrics/gateways/razorpay").document
    assert {name: shown[name] for name in EMPTY} == EMPTY
    assert (shown["gateway_id"], shown["window"], shown["cells"]) == ("razorpay", "5m", [])


def test_what_happened_to_payments_is_in_the_figures_of_their_gateway(server: Served) -> None:
    """The whole way: the ledger, its outbox, the relay, the fold, the mirror."""
    api, target = server.api, "/metrics/gateways/hdfc?window=60m&payment_method=upi&issuing_bank=sbi"
    before = api.get(target).document
    for vpa in ("a@oksbi", "b@oksbi", "c@sbi"):
        assert api.pay(payment(vpa)).document["gateway_used"] == "hdfc"

    def arrived() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(target).document
        return found if found["attempts"] == before["attempts"] + 3 else None

    shown = eventually(arrived)
    assert (shown["payment_method"], shown["issuing_bank"], shown["stale"]) == ("UPI", "SBI", False)
    assert shown["successes"] == before["successes"] + 3
    assert [(each["payment_method"], each["issuing_bank"]) for each in shown["cells"]] == [("UPI", "SBI")]
    assert shown["latency"]["p50_ms"] <= shown["latency"]["p95_ms"] <= shown["latency"]["p99_ms"]
    assert math.isclose(shown["latency"]["relative_error"], 0.05)


@pytest.mark.parametrize("gateway_id", ["nope", "HDFC", "hdfc%20", "hdfc%00", "*"])
def test_an_unknown_gateway_is_404_whatever_else_is_asked(server: Served, gateway_id: str) -> None:
    for query in ("", "?window=2m", "?payment_method=X"):
        assert server.api.get(f"/metrics/gateways/{gateway_id}{query}").refusal == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["BARTER", "UPI%20", "%00"])
def test_an_unknown_method_is_422(server: Served, method: str) -> None:
    refused = server.api.get(f"/metrics/gateways/hdfc?payment_method={method}")
    assert refused.refusal == (422, "METHOD_NOT_SUPPORTED")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("window=2m", "/window"),
        ("window=5M", "/window"),
        ("window=", "/window"),
        ("window=300", "/window"),
        ("payment_method=", "/payment_method"),
        ("issuing_bank=", "/issuing_bank"),
        ("issuing_bank=%00", "/issuing_bank"),
        ("issuing_bank=%20", "/issuing_bank"),
        (f"issuing_bank={'b' * 256}", "/issuing_bank"),
        ("bank=HDFC", "/bank"),
        ("window=1m&window=5m", "/window"),
    ],
    ids=str,
)
def test_what_is_no_question_is_400_and_says_where(server: Served, query: str, pointer: str) -> None:
    refused = server.api.get(f"/metrics/gateways/hdfc?{query}")
    assert (refused.refusal, refused.pointers) == ((400, "INVALID_REQUEST"), [pointer])
