"""The ledger, the live processes -> the text Prometheus reads, made when it asks: several servers report the same."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

from sanic import Blueprint, HTTPResponse, Request

from pgw.assembly import Runtime
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.gauges import Gauges, gauges
from pgw.server.http.guards import reader, runtime_of

blueprint = Blueprint("prometheus")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

FRESH_S = 1.0
"""Whoever asks again within this time gets the same text: no number of scrapes can weigh on the ledger."""


class Scrape:
    """The last text, and one look at a time."""

    def __init__(self) -> None:
        self._look = asyncio.Lock()
        self._looked_at: float | None = None
        self._text = b""

    async def text(self, runtime: Runtime) -> bytes:
        """Return a text no older than FRESH_S."""
        clock = runtime.clock
        async with self._look:
            if self._looked_at is None or clock.elapsed() - self._looked_at >= FRESH_S:
                # In a thread: the first one imports a library that nothing else needs.
                self._text = await asyncio.to_thread(_written, await _figures(runtime))
                self._looked_at = clock.elapsed()
            return self._text


@blueprint.get("/metrics")
async def metrics(request: Request) -> HTTPResponse:
    """Export what monitoring needs; never by payment, customer or merchant."""
    runtime = runtime_of(request)
    if not runtime.settings.metrics_open:
        reader(request)
    text: bytes = await request.app.ctx.scrape.text(runtime)
    return HTTPResponse(text, content_type=CONTENT_TYPE)


Figures = tuple[datetime, Gauges | None, Mapping[str, float], frozenset[str]]
"""Time of the scrape, what the ledger holds (None: it cannot be read), role -> last heartbeat (epoch s), currencies."""


async def _figures(runtime: Runtime) -> Figures:
    """Read the ledger and the live processes.

    A ledger that cannot be read is reported by `pgw_ledger_up`, and its series are missing: a failed scrape would hide
    what this process knows by itself, and stale figures would pass for current ones.
    """
    now = runtime.clock.now()
    try:
        ledger: Gauges | None = await runtime.ledger.read(gauges, now)
    except LedgerUnavailable:
        ledger = None
    beats: dict[str, float] = {}
    for each in runtime.refresher.processes:
        beats[each.role] = max(beats.get(each.role, 0.0), each.at)
    enabled = (each for each in runtime.snapshot().gateways if each.is_enabled)
    currencies = frozenset(currency for each in enabled for currency in each.supported_currencies)
    return now, ledger, beats, currencies


def _written(figures: Figures) -> bytes:
    # Imported here: `pgw serve` is ready sooner, and a server that is not scraped never pays for it.
    from pgw.server.routes.exposition import ScrapeFigures, written  # noqa: PLC0415

    return written(ScrapeFigures(*figures))
