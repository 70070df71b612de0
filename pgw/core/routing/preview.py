"""An order for a breaker, Snapshot, traffic -> Preview: which payments will move and where, before anything does."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct, structs

from pgw.core.breakers.admission import Panic
from pgw.core.breakers.breaker import Key, State
from pgw.core.payment.payment import Method
from pgw.core.routing.plan import Snapshot, is_degraded
from pgw.core.routing.traffic_shift import (
    Action,
    Expected,
    GatewayGain,
    OverrideCommand,
    Traffic,
    shift_of,
    state_of,
    usable,
)

WINDOW_S = 300
"""Seconds of traffic a preview looks back on."""


class InFlight(Struct, frozen=True):
    """Payments at one (gateway, method) that an order does not move: calls not answered, and outcomes not known yet."""

    in_flight: int
    pending_verification: int


class Preview(Struct, frozen=True, kw_only=True):
    """What an order would do. `share` (of the method's calls in the window) and `payments_per_s` are what moves.

    `share` is None when there was no traffic, or it is not known; `remaining` are the gateways that are then closed;
    `expected` is None on less than 20 calls of evidence. `then` follows the end of the override.
    """

    environment: Literal["development", "production"]
    action: Action
    gateway_id: str
    payment_method: Method
    window_s: int
    share: float | None
    payments_per_s: float | None
    moves_to: tuple[GatewayGain, ...]
    remaining: tuple[str, ...]
    in_flight: int
    pending_verification: int
    expected: Expected | None
    expires_at: datetime | None
    then: Literal["HALF_OPEN", "AUTOMATIC"] | None
    warnings: tuple[str, ...]


def preview(
    order: OverrideCommand,
    snapshot: Snapshot,
    traffic: Traffic | None,
    under_way: InFlight,
    now: datetime,
    *,
    production: bool,
) -> Preview:
    """Preview a command. `traffic` is None when it is not known.

    Each issuing bank of the window is planned twice, as things are and as they would be, by a representative payment:
    of 100 000 minor units (or the nearest the ordered gateway takes), in that gateway's first currency, now, with every
    customer field any gateway asks for, of a merchant with the default policy. A half-open breaker counts as open, as
    few probes pass it; one that the command itself leaves half-open counts as closed, as it will be once they succeed.
    """
    key = order.key
    ordered = order.override
    overrides = snapshot.overrides if ordered is None else {**snapshot.overrides, key: ordered}
    after = structs.replace(snapshot, overrides=overrides)
    moved = shift_of(order, snapshot, _after_probes(after, key, now), traffic or {}, now)
    total = sum((traffic or {}).values())
    share = min(moved.share, 1.0)
    remaining = tuple(
        each.gateway_id for each in usable(order, after) if _is_closed(after, each.gateway_id, order, now)
    )
    return Preview(
        environment="production" if production else "development",
        action=order.action,
        gateway_id=order.gateway.gateway_id,
        payment_method=order.payment_method,
        window_s=WINDOW_S,
        share=share if total else None,
        payments_per_s=None if traffic is None else share * total / WINDOW_S,
        moves_to=moved.to,
        remaining=remaining,
        in_flight=under_way.in_flight,
        pending_verification=under_way.pending_verification,
        expected=moved.expected,
        expires_at=None if order.action is Action.CLEAR or ordered is None else ordered.expires_at,
        then=_THEN[order.action],
        warnings=tuple(_warnings(order, snapshot, after, remaining, now)),
    )


_THEN: Mapping[Action, Literal["HALF_OPEN", "AUTOMATIC"] | None] = {
    Action.FORCE_OPEN: "HALF_OPEN",
    Action.FORCE_CLOSE: "AUTOMATIC",
    Action.CLEAR: None,
}


def _after_probes(after: Snapshot, key: Key, now: datetime) -> Snapshot:
    """Take the probes of the ordered breaker for passed: it is closed then, whatever was ordered before."""
    if state_of(after, key, now) is not State.HALF_OPEN:
        return after
    overrides = {each: override for each, override in after.overrides.items() if each != key}
    views = {each: view for each, view in after.views.items() if each != key}
    return structs.replace(after, overrides=overrides, views=views)


def _is_closed(snapshot: Snapshot, gateway_id: str, order: OverrideCommand, now: datetime) -> bool:
    return state_of(snapshot, (gateway_id, str(order.payment_method)), now) in {State.CLOSED, State.FORCED_CLOSED}


def _warnings(
    order: OverrideCommand, before: Snapshot, after: Snapshot, remaining: tuple[str, ...], now: datetime
) -> list[str]:
    """Say what the operator may not expect, the worst first."""
    name = f"{order.gateway.gateway_id}/{order.payment_method}"
    found = []
    if not remaining:
        found.append(_none_left(order, after, now))
    automatic = before.automatic_admission(order.key, now).state
    running = before.overrides.get(order.key)
    running = running if running is not None and now < running.expires_at else None
    if automatic is not State.CLOSED and order.action is Action.FORCE_CLOSE:
        found.append(f"the automatic rule holds {name} {automatic}: it will be sent payments all the same")
    if automatic is not State.CLOSED and order.action is Action.FORCE_OPEN:
        found.append(f"the automatic rule holds {name} {automatic} already: this keeps it from coming back")
    if order.action is Action.CLEAR and running is not None:
        if running.state is State.FORCED_OPEN:
            found.append(f"{name} is probed first; its share comes back when the probes succeed")
        elif automatic is not State.CLOSED:
            found.append(f"the automatic rule holds {name} {automatic}: payments leave it at once")
    if running is not None and order.action is not Action.CLEAR:
        found.append(
            f"this replaces {running.state} by {running.actor} ({running.reason}), "
            f"in force until {running.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        )
    if order.gateway not in usable(order, after):
        found.append(
            f"{order.gateway.gateway_id} takes no {order.payment_method} payments now, whatever its breaker says"
        )
    if is_degraded(before, now):
        found.append(
            "what is known of health and traffic is old: a store does not answer, or no process counts outcomes"
        )
    return found


def _none_left(order: OverrideCommand, after: Snapshot, now: datetime) -> str:
    """Say what becomes of payments when no breaker is closed."""
    method = order.payment_method
    states = {state_of(after, (each.gateway_id, str(method)), now) for each in usable(order, after)}
    if State.HALF_OPEN in states:
        return f"no gateway remains for {method} but those being probed: nearly all payments will be refused"
    if State.OPEN in states and after.scoring.panic is Panic.LEAST_BAD:
        return f"no gateway remains well for {method}: payments go to the best of the open ones (least_bad)"
    policy = after.scoring.panic
    return f"no gateway remains for {method}: payments will be refused ({policy})"
