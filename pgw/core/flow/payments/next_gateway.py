"""Plan, breakers, budgets -> the next gateway that may be called, and those that are skipped."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from msgspec import Struct

from pgw.core.breakers.admission import ADMITTED, Admission
from pgw.core.breakers.breaker import Permit, State
from pgw.core.ports import Dependencies
from pgw.core.routing.context import Context
from pgw.core.routing.plan import Plan, make_plan
from pgw.core.writes.attempts import SENDING_MARGIN, Skipped

SHORTEST_ATTEMPT_MS = 50
"""An attempt that cannot have this long is not begun: it could only end unknown."""

ENOUGH_OBSERVATIONS = 20
"""Calls from which a gateway's own p95 counts; with fewer it is mostly the prior, and would skip new gateways."""

OUTSIDE_EPOCHS = -1
"""Epoch of a call that a breaker did not admit but the panic policy did: its outcome moves no breaker."""

SKIPPED_BREAKER_OPEN = "SKIPPED_BREAKER_OPEN"
SKIPPED_BUDGET = "SKIPPED_BUDGET"

Replan = Callable[[frozenset[str]], Plan]
"""Makes the payment's plan again without the gateways that were denied, from the snapshot it was first made from."""


class NextGateway(Struct, frozen=True):
    """A permit for one attempt: the row's `number`, the gateway's place in the plan, and the plan as it then is."""

    number: int
    rank: int
    plan: Plan
    permit: Permit
    replan: Replan
    denied: frozenset[str] = frozenset()

    @property
    def gateway_id(self) -> str:
        """The gateway to call."""
        return self.plan.ranked[self.rank].gateway_id


class Search(Struct, frozen=True):
    """The next gateway, None at the chain's end, and those of the plan that were skipped on the way."""

    gateway: NextGateway | None
    skipped: tuple[Skipped, ...] = ()


async def first_gateway(
    deps: Dependencies, context: Context, seed: int, now: datetime
) -> tuple[Plan, NextGateway | None]:
    """Plan, and obtain a permit for the plan's first; a half-open gateway without a probe left is left out."""
    replan = partial(make_plan, context, deps.snapshot(), seed, now)
    denied: frozenset[str] = frozenset()
    plan = replan(denied)
    while plan.ranked:
        permit = await _first_permit(deps, plan)
        if permit is not None:
            return plan, NextGateway(1, 0, plan, permit, replan, denied)
        denied |= {plan.ranked[0].gateway_id}
        plan = replan(denied)
    return plan, None


async def next_gateway(deps: Dependencies, last: NextGateway, budget_left_ms: int) -> Search:
    """Find the gateway after `last` that can be called now and can answer within the budget, in ms."""
    plan, denied, rank, number = last.plan, last.denied, last.rank + 1, last.number + 1
    skipped: list[Skipped] = []
    while budget_left_ms >= SHORTEST_ATTEMPT_MS and rank < len(plan.ranked):
        gateway_id = plan.ranked[rank].gateway_id
        key = (gateway_id, str(plan.context.payment_method))
        admission = deps.snapshot().admission(key, deps.clock.now())
        if reason := _why_not(plan, rank, admission, budget_left_ms):
            skipped.append(Skipped(number, gateway_id, reason, admission.state))
            rank, number = rank + 1, number + 1
            continue
        permit = await deps.circuit.admit(key, admission, _lease_s(deps, gateway_id, budget_left_ms))
        if permit is not None:
            return Search(NextGateway(number, rank, plan, permit, last.replan, denied), tuple(skipped))
        denied |= {gateway_id}
        plan = last.replan(denied)
    return Search(None, tuple(skipped))


def _why_not(plan: Plan, rank: int, admission: Admission, budget_left_ms: int) -> str | None:
    """Return why a gateway of the plan is skipped: its breaker opened since, or it is too slow for what is left."""
    if admission.state in {State.OPEN, State.FORCED_OPEN}:
        return SKIPPED_BREAKER_OPEN
    inputs = plan.ranked[rank].inputs
    is_too_slow = inputs.observations >= ENOUGH_OBSERVATIONS and inputs.latency_p95_ms > budget_left_ms
    return SKIPPED_BUDGET if is_too_slow else None


async def _first_permit(deps: Dependencies, plan: Plan) -> Permit | None:
    """Obtain a permit; a gateway that is planned in spite of its open breaker was chosen by the panic policy."""
    gateway_id = plan.ranked[0].gateway_id
    key = (gateway_id, str(plan.context.payment_method))
    admission = plan.admissions.get(gateway_id, ADMITTED)
    if admission.state is State.OPEN:
        return Permit(key, State.OPEN, OUTSIDE_EPOCHS)
    return await deps.circuit.admit(key, admission, _lease_s(deps, gateway_id, plan.policy.latency_budget_ms))


def timeout_ms(deps: Dependencies, gateway_id: str) -> int:
    """Return the time of one attempt at this gateway."""
    gateway = deps.snapshot().gateway(gateway_id)
    return (gateway.timeout_ms if gateway else None) or deps.timeout_ms


def _lease_s(deps: Dependencies, gateway_id: str, budget_ms: int) -> float:
    return min(timeout_ms(deps, gateway_id), budget_ms) / 1000 + SENDING_MARGIN.total_seconds()
