"""Settings -> a worker's process: its loops until SIGTERM or SIGINT, or its work once."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

from pgw.assembly import open_hot, open_ledger, open_runtime, process_name
from pgw.core.errors import Code, PgwError
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.flow.runtime.snapshot import CONFIGURATION_EVERY_S
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import HANDLE_EVERY_S, handle_waiting
from pgw.core.ledger.due import due, due_monitors
from pgw.core.ledger.engine.ledger import CHECKPOINT_EVERY_S
from pgw.core.ledger.engine.store import identity
from pgw.core.ports import Dependencies
from pgw.settings import Settings, refusals
from pgw.workers.embedded import VERIFY_EVERY_S, refresher, verification
from pgw.workers.loop import Loop
from pgw.workers.metrics import Drained, open_pipeline

T = TypeVar("T")

VERIFIES = "verify"
"""Role of a process that makes enquiries at gateways."""

MAX_VERIFY_ROUNDS = 1_000
"""Rounds of one `--once`: some minutes, at the rate limit of enquiries."""


def count_metrics(settings: Settings, *, once: bool) -> Drained | None:
    """Relay and count until stopped; with `once`, what waits. Raises PgwError, and HotUnavailable with `once`."""
    return _run(settings, _count_metrics(settings, once=once))


def verify(settings: Settings, *, once: bool) -> int | None:
    """Check attempts until stopped; with `once`, those that are due: return how many. Raises PgwError."""
    return _run(settings, _verify(settings, once=once))


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    if reasons := refusals(settings):
        work.close()
        raise PgwError(Code.REFUSED_TO_START, "; ".join(reasons))
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _count_metrics(settings: Settings, *, once: bool) -> Drained | None:
    clock = SystemClock()
    ledger = open_ledger(settings)
    hot = open_hot(settings, clock)
    try:
        pipeline = open_pipeline(settings, ledger, await ledger.read(identity), hot, clock, process_name())
        try:
            if once:
                return await pipeline.drain()
            _greet(f"metrics: counts {settings.stream_key} on {settings.redis_place} as {settings.consumer_name}")
            await _until_stopped(pipeline.loops())
        finally:
            await pipeline.close()
    finally:
        await hot.state.close()
        await ledger.close()
    return None


async def _verify(settings: Settings, *, once: bool) -> int | None:
    runtime = await open_runtime(settings, VERIFIES)
    try:
        if once:
            return await _verify_once(runtime)
        _greet("verify: enquires at gateways about attempts with an unknown outcome")
        loops = [
            Loop("snapshot", CONFIGURATION_EVERY_S, runtime.snapshots.refresh, runtime.clock),
            refresher(runtime),
            Loop("webhooks", HANDLE_EVERY_S, lambda: handle_waiting(runtime), runtime.clock),
            *verification(runtime),
        ]
        if settings.on_sqlite:
            loops.append(Loop("checkpoint", CHECKPOINT_EVERY_S, runtime.ledger.checkpoint, runtime.clock))
        await _until_stopped(loops)
    finally:
        await runtime.close(settings.drain_seconds)
    return None


async def _verify_once(deps: Dependencies) -> int:
    checked = 0
    for _ in range(MAX_VERIFY_ROUNDS):
        checked += await verify_due(deps) + await monitor_due(deps)
        limits = deps.clock.now(), 1, deps.pace.backing_off(deps.clock.elapsed())
        left = (*await deps.ledger.read(due, *limits), *await deps.ledger.read(due_monitors, *limits))
        if not left:
            break
        await deps.clock.sleep(VERIFY_EVERY_S)
    return checked


async def _until_stopped(loops: Sequence[Loop]) -> None:
    """Run loops until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for each in loops:
        each.start()
    await stop.wait()
    for each in loops:
        await each.stop()


def _greet(text: str) -> None:
    sys.stderr.write(f"pgw worker {text}\n")
    sys.stderr.flush()
