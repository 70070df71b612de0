"""Plan, breakers, budgets -> the next gateway that may be called, and those that were passed over."""

from datetime import datetime

from msgspec import Struct

from pgw.core.breakers.admission import WELL, Standing, standing
from pgw.core.breakers.breaker import Admission, State
from pgw.core.ports import World
from pgw.core.routing.context import Context
from pgw.core.routing.plan import Plan, deny, make_plan
from pgw.core.writes.attempts import SENDING_MARGIN, Skipped

SHORTEST_ATTEMPT_MS = 50
"""An attempt that cannot have this long is not begun: it could only end unknown."""

ENOUGH_OBSERVATIONS = 20
"""Calls from which a gateway's own p95 is believed; with fewer it is mostly the prior, and would skip the unknown."""

OUTSIDE_EPOCHS = -1
"""Epoch of a call that a breaker did not admit but the panic policy did: its outcome moves no breaker."""

SKIPPED_BREAKER_OPEN = "SKIPPED_BREAKER_OPEN"
SKIPPED_BUDGET = "SKIPPED_BUDGET"


class Hop(Struct, frozen=True):
    """Leave for one attempt: the row's `number`, the gateway's place in the plan, and the plan as it then is."""

    number: int
    rank: int
    plan: Plan
    admission: Admission

    @property
    def gateway_id(self) -> str:
        """The gateway to call."""
        return self.plan.ranked[self.rank].gateway_id


class Found(Struct, frozen=True):
    """What looking for a next gateway came to; without a hop the chain is at its end."""

    hop: Hop | None
    skipped: tuple[Skipped, ...] = ()


async def first_hop(world: World, context: Context, seed: int, now: datetime) -> tuple[Plan, Admission | None]:
    """Plan, and get leave for the first of the plan; a half-open gateway whose probes are taken is planned without."""
    snapshot = world.snapshot()
    plan = make_plan(context, snapshot, seed, now)
    denied: frozenset[str] = frozenset()
    while plan.ranked:
        admission = await _admitted(world, plan, 0, plan.policy.latency_budget_ms)
        if admission is not None:
            return plan, admission
        denied |= {plan.ranked[0].gateway_id}
        plan = make_plan(context, snapshot, seed, now, denied)
    return plan, None


async def next_hop(world: World, hop: Hop, budget_left_ms: int) -> Found:
    """Find the gateway after `hop`'s that can be called now and can answer in time."""
    plan, rank, number = hop.plan, hop.rank + 1, hop.number + 1
    skipped: list[Skipped] = []
    while budget_left_ms >= SHORTEST_ATTEMPT_MS and rank < len(plan.ranked):
        gateway_id = plan.ranked[rank].gateway_id
        known = _standing_now(world, plan, gateway_id)
        if reason := _why_not(plan, rank, known, budget_left_ms):
            skipped.append(Skipped(number, gateway_id, reason, known.state))
            rank, number = rank + 1, number + 1
            continue
        admission = await world.circuit.admit(
            (gateway_id, plan.context.payment_method), known, _lease_s(world, gateway_id, budget_left_ms)
        )
        if admission is not None:
            return Found(Hop(number, rank, plan, admission), tuple(skipped))
        plan = deny(plan, gateway_id)
    return Found(None, tuple(skipped))


def _why_not(plan: Plan, rank: int, known: Standing, budget_left_ms: int) -> str | None:
    """Say why a gateway of the plan is passed over: its breaker opened since, or it is too slow for what is left."""
    if known.state in {State.OPEN, State.FORCED_OPEN}:
        return SKIPPED_BREAKER_OPEN
    inputs = plan.ranked[rank].inputs
    is_too_slow = inputs.observations >= ENOUGH_OBSERVATIONS and inputs.latency_p95_ms > budget_left_ms
    return SKIPPED_BUDGET if is_too_slow else None


async def _admitted(world: World, plan: Plan, rank: int, budget_ms: int) -> Admission | None:
    """Ask for the first of a plan; one that is there in spite of an open breaker was chosen in panic."""
    gateway_id = plan.ranked[rank].gateway_id
    key = (gateway_id, str(plan.context.payment_method))
    known = plan.standings.get(gateway_id, WELL)
    if known.state is State.OPEN:
        return Admission(key, State.OPEN, OUTSIDE_EPOCHS)
    return await world.circuit.admit(key, known, _lease_s(world, gateway_id, budget_ms))


def _standing_now(world: World, plan: Plan, gateway_id: str) -> Standing:
    snapshot = world.snapshot()
    key = (gateway_id, str(plan.context.payment_method))
    rules = snapshot.scoring.breaker
    return standing(snapshot.views.get(key), snapshot.overrides.get(key), world.clock.now(), rules)


def timeout_ms(world: World, gateway_id: str) -> int:
    """Return the time of one attempt at this gateway."""
    gateway = world.snapshot().gateway(gateway_id)
    return (gateway.timeout_ms if gateway else None) or world.timeout_ms


def _lease_s(world: World, gateway_id: str, budget_ms: int) -> float:
    return min(timeout_ms(world, gateway_id), budget_ms) / 1000 + SENDING_MARGIN.total_seconds()
