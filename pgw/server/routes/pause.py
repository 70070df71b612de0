"""No new payments for a while, over HTTP: ordered by an operator, with an end."""

from datetime import datetime, timedelta

from msgspec import Struct, structs
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.breakers.override import UNSPECIFIED, Pause
from pgw.core.ledger.configuration import PAUSE
from pgw.core.routing.plan import Snapshot
from pgw.server.http.codec import json_answer
from pgw.server.http.guards import admin, runtime_of
from pgw.server.routes.operator_commands import CommandReach, reached, read_command, read_end, reason_of

blueprint = Blueprint("pause")


class PauseResponse(Struct, frozen=True, kw_only=True):
    """Whether new payments are kept out. When they are not, the rest is of the last pause, or null."""

    paused: bool
    reason: str | None
    actor: str | None
    paused_at: datetime | None
    expires_at: datetime | None
    seen_by: CommandReach


def in_force(snapshot: Snapshot, now: datetime) -> Pause | None:
    """Return the pause that keeps payments out now."""
    return snapshot.paused if snapshot.paused is not None and now < snapshot.paused.expires_at else None


@blueprint.post("/ops/pause")
async def pause(request: Request) -> HTTPResponse:
    """Keep new payments out; the same again renews it."""
    actor = admin(request)
    body = read_command(request)
    runtime = runtime_of(request)
    reason = reason_of(runtime, body)

    def paused(_: Snapshot) -> Pause:
        now = runtime.clock.now()
        return Pause(reason=reason, actor=actor, paused_at=now, expires_at=now + timedelta(seconds=body.ttl_seconds))

    snapshot = await runtime.snapshots.configure(PAUSE, paused, actor, reason)
    return json_answer(await _response(request, snapshot))


@blueprint.post("/ops/resume")
async def resume(request: Request) -> HTTPResponse:
    """Take payments again; where none are kept out, that is already so."""
    actor = admin(request)
    body = read_end(request)
    runtime = runtime_of(request)
    snapshot = await runtime.snapshots.refresh()
    if in_force(snapshot, runtime.clock.now()) is not None:

        def resumed(current: Snapshot) -> Pause:
            assert current.paused is not None, "a pause is never taken out of the configuration"
            now = runtime.clock.now()
            return structs.replace(current.paused, expires_at=min(current.paused.expires_at, now))

        snapshot = await runtime.snapshots.configure(PAUSE, resumed, actor, body.reason or UNSPECIFIED)
    return json_answer(await _response(request, snapshot))


async def _response(request: Request, snapshot: Snapshot) -> PauseResponse:
    runtime = runtime_of(request)
    last = snapshot.paused
    return PauseResponse(
        paused=in_force(snapshot, runtime.clock.now()) is not None,
        reason=last.reason if last else None,
        actor=last.actor if last else None,
        paused_at=last.paused_at if last else None,
        expires_at=last.expires_at if last else None,
        seen_by=await reached(runtime, snapshot.versions.get(PAUSE, 0)),
    )
