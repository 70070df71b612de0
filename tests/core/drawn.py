"""Hypothesis -> arbitrary values of the core: contexts, gateways, health, breakers, configurations, verdicts."""

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from hypothesis import strategies as st

from pgw.core.breakers.admission import Panic
from pgw.core.breakers.breaker import Key, Rules, State, View
from pgw.core.breakers.override import Override
from pgw.core.payment.currency import MAX_AMOUNT_MINOR
from pgw.core.payment.outcome import (
    ActionRequired,
    Blame,
    Captured,
    FinalDecline,
    GatewayDecline,
    NotSent,
    Unknown,
    Verdict,
)
from pgw.core.payment.payment import Method, NextAction, UpiFlow
from pgw.core.routing.context import UNKNOWN_BANK, Context, SizeBand, size_band
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import ALL, SEED_SCORING, Health, Scoring, TimeRule, Weights

T = TypeVar("T")

FIELDS = ("customer.email", "customer.contact", "client.ip")
CURRENCIES = ("INR", "USD", "EUR")

CONTEXT = Context(
    merchant_id="m_001",
    amount_minor=1000,
    currency="INR",
    payment_method=Method.UPI,
    issuing_bank="HDFC",
    size_band=SizeBand.LT_500,
    hour=12,
    day_of_month=1,
    fields=("customer.email",),
)
TAKES_IT = GatewayConfig(
    gateway_id="hdfc",
    display_name="HDFC",
    is_sandbox=True,
    is_enabled=True,
    priority=0,
    supported_methods=(Method.UPI,),
    supported_currencies=("INR",),
    required_fields=("customer.email",),
)
"""One payment and one gateway that takes it, for known answers."""

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


def mostly(usual: T, otherwise: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Draw the usual value nine times of ten, so that several of them together are usual too."""
    return st.integers(0, 9).flatmap(lambda chance: otherwise if chance == 9 else st.just(usual))


@st.composite
def gateway_configs(draw: st.DrawFn) -> GatewayConfig:
    """Draw one gateway, more often than not one that takes the payment."""
    least, most = sorted(draw(mostly((1, MAX_AMOUNT_MINOR), st.tuples(amounts, amounts))))
    name = draw(gateway_ids)
    return GatewayConfig(
        gateway_id=name,
        display_name=name.title(),
        is_sandbox=draw(st.booleans()),
        is_enabled=draw(mostly(usual=True, otherwise=st.just(value=False))),
        priority=draw(st.integers(0, 3)),
        supported_methods=draw(mostly(tuple(Method), methods.map(lambda method: (method,)))),
        supported_currencies=draw(mostly(CURRENCIES, currencies.map(lambda currency: (currency,)))),
        bank=draw(st.none() | banks),
        required_fields=draw(mostly((), _some_of(FIELDS))),
        timeout_ms=draw(st.none() | st.integers(50, 30_000)),
        min_amount_minor=least,
        max_amount_minor=most,
    )


gateway_lists = st.lists(gateway_configs(), max_size=5, unique_by=lambda gateway: gateway.gateway_id).map(tuple)

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
        breaker=rules,
        panic=st.sampled_from(Panic),
    )


rules = st.just(Rules()) | st.builds(
    Rules, slow_start_s=st.integers(1, 60), slow_start_from=st.floats(0.0, 1.0, exclude_min=True)
)
versions = st.integers(0, 3)
"""Of an override, and of the newest one whose end a breaker has noticed."""


def _seconds(least: float, most: float) -> st.SearchStrategy[timedelta]:
    return st.floats(least, most).map(lambda seconds: timedelta(seconds=seconds))


@st.composite
def views(draw: st.DrawFn, at: datetime) -> View:
    """Draw a breaker as a decision about `at` sees it; an open time may end before it or after it."""
    state = draw(st.sampled_from([State.OPEN, State.CLOSED, State.HALF_OPEN]))
    since = at - draw(_seconds(0, 120))
    return View(
        state=state,
        epoch=draw(versions),
        since=since,
        until=at + draw(_seconds(-30, 60)) if state is State.OPEN else None,
        closed_at=at - draw(_seconds(-1, 30)) if state is State.CLOSED and draw(st.booleans()) else None,
        released=draw(versions),
    )


@st.composite
def overrides(draw: st.DrawFn, key: Key, at: datetime) -> Override:
    """Draw an operator's order about one breaker, in force at `at` or ended before."""
    return Override(
        gateway_id=key[0],
        payment_method=key[1],
        state=draw(st.sampled_from([State.FORCED_OPEN, State.FORCED_CLOSED])),
        reason="drawn",
        actor="ann",
        forced_at=at - timedelta(hours=1),
        expires_at=at + draw(_seconds(-60, 60)),
        version=draw(versions),
    )


@st.composite
def forced(draw: st.DrawFn, keys: list[Key], at: datetime) -> dict[Key, Override]:
    """Draw orders about some of these breakers."""
    chosen = draw(st.sets(st.sampled_from(keys)))
    return {key: draw(overrides(key, at)) for key in sorted(chosen)}


policies = st.builds(
    RetryPolicy,
    merchant_id=merchant_ids,
    max_attempts=st.integers(1, 10),
    latency_budget_ms=st.integers(100, 60_000),
    retry_on_timeout=st.booleans(),
    enabled=st.booleans(),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Context, Snapshot]:
    """Draw a payment and all that its decision may know."""
    context = draw(contexts())
    gateways = draw(gateway_lists)
    names = [each.gateway_id for each in gateways]
    method, bank = str(context.payment_method), context.issuing_bank
    known = draw(st.dictionaries(st.sampled_from([*names, "gone"]), healths))
    cells = st.sampled_from([(method, bank), (method, ALL), (ALL, ALL)])
    keys = [(name, method) for name in [*names, "gone"]]
    as_of = draw(moments)
    snapshot = Snapshot(
        config_version=draw(st.integers(1, 10_000)),
        as_of=as_of,
        hot_as_of=draw(st.none() | _seconds(-5, 0).map(lambda age: as_of + age)),
        gateways=gateways,
        unavailable=draw(mostly({}, st.sampled_from([*names, "gone"]).map(lambda name: {name: "no key"}))),
        scoring=draw(scorings(names)),
        policies={each.merchant_id: each for each in draw(st.lists(policies, max_size=3))},
        health={(name, *draw(cells)): each for name, each in known.items()},
        views=draw(st.dictionaries(st.sampled_from(keys), views(as_of))),
        overrides=draw(forced(keys, as_of)),
    )
    return context, snapshot


blames = st.sampled_from(Blame)
captures = st.builds(Captured, codes, amounts, currencies)
actions = st.builds(ActionRequired, codes, st.builds(NextAction, type=codes, url=st.just("upi://pay")))
not_sent = st.builds(NotSent, codes.map("NOT_SENT_{}".format), blames)
gateway_declines = st.builds(GatewayDecline, codes, st.sampled_from([Blame.GATEWAY, Blame.BANK, Blame.NETWORK]))
customer_declines = st.builds(FinalDecline, codes)
unknowns = st.builds(Unknown, codes, blames)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    captures, actions, not_sent, gateway_declines, customer_declines, unknowns
)
