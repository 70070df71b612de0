"""What is drilled -> its times, its rules, and the words for both: nothing here runs anything."""

from enum import StrEnum

from msgspec import Struct, structs

from pgw.core.breakers.breaker import Rules


class DrillKind(StrEnum):
    """What goes wrong."""

    OUTAGE = "outage"
    BROWNOUT = "brownout"
    TIMEOUT = "timeout"
    LOST_RESPONSE = "lost-response"
    WEBHOOK_STORM = "webhook-storm"
    REDIS_LOSS = "redis-loss"

    @property
    def is_of_a_gateway(self) -> bool:
        """Whether a gateway misbehaves, so that payments have to leave it."""
        return self not in {DrillKind.WEBHOOK_STORM, DrillKind.REDIS_LOSS}


FAULTS = {
    DrillKind.OUTAGE: "connections are refused, to charges and to enquiries",
    DrillKind.BROWNOUT: "six charges in ten fail through the gateway's fault, each after 400 ms",
    DrillKind.TIMEOUT: "charges are never answered; half of them have moved money; enquiries are not answered either",
    DrillKind.LOST_RESPONSE: "the money moves and the connection breaks before the answer; enquiries are answered",
    DrillKind.WEBHOOK_STORM: "webhooks as fast as they are answered: new, again, forged, in the wrong order",
    DrillKind.REDIS_LOSS: "connections to Redis are cut and refused, and all that was in it is gone when it is back",
}
"""What each does, as the scorecard says it."""


class Timing(Struct, frozen=True, kw_only=True):
    """One drill's course: seconds, and payments a second. `after_s` is how long it is waited for at most."""

    warm_s: float
    calm_s: float
    fault_s: float
    after_s: float
    bucket_s: float
    rate: float
    breakers_by: int = 1
    attempts_by: int = 1


FULL = Timing(warm_s=2.0, calm_s=6.0, fault_s=10.0, after_s=50.0, bucket_s=2.0, rate=40.0)
"""With breakers and attempts as they are configured: with the seed's 30 s of open time it takes about a minute."""

FAST = Timing(warm_s=1.0, calm_s=2.0, fault_s=3.0, after_s=10.0, bucket_s=1.0, rate=40.0, breakers_by=10, attempts_by=5)


def timing_of(kind: DrillKind, *, fast: bool) -> Timing:
    """Choose a course; where no gateway fails nothing is scaled but the course itself."""
    timing = FAST if fast else FULL
    return timing if kind.is_of_a_gateway else structs.replace(timing, breakers_by=1, attempts_by=1)


AFTER_NO_GATEWAY_S = 10.0
"""How long a recovery is waited for that no breaker's open time has to pass before."""

SHORTEST_ATTEMPT_MS = 300
"""A faster attempt is not asked for: the machine a drill runs on is busy with the drill."""


def scaled_rules(rules: Rules, by: int) -> Rules:
    """Divide a breaker's times, each at least a second; its thresholds and windows stay."""
    if by == 1:
        return rules
    return structs.replace(
        rules,
        open_s=max(1, rules.open_s // by),
        open_growth_after_s=max(1, rules.open_growth_after_s // by),
        max_open_s=max(1, rules.max_open_s // by),
        slow_start_s=max(1, rules.slow_start_s // by),
    )


def scaled_timeout_ms(timeout_ms: int, by: int) -> int:
    """Divide an attempt's time, down to a bound."""
    return timeout_ms if by == 1 else min(timeout_ms, max(SHORTEST_ATTEMPT_MS, timeout_ms // by))


def scaling_text(timing: Timing, was: Rules, rules: Rules) -> str:
    """Say what was scaled."""
    if timing.breakers_by == 1:
        return "nothing was scaled: breakers and attempts have their configured times"
    return (
        f"scaled down: breaker times by {timing.breakers_by} (open {was.open_s} s to {rules.open_s} s, slow start "
        f"{was.slow_start_s} s to {rules.slow_start_s} s), attempt times by {timing.attempts_by}"
    )
