"""Gateways over HTTP: what each takes, and changing it."""

import re
from typing import Annotated
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.ledger.configuration import GATEWAY
from pgw.core.payment.currency import MAX_AMOUNT_MINOR
from pgw.core.payment.payment import Method
from pgw.core.routing.gateway import AmountMinor, GatewayConfig, MethodSet, SandboxBehaviour, TimeoutMs, span
from pgw.core.routing.plan import Snapshot
from pgw.server.http.codec import invalid, json_answer, read_body
from pgw.server.http.guards import admin, reader, runtime_of

blueprint = Blueprint("gateways")


class GatewayPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of a gateway that may be changed; those left out stay as they are."""

    is_enabled: bool | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=1_000)] | UnsetType = UNSET
    supported_methods: MethodSet | UnsetType = UNSET
    timeout_ms: TimeoutMs | UnsetType | None = UNSET
    min_amount_minor: AmountMinor | UnsetType = UNSET
    max_amount_minor: AmountMinor | UnsetType = UNSET
    fee_bps: Annotated[int, Meta(ge=0, le=10_000)] | UnsetType = UNSET
    fee_fixed_minor: Annotated[int, Meta(ge=0, le=MAX_AMOUNT_MINOR)] | UnsetType = UNSET
    sandbox: dict[Method, SandboxBehaviour] | UnsetType = UNSET


_PATCH = msgspec.json.Decoder(GatewayPatch)
_VERSION = re.compile(r"[0-9]{1,18}")


class GatewayResponse(GatewayConfig, frozen=True, kw_only=True):
    """A gateway as it is shown; `version` is what `If-Match` takes."""

    disabled_reason: str | None
    version: int


class GatewayList(Struct, frozen=True, kw_only=True):
    """Every gateway, in order of priority."""

    items: tuple[GatewayResponse, ...]
    next: None = None


def _response(gateway: GatewayConfig, snapshot: Snapshot) -> GatewayResponse:
    reason = snapshot.unavailable.get(gateway.gateway_id)
    return GatewayResponse(
        **msgspec.structs.asdict(gateway),
        disabled_reason=reason or (None if gateway.is_enabled else "switched off"),
        version=snapshot.versions.get(GATEWAY + gateway.gateway_id, 0),
    )


@blueprint.get("/gateways")
async def index(request: Request) -> HTTPResponse:
    """List every gateway, in order of priority."""
    reader(request)
    snapshot = await runtime_of(request).snapshots.refresh()
    return json_answer(GatewayList(items=tuple(_response(each, snapshot) for each in snapshot.gateways)))


@blueprint.patch("/gateways/<gateway_id:str>")
async def change(request: Request, gateway_id: str) -> HTTPResponse:
    """Change one gateway."""
    actor = admin(request)
    patch = read_body(request, _PATCH)
    runtime = runtime_of(request)
    gateway_id = unquote(gateway_id)
    if runtime.snapshot().gateway(gateway_id) is None:
        raise PgwError(Code.NOT_FOUND, "there is no such gateway; GET /gateways lists them")
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}

    def changed(snapshot: Snapshot) -> GatewayConfig:
        return _changed(snapshot, gateway_id, given, production=runtime.settings.production)

    snapshot = await runtime.snapshots.configure(
        GATEWAY + gateway_id, changed, actor, f"set {', '.join(sorted(given)) or 'nothing'}", if_match(request)
    )
    gateway = snapshot.gateway(gateway_id)
    assert gateway is not None, "a gateway that was changed is there"
    return json_answer(_response(gateway, snapshot))


def _changed(snapshot: Snapshot, gateway_id: str, given: dict[str, object], *, production: bool) -> GatewayConfig:
    gateway = snapshot.gateway(gateway_id)
    assert gateway is not None, "a gateway is never taken out of the configuration"
    fresh = msgspec.structs.replace(gateway, **given)
    if "sandbox" in given:
        # Method by method: what was set for another method stays.
        fresh = msgspec.structs.replace(fresh, sandbox={**gateway.sandbox, **fresh.sandbox})
        _check_sandbox(fresh)
    if len(set(fresh.supported_methods)) < len(fresh.supported_methods):
        raise invalid(FieldError("/supported_methods", "must name each method once"))
    if fresh.min_amount_minor > fresh.max_amount_minor:
        raise invalid(FieldError("/min_amount_minor", "must not exceed max_amount_minor"))
    if production and fresh.is_sandbox and fresh.is_enabled:
        raise PgwError(Code.CONFLICT, "a sandbox gateway moves no money: it cannot be enabled in production")
    return fresh


def _check_sandbox(gateway: GatewayConfig) -> None:
    if not gateway.is_sandbox:
        raise invalid(FieldError("/sandbox", "is for sandbox gateways only"))
    for method, told in gateway.sandbox.items():
        for interval in told.outage:
            try:
                span(interval)
            except (ValueError, OverflowError):
                raise invalid(
                    FieldError(f"/sandbox/{method}/outage", "must be start/duration with a real date")
                ) from None


def if_match(request: Request) -> int | None:
    """Read If-Match: the version a configuration was shown with, as a member or as its ETag."""
    text = request.headers.get("if-match", "*").strip('"')
    if text == "*":
        return None
    if not _VERSION.fullmatch(text):
        raise PgwError(Code.PRECONDITION_FAILED, "If-Match must be the version that was read")
    return int(text)
