"""Ranked and excluded gateways -> rows and sentences: the score as its six terms, the way every screen shows it."""

from collections.abc import Sequence
from typing import Any

from pgw.cli.views.screen import Column, Row, plain

TERMS = ("success", "latency", "method_affinity", "bank_affinity", "amount_fit", "time")

REASONS = {
    "DISABLED": "not enabled, or not usable by the process that decided",
    "METHOD": "does not take this method",
    "CURRENCY": "does not take this currency",
    "AMOUNT": "does not take this amount",
    "BREAKER_OPEN": "its breaker is open",
    "FORCED_OPEN": "an operator holds its breaker open",
    "MISSING_CUSTOMER_FIELDS": "needs customer or client fields the request does not carry",
}


def _term(name: str) -> Column:
    return Column(name.partition("_")[0], lambda row: f"{row['breakdown'][name]:.4f}", right=True)


COLUMNS = (
    plain("rank", right=True),
    plain("gateway", "gateway_id"),
    Column("score", lambda row: f"{row['score']:.4f}", right=True),
    *map(_term, TERMS),
)


def ranked_rows(ranked: Sequence[Row]) -> list[dict[str, Any]]:
    """Number the gateways in their order."""
    return [{"rank": place, **each} for place, each in enumerate(ranked, start=1)]


def advantage_of(first: Row, second: Row) -> str:
    """Say by how much the first is ahead, and through which terms, the weightiest first."""
    gaps = {term: first["breakdown"][term] - second["breakdown"][term] for term in TERMS}
    named = [
        f"{term.replace('_', ' ')} {gap:+.4f}"
        for term, gap in sorted(gaps.items(), key=lambda each: -abs(each[1]))
        if gap
    ]
    ahead = first["score"] - second["score"]
    if not named:
        return f"level with {second['gateway_id']}: the lower priority goes first, then the name"
    return f"ahead of {second['gateway_id']} by {ahead:.4f}: {', '.join(named)}"


def excluded_lines(excluded: Sequence[Row]) -> tuple[str, ...]:
    """Say of each gateway left out why."""
    return tuple(
        f"excluded    {each['gateway_id']}: {REASONS.get(each['reason'], 'left out')} ({each['reason']})"
        for each in excluded
    )
