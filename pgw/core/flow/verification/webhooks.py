"""Webhooks that wait -> checks and watches that are due now; the truth is asked for, never taken from a webhook."""

import asyncio

from pgw.core.ledger.webhooks import HANDLED, handling, waiting
from pgw.core.ports import Dependencies

HANDLE_EVERY_S = 0.25
"""How often waiting webhooks are handled: a customer who has just paid waits in front of a screen."""

MAX_WAITING = 200
"""Webhooks handled in one round."""


async def handle_waiting(deps: Dependencies) -> int:
    """Bring forward what the waiting webhooks name; return how many were handled. Many workers may do this at once."""
    now = deps.clock.now()
    found = await deps.ledger.read(waiting, now, MAX_WAITING)
    return sum(await asyncio.gather(*(deps.ledger.commit(HANDLED, handling(each, now)) for each in found)))
