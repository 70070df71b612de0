"""One announced attempt -> its Verdict: the gateway called once, under a deadline, inside the attempt's lease."""

import asyncio
import logging

from pgw.core.payment.outcome import Blame, Unknown, Verdict, checked_amount
from pgw.core.payment.payment import PaymentRequest
from pgw.core.ports import ChargeOrder, Dependencies, Reference
from pgw.core.writes.attempts import Announced

log = logging.getLogger(__name__)


async def attempt(
    deps: Dependencies, announced: Announced, leased_until: float, payment_id: str, key: str, request: PaymentRequest
) -> Verdict:
    """Call the gateway, once. Whatever it does that is not understood is UNKNOWN.

    `leased_until` is the end of the attempt's lease on the clock's `elapsed`: past it a verifier may have taken it.
    """
    timeout_s = announced.timeout.total_seconds()
    deadline = deps.clock.elapsed() + timeout_s
    order = ChargeOrder(
        reference=Reference(payment_id, announced.number),
        idempotency_key=key,
        amount_minor=request.amount_minor,
        currency=request.currency,
        instrument=request.instrument,
        may_send=lambda: deps.clock.elapsed() <= deadline <= leased_until,
        timeout_s=timeout_s,
        customer=request.customer,
        client=request.client,
        return_url=request.return_url,
    )
    try:
        async with asyncio.timeout(timeout_s):
            verdict = await deps.gateways[announced.gateway_id].charge(order)
    except TimeoutError:
        return Unknown("TIMEOUT", Blame.GATEWAY)
    except Exception as fault:
        # An adapter's bug leaves the outcome unknown, and must not look like a refusal.
        log.exception("%s: charge raised %s", announced.gateway_id, type(fault).__name__)
        return Unknown("ADAPTER_FAULT", Blame.NONE)
    return checked_amount(verdict, request.amount_minor, request.currency)
