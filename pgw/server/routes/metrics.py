"""Figures over HTTP: how a gateway did in the last minutes, by method and bank."""

from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import asdict
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.metrics.counters import Figures, figures_of
from pgw.core.payment.payment import Method, Word, is_clean
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import HOT_LIMIT
from pgw.server.http.codec import invalid, json_answer, read_query
from pgw.server.http.guards import reader, runtime_of

blueprint = Blueprint("metrics")

MAX_CELLS = 200
"""Cells shown in one answer, those with most attempts; all of them are in the figures above."""


class WindowName(StrEnum):
    """How far back the figures reach."""

    ONE_MINUTE = "1m"
    FIVE_MINUTES = "5m"
    FIFTEEN_MINUTES = "15m"
    SIXTY_MINUTES = "60m"

    @property
    def span(self) -> timedelta:
        """Return its length."""
        return timedelta(minutes=int(self.removesuffix("m")))


class MetricsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a gateway to look at; what is left out is rolled up."""

    window: WindowName = WindowName.FIVE_MINUTES
    payment_method: Word | None = None
    issuing_bank: Word | None = None


class CellMetrics(Figures, frozen=True, kw_only=True):
    """The figures of one method and issuing bank."""

    payment_method: str
    issuing_bank: str


class GatewayMetrics(Figures, frozen=True, kw_only=True):
    """The figures of a gateway, and of the cells they are made of, most attempts first.

    `as_of`: when they were last read (null: not yet). `stale`: they should have been read again since.
    """

    gateway_id: str
    window: WindowName
    payment_method: Method | None
    issuing_bank: str | None
    as_of: datetime | None
    stale: bool
    cells: tuple[CellMetrics, ...]


@blueprint.get("/metrics/gateways/<gateway_id:str>")
async def show(request: Request, gateway_id: str) -> HTTPResponse:
    """Show how one gateway did."""
    reader(request)
    runtime = runtime_of(request)
    gateway = runtime.snapshot().gateway(unquote(gateway_id))
    if gateway is None:
        raise PgwError(Code.NOT_FOUND, "there is no such gateway; GET /gateways lists them")
    query = read_query(request, MetricsQuery)
    return json_answer(figures(runtime.windows, gateway, query, runtime.clock.now()))


def figures(mirror: MetricWindows, gateway: GatewayConfig, query: MetricsQuery, now: datetime) -> GatewayMetrics:
    """Read the figures asked for. Raises METHOD_NOT_SUPPORTED for a method the gateway does not take."""
    name, method, bank = gateway.gateway_id, _method(gateway, query.payment_method), query.issuing_bank
    if bank is not None and not is_clean(bank):
        raise invalid(FieldError("/issuing_bank", "must be printable and not only white space"))
    bank = None if bank is None else bank.upper()
    window_s = int(query.window.span.total_seconds())
    cells = mirror.cells(window_s, name, method, bank)
    most = sorted(cells.items(), key=lambda each: (-each[1].attempts, each[0]))[:MAX_CELLS]
    return GatewayMetrics(
        gateway_id=name,
        window=query.window,
        payment_method=method,
        issuing_bank=bank,
        as_of=mirror.as_of,
        stale=mirror.as_of is None or now - mirror.as_of > HOT_LIMIT,
        **asdict(mirror.figures(window_s, name, method, bank)),
        cells=tuple(
            CellMetrics(payment_method=cell[1], issuing_bank=cell[2], **asdict(figures_of(counts)))
            for cell, counts in most
        ),
    )


def _method(gateway: GatewayConfig, name: str | None) -> Method | None:
    if name is None:
        return None
    supported = gateway.supported_methods
    found = next((method for method in supported if method == name.upper()), None)
    if found is None:
        raise PgwError(
            Code.METHOD_NOT_SUPPORTED, f"{gateway.gateway_id} takes {', '.join(supported)}: ask for one of them"
        )
    return found
