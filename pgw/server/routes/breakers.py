"""Breakers over HTTP: where each stands now, and what became of it."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.assembly import Runtime
from pgw.core.breakers.breaker import Key, State
from pgw.core.breakers.override import Override
from pgw.core.errors import FieldError
from pgw.core.flow.metrics.windows import BREAKER_WINDOW_S, HEALTH_WINDOW_S
from pgw.core.ledger.breaker_history import HistoryCursor, HistoryKind, HistoryRow, Scope, history
from pgw.core.ledger.engine.columns import stamp
from pgw.core.payment.payment import Method
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.server.http.codec import invalid, json_answer, read_query
from pgw.server.http.guards import reader, runtime_of
from pgw.server.http.names import gateway_named, method_named
from pgw.server.routes.operator_commands import FleetReach, fleet_reach

blueprint = Blueprint("breakers")

LIVE = (State.CLOSED, State.FORCED_CLOSED)
"""States in which a gateway is sent payments; probes are no share worth naming."""


class OverrideResponse(Struct, frozen=True):
    """An operator's word that holds."""

    state: State
    reason: str
    actor: str
    forced_at: datetime
    expires_at: datetime


class BreakerResponse(Struct, frozen=True, kw_only=True):
    """One breaker. `automatic_state` is what its own rules say, whatever was forced; `cause` is the rule that moved it.

    `until` is when it is probed, or the override ends; `probes` are those that succeeded of those wanted; `admission`
    is the share of payments let through. Rates are of all processes, failures those that the gateway is to blame for;
    `consecutive_failures` and `in_flight` are of the answering process. `seen_by` is how many processes know of the
    override.
    """

    gateway_id: str
    payment_method: str
    state: State
    automatic_state: State
    cause: str | None
    since: datetime | None
    until: datetime | None
    epoch: int
    probes: str | None
    admission: float
    calls_2m: int
    failure_rate_2m: float | None
    timeout_rate_5m: float | None
    consecutive_failures: int
    in_flight: int
    override: OverrideResponse | None
    seen_by: FleetReach
    note: str | None


class BreakerList(Struct, frozen=True, kw_only=True):
    """Every breaker there is, gateways in order of priority."""

    items: tuple[BreakerResponse, ...]
    next: None = None


@blueprint.get("/circuit-breaker/status")
async def status(request: Request) -> HTTPResponse:
    """Show where every breaker stands. Answered from memory: it must work when a store does not."""
    reader(request)
    runtime = runtime_of(request)
    snapshot, now = runtime.snapshot(), runtime.clock.now()
    in_flight = runtime.circuit.in_flight()
    keys = ((each, (each.gateway_id, method)) for each in snapshot.gateways for method in _methods(each, snapshot))
    return json_answer(
        BreakerList(
            items=tuple(_response(runtime, snapshot, gateway, key, in_flight.get(key, 0), now) for gateway, key in keys)
        )
    )


def _methods(gateway: GatewayConfig, snapshot: Snapshot) -> list[str]:
    """List what a gateway takes, and what it was forced for when it still did."""
    forced = {method for gateway_id, method in snapshot.overrides if gateway_id == gateway.gateway_id}
    return [str(each) for each in Method if each in gateway.supported_methods or each in forced]


