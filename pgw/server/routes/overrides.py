"""An operator's word on a breaker, over HTTP: what it would move is shown, then it is written and spread."""

from datetime import datetime, timedelta
from urllib.parse import unquote

from msgspec import Struct, structs
from sanic import Blueprint, HTTPResponse, Request

from pgw.assembly import Runtime
from pgw.core.breakers.breaker import State
from pgw.core.breakers.override import UNSPECIFIED, Override
from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import breaker_subject
from pgw.core.ledger.payment_reads import in_flight
from pgw.core.payment.payment import Method
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.core.routing.preview import WINDOW_S, Preview, preview
from pgw.core.routing.traffic_shift import Action, OverrideCommand, state_of
from pgw.server.http.codec import json_answer, read_query
from pgw.server.http.guards import admin, runtime_of
from pgw.server.http.names import gateway_named
from pgw.server.routes.operator_commands import CommandReach, reached, read_command, reason_of

blueprint = Blueprint("overrides")

FORCED = {Action.FORCE_OPEN: State.FORCED_OPEN, Action.FORCE_CLOSE: State.FORCED_CLOSED}


class CommandQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dry_run` asks only what the order would do."""

    dry_run: bool = False


class PreviewResponse(Struct, frozen=True):
    """What an order would do; nothing was written."""

    preview: Preview


class CommandResponse(Struct, frozen=True, kw_only=True):
    """A command as it holds now. Of a cleared breaker `reason` and `actor` are those of the clear.

    `expires_at` is null where no override holds; `actor` is null, too, where none held before: that was already so.
    """

    gateway_id: str
    payment_method: Method
    state: State
    reason: str | None
    actor: str | None
    expires_at: datetime | None
    preview: Preview
    seen_by: CommandReach


@blueprint.post("/circuit-breaker/force-open/<gateway_id:str>/<payment_method:str>")
async def force_open(request: Request, gateway_id: str, payment_method: str) -> HTTPResponse:
    """Send a gateway no more payments of a method until a set time; the same again renews it."""
    return await _override(request, Action.FORCE_OPEN, gateway_id, payment_method)


@blueprint.post("/circuit-breaker/force-close/<gateway_id:str>/<payment_method:str>")
async def force_close(request: Request, gateway_id: str, payment_method: str) -> HTTPResponse:
    """Send a gateway payments of a method until a set time, whatever its breaker says; the same again renews it."""
    return await _override(request, Action.FORCE_CLOSE, gateway_id, payment_method)


@blueprint.post("/circuit-breaker/clear/<gateway_id:str>/<payment_method:str>")
async def clear(request: Request, gateway_id: str, payment_method: str) -> HTTPResponse:
    """End an override now; where none holds, that is already so."""
    return await _override(request, Action.CLEAR, gateway_id, payment_method)


async def _override(request: Request, action: Action, gateway_id: str, payment_method: str) -> HTTPResponse:
    actor = admin(request)
    query, body = read_query(request, CommandQuery), read_command(request)
    runtime = runtime_of(request)
    clock = runtime.clock
    snapshot = await runtime.snapshots.refresh()
    now = clock.now()
    gateway, method = _command(snapshot, gateway_id, payment_method, now)
    key = (gateway.gateway_id, str(method))
    changes = action is not Action.CLEAR or _is_forced(snapshot.overrides.get(key), now)
    # What would happen may be asked without saying why, and so may be what ends an order.
    is_free = query.dry_run or action is Action.CLEAR
    reason = (body.reason or UNSPECIFIED) if is_free else reason_of(runtime, body)

    def written(current: Snapshot) -> Override:
        if action is Action.CLEAR:
            last = current.overrides[key]
            return structs.replace(last, expires_at=min(last.expires_at, now))
        return Override(
            gateway_id=gateway.gateway_id,
            payment_method=method,
            state=FORCED[action],
            reason=reason,
            actor=actor,
            forced_at=now,
            expires_at=now + timedelta(seconds=body.ttl_seconds),
        )

    order = OverrideCommand(
        action=action, gateway=gateway, payment_method=method, override=written(snapshot) if changes else None
    )
    foretold = await _preview(runtime, order, snapshot, now)
    if query.dry_run:
        return json_answer(PreviewResponse(foretold))
    subject = breaker_subject(*key)
    if changes:
        snapshot = await runtime.snapshots.configure(subject, written, actor, reason)
    return json_answer(
        CommandResponse(
            gateway_id=gateway.gateway_id,
            payment_method=method,
            state=state_of(snapshot, key, clock.now()),
            reason=reason if changes else None,
            actor=actor if changes else None,
            expires_at=None if action is Action.CLEAR else snapshot.overrides[key].expires_at,
            preview=foretold,
            seen_by=await reached(runtime, snapshot.versions.get(subject, 0)),
        )
    )


def _is_forced(override: Override | None, now: datetime) -> bool:
    return override is not None and now < override.expires_at


def _command(snapshot: Snapshot, gateway_id: str, payment_method: str, now: datetime) -> tuple[GatewayConfig, Method]:
    """Find what the path names; a disabled gateway may be forced, for what it takes or is forced for still."""
    gateway = gateway_named(snapshot, unquote(gateway_id))
    name = unquote(payment_method).upper()
    is_forced = _is_forced(snapshot.overrides.get((gateway.gateway_id, name)), now)
    method = next((each for each in Method if each == name), None)
    if method is None or not (method in gateway.supported_methods or is_forced):
        takes = ", ".join(gateway.supported_methods)
        raise PgwError(Code.METHOD_NOT_SUPPORTED, f"{gateway.gateway_id} takes {takes}; nothing was changed")
    return gateway, method


async def _preview(runtime: Runtime, order: OverrideCommand, snapshot: Snapshot, now: datetime) -> Preview:
    gateway_id, method = order.key
    waiting = await runtime.ledger.read(in_flight, gateway_id, method, now)
    traffic = None if runtime.windows.as_of is None else runtime.windows.traffic(method, WINDOW_S)
    return preview(order, snapshot, traffic, waiting, now, production=runtime.settings.production)
