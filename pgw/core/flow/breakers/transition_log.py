"""Transitions of breakers -> the ledger: queued in order until it has confirmed them."""

import logging
from collections import deque
from random import Random

from pgw.core.breakers.breaker import Breaker, Key
from pgw.core.ids import uuid7
from pgw.core.ledger.breaker_history import TRANSITION, Scope, Transition, transition_write
from pgw.core.ledger.engine.writer import WriteRefused
from pgw.core.ports import Clock, Ledger

log = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Transitions that wait; beyond it the oldest are dropped, hours into an outage of the ledger."""


class TransitionLog:
    """The transitions that one process made and the ledger has not confirmed yet, oldest first."""

    def __init__(self, process: str, clock: Clock, rng: Random) -> None:
        self._process = process
        self._clock = clock
        self._rng = rng
        self.transitions: deque[Transition] = deque(maxlen=MAX_WAITING)

    def append(self, key: Key, scope: Scope, before: Breaker, after: Breaker) -> None:
        """Log a transition and queue it; the times of `after` are epoch seconds."""
        now = self._clock.now()
        log.warning("breaker %s/%s (%s): %s to %s, %s", *key, scope, before.state, after.state, after.cause)
        self.transitions.append(
            Transition(
                event_id=uuid7(now, self._rng),
                key=key,
                scope=scope,
                process=self._process,
                was=before.state,
                breaker=after,
                occurred_at=now,
            )
        )

    async def publish(self, ledger: Ledger) -> None:
        """Write what is queued; raises LedgerUnavailable and keeps what was not confirmed."""
        while self.transitions:
            first = self.transitions[0]
            try:
                await ledger.commit(TRANSITION, transition_write(first))
            except WriteRefused:
                log.exception("a transition of breaker %s/%s could not be written", *first.key)
            # A full queue may have dropped it meanwhile.
            if self.transitions and self.transitions[0] is first:
                self.transitions.popleft()
