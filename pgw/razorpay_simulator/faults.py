"""The name of a fault -> what one charging call then does to the money."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pgw.razorpay_simulator.refusals import CANCELLED, GATEWAY_DOWN, Failure


class SimulatedFault(StrEnum):
    """Every way in which a charging call can go wrong on command."""

    COMMIT_THEN_HANG = "commit_then_hang"
    COMMIT_THEN_RESET = "commit_then_reset"
    HTML502 = "html502"
    TRUNCATED_JSON = "truncated_json"
    BAD_STATUS_LINE = "bad_status_line"
    SLOW = "slow"
    SLOW_DRIP = "slow_drip"
    TOO_MANY = "429"
    UNAUTHORIZED = "401"
    WRONG_AMOUNT = "wrong_amount"
    DECLINE_CUSTOMER = "decline_customer"
    DECLINE_GATEWAY = "decline_gateway"
    LATE_SUCCESS = "late_success"
    HANG = "hang"


LATE_S = 5.0
"""How long after its decline a late success is authorized."""

SURPLUS = 100
"""By how much a wrong amount differs, in minor units."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a charging call leaves in the book; a payment that is declined may still be authorized later."""

    authorizes_after_s: float | None = None
    surplus: int = 0
    decline: Failure | None = None


PLAIN = Effect()
"""A payment that waits for its customer."""

_COMMITTED = Effect(authorizes_after_s=0.0)

EFFECTS = {
    SimulatedFault.COMMIT_THEN_HANG: _COMMITTED,
    SimulatedFault.COMMIT_THEN_RESET: _COMMITTED,
    SimulatedFault.HTML502: _COMMITTED,
    SimulatedFault.TRUNCATED_JSON: _COMMITTED,
    SimulatedFault.BAD_STATUS_LINE: _COMMITTED,
    SimulatedFault.SLOW_DRIP: _COMMITTED,
    SimulatedFault.WRONG_AMOUNT: Effect(authorizes_after_s=0.0, surplus=SURPLUS),
    SimulatedFault.DECLINE_CUSTOMER: Effect(decline=CANCELLED),
    SimulatedFault.DECLINE_GATEWAY: Effect(decline=GATEWAY_DOWN),
    SimulatedFault.LATE_SUCCESS: Effect(authorizes_after_s=LATE_S, decline=CANCELLED),
}
"""A fault that is not here makes a plain payment, or is one of `MAKES_NOTHING`."""

MAKES_NOTHING = frozenset({SimulatedFault.TOO_MANY, SimulatedFault.UNAUTHORIZED, SimulatedFault.HANG})


class Faults:
    """The faults to come: those set for the next calls, one used up by each; else the standing ones, in turn."""

    def __init__(self, standing: Iterable[SimulatedFault] = ()) -> None:
        self._next: deque[SimulatedFault] = deque()
        self._standing: deque[SimulatedFault] = deque(standing)

    def set_next(self, faults: Iterable[SimulatedFault]) -> None:
        """Replace all that was to come, the standing faults included."""
        self._next = deque(faults)
        self._standing.clear()

    def take(self) -> SimulatedFault | None:
        """Use up the fault of one call."""
        if self._next:
            return self._next.popleft()
        if not self._standing:
            return None
        self._standing.rotate(-1)
        return self._standing[-1]

    @property
    def document(self) -> dict[str, list[SimulatedFault]]:
        """Return what is to come, and what there is."""
        return {"next": list(self._next), "standing": list(self._standing), "known": list(SimulatedFault)}
