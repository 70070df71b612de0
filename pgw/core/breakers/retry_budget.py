"""First attempts, fallbacks, now -> RetryBudget: whether one more fallback away from a gateway may be tried."""

SECONDS = 10
"""How long a deposit, a withdrawal and the floor live."""

_FIRST_ATTEMPT = 1
_FALLBACK = 5
"""In fifths of a fallback, which are exact: each first attempt earns 0.2 fallbacks."""

_FLOOR = 3 * SECONDS * _FALLBACK
"""Three fallbacks a second are there without any first attempt, so that low traffic may fall back too."""


class RetryBudget:
    """At most 30 + 0.2 x (first attempts of the last ten seconds) fallbacks are to be had at once.

    A gateway that fails must not send all its payments to the others as a second wave: they were sized for their own.
    The rule is that of Finagle's `RetryBudget` (20 % of requests, a floor per second, both with a time to live of 10 s,
    kept as one sum over a window of one-second slots). A fallback is paid for when it is decided, not when it is made.
    Times are seconds on one clock that never jumps back.
    """

    __slots__ = ("_second", "_slots")

    def __init__(self) -> None:
        self._slots = [0] * SECONDS
        self._second = 0

    def deposit(self, now: float) -> None:
        """Count one first attempt on the gateway."""
        self._rotate(int(now))
        self._slots[self._second % SECONDS] += _FIRST_ATTEMPT

    def withdraw(self, now: float) -> bool:
        """Pay for one fallback away from the gateway; False: there is not enough."""
        self._rotate(int(now))
        if sum(self._slots) + _FLOOR < _FALLBACK:
            return False
        self._slots[self._second % SECONDS] -= _FALLBACK
        return True

    def _rotate(self, second: int) -> None:
        """Let go of the slots whose time has passed."""
        for passed in range(max(self._second + 1, second - SECONDS + 1), second + 1):
            self._slots[passed % SECONDS] = 0
        self._second = max(self._second, second)
