"""An order for a breaker, traffic, Snapshots before and after -> Moved: whose payments would go elsewhere, where."""

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from pgw.core.breakers.breaker import Key, State
from pgw.core.breakers.override import Override
from pgw.core.payment.payment import Method
from pgw.core.routing.context import Context, size_band
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Plan, Snapshot, make_plan

REPRESENTATIVE_MINOR = 100_000
"""Amount of the representative payment, kept within what the gateway of the order takes."""

LEAST_EVIDENCE = 20.0
"""Calls from which an expectation is given; the least from which a breaker's rules would judge, too."""

_Z = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % above it."""

_NOISE = 1e-9
"""Shares smaller than this are what is left of adding floats up."""


class Action(StrEnum):
    """What an operator may order of a breaker."""

    FORCE_OPEN = "force-open"
    FORCE_CLOSE = "force-close"
    CLEAR = "clear"


class GatewayGain(Struct, frozen=True):
    """A gateway that gets payments, and how many: a share of all calls of the method in the window."""

    gateway_id: str
    share: float


class Expected(Struct, frozen=True):
    """Success rate of the window's calls as they go now, and as they would go with its 95 % interval."""

    before: float
    after: float
    low: float
    high: float


class OverrideCommand(Struct, frozen=True, kw_only=True):
    """What an operator asks for. `override` is the document that would be written; None: there is nothing to write."""

    action: Action
    gateway: GatewayConfig
    payment_method: Method
    override: Override | None

    @property
    def key(self) -> Key:
        """The breaker it is about."""
        return self.gateway.gateway_id, str(self.payment_method)


Traffic = Mapping[tuple[str, str], int]
"""Calls of one method in the window, by gateway and issuing bank."""


def state_of(snapshot: Snapshot, key: Key, now: datetime) -> State:
    """Judge one breaker now."""
    return snapshot.admission(key, now).state


def usable(order: OverrideCommand, snapshot: Snapshot) -> list[GatewayConfig]:
    """List the gateways that may take the method, in order of priority."""
    return [
        each
        for each in snapshot.gateways
        if each.is_enabled
        and each.gateway_id not in snapshot.unavailable
        and order.payment_method in each.supported_methods
    ]


class TrafficShift(Struct, frozen=True):
    """What moves, summed over the banks."""

    share: float
    to: tuple[GatewayGain, ...]
    expected: Expected | None


def shift_of(
    order: OverrideCommand, before: Snapshot, after: Snapshot, traffic: Traffic, now: datetime
) -> TrafficShift:
    """Move the calls of the window, bank by bank; calls that find no gateway count as not successful."""
    total = sum(traffic.values())
    share, gains = 0.0, dict[str, float]()
    mix_before, mix_after = _Mix(), _Mix()
    for bank in sorted({bank for (_, bank), calls in traffic.items() if calls}):
        seen = {name: calls / total for (name, of), calls in traffic.items() if of == bank}
        was, will = _plan(order, before, bank, now), _plan(order, after, bank, now)
        here = _assigned(seen, was)
        there = _regained(order.gateway.gateway_id, _assigned(here, will), was, will, sum(seen.values()))
        mix_before.add(here, was)
        mix_after.add(there, will)
        gained = {name: max(part - here.get(name, 0.0), 0.0) for name, part in there.items()}
        arriving, refused = sum(gained.values()), sum(here.values()) - sum(there.values())
        # Calls that no gateway takes any more have left, too; calls that none took before have not.
        share += arriving + max(refused, 0.0)
        for name, part in gained.items():
            gains[name] = gains.get(name, 0.0) + part
    to = sorted(
        (GatewayGain(name, part) for name, part in gains.items() if part > _NOISE), key=lambda each: -each.share
    )
    return TrafficShift(share if share > _NOISE else 0.0, tuple(to), _expected(mix_before, mix_after))


