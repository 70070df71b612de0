"""What operators and orchestrators ask: alive, ready, and what the sandbox has charged."""

from msgspec import Struct
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import head
from pgw.core.ledger.writer import LedgerUnavailable
from pgw.core.plan import SNAPSHOT_LIMIT
from pgw.server.codec import json_answer
from pgw.server.guards import admin, house_of
from pgw.workers.loop import Loop

blueprint = Blueprint("ops")

SILENT_AFTER_S = 10.0
"""A loop that has not ended a step for so long is reported."""


class Check(Struct, frozen=True):
    """One thing that was looked at: `ok`, `degraded` or `failed`."""

    name: str
    status: str
    detail: str


@blueprint.get("/ops/liveness")
async def liveness(_: Request) -> HTTPResponse:
    """Answer while the event loop runs."""
    return json_answer({"status": "alive", "checks": []})


@blueprint.get("/ops/readiness")
async def readiness(request: Request) -> HTTPResponse:
    """Say whether payments can be taken: the ledger is needed, all else only degrades."""
    checks = [await _ledger(request), _snapshot(request), *(_loop(each) for each in request.app.ctx.loops)]
    if request.app.ctx.draining:
        checks.append(Check("drain", "failed", "this server is stopping"))
    states = {each.status for each in checks}
    status = next((word for word in ("failed", "degraded") if word in states), "ready")
    return json_answer({"status": status, "checks": checks}, 503 if status == "failed" else 200)


async def _ledger(request: Request) -> Check:
    try:
        version = await house_of(request).ledger.read(head)
    except LedgerUnavailable as fault:
        return Check("ledger", "failed", fault.detail)
    return Check("ledger", "ok", f"configuration version {version}")


def _snapshot(request: Request) -> Check:
    world = house_of(request).world
    age = world.clock.now() - world.snapshot().as_of
    status = "degraded" if age > SNAPSHOT_LIMIT else "ok"
    return Check("snapshot", status, f"{max(age.total_seconds(), 0.0):.1f} s old")


def _loop(loop: Loop) -> Check:
    silent = loop.silent_for_s()
    status = "degraded" if silent > SILENT_AFTER_S + loop.every_s else "ok"
    return Check(f"loop:{loop.name}", status, f"last ended a step {silent:.1f} s ago")


@blueprint.get("/sandbox/book")
async def sandbox_book(request: Request) -> HTTPResponse:
    """Show the sandbox gateways' charges; not in production."""
    house = house_of(request)
    if house.settings.production:
        raise PgwError(Code.NOT_FOUND, "there is no sandbox in production")
    admin(request)
    return json_answer({"charges": house.book.charges(house.world.clock.now())})
