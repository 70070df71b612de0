"""Settings -> Sanic app: blueprints, guards and problems around one opened House."""

import gc
import uuid
from typing import Any

from sanic import Sanic

from pgw.assembly import open_runtime
from pgw.core.flow.runtime.refresh import ASKS, SERVES
from pgw.server.http.codec import MAX_BODY
from pgw.server.http.guards import HttpRequest, identify, label
from pgw.server.http.problems import Problems
from pgw.server.routes import (
    breakers,
    gateways,
    metrics,
    openapi,
    overrides,
    pause,
    payments,
    policies,
    prometheus,
    resolve,
    scoring,
    webhooks,
)
from pgw.server.routes import readiness as ops
from pgw.settings import Settings
from pgw.workers.embedded import loops, pipeline_of, refresher

ROUTES = (
    payments,
    resolve,
    gateways,
    metrics,
    policies,
    scoring,
    breakers,
    overrides,
    pause,
    ops,
    webhooks,
    prometheus,
    openapi,
)

GC_AFTER = 20_000
"""Allocations between two young collections: a payment makes a few dozen objects, next to none in cycles."""


def create_app(
    settings: Settings,
    *,
    live: bool = True,
    only: frozenset[str] | None = None,
    embedded_workers: bool = True,
) -> Sanic[Any, Any]:
    """Build the app; its lifespan opens and closes the stores. Without `live` only the refresher runs: one command."""
    app: Sanic[Any, Any] = Sanic(
        f"pgw-{uuid.uuid4().hex}", configure_logging=False, error_handler=Problems(), request_class=HttpRequest
    )
    app.config.REQUEST_MAX_SIZE = MAX_BODY
    app.config.RESPONSE_TIMEOUT = 120
    app.config.ACCESS_LOG = False
    app.config.KEEP_ALIVE_TIMEOUT = 75
    # TouchUp takes unused signals out of Sanic's classes, a tenth of every request; but a second app in one process
    # would find the classes already rewritten, so it is for the server only.
    app.config.TOUCHUP = live
    app.ctx.draining = False
    app.ctx.loops = ()
    app.ctx.scrape = prometheus.Scrape()
    for module in ROUTES:
        app.blueprint(module.blueprint.copy(module.__name__))
    app.register_middleware(identify, "request")
    app.register_middleware(label, "response")

    async def open_stores(app: Sanic[Any, Any]) -> None:
        runtime = app.ctx.runtime = await open_runtime(settings, SERVES if live else ASKS, only)
        line = app.ctx.line = pipeline_of(runtime)
        app.ctx.loops = loops(runtime, line, workers=embedded_workers) if live else (refresher(runtime),)
        for loop in app.ctx.loops:
            loop.start()
        if live:
            gc.freeze()
            gc.set_threshold(GC_AFTER)

    async def close_stores(app: Sanic[Any, Any]) -> None:
        for loop in app.ctx.loops:
            await loop.stop()
        await app.ctx.line.close()
        # A server that drained has used its budget; one command's app has all of it.
        await app.ctx.runtime.close(0.0 if app.ctx.draining else settings.drain_seconds)

    app.before_server_start(open_stores)
    app.after_server_stop(close_stores)
    return app
