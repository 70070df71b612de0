"""Settings -> Sanic app: blueprints, guards and problems around one opened House."""

import gc
import logging
import random
import time
import uuid
from typing import Any

from sanic import HTTPResponse, Request, Sanic

from pgw.assembly import open_house
from pgw.server import gateways, openapi, ops, payments, policies, scoring
from pgw.server.codec import MAX_BODY
from pgw.server.guards import identify, label
from pgw.server.problems import Problems
from pgw.settings import Settings
from pgw.workers.embedded import loops

access = logging.getLogger("pgw.access")

ONE_IN = 100
"""At log level info one successful answer in so many is logged; each line costs as much as a database row."""

SERVER_FAULT = 500


def create_app(
    settings: Settings,
    *,
    live: bool = True,
    only: frozenset[str] | None = None,
    embedded_workers: bool = True,
) -> Sanic[Any, Any]:
    """Build the app; its lifespan opens and closes the stores. Without `live` no loop runs: one command, one answer."""
    app: Sanic[Any, Any] = Sanic(f"pgw-{uuid.uuid4().hex}", configure_logging=False, error_handler=Problems())
    app.config.REQUEST_MAX_SIZE = MAX_BODY
    app.config.RESPONSE_TIMEOUT = 120
    app.config.ACCESS_LOG = False
    app.config.KEEP_ALIVE_TIMEOUT = 75
    # TouchUp rewrites methods of Sanic's classes; a second app in one process would find them rewritten.
    app.config.TOUCHUP = False
    app.ctx.draining = False
    app.ctx.loops = ()
    for module in (payments, gateways, policies, scoring, ops, openapi):
        app.blueprint(module.blueprint.copy(module.__name__))
    app.register_middleware(identify, "request")
    app.register_middleware(label, "response")
    _log_access(app)

    async def open_stores(app: Sanic[Any, Any]) -> None:
        house = app.ctx.house = await open_house(settings, only)
        if live:
            app.ctx.loops = loops(house, workers=embedded_workers)
            for loop in app.ctx.loops:
                loop.start()
            gc.freeze()

    async def close_stores(app: Sanic[Any, Any]) -> None:
        for loop in app.ctx.loops:
            await loop.stop()
        await app.ctx.house.close()

    app.before_server_start(open_stores)
    app.after_server_stop(close_stores)
    return app


def _log_access(app: Sanic[Any, Any]) -> None:
    """Log answers: all at debug, faults and a sample at info; the route's pattern, never its values."""

    async def begin(request: Request) -> None:
        request.ctx.began = time.perf_counter()

    async def end(request: Request, response: HTTPResponse) -> None:
        sampled = response.status >= SERVER_FAULT or random.random() < 1 / ONE_IN  # noqa: S311  # a sample, no secret
        level = logging.INFO if sampled else logging.DEBUG
        if access.isEnabledFor(level):
            route = request.route.path if request.route else "-"
            took = (time.perf_counter() - getattr(request.ctx, "began", time.perf_counter())) * 1000
            access.log(
                level, "%s /%s %d %.1f ms %s", request.method, route, response.status, took, request.ctx.request_id
            )

    app.register_middleware(begin, "request")
    app.register_middleware(end, "response")