def _plan(order: OverrideCommand, side: Snapshot, bank: str, now: datetime) -> Plan:
    """Plan one bank's representative payment, as `preview` says."""
    gateway = order.gateway
    amount_minor = min(max(REPRESENTATIVE_MINOR, gateway.min_amount_minor), gateway.max_amount_minor)
    context = Context(
        merchant_id="",
        amount_minor=amount_minor,
        currency=gateway.supported_currencies[0],
        payment_method=order.payment_method,
        issuing_bank=bank,
        size_band=size_band(amount_minor),
        hour=now.hour,
        day_of_month=now.day,
        fields=tuple({field for each in side.gateways for field in each.required_fields}),
    )
    method = str(order.payment_method)
    probed = {
        each.gateway_id for each in side.gateways if state_of(side, (each.gateway_id, method), now) is State.HALF_OPEN
    }
    return make_plan(context, side, 0, now, frozenset(probed))


def _assigned(calls: Mapping[str, float], plan: Plan) -> dict[str, float]:
    """Leave calls where they are seen; those of gateways outside the plan go where it sends payments first."""
    inside = {each.gateway_id for each in plan.ranked}
    settled = {name: part for name, part in calls.items() if name in inside}
    homeless = sum(part for name, part in calls.items() if name not in inside)
    for each in plan.ranked:
        settled[each.gateway_id] = settled.get(each.gateway_id, 0.0) + homeless * each.propensity
    return settled


def _regained(name: str, calls: dict[str, float], was: Plan, will: Plan, whole: float) -> dict[str, float]:
    """Give the ordered gateway the calls for which it now stands first; others keep theirs in proportion."""
    first_before, first_after = _propensity(was, name), _propensity(will, name)
    if first_after <= first_before:
        return calls
    left = (1.0 - first_after) / (1.0 - first_before)
    kept = {each: part * left for each, part in calls.items() if each != name}
    return {**kept, name: whole - sum(kept.values())}


def _propensity(plan: Plan, gateway_id: str) -> float:
    return sum(each.propensity for each in plan.ranked if each.gateway_id == gateway_id)


class _Mix:
    """Adds up calls by what is known of where they go: gateway, success rate, calls that this rate was seen over.

    Banks of which nothing of their own is known share their gateway's estimate, and its error with it.
    """

    def __init__(self) -> None:
        self._weights: dict[tuple[str, float, float], float] = {}

    def add(self, calls: Mapping[str, float], plan: Plan) -> None:
        """Count one bank's calls."""
        for each in plan.ranked:
            known = (each.gateway_id, each.inputs.success_rate, each.inputs.observations)
            self._weights[known] = self._weights.get(known, 0.0) + calls.get(each.gateway_id, 0.0)

    @property
    def served(self) -> float:
        """The share of calls that find a gateway."""
        return sum(self._weights.values())

    @property
    def good(self) -> float:
        """The share of calls that succeed."""
        return sum(weight * rate for (_, rate, _), weight in self._weights.items())

    @property
    def evidence(self) -> float:
        """How many calls would say as much of one gateway: 1 / (sum of w^2 / n), after Kish (1965)."""
        # An estimate without a call rests on its prior, which is worth something.
        return 1.0 / sum(weight**2 / max(calls, 1.0) for (_, _, calls), weight in self._weights.items())


def _expected(before: _Mix, after: _Mix) -> Expected | None:
    """Weigh rates by calls; the interval is Wilson's at the mix's effective sample size.

    What keeps a representative payment from every gateway is the same for all banks: all calls are served, or none.
    """
    if after.served < _NOISE:
        return Expected(before.good, 0.0, 0.0, 0.0) if before.served > _NOISE else None
    if after.evidence < LEAST_EVIDENCE:
        return None
    return Expected(before.good, after.good, *wilson(after.good, after.evidence))


def wilson(rate: float, calls: float) -> tuple[float, float]:
    """Return the 95 % score interval of a success rate seen over `calls` calls (Wilson, 1927)."""
    spread = _Z**2 / calls
    centre = (rate + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(max(rate * (1 - rate), 0.0) / calls + spread / (4 * calls)) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)
