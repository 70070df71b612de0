"""Hypothesis -> what the outbox tells of attempts: events as the flow writes them, first told and later put right."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from pgw.core.events import Corrects, Event
from pgw.core.payment.outcome import AttemptEnd, Blame, attempt_end
from pgw.core.payment.payment import AttemptStatus
from tests.core.drawn import banks, verdicts
from tests.doubles import NOON

GATEWAYS = ("hdfc", "icici")
METHODS = ("UPI", "CARD")

SUCCEEDED = AttemptEnd(AttemptStatus.SUCCESS, None, Blame.NONE)
FAULT = AttemptEnd(AttemptStatus.FAILURE, "GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)
HANGING = AttemptEnd(AttemptStatus.TIMEOUT, "TIMEOUT", Blame.GATEWAY)


def told(end: AttemptEnd, occurred_at: datetime = NOON, **members: Any) -> Event:
    """Write the event of one attempt's end, of `hdfc`, UPI and HDFC's customer unless told otherwise."""
    document: dict[str, Any] = {
        "event_id": "e",
        "type": "payment.attempted",
        "payment_id": "p",
        "attempt_number": 1,
        "gateway_id": "hdfc",
        "payment_method": "UPI",
        "issuing_bank": "HDFC",
        "status": end.status,
        "blame": end.blame,
        "error_code": end.error_code,
        "latency_ms": 99,
        "occurred_at": occurred_at,
        **members,
    }
    return Event(**document)


def put_right(before: Event, end: AttemptEnd, occurred_at: datetime, **members: Any) -> Event:
    """Write the event of a verification that found another end than was told before."""
    assert before.blame is not None, "an attempt's event says whose fault it was"
    corrects = Corrects(before.status, before.blame, before.error_code, before.occurred_at)
    return told(
        end,
        occurred_at,
        type="payment.verified",
        gateway_id=before.gateway_id,
        payment_method=before.payment_method,
        issuing_bank=before.issuing_bank,
        corrects=corrects,
        **members,
    )


moments = st.integers(0, 3600_000).map(lambda ms: NOON - timedelta(milliseconds=ms))
latencies = st.none() | st.integers(0, 5000)
ends = verdicts.map(attempt_end)
attempts = st.builds(
    told,
    ends,
    moments,
    gateway_id=st.sampled_from(GATEWAYS),
    payment_method=st.sampled_from(METHODS),
    issuing_bank=banks,
    latency_ms=latencies,
)
settled = ends.filter(lambda end: end.status in {AttemptStatus.SUCCESS, AttemptStatus.FAILURE})
corrections = st.builds(put_right, attempts, settled, moments, latency_ms=latencies)
others = st.builds(
    told,
    ends,
    moments,
    type=st.sampled_from(["payment.completed", "payment.duplicate_reversed", "breaker.changed", "experiment.paused"]),
)
events = attempts | corrections | others
