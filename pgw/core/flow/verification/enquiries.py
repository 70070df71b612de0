"""What is due -> each of it handled once, at the pace its gateway can stand; the enquiry itself, under a deadline."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from pgw.core.ports import Dependencies, Reference
from pgw.core.verification.enquiry import Finding, Pending, Undecided

log = logging.getLogger(__name__)

MAX_DUE = 200
"""Things looked at in one read."""

MAX_ENQUIRIES = 16
"""Enquiries under way at one gateway: one that just recovered must not be met by all the checks it caused."""

MAX_READS = 8
"""Reads of one round: behind what must wait for a slow gateway may stand what a quick one can be asked."""


ANSWER_WITHIN_S = 8.0
"""Longest wait for one call: the three of a check, which may capture between two enquiries, end within its claim, and
so do its commits."""


class AtGateway(Protocol):
    """An attempt to ask a gateway about."""

    @property
    def payment_id(self) -> str:
        """Return its payment."""

    @property
    def attempt_number(self) -> int:
        """Return which of the payment's attempts it is."""

    @property
    def gateway_id(self) -> str:
        """Return whom to ask."""


D = TypeVar("D", bound=AtGateway)
Read = Callable[[Connection, datetime, int, frozenset[str]], Sequence[D]]


async def round_of(deps: Dependencies, purpose: str, read: Read[D], handle: Callable[[D], Awaitable[bool]]) -> int:
    """Handle what is due and may be asked now; return how many. `handle` says whether it took its charge on."""
    done = 0
    left_out = deps.pace.backing_off(deps.clock.elapsed())
    for _ in range(MAX_READS):
        found = await deps.ledger.read(read, deps.clock.now(), MAX_DUE, left_out)
        gates = {each.gateway_id: asyncio.Semaphore(MAX_ENQUIRIES) for each in found}
        held_up: set[str] = set()

        async def one(each: D, gates: dict[str, asyncio.Semaphore] = gates, held_up: set[str] = held_up) -> bool:
            async with gates[each.gateway_id]:
                if not deps.pace.take(each.gateway_id, purpose, deps.clock.elapsed()):
                    held_up.add(each.gateway_id)
                    return False
                try:
                    taken_on = await handle(each)
                except Exception:
                    # A bug that one attempt brings to light must not stop the others; it stays due, and is tried again.
                    log.exception("%s: payment %s attempt %d", purpose, each.payment_id, each.attempt_number)
                    return True
                if not taken_on:
                    deps.pace.put_back(each.gateway_id, purpose, deps.clock.elapsed())
                return taken_on

        done += sum(await asyncio.gather(*(one(each) for each in found)))
        if len(found) < MAX_DUE or not held_up:
            break
        left_out |= held_up
    return done


async def enquire(deps: Dependencies, gateway_id: str, reference: Reference) -> Finding:
    """Ask a gateway what became of an attempt; one that is disabled is asked all the same."""
    gateway = deps.gateways.get(gateway_id)
    if gateway is None:
        return Undecided(Pending.UNREACHABLE, "NO_ADAPTER")
    finding = await bounded(deps, gateway_id, gateway.enquire(reference), Undecided(Pending.UNREACHABLE, "TIMEOUT"))
    is_silent = isinstance(finding, Undecided) and finding.result is Pending.UNREACHABLE
    deps.pace.learn(gateway_id, deps.clock.elapsed(), reached=not is_silent)
    return finding


def within_s(deps: Dependencies) -> float:
    """Return how long a worker waits for one call of a gateway."""
    return min(deps.timeout_ms / 1000, ANSWER_WITHIN_S)


T = TypeVar("T")


async def bounded(
    deps: Dependencies, gateway_id: str, call: Coroutine[Any, Any, T], too_late: Undecided
) -> T | Undecided:
    """Wait for a gateway's answer, for a limited time; an adapter's bug is an answer that says nothing."""
    try:
        async with asyncio.timeout(within_s(deps)):
            return await call
    except TimeoutError:
        return too_late
    except Exception as fault:
        # An adapter's bug must not stop the check: it is asked again on schedule.
        log.exception("%s: a call raised %s", gateway_id, type(fault).__name__)
        return Undecided(Pending.UNREACHABLE, "ADAPTER_FAULT")
