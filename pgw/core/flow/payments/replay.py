"""An idempotency key that has a payment -> that payment as it is now; no gateway is called."""

from datetime import datetime

from msgspec import Struct

from pgw.core.breakers.override import Pause
from pgw.core.errors import Code, PgwError
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.payment_reads import Stored, by_key
from pgw.core.payment.payment import Payment, PaymentRequest
from pgw.core.ports import Dependencies

LONGEST_RETRY_AFTER_S = 60
"""Most a client is asked to wait while payments are paused: a pause may be ended sooner than planned."""


class Taken(Struct, frozen=True):
    """The answer to a request: the payment, and whether it was there before."""

    payment: Payment
    replayed: bool


def paused(pause: Pause, now: datetime) -> PgwError:
    """Make the refusal of new payments under an operator's pause."""
    left_s = (pause.expires_at - now).total_seconds()
    return PgwError(
        Code.PAUSED,
        f"new payments are paused by an operator until {pause.expires_at:%Y-%m-%dT%H:%M:%SZ} at the latest: nothing "
        f"was charged, the key is free",
        retry_after_s=max(1, min(round(left_s), LONGEST_RETRY_AFTER_S)),
    )


async def replay_or_refuse(
    deps: Dependencies, request: PaymentRequest, key: str, fingerprint: str, refused: PgwError
) -> Taken:
    """Answer a key that has a payment with it; any other is refused, and stays free."""
    existing = await deps.ledger.read(by_key, request.merchant_id, key)
    if existing is None:
        raise refused
    return replay(deps, existing, fingerprint)


def replay(deps: Dependencies, existing: Stored | None, fingerprint: str) -> Taken:
    """Answer a key that has a payment with that payment as it is now; no gateway is called."""
    if existing is None:
        raise LedgerUnavailable("the ledger lost the row that refused this one: nothing was charged", written=False)
    if existing.request_digest != fingerprint:
        raise PgwError(
            Code.IDEMPOTENCY_KEY_REUSED,
            "this Idempotency-Key belongs to a payment with another body: use a new key for a new payment",
        )
    now = deps.clock.now()
    if existing.in_flight(now):
        raise PgwError(
            Code.IDEMPOTENCY_KEY_IN_USE,
            "the first request with this Idempotency-Key is still at work: ask again, or GET the payment",
            retry_after_s=1,
        )
    return Taken(existing.as_of(now), replayed=True)
