"""Answers to enquiries -> whether a gateway may be asked now: at a rate, and not while it does not answer."""

from dataclasses import dataclass

PER_S = 20.0
"""Enquiries a second at one gateway, for each purpose: payments have the first claim on what a gateway can serve."""

BURST = 40
"""Enquiries at once after a quiet time."""

OUTAGE_AFTER = 5
"""Unreachable answers in a row after which a gateway is left alone for a while."""

SHORTEST_BACK_OFF_S = 5.0
LONGEST_BACK_OFF_S = 60.0
"""How long: it doubles with each further silence. A check that finds its gateway at rest stays due."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Outage:
    """Unreachable answers in a row, until when the gateway rests, and whether one enquiry is trying it again."""

    answers: int = 0
    rest_s: float = 0.0
    until: float = 0.0
    is_tried: bool = False

    @property
    def is_out(self) -> bool:
        return self.answers >= OUTAGE_AFTER


class EnquiryRateLimit:
    """What one process asks of gateways beside payments. It moves no breaker: a payment's call is another matter.

    All times are seconds on one clock that never jumps back.
    """

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._silences: dict[str, _Outage] = {}

    def take(self, gateway_id: str, purpose: str, now: float) -> bool:
        """Ask for leave to enquire; after a rest one enquiry goes first, alone."""
        silence = self._silences.setdefault(gateway_id, _Outage())
        if now < silence.until:
            return False
        bucket = self._buckets.setdefault((gateway_id, purpose), _Bucket(BURST, now))
        bucket.tokens = min(bucket.tokens + (now - bucket.at) * PER_S, BURST)
        bucket.at = now
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        if silence.is_out:
            silence.is_tried, silence.until = True, now + silence.rest_s
        return True

    def put_back(self, gateway_id: str, purpose: str, now: float) -> None:
        """Return a leave that was not used."""
        self._buckets[gateway_id, purpose].tokens += 1.0
        silence = self._silences[gateway_id]
        if silence.is_tried:
            silence.is_tried, silence.until = False, now

    def learn(self, gateway_id: str, now: float, *, reached: bool) -> None:
        """Take note of whether the gateway answered."""
        silence = self._silences.setdefault(gateway_id, _Outage())
        if reached:
            self._silences[gateway_id] = _Outage()
            return
        silence.answers += 1
        # What was asked before it fell silent, and is answered now, says nothing new.
        if silence.answers == OUTAGE_AFTER or silence.is_tried:
            silence.rest_s = min(max(2 * silence.rest_s, SHORTEST_BACK_OFF_S), LONGEST_BACK_OFF_S)
            silence.is_tried, silence.until = False, now + silence.rest_s

    def backing_off(self, now: float) -> frozenset[str]:
        """List the gateways that are left alone now."""
        return frozenset(name for name, each in self._silences.items() if now < each.until)