def _response(
    runtime: Runtime, snapshot: Snapshot, gateway: GatewayConfig, key: Key, in_flight: int, now: datetime
) -> BreakerResponse:
    view, override = snapshot.views.get(key), snapshot.overrides.get(key)
    known, automatic = snapshot.admission(key, now), snapshot.automatic_admission(key, now)
    running = override if override is not None and now < override.expires_at else None
    lately = runtime.windows.figures(BREAKER_WINDOW_S, *key)
    longer = runtime.windows.figures(HEALTH_WINDOW_S, *key)
    return BreakerResponse(
        gateway_id=key[0],
        payment_method=key[1],
        state=known.state,
        automatic_state=automatic.state,
        cause=view.cause if view is not None else None,
        since=running.forced_at if running else view.since if view is not None else None,
        until=running.expires_at if running else view.until if view is not None else None,
        epoch=view.epoch if view is not None else 0,
        probes=view.probes if view is not None else None,
        admission=known.share if known.state in LIVE else 0.0,
        calls_2m=lately.attempts,
        failure_rate_2m=None if lately.success_rate is None else 1.0 - lately.success_rate,
        timeout_rate_5m=longer.unknown / longer.attempts if longer.attempts else None,
        consecutive_failures=runtime.circuit.local_figures(key).failures_in_a_row,
        in_flight=in_flight,
        override=_override(running) if running else None,
        seen_by=fleet_reach(runtime, override.version if override else 0),
        note=_note(snapshot, gateway, override, known.state, automatic.state),
    )


def _override(running: Override) -> OverrideResponse:
    return OverrideResponse(running.state, running.reason, running.actor, running.forced_at, running.expires_at)


def _note(
    snapshot: Snapshot, gateway: GatewayConfig, override: Override | None, state: State, automatic: State
) -> str | None:
    """Say what the members do not: why a breaker that looks well sends nothing, or one that is not forced is probed."""
    if reason := snapshot.unavailable.get(gateway.gateway_id):
        return f"takes no payments: {reason}"
    if not gateway.is_enabled:
        return "takes no payments: the gateway is switched off"
    if state is State.HALF_OPEN and automatic is State.CLOSED and override is not None:
        return "was forced open until lately: it is probed before payments come back"
    return None


CURSOR = (
    r"^(override:[0-9]{1,18}|transition:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"@[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
)


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a history is asked for; `cursor` is the `next` of the page before."""

    gateway_id: str | None = None
    payment_method: str | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(pattern=CURSOR)] | None = None


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """A breaker that moved (`transition`), or an operator's word on it (`override`).

    `scope`: of all processes, or of one alone. `actor` is a process or operator, `cause` a rule or a reason. `state` is
    where it stood afterwards; of a cleared override, what followed it.
    """

    occurred_at: datetime
    kind: HistoryKind
    gateway_id: str
    payment_method: str
    scope: Scope | None
    actor: str
    was: State | None
    state: str
    cause: str
    expires_at: datetime | None
    epoch: int | None


class History(Struct, frozen=True, kw_only=True):
    """A page of history, newest first; `next` is the cursor of the following page."""

    items: tuple[HistoryEntry, ...]
    next: str | None


@blueprint.get("/circuit-breaker/history")
async def past(request: Request) -> HTTPResponse:
    """List what became of breakers, newest first."""
    reader(request)
    query = read_query(request, HistoryQuery)
    runtime = runtime_of(request)
    gateway_id, method = query.gateway_id, query.payment_method
    if gateway_id is not None:
        gateway_id = gateway_named(runtime.snapshot(), gateway_id).gateway_id
    if method is not None:
        method = method_named(method)
    before = _place(query.cursor) if query.cursor is not None else None
    # One entry more than asked for shows whether there is a next page.
    entries = await runtime.ledger.read(history, gateway_id, method, before, query.limit + 1)
    page = entries[: query.limit]
    following = _cursor(page[-1].place) if len(entries) > query.limit else None
    return json_answer(History(items=tuple(map(_entry, page)), next=following))


def _entry(entry: HistoryRow) -> HistoryEntry:
    return HistoryEntry(**{name: getattr(entry, name) for name in HistoryEntry.__struct_fields__})


def _cursor(place: HistoryCursor) -> str:
    return f"{place.kind}:{place.entry_id}@{stamp(place.occurred_at)}"


def _place(cursor: str) -> HistoryCursor:
    kind, _, rest = cursor.partition(":")
    entry_id, _, moment = rest.partition("@")
    try:
        occurred_at = datetime.fromisoformat(moment)
    except ValueError:
        raise invalid(FieldError("/cursor", "must be the `next` of the page before")) from None
    return HistoryCursor(occurred_at, "override" if kind == "override" else "transition", entry_id)
