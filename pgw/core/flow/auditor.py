"""Payments of the last days, some at a time -> violations of the invariants, counted, and each told once."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Connection

from pgw.core.invariants import Violation, check
from pgw.core.ledger.audit_reads import cases, first_id, one_moment, payments_after
from pgw.core.ports import Clock, Ledger

log = logging.getLogger(__name__)

AUDIT_EVERY_S = 5.0

SAMPLE = 100
"""Payments of each kind that one step checks."""

NEWEST = timedelta(minutes=1)
LOOK_BACK = timedelta(days=6)
"""How far back a violation may still arise: an attempt is watched for five days, and its last look comes after."""

MAX_KNOWN = 1000
"""Violations remembered, so that none is told twice; who has more has other sorrows."""


class Auditor:
    """Checks the newest payments, and some from any moment of the last days, again and again.

    Events, and what gateways say they settled, are looked at by `pgw audit money` alone.
    """

    def __init__(self, ledger: Ledger, clock: Clock, rng: Random) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._known: set[Violation] = set()
        self.checked = 0

    @property
    def violations(self) -> int:
        """How many different violations were seen since the start."""
        return len(self._known)

    async def step(self) -> int:
        """Check some; return how many new violations there are. Raises LedgerUnavailable."""
        now = self._clock.now()
        fresh = 0
        for since in (now - NEWEST, now - LOOK_BACK * self._rng.random()):
            checked, violations = await self._ledger.read(_sampled, since)
            self.checked += checked
            for each in violations:
                fresh += self._tell(each)
        return fresh

    def _tell(self, violation: Violation) -> bool:
        if violation in self._known or len(self._known) >= MAX_KNOWN:
            return False
        self._known.add(violation)
        log.critical("%s violated by payment %s: %s", violation.invariant, violation.payment_id, violation.what)
        return True


def _sampled(connection: Connection, since: datetime) -> tuple[int, Sequence[Violation]]:
    with one_moment(connection) as reading:
        found = cases(reading, payments_after(reading, first_id(since), SAMPLE))
    return len(found), [each for case in found for each in check(case)]
