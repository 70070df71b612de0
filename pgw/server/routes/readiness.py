"""What operators and orchestrators ask: alive, ready, and what the sandbox has charged."""

from importlib.metadata import version
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
from pgw.server.at_risk import money_checks
from pgw.server.http.codec import json_answer
from pgw.server.http.guards import admin, runtime_of
from pgw.server.readiness_check import ReadinessCheck, State
from pgw.server.routes.pause import in_force
from pgw.workers.loop import Loop

blueprint = Blueprint("ops")

TROUBLE = {"AUTH": "AUTH: the gateway refuses its keys; set the right ones and restart"}
"""What an operator should do about a gateway's trouble."""

SILENT_AFTER_S = 10.0
"""A loop that has not ended a step for so long is reported."""


class HealthResponse(Struct, frozen=True):
    """Whether this process lives."""

    status: Literal["alive"]
    checks: tuple[ReadinessCheck, ...] = ()


class ReadinessResponse(Struct, frozen=True, kw_only=True):
    """Whether this process can take payments, and which one it is: `failed` means it cannot, `degraded` that it can."""

    status: Literal["ready", "degraded", "failed"]
    environment: Literal["development", "production"]
    version: str
    ledger_id: str
    checks: tuple[ReadinessCheck, ...]


VERSION = version("pgw")


class SandboxBookResponse(Struct, frozen=True):
    """Every charge the sandbox gateways made."""

    charges: list[Charge]


@blueprint.get("/ops/liveness")
async def liveness(_: Request) -> HTTPResponse:
    """Answer while the event loop runs."""
    return json_answer(HealthResponse("alive"))


@blueprint.get("/ops/readiness")
async def readiness(request: Request) -> HTTPResponse:
    """Say whether payments can be taken: the ledger is needed, all else only degrades."""
    checks = [
        await _ledger(request),
        _snapshot(request),
        _hot(request),
        *(await money_checks(request)),
        *(await _invariants(request)),
        *(_loop(each) for each in request.app.ctx.loops),
    ]
    checks += [
        ReadinessCheck(f"gateway:{name}", "degraded", TROUBLE.get(gateway.trouble, gateway.trouble))
        for name, gateway in runtime_of(request).gateways.items()
        if gateway.trouble is not None
    ]
    runtime = runtime_of(request)
    if pause := in_force(runtime.snapshot(), runtime.clock.now()):
        # Not by whom and why: anybody may ask here.
        checks.append(
            ReadinessCheck("pause", "degraded", f"no new payments until {pause.expires_at:%Y-%m-%dT%H:%M:%SZ}")
        )
    if request.app.ctx.draining:
        checks.append(ReadinessCheck("drain", "failed", "this server is stopping"))
    states = {each.status for each in checks}
    status: Literal["ready", "degraded", "failed"] = "degraded" if "degraded" in states else "ready"
    document = ReadinessResponse(
        status="failed" if "failed" in states else status,
        environment="production" if runtime.settings.production else "development",
        version=VERSION,
        ledger_id=runtime.ledger_id,
        checks=tuple(checks),
    )
    return json_answer(document, 503 if "failed" in states else 200)


async def _ledger(request: Request) -> ReadinessCheck:
    ledger = runtime_of(request).ledger
    if not ledger.is_writing:
        return ReadinessCheck("ledger", "failed", "the ledger's writer has stopped: restart this server")
    try:
        schema = await ledger.read(current_schema)
        version = await ledger.read(head)
    except LedgerUnavailable as fault:
        return ReadinessCheck("ledger", "failed", fault.detail)
    if schema != HEAD:
        return ReadinessCheck(
            "ledger", "failed", f"its schema is {schema}, this pgw needs {HEAD}: run `pgw db upgrade`"
        )
    return ReadinessCheck("ledger", "ok", f"configuration version {version}")


def _snapshot(request: Request) -> ReadinessCheck:
    runtime = runtime_of(request)
    age = runtime.clock.now() - runtime.snapshot().as_of
    status: State = "degraded" if age > SNAPSHOT_LIMIT else "ok"
    return ReadinessCheck("snapshot", status, f"{max(age.total_seconds(), 0.0):.1f} s old")


def _hot(request: Request) -> ReadinessCheck:
    """Judge as decisions do: what cannot be reached, and what no process counts, is no longer current."""
    runtime = runtime_of(request)
    as_of = runtime.snapshot().hot_as_of
    age_s = 0.0 if as_of is None else max((runtime.clock.now() - as_of).total_seconds(), 0.0)
    if age_s <= HOT_LIMIT.total_seconds():
        return ReadinessCheck("hot", "ok", f"health and breakers are {age_s:.1f} s old")
    if runtime.windows.as_of is None:
        return ReadinessCheck(
            "hot", "degraded", "health and breakers of the others were never read: Redis does not answer"
        )
    cause = "it is still counting what the ledger has"
    if runtime.hot.stream is not None:
        cause = "Redis does not answer, or no `pgw worker metrics` counts"
    return ReadinessCheck("hot", "degraded", f"health is {age_s:.0f} s old: {cause}")


async def _invariants(request: Request) -> tuple[ReadinessCheck, ...]:
    """Say what the continuous check has found, in whichever process."""
    runtime = runtime_of(request)
    try:
        count = await runtime.ledger.read(still_open)
    except LedgerUnavailable:
        return ()
    if count:
        return (ReadinessCheck("invariants", "degraded", f"{count} violated: 'pgw audit money' names them"),)
    checked = runtime.invariant_check.checked
    return (
        ReadinessCheck(
            "invariants", "ok", "none violated" + (f", {checked} looks at payments here" if checked else "")
        ),
    )


def _loop(loop: Loop) -> ReadinessCheck:
    silent = loop.idle_s()
    status: State = "degraded" if silent > SILENT_AFTER_S + loop.every_s else "ok"
    return ReadinessCheck(f"loop:{loop.name}", status, f"last ended a step {silent:.1f} s ago")


@blueprint.get("/sandbox/book")
async def sandbox_book(request: Request) -> HTTPResponse:
    """Show the sandbox gateways' charges; not in production."""
    runtime = runtime_of(request)
    if runtime.settings.production:
        raise PgwError(Code.NOT_FOUND, "there is no sandbox in production")
    admin(request)
    return json_answer(SandboxBookResponse(runtime.book.charges(runtime.clock.now())))
