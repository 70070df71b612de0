"""What operators and orchestrators ask: alive, ready, and what the sandbox has charged."""

from typing import Literal

from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, PgwError
from pgw.core.gateways.book import Charge
from pgw.core.ledger.configuration import head
from pgw.core.ledger.engine.store import HEAD, current_schema
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.violations import still_open
from pgw.core.routing.plan import HOT_LIMIT, SNAPSHOT_LIMIT
from pgw.server.at_risk import looks
from pgw.server.http.codec import json_answer
from pgw.server.http.guards import admin, house_of
from pgw.server.look import Look, State
from pgw.server.routes.pause import in_force
from pgw.workers.loop import Loop

blueprint = Blueprint("ops")

TROUBLE = {"AUTH": "AUTH: the gateway refuses its keys; set the right ones and restart"}
"""What an operator should do about a gateway's trouble."""

SILENT_AFTER_S = 10.0
"""A loop that has not ended a step for so long is reported."""


class Health(Struct, frozen=True):
    """Whether this process lives, or can take payments: `failed` means it cannot, `degraded` that it still can."""

    status: Literal["alive", "ready", "degraded", "failed"]
    checks: tuple[Look, ...] = ()


class SandboxBook(Struct, frozen=True):
    """Every charge the sandbox gateways made."""

    charges: list[Charge]


@blueprint.get("/ops/liveness")
async def liveness(_: Request) -> HTTPResponse:
    """Answer while the event loop runs."""
    return json_answer(Health("alive"))


@blueprint.get("/ops/readiness")
async def readiness(request: Request) -> HTTPResponse:
    """Say whether payments can be taken: the ledger is needed, all else only degrades."""
    checks = [
        await _ledger(request),
        _snapshot(request),
        _hot(request),
        *(await looks(request)),
        *(await _invariants(request)),
        *(_loop(each) for each in request.app.ctx.loops),
    ]
    checks += [
        Look(f"gateway:{name}", "degraded", TROUBLE.get(gateway.trouble, gateway.trouble))
        for name, gateway in house_of(request).world.gateways.items()
        if gateway.trouble is not None
    ]
    world = house_of(request).world
    if pause := in_force(world.snapshot(), world.clock.now()):
        # Not by whom and why: anybody may ask here.
        checks.append(Look("pause", "degraded", f"no new payments until {pause.expires_at:%Y-%m-%dT%H:%M:%SZ}"))
    if request.app.ctx.draining:
        checks.append(Look("drain", "failed", "this server is stopping"))
    states = {each.status for each in checks}
    if "failed" in states:
        return json_answer(Health("failed", tuple(checks)), 503)
    return json_answer(Health("degraded" if "degraded" in states else "ready", tuple(checks)))


async def _ledger(request: Request) -> Look:
    ledger = house_of(request).ledger
    if not ledger.is_writing:
        return Look("ledger", "failed", "the ledger's writer has stopped: restart this server")
    try:
        schema = await ledger.read(current_schema)
        version = await ledger.read(head)
    except LedgerUnavailable as fault:
        return Look("ledger", "failed", fault.detail)
    if schema != HEAD:
        return Look("ledger", "failed", f"its schema is {schema}, this pgw needs {HEAD}: run `pgw db upgrade`")
    return Look("ledger", "ok", f"configuration version {version}")


def _snapshot(request: Request) -> Look:
    world = house_of(request).world
    age = world.clock.now() - world.snapshot().as_of
    status: State = "degraded" if age > SNAPSHOT_LIMIT else "ok"
    return Look("snapshot", status, f"{max(age.total_seconds(), 0.0):.1f} s old")


def _hot(request: Request) -> Look:
    """Judge as decisions do: what cannot be reached, and what nobody counts, is known no more but remembered."""
    house = house_of(request)
    as_of = house.world.snapshot().hot_as_of
    age_s = 0.0 if as_of is None else max((house.world.clock.now() - as_of).total_seconds(), 0.0)
    if age_s <= HOT_LIMIT.total_seconds():
        return Look("hot", "ok", f"health and breakers are {age_s:.1f} s old")
    if house.mirror.as_of is None:
        return Look("hot", "degraded", "health and breakers of the others were never read: Redis does not answer")
    cause = "it is still counting what the ledger has"
    if house.hot.stream is not None:
        cause = "Redis does not answer, or no `pgw worker metrics` counts"
    return Look("hot", "degraded", f"health is {age_s:.0f} s old: {cause}")


async def _invariants(request: Request) -> tuple[Look, ...]:
    """Say what the continuous check has found, in whichever process."""
    house = house_of(request)
    try:
        count = await house.ledger.read(still_open)
    except LedgerUnavailable:
        return ()
    if count:
        return (Look("invariants", "degraded", f"{count} violated: 'pgw audit money' names them"),)
    checked = house.auditor.checked
    return (Look("invariants", "ok", "none violated" + (f", {checked} looks at payments here" if checked else "")),)


def _loop(loop: Loop) -> Look:
    silent = loop.silent_for_s()
    status: State = "degraded" if silent > SILENT_AFTER_S + loop.every_s else "ok"
    return Look(f"loop:{loop.name}", status, f"last ended a step {silent:.1f} s ago")


@blueprint.get("/sandbox/book")
async def sandbox_book(request: Request) -> HTTPResponse:
    """Show the sandbox gateways' charges; not in production."""
    house = house_of(request)
    if house.settings.production:
        raise PgwError(Code.NOT_FOUND, "there is no sandbox in production")
    admin(request)
    return json_answer(SandboxBook(house.book.charges(house.world.clock.now())))
