"""Seen -> the text of one scrape: values that others keep, in no registry of this process."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pgw.core.ledger.at_risk import MoneyAtRisk
from pgw.core.ledger.gauges import Gauges
from pgw.core.ledger.violations import ViolationCount
from pgw.core.money.invariants import MEANINGS


@dataclass(frozen=True, slots=True)
class ScrapeFigures:
    """The figures of one scrape. `ledger` is None where it could not be read; `beats`: role -> epoch seconds."""

    now: datetime
    ledger: Gauges | None
    beats: Mapping[str, float]
    currencies: frozenset[str]


class _ScrapeCollector(Collector):
    def __init__(self, seen: ScrapeFigures) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        return _series(self._seen)


def written(seen: ScrapeFigures) -> bytes:
    """Write what was seen as Prometheus reads it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ScrapeCollector(seen))
    return generate_latest(registry)


def _series(seen: ScrapeFigures) -> Iterator[Metric]:
    yield _gauge(
        "pgw_ledger_up",
        "1 while the ledger can be read; else the series it keeps are missing.",
        seen.ledger is not None,
    )
    beats = {(role,): at for role, at in seen.beats.items()}
    yield _gauges(
        "pgw_worker_heartbeat_timestamp_seconds", "When a process of this role last said it lives.", beats, "role"
    )
    if seen.ledger is None:
        return
    yield from _violations(seen.ledger.violations)
    yield from _money(seen.ledger.at_risk, seen)
    yield from _work(seen.ledger, seen)


def _violations(tallies: Mapping[str, ViolationCount]) -> Iterator[Metric]:
    """Export every invariant, also those never violated: a series that begins at 1 has risen in no rate."""
    every = {name: tallies.get(name, ViolationCount()) for name in MEANINGS}
    found = CounterMetricFamily(
        "pgw_invariant_violations", "Violations found, ever, by any process.", labels=["invariant"]
    )
    for name, tally in every.items():
        found.add_metric([name], tally.found)
    yield found
    still = {(name,): tally.open for name, tally in every.items()}
    yield _gauges("pgw_invariant_violations_open", "Violations that hold: see `pgw audit money`.", still, "invariant")


def _money(risk: MoneyAtRisk, seen: ScrapeFigures) -> Iterator[Metric]:
    yield _gauge("pgw_verification_pending", "Payments whose end is unknown.", risk.unknown.count)
    oldest_s = risk.unknown.age(seen.now).total_seconds()
    yield _gauge("pgw_verification_oldest_seconds", "Age of the oldest of them; 0 without any.", oldest_s)
    states = {"unknown": risk.unknown, "review": risk.review, "reversing": risk.reversing, "stuck": risk.stuck}
    sums = {
        (currency, state): each.sums.get(currency, 0)
        for state, each in states.items()
        for currency in sorted({*seen.currencies, *each.sums})
    }
    help_text = "Unsettled money, in minor units: unknown, in manual review, being reversed, or stuck on it."
    yield _gauges("pgw_money_at_risk_minor", help_text, sums, "currency", "state")


def _work(ledger: Gauges, seen: ScrapeFigures) -> Iterator[Metric]:
    by_status = {(str(status),): count for status, count in ledger.payments_open.items()}
    yield _gauges("pgw_payments_open", "Payments that have not ended.", by_status, "status")
    waiting = 0.0 if ledger.waiting_since is None else (seen.now - ledger.waiting_since).total_seconds()
    yield _gauge("pgw_outbox_lag_seconds", "Age of the event that waits longest for the relay.", max(waiting, 0.0))


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _gauges(name: str, help_text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Make a gauge of several values, each by its tuple of label values."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family
