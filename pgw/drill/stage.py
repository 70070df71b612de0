"""A private copy -> the stage of a drill: a world of its own, opened on it, with doubles for every gateway."""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from pgw.assembly import Runtime, open_runtime
from pgw.core.flow.runtime.refresh import SERVES
from pgw.core.gateways.book import SandboxBook
from pgw.core.ledger.engine import store
from pgw.core.payment.payment import PaymentRequest
from pgw.core.ports import Clock, Gateway
from pgw.core.routing.plan import Snapshot
from pgw.drill.clock import MovableClock
from pgw.drill.cut import CuttableConnection
from pgw.drill.double import QUICK_MS, SLOWER_MS, Double
from pgw.drill.load import Load
from pgw.drill.private import subjects
from pgw.drill.scenario import DrillKind, Timing
from pgw.settings import load
from pgw.workers.embedded import loops, pipeline_of

ACTOR = "pgw drill"


class DrillRequest(Struct, frozen=True, kw_only=True):
    """What is asked for. `configuration`: the real one, as it was read; None: there is none, the seed's is taken."""

    kind: DrillKind
    timing: Timing
    configuration: Snapshot | None
    timeout_ms: int
    gateway_id: str | None = None
    redis_url: str | None = None


class Stage(Struct, frozen=True, kw_only=True):
    """Everything a drill plays on."""

    order: DrillRequest
    runtime: Runtime
    clock: MovableClock
    double: Double | None
    doubles: dict[str, Double]
    load: Load
    line: CuttableConnection | None
    others: Sequence[str]


@asynccontextmanager
async def staged(
    order: DrillRequest,
    folder: Path,
    clock: MovableClock,
    copy: Snapshot,
    gateway_id: str,
    request: PaymentRequest,
    line: CuttableConnection | None,
) -> AsyncIterator[Stage]:
    """Open the private world: nothing of the environment reaches it, and no adapter but doubles."""
    environ = {
        "PGW_HOME": str(folder),
        "GATEWAY_TIMEOUT_MS": str(order.timeout_ms),
        "RAZORPAY_WEBHOOK_SECRET": secrets.token_hex(16),
        **({} if line is None else {"REDIS_URL": line.url}),
    }
    settings = load(environ)
    store.upgrade(settings.database)
    doubles: dict[str, Double] = {}

    def open_doubles(_settings: object, book: SandboxBook, clock: Clock, _told: object) -> dict[str, Gateway]:
        for each in copy.gateways:
            latency_ms = QUICK_MS if each.gateway_id == gateway_id else SLOWER_MS
            doubles[each.gateway_id] = Double(each.gateway_id, book, clock, latency_ms, settings.sandbox_seed)
        return dict(doubles)

    runtime = await open_runtime(settings, SERVES, adapters=open_doubles, clock=clock)
    line_back = pipeline_of(runtime)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.close, 1.0)
        stack.push_async_callback(line_back.close)
        for subject, document in subjects(copy):
            await runtime.snapshots.configure(subject, _always(document), ACTOR, "private copy")
        for each in loops(runtime, line_back, workers=True):
            stack.push_async_callback(each.stop)
            each.start()
        others = [e.gateway_id for e in copy.gateways if e.is_enabled and e.gateway_id != gateway_id]
        yield Stage(
            order=order,
            runtime=runtime,
            clock=clock,
            double=doubles[gateway_id] if order.kind.is_of_a_gateway else None,
            doubles=doubles,
            load=Load(runtime, request, order.timing.rate),
            line=line,
            others=others,
        )


def _always(document: object) -> Callable[[Snapshot], object]:
    return lambda _: document
