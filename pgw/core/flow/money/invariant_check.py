"""Payments and minutes, some at a time -> violations in the ledger: opened, cleared, each logged once."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from random import Random

from pgw.core.flow.money.recount import Recount
from pgw.core.ledger.audit_samples import SampledPayment, sampled, sampled_again
from pgw.core.ledger.violations import (
    CLEAR,
    MAX_OPEN,
    OPEN,
    DetectedBy,
    DetectedViolation,
    Open,
    clearing,
    open_of,
    opened,
    opening,
)
from pgw.core.ports import Clock, Ledger
from pgw.core.verification.enquiry import GIVE_UP_AFTER
from pgw.core.verification.late_capture import LATEST_END, REVERSED_WITHIN

log = logging.getLogger(__name__)

AUDIT_EVERY_S = 5.0

NEWEST = timedelta(minutes=1)
LOOK_BACK = GIVE_UP_AFTER + LATEST_END + REVERSED_WITHIN
"""How far back a violation may still arise: until an attempt's late-capture monitor and its reversal have ended."""

CHECKED_AGAIN = 5
"""Payments of open violations that one step checks again."""

Known = dict[str, Open]
"""Open violations, by digest."""


class InvariantCheck:
    """Checks the newest payments, some of any time within LOOK_BACK, and a minute of the metrics, at each step.

    Violations are in the ledger, so every server reports them and a restart loses none. Settlement is checked by
    `pgw audit money` alone.
    """

    def __init__(self, ledger: Ledger, clock: Clock, rng: Random) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._recount = Recount(ledger, clock, rng, LOOK_BACK)
        self._after = ""
        self.checked = 0

    async def step(self) -> int:
        """Check some; return how many violations this process opened. Raises LedgerUnavailable."""
        known = {each.digest: each for each in await self._ledger.read(opened)}
        fresh = 0
        now = self._clock.now()
        for since in (now - NEWEST, now - LOOK_BACK * self._rng.random()):
            began = self._clock.now()
            payments = await self._ledger.read(sampled, since)
            self.checked += len(payments)
            fresh += await self._payments(payments, known, began)
        began = self._clock.now()
        again = await self._ledger.read(sampled_again, self._due(known))
        fresh += await self._payments(again, known, began)
        return fresh + await self._minute(known)

    def _due(self, known: Known) -> Sequence[str]:
        """Name the next few payments with open violations, round robin."""
        wrong = [each for each in known.values() if each.payment_id is not None]
        ahead = [each for each in wrong if each.digest > self._after] or wrong
        some = ahead[:CHECKED_AGAIN]
        self._after = some[-1].digest if some else ""
        return sorted({each.payment_id for each in some if each.payment_id is not None})

    async def _payments(self, payments: Sequence[SampledPayment], known: Known, began: datetime) -> int:
        sample = {each.payment_id: each for each in payments}
        # A violation found by the events is checked again only where the events were read again.
        again = [
            each
            for each in known.values()
            if each.payment_id in sample and (each.seen_in != DetectedBy.EVENTS or sample[each.payment_id].by_events)
        ]
        return await self._settle([each for payment in payments for each in payment.found], again, known, began)

    async def _minute(self, known: Known) -> int:
        """Recount a minute, or continue one; at its end its violations are those found now."""
        wrong = sorted({each.minute for each in known.values() if each.minute is not None})
        began = self._clock.now()
        done = await self._recount.step(wrong)
        if done is None:
            return 0
        minute, found = done
        return await self._settle(found, [each for each in known.values() if each.minute == minute], known, began)

    async def _settle(
        self, found: Sequence[DetectedViolation], again: Iterable[Open], known: Known, began: datetime
    ) -> int:
        """Open what is new and, of what was checked `again`, clear what no longer holds; return how many are new."""
        violated = {each.digest: each for each in found}
        for each in again:
            if each.digest not in violated and await self._ledger.commit(CLEAR, clearing(each, began)):
                del known[each.digest]
                log.warning("%s no longer violated%s: %s", each.invariant, _by(each.payment_id), each.what)
        fresh = 0
        for digest, one in violated.items():
            if digest not in known and len(known) < MAX_OPEN:
                fresh += await self._open(one, began)
                known[digest] = open_of(one, began)
        return fresh

    async def _open(self, found: DetectedViolation, began: datetime) -> bool:
        """Open a violation, and log it unless another process has opened it."""
        won = await self._ledger.commit(OPEN, opening(found, began))
        if not won:
            # It may have been written already by an earlier try, whose answer was lost: then with this very timestamp.
            won = open_of(found, began) in await self._ledger.read(opened)
        if won:
            violation = found.violation
            log.critical("%s violated%s: %s", violation.invariant, _by(violation.payment_id), violation.what)
        return won


def _by(payment_id: str | None) -> str:
    return "" if payment_id is None else f" by payment {payment_id}"
