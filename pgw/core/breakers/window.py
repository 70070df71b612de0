"""Signs of calls -> Window -> Tripping: what one process saw of a gateway lately, and whether it would leave it."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from pgw.core.breakers.breaker import CallOutcome, Rules, TransitionCause

BUCKET_S = 10
BUCKETS = 30
"""Five minutes: the longest window of any rule."""

BAD = frozenset({CallOutcome.FAILED, CallOutcome.NOT_SENT, CallOutcome.TIMED_OUT})


class Tripping(Struct, frozen=True):
    """A rule that is met, and when the run of calls that met it began."""

    cause: TransitionCause
    incident_from: float


class CallRates(Struct, frozen=True):
    """What a window holds, for people: attributed calls and the share of bad ones, of timeouts and of slow ones.

    `calls`, `failure_rate` and `slow_rate` are of the failure window, `timeout_rate` of the timeout window; a rate is
    None without a call.
    """

    calls: int
    failure_rate: float | None
    timeout_rate: float | None
    slow_rate: float | None
    failures_in_a_row: int


NO_CALLS = CallRates(0, None, None, None, 0)


@dataclass(slots=True)
class _Bucket:
    """Attributed calls of ten seconds, and how many of them were bad, timed out or slow."""

    number: int = -1
    calls: int = 0
    bad: int = 0
    timed_out: int = 0
    slow: int = 0

    def __add__(self, other: "_Bucket") -> "_Bucket":
        return _Bucket(
            self.number,
            self.calls + other.calls,
            self.bad + other.bad,
            self.timed_out + other.timed_out,
            self.slow + other.slow,
        )


@dataclass(slots=True)
class _Run:
    """Bad calls in a row; customers', banks' and networks' faults neither lengthen nor end it."""

    length: int = 0
    began: float = 0.0
    all_not_sent: bool = True


class CallWindow:
    """A ring of buckets. Times are seconds on one clock that never jumps back; memory does not grow with calls."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: what comes now belongs to another epoch."""
        self._ring = [_Bucket() for _ in range(BUCKETS)]
        self._run = _Run()
        self._began: float | None = None
        self._earlier: tuple[tuple[int, int, int], _Bucket, _Bucket] | None = None

    def add(self, sign: CallOutcome, latency_ms: int, at: float, rules: Rules) -> None:
        """Count one call; one that says nothing of the gateway is not counted at all."""
        if sign is CallOutcome.NOTHING:
            return
        self._began = at if self._began is None else self._began
        bucket = self._bucket(_number(at))
        bucket.calls += 1
        bucket.slow += latency_ms > rules.slow_ms
        if sign not in BAD:
            self._run = _Run() if self._run.length else self._run
            return
        bucket.bad += 1
        bucket.timed_out += sign is CallOutcome.TIMED_OUT
        run = self._run
        run.began = run.began if run.length else at
        run.length += 1
        run.all_not_sent = run.all_not_sent and sign is CallOutcome.NOT_SENT

    def judged(self, now: float, rules: Rules) -> Tripping | None:
        """Return the rule that is met, the quickest to answer first."""
        run = self._run
        if run.all_not_sent and run.length >= rules.not_sent_in_a_row:
            return Tripping(TransitionCause.NOT_SENT_IN_A_ROW, run.began)
        if run.length >= rules.failures_in_a_row:
            return Tripping(TransitionCause.FAILURES_IN_A_ROW, run.began)
        recent, longer = self._totals(now, rules)
        if recent.calls >= rules.min_calls:
            if recent.bad / recent.calls >= rules.failure_rate:
                return Tripping(
                    TransitionCause.FAILURE_RATE, self._since(now, lambda each: each.bad, rules.failure_rate / 2)
                )
            if recent.slow / recent.calls >= rules.slow_rate:
                return Tripping(
                    TransitionCause.SLOW_RATE, self._since(now, lambda each: each.slow, rules.slow_rate / 2)
                )
        if longer.calls >= rules.min_calls and longer.timed_out / longer.calls >= rules.timeout_rate:
            return Tripping(
                TransitionCause.TIMEOUT_RATE, self._since(now, lambda each: each.timed_out, rules.timeout_rate / 2)
            )
        return None

    def tally(self, now: float, rules: Rules) -> CallRates:
        """Say what is there, for people."""
        recent, longer = self._totals(now, rules)
        return CallRates(
            recent.calls,
            recent.bad / recent.calls if recent.calls else None,
            longer.timed_out / longer.calls if longer.calls else None,
            recent.slow / recent.calls if recent.calls else None,
            self._run.length,
        )

    def _bucket(self, number: int) -> _Bucket:
        bucket = self._ring[number % BUCKETS]
        if bucket.number != number:
            bucket = self._ring[number % BUCKETS] = _Bucket(number)
        return bucket

    def _totals(self, now: float, rules: Rules) -> tuple[_Bucket, _Bucket]:
        """Add up the failure window and the timeout window; only the newest bucket still changes."""
        number = _number(now)
        asked = (number, rules.failure_window_s, rules.timeout_window_s)
        if self._earlier is None or self._earlier[0] != asked:
            spans = (range(number - _buckets(window_s) + 1, number) for window_s in asked[1:])
            recent, longer = (sum((each for each in self._ring if each.number in span), _Bucket()) for span in spans)
            self._earlier = (asked, recent, longer)
        newest = self._ring[number % BUCKETS]
        newest = newest if newest.number == number else _Bucket()
        return self._earlier[1] + newest, self._earlier[2] + newest

    def _since(self, now: float, counted: Callable[[_Bucket], int], share: float) -> float:
        """Scan back over the unbroken series of buckets with at least this share; one without calls breaks nothing."""
        began = newest = _number(now)
        for number in range(newest, newest - BUCKETS, -1):
            bucket = self._ring[number % BUCKETS]
            if bucket.number != number or not bucket.calls:
                continue
            if counted(bucket) < share * bucket.calls:
                break
            began = number
        return max(float(began * BUCKET_S), self._began or 0.0)


def _number(at: float) -> int:
    return int(at // BUCKET_S)


def _buckets(window_s: int) -> int:
    return -(-window_s // BUCKET_S)
