"""Hypothesis -> arbitrary values of the core: contexts, gateways, health, whole configurations, verdicts."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from pgw.core.context import UNKNOWN_BANK, Context, size_band
from pgw.core.gateway import GatewayConfig
from pgw.core.money import MAX_AMOUNT_MINOR
from pgw.core.outcome import (
    ActionRequired,
    Blame,
    Captured,
    CustomerDecline,
    GatewayDecline,
    NotSent,
    Unknown,
    Verdict,
)
from pgw.core.payment import Method, NextAction, UpiFlow
from pgw.core.plan import Snapshot
from pgw.core.policy import RetryPolicy
from pgw.core.score import SEED_SCORING, Health, Scoring, TimeRule, Weights

FIELDS = ("customer.email", "customer.contact", "client.ip")
CURRENCIES = ("INR", "USD", "EUR")

codes = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=20)
gateway_ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=8)
merchant_ids = st.sampled_from(["m_001", "m_002", "m_003"])
banks = st.sampled_from(["HDFC", "ICICI", "AXIS", "SBI", "OKSOMEBANK"])
methods = st.sampled_from(Method)
currencies = st.sampled_from(CURRENCIES)
shares = st.floats(0.0, 1.0)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # as asked
amounts = st.integers(1, 2_000_000) | st.integers(1, MAX_AMOUNT_MINOR)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    """Draw what one payment shows of itself."""
    amount = draw(amounts)
    method = draw(methods)
    return Context(
        merchant_id=draw(merchant_ids),
        amount_minor=amount,
        currency=draw(currencies),
        payment_method=method,
        issuing_bank=draw(banks | st.just(UNKNOWN_BANK)),
        size_band=size_band(amount),
        hour=draw(st.integers(0, 23)),
        day_of_month=draw(st.integers(1, 31)),
        upi_flow=draw(st.sampled_from(UpiFlow)) if method is Method.UPI else None,
        fields=draw(_some_of(FIELDS)),
    )


def _some_of(choices: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from(choices)).map(lambda chosen: tuple(each for each in choices if each in chosen))


@st.composite
def gateway_configs(draw: st.DrawFn) -> GatewayConfig:
    """Draw one gateway, more often than not one that takes the payment."""
    least, most = sorted((draw(st.just(1) | amounts), draw(st.just(MAX_AMOUNT_MINOR) | amounts)))
    name = draw(gateway_ids)
    return GatewayConfig(
        gateway_id=name,
        display_name=name.title(),
        is_sandbox=draw(st.booleans()),
        is_enabled=draw(st.sampled_from((True, True, True, False))),
        priority=draw(st.integers(0, 3)),
        supported_methods=draw(st.just(tuple(Method)) | methods.map(lambda method: (method,))),
        supported_currencies=draw(st.just(CURRENCIES) | currencies.map(lambda currency: (currency,))),
        bank=draw(st.none() | banks),
        required_fields=draw(st.just(()) | _some_of(FIELDS)),
        timeout_ms=draw(st.none() | st.integers(50, 30_000)),
        min_amount_minor=least,
        max_amount_minor=most,
        fee_bps=draw(st.integers(0, 10_000)),
        fee_fixed_minor=draw(st.integers(0, 10_000)),
    )


gateway_lists = st.lists(gateway_configs(), max_size=6, unique_by=lambda gateway: gateway.gateway_id).map(tuple)

# Few round values beside the arbitrary ones, so that ties happen.
healths = st.builds(
    Health,
    success_rate=st.sampled_from((0.0, 0.5, 1.0)) | shares,
    latency_p95_ms=st.sampled_from((0.0, 1500.0)) | st.floats(0.0, 1e6),
    observations=st.floats(0.0, 1e9),
)

weights = (
    st.tuples(*[st.integers(0, 1000)] * 6)
    .filter(any)
    .map(lambda parts: Weights(**{n: p / sum(parts) for n, p in zip(Weights.__struct_fields__, parts, strict=True)}))
)
time_rules = st.builds(
    TimeRule,
    hours=st.sets(st.integers(0, 23)).map(lambda hours: tuple(sorted(hours))),
    value=shares,
    days=st.sets(st.integers(1, 31), max_size=3).map(lambda days: tuple(sorted(days))),
)


def scorings(names: list[str]) -> st.SearchStrategy[Scoring]:
    """Draw a scoring configuration whose tables know some of the named gateways."""
    gateway = st.sampled_from([*names, "somebody-else"])
    return st.just(SEED_SCORING) | st.builds(
        Scoring,
        weights=weights,
        method_affinity=st.dictionaries(gateway, st.dictionaries(methods, shares)),
        amount_fit=st.dictionaries(gateway, st.dictionaries(st.sampled_from(["lt_500", "500_2000"]), shares)),
        time=st.dictionaries(gateway, st.lists(time_rules, max_size=2).map(tuple)),
    )


policies = st.builds(
    RetryPolicy,
    merchant_id=merchant_ids,
    max_attempts=st.integers(1, 10),
    latency_budget_ms=st.integers(100, 60_000),
    retry_on_timeout=st.booleans(),
    enabled=st.booleans(),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Draw all a decision may know."""
    gateways = draw(gateway_lists)
    names = [each.gateway_id for each in gateways]
    cells = st.tuples(st.sampled_from([*names, "gone"]), methods.map(str), banks | st.just(UNKNOWN_BANK))
    return Snapshot(
        config_version=draw(st.integers(1, 10_000)),
        as_of=draw(moments),
        gateways=gateways,
        unavailable=dict.fromkeys(draw(st.sets(st.sampled_from([*names, "gone"]), max_size=2)), "no credentials"),
        scoring=draw(scorings(names)),
        policies={each.merchant_id: each for each in draw(st.lists(policies, max_size=3))},
        health=draw(st.dictionaries(cells, healths, max_size=20)),
    )


blames = st.sampled_from(Blame)
captures = st.builds(Captured, codes, amounts, currencies)
actions = st.builds(ActionRequired, codes, st.builds(NextAction, type=codes, url=st.just("upi://pay")))
not_sent = st.builds(NotSent, codes.map("NOT_SENT_{}".format), blames)
gateway_declines = st.builds(GatewayDecline, codes, st.sampled_from([Blame.GATEWAY, Blame.BANK, Blame.NETWORK]))
customer_declines = st.builds(CustomerDecline, codes)
unknowns = st.builds(Unknown, codes, blames)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    captures, actions, not_sent, gateway_declines, customer_declines, unknowns
)
