"""Payments and minutes, some at a time -> violations in the ledger: opened, cleared, and each told once."""

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
    FoundBy,
    FoundViolation,
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
"""How far back a violation may still arise: as long as an attempt is watched, and its money on its way back."""

LOOKED_AT_AGAIN = 5
"""Payments of open violations that one step looks at again."""


Known = dict[str, Open]
"""What is open, by digest."""


class InvariantCheck:
    """Checks the newest payments, some from any moment of the last days, and a minute of the metrics, again and again.

    What it finds is in the ledger: any server tells it, whoever found it, and a restart forgets nothing. What gateways
    say they settled is looked at by `pgw audit money` alone.
    """

    def __init__(self, ledger: Ledger, clock: Clock, rng: Random) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._recount = Recount(ledger, clock, rng, LOOK_BACK)
        self._after = ""
        self.checked = 0

    async def step(self) -> int:
        """Check some; return how many new violations this process was the first to find. Raises LedgerUnavailable."""
        known = {each.digest: each for each in await self._ledger.read(opened)}
        fresh = 0
        now = self._clock.now()
        for since in (now - NEWEST, now - LOOK_BACK * self._rng.random()):
            began = self._clock.now()
            looked = await self._ledger.read(sampled, since)
            self.checked += len(looked)
            fresh += await self._payments(looked, known, began)
        began = self._clock.now()
        again = await self._ledger.read(sampled_again, self._due(known))
        fresh += await self._payments(again, known, began)
        return fresh + await self._minute(known)

    def _due(self, known: Known) -> Sequence[str]:
        """Name the next few payments with open violations, each in its turn."""
        wrong = [each for each in known.values() if each.payment_id is not None]
        ahead = [each for each in wrong if each.digest > self._after] or wrong
        some = ahead[:LOOKED_AT_AGAIN]
        self._after = some[-1].digest if some else ""
        return sorted({each.payment_id for each in some if each.payment_id is not None})

    async def _payments(self, looked: Sequence[SampledPayment], known: Known, began: datetime) -> int:
        by_payment = {each.payment_id: each for each in looked}
        mine = [each for each in known.values() if each.payment_id in by_payment]
        # Without a look at the events nothing is known of what they said.
        seen = [each for each in mine if each.seen_in != FoundBy.EVENTS or by_payment[each.payment_id or ""].by_events]
        return await self._settle([it for each in looked for it in each.found], seen, known, began)

    async def _minute(self, known: Known) -> int:
        """Recount a minute, or go on with one; its open violations hold only as they read now."""
        wrong = sorted({each.minute for each in known.values() if each.minute is not None})
        began = self._clock.now()
        done = await self._recount.step(wrong)
        if done is None:
            return 0
        minute, found = done
        return await self._settle(found, [each for each in known.values() if each.minute == minute], known, began)

    async def _settle(
        self, found: Sequence[FoundViolation], seen: Iterable[Open], known: Known, began: datetime
    ) -> int:
        """Write down what is new and, of what was `seen` again, what no longer holds; return how many are new."""
        held = {each.digest: each for each in found}
        for each in seen:
            if each.digest not in held and await self._ledger.commit(CLEAR, clearing(each, began)):
                del known[each.digest]
                log.warning("%s no longer violated%s: %s", each.invariant, _by(each.payment_id), each.what)
        fresh = 0
        for digest, one in held.items():
            if digest not in known and len(known) < MAX_OPEN:
                fresh += await self._open(one, began)
                known[digest] = open_of(one, began)
        return fresh

    async def _open(self, found: FoundViolation, began: datetime) -> bool:
        """Tell a violation, if nobody has."""
        won = await self._ledger.commit(OPEN, opening(found, began))
        if not won:
            # A commit whose answer was lost is run again and loses to itself: the row is there, with this very moment.
            won = open_of(found, began) in await self._ledger.read(opened)
        if won:
            violation = found.violation
            log.critical("%s violated%s: %s", violation.invariant, _by(violation.payment_id), violation.what)
        return won


def _by(payment_id: str | None) -> str:
    return "" if payment_id is None else f" by payment {payment_id}"
