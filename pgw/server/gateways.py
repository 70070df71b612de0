"""Gateways over HTTP: what each takes, and changing it."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.gateway import AmountMinor, GatewayConfig, MethodSet, TimeoutMs
from pgw.core.ledger.configuration import GATEWAY
from pgw.core.money import MAX_AMOUNT_MINOR
from pgw.core.plan import Snapshot
from pgw.server.codec import invalid, json_answer, read_body
from pgw.server.guards import admin, house_of, reader

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


_PATCH = msgspec.json.Decoder(GatewayPatch)


def _shown(gateway: GatewayConfig, snapshot: Snapshot) -> dict[str, object]:
    reason = snapshot.unavailable.get(gateway.gateway_id)
    return {
        **msgspec.to_builtins(gateway),
        "disabled_reason": reason or (None if gateway.is_enabled else "switched off"),
        "version": snapshot.versions.get(GATEWAY + gateway.gateway_id, 0),
    }


@blueprint.get("/gateways")
async def index(request: Request) -> HTTPResponse:
    """List every gateway, in order of priority."""
    reader(request)
    snapshot = await house_of(request).snapshots.refresh()
    return json_answer({"items": [_shown(each, snapshot) for each in snapshot.gateways], "next": None})


@blueprint.patch("/gateways/<gateway_id:str>")
async def change(request: Request, gateway_id: str) -> HTTPResponse:
    """Change one gateway."""
    actor = admin(request)
    patch = read_body(request, _PATCH)
    house = house_of(request)
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}

    def changed(snapshot: Snapshot) -> GatewayConfig:
        return _changed(snapshot, gateway_id, given, production=house.settings.production)

    snapshot = await house.snapshots.configure(
        GATEWAY + gateway_id, changed, actor, f"set {', '.join(sorted(given)) or 'nothing'}", _if_match(request)
    )
    gateway = snapshot.gateway(gateway_id)
    assert gateway is not None, "a gateway that was changed is there"
    return json_answer(_shown(gateway, snapshot))


def _changed(snapshot: Snapshot, gateway_id: str, given: dict[str, object], *, production: bool) -> GatewayConfig:
    gateway = snapshot.gateway(gateway_id)
    if gateway is None:
        raise PgwError(Code.NOT_FOUND, "there is no such gateway; GET /gateways lists them")
    fresh = msgspec.structs.replace(gateway, **given)
    if fresh.min_amount_minor > fresh.max_amount_minor:
        raise invalid(FieldError("/min_amount_minor", "must not exceed max_amount_minor"))
    if production and fresh.is_sandbox and fresh.is_enabled:
        raise PgwError(Code.CONFLICT, "a sandbox gateway moves no money: it cannot be enabled in production")
    return fresh


def _if_match(request: Request) -> int | None:
    """Read If-Match: the `version` a gateway was shown with."""
    text = request.headers.get("if-match", "*").strip('"')
    if text == "*":
        return None
    if not text.isdecimal():
        raise PgwError(Code.PRECONDITION_FAILED, "If-Match must be the gateway's `version`")
    return int(text)
